"""PD514: validation whose batches are far smaller than the training's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.frequency import VALIDATION_CAUSE
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, without
from perfdoctor.rules.run_reporting import told
from perfdoctor.rules.slow_validation import python_lines
from perfdoctor.rules.validation_facts import (
    ALONE,
    CALL_PART,
    VALIDATION_BATCH,
    VALIDATION_BATCHES,
    left_in_larger_batches,
)
from perfdoctor.rules.wording import duration, grouped, percent

_VALIDATION = "validation"
#: Of what likely goes, the part that goes at least (our own choice): a loop over samples in a
#: library's metric stays.
_LEAST_GOES = 0.5


class SmallValidationBatches:
    """Validation goes in batches that are far smaller than the training's.

    ## What it does
    Looks at the loader that an observed script validates with, and at how much each call of the
    model is given in the first validations, beside a call of the training.

    ## Why it is slow
    Each batch pays what does not depend on its size: the loader, a call of every layer, what a
    framework calls around a step, numbers that are logged. Without gradients there is room for
    batches larger than the training's.

    ## Evidence and threshold
    What a call in validation is given, as a part of what a call in training is; batches each time;
    and what would be left of their time.
    - `part` = 0.25 (source: our own choice; a half or a third is what memory may dictate)
    - `batches` = 8 (source: our own choice, as PD512 has it)
    - `share` = 0.05 (source: our least gain for a verdict is 5 %)

    ## What to change
    A larger `batch_size=` for the validation's DataLoader. Where the code expects a single sample
    (an `.item()`, a `squeeze(0)`, a metric of one user or query), write it for all rows of a batch;
    pad where lengths differ.

    ## How the gain is predicted
    Modelled, not measured: as much of the training's forward pass as the call is given is left,
    85 % of that likely and 25 % at best, as PD512 has it (`python benchmarks/validation_calls.py`);
    and the lines of Python of the script's own. At least half of the rest goes.

    ## When not to
    Where samples are of sizes that do not fit together, or the time for one of them is what is to
    be measured.
    """

    code: ClassVar[str] = "PD514"
    name: ClassVar[str] = "small-validation-batches"
    needs: ClassVar[tuple[str, ...]] = (CALL_PART, VALIDATION_BATCH, "stages.forward.p50_s")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = VALIDATION_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"part": 0.25, "batches": 8.0, "share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if there are many small batches that take their time; PD512 goes before it."""
        part, batches = facts.number(CALL_PART), facts.number(VALIDATION_BATCHES)
        alone = facts.known(f"{ALONE}_calls") or 0.0
        if part > facts.threshold("part") or batches < facts.threshold("batches") or alone:
            return None
        found = told(facts, _VALIDATION)
        if found is None:
            return None
        best, likely = left_in_larger_batches(facts)
        stays = sum(line.share for line in python_lines(facts))
        whole = max(0.0, found.share - stays)
        share = whole * (1 - likely)
        if share < facts.threshold("share"):
            return None
        size, each_s = facts.number(VALIDATION_BATCH), found.seconds / max(1, found.count)
        return Finding(
            stage=_VALIDATION,
            title=f"Validation goes in {grouped(batches)} batches of {grouped(size)}, which take "
            f"{duration(each_s / batches)} each and {percent(found.share)} of the training",
            advice="Give the validation's loader a larger batch_size: without gradients there is "
            "room for more than the training's. Where the code expects a single sample (.item(), "
            "squeeze(0), a metric of one row), write it for all rows of a batch.",
            change={"validation_batches": "larger"},
            snippet=_LARGER,
            evidence=(
                beside(facts, "of a training call's input", part, "share", "part"),
                beside(facts, "batches each time", batches, "", "batches"),
                Evidence(metric="of their time left (modelled)", value=likely, unit="share"),
                Evidence(metric="own Python, which stays", value=stays, unit="share of training"),
                beside(facts, "goes", share, "share of training", "share"),
            ),
            cause=self.cause,
            predicted=without(whole, _LEAST_GOES * (1 - likely), 1 - likely, 1 - best),
            confidence=0.75,
            effort="lines",
            safety="numerics",
        )


_LARGER = """\
loader = DataLoader(validation_set, batch_size=256)  # no gradients: room for more
ranks = (scores > scores[:, :1]).sum(1)  # of all rows, not of one
hits = (ranks < 10).float().mean()"""
