"""PD508: Python of the script's own that makes validation long."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.frequency import VALIDATION_CAUSE
from perfdoctor.rules.measured import beside
from perfdoctor.rules.mended import VECTORISED
from perfdoctor.rules.observed import RUNS, HotLine, at, hot_lines, line_evidence, without
from perfdoctor.rules.run_batches import loading_lines
from perfdoctor.rules.wording import percent

_VALIDATION = "validation"
#: What loops are made of, and what containers do: none of it is a library's work.
_OF_PYTHON = frozenset(
    [
        *dir(builtins),
        *(name for kind in (list, dict, set, tuple, str) for name in dir(kind) if name[0] != "_"),
    ]
)


#: Loops over batches, samples, and what is in a sample: boxes, classes, pairs.
_DEEP = 3


class SlowValidationCode:
    """Validation spends its time in a loop of the script's own.

    ## What it does
    Looks for lines of Python in the validation of an observed script that call no library, or that
    call one within three loops or more: for each batch, for each sample, and for each of something
    in that.

    ## Why it is slow
    A metric that goes over samples, pairs or boxes in Python takes microseconds for each, on one
    core, while an expression over whole arrays takes nanoseconds. Pairs are quadratic in the
    number of samples.

    ## Evidence and threshold
    These lines' share of the training.
    - `share` = 0.1 (source: our own choice, as PD501 has it for validation)

    ## What to change
    Write it with whole arrays: comparisons of all pairs at once, sorting and cumulative sums,
    `bincount`; or take the metric from a library (scikit-learn, torchmetrics).

    ## How the gain is predicted
    Of these lines' time goes what goes of such Python in general when it is written with whole
    arrays, 40 % at least, 95 % likely (`python benchmarks/mended_lines.py`).

    ## When not to
    Where all pairs at once do not fit into memory: then in blocks.
    """

    code: ClassVar[str] = "PD508"
    name: ClassVar[str] = "slow-validation-code"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = VALIDATION_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such lines take a large share, and do not make the training's batches too."""
        lines = python_lines(facts)
        share = min(1.0, sum(line.share for line in lines))
        if share < facts.threshold("share"):
            return None
        line = lines[0]
        return Finding(
            stage=_VALIDATION,
            title=f"Python in the validation takes {percent(share)} of the training{at(line)}",
            advice=f"Write `{line.function or line.place}` with whole arrays: comparisons of all "
            "pairs at once, sorting and cumulative sums, bincount; or take the metric from a "
            "library.",
            change={"validation_code": "vectorised"},
            snippet="later = times[:, None] < times[None, :]  # all pairs at once\n"
            "concordant = later & (scores[:, None] > scores[None, :])\n"
            "metric = concordant.sum() / later.sum()",
            evidence=(
                beside(facts, "these lines", share, "share of training", "share"),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, *VECTORISED),
            confidence=0.75,
            effort="lines",
            safety="numerics",
        )


def python_lines(facts: Facts) -> list[HotLine]:
    """The lines of Python of validation's own that call no library, or for little."""
    loading = {(line.file, line.line) for line in loading_lines(facts)}
    found = [n for n in hot_lines(facts, _VALIDATION) if (n.file, n.line) not in loading]
    return [n for n in found if _deep(n) or (_is_python(n) and not _beside_a_call(n, found))]


def _deep(line: HotLine) -> bool:
    """Whether it goes over parts of samples, one by one: what it calls is called for little."""
    return line.loops >= _DEEP


def _is_python(line: HotLine) -> bool:
    """`text.replace` is, `Path.replace` is a library's; metrics over all outputs at once are none
    where no loop is around them."""
    if line.outputs and not line.loops:
        return False
    owner, _, name = (line.library or "").rpartition(".")
    return not line.library or (name in _OF_PYTHON and not owner[:1].isupper())


def _beside_a_call(line: HotLine, found: list[HotLine]) -> bool:
    """Whether its line is mostly inside a library: `model(x).argmax(1)` is what follows the call,
    of which no frame tells."""
    return any(
        (other.file, other.line) == (line.file, line.line)
        and not _is_python(other)
        and other.share >= line.share
        for other in found
    )
