"""PD124: choosing which samples make a batch takes longer than it may."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import WORKERS
from perfdoctor.rules.measured import beside
from perfdoctor.rules.mended import VECTORISED
from perfdoctor.rules.observed import RUNS, HotLine, at, hot_lines, line_evidence, without
from perfdoctor.rules.weighted_draws import draws_of_all
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING

_SAMPLERS = ("configuration.sampler", "configuration.batch_sampler")
_ITERATES = r"\.__iter__(?:\.|$)"


class SlowSampler:
    """A sampler of the script's own takes a visible part of the training.

    ## What it does
    Looks, in an observed script, for lines of its own samplers in the training process.

    ## Why it is slow
    Samplers run in the training process, whatever the number of workers: while they choose the
    next batch, nobody trains. Sorting what is left for every batch, or looking up each index in a
    list, makes an epoch quadratic in the number of samples.

    ## Evidence and threshold
    These lines' share of the training.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Make the order of an epoch once, with operations on whole arrays, and cut it into batches. Look
    indices up in a set.

    ## How the gain is predicted
    Of these lines' time goes what goes of such Python in general when it is written with whole
    arrays, 40 % at least, 95 % likely (`python benchmarks/mended_lines.py`).

    ## When not to
    Where the choice depends on what the model has just computed.
    """

    code: ClassVar[str] = "PD124"
    name: ClassVar[str] = "slow-sampler"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, "hotspots")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "slow-sampler"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the script's own samplers take a visible share."""
        workers = facts.number(WORKERS)
        lines = [n for n in hot_lines(facts, DATA_LOADING) if _samples(facts, n, workers > 0)]
        share = min(1.0, sum(line.share for line in lines))
        if share < facts.threshold("share"):
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"Choosing the samples of a batch takes {percent(share)} of the training"
            f"{at(lines[0])}",
            advice="Make the order of an epoch once with operations on whole arrays, cut it into "
            "batches, and look indices up in a set. A sampler runs in the training process: "
            "workers do not help.",
            change={"sampler": "vectorised"},
            snippet="def __iter__(self):  # sorted once an epoch, with some noise, then cut\n"
            "    order = np.argsort(self.lengths + np.random.rand(len(self.lengths)))\n"
            "    batches = [order[i : i + size] for i in range(0, len(order), size)]\n"
            "    random.shuffle(batches)\n"
            "    yield from (batch.tolist() for batch in batches)",
            evidence=(
                beside(facts, "choosing samples", share, "share of training", "share"),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, *VECTORISED),
            confidence=0.8,
            effort="lines",
        )


def _samples(facts: Facts, line: HotLine, workers: bool) -> bool:
    """Whether a line of the training process is of a sampler: of a class that is known as one, or,
    beside workers who iterate over the dataset, in some `__iter__`."""
    if line in draws_of_all(facts, DATA_LOADING):
        return False  # PD126 and PD127 speak of it
    if "/torch/" in line.file.replace("\\", "/"):
        return False
    own = [facts.text(path) for path in _SAMPLERS if facts.has(path)]
    named = line.function.partition(".")[0] in own
    return named or (workers and re.search(_ITERATES, line.function) is not None)
