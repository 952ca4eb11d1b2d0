"""PD125: every worker makes all samples and keeps its part of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE, WAIT_SHARE, WORKERS, loader_evidence
from perfdoctor.rules.observed import RUNS, line_evidence
from perfdoctor.rules.run_batches import (
    cheaper_batches,
    repeated_lines,
    samples_of_batch,
    wait_of,
)
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING

#: How an iterable dataset is shared out among workers, to paste.
SHARDED = (
    "def __iter__(self):\n"
    "    info = torch.utils.data.get_worker_info()\n"
    "    first, stride = (info.id, info.num_workers) if info else (0, 1)\n"
    "    for path in self.paths[first::stride]:  # before the work, not after it\n"
    "        yield self.read(path)"
)


class ShardedAfterTheWork:
    """Every worker makes all samples and then drops those of the other workers.

    ## What it does
    Looks, in an observed script with several workers, for hot lines that run in the `__iter__` of
    a dataset before it keeps the part of its worker: `islice(self.samples(), info.id, None,
    info.num_workers)`, or `if i % info.num_workers != info.id: continue` after the work.

    ## Why it is slow
    Each of n workers reads and decodes every sample and throws n - 1 of n away. Together they
    are no faster than one, and take the cores of n.

    ## Evidence and threshold
    The wait for data, and these lines' share of the workers' time.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `line_share` = 0.3 (source: our own choice, as in PD107)

    ## What to change
    Split the list of files, entries or numbers before anything is read:
    `self.paths[info.id :: info.num_workers]`.

    ## How the gain is predicted
    The model of the pipeline with batches that take 1/n of the time of their samples; at least of
    the lines that were seen.

    ## When not to
    Where samples cannot be told apart before they are read, as in one compressed stream: then
    write it in several files. What is drawn at random for a sample may come from another place in
    the stream of random numbers.
    """

    code: ClassVar[str] = "PD125"
    name: ClassVar[str] = "sharded-after-the-work"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "line_share": 0.30}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits for workers that all do the same."""
        workers, wait = int(facts.number(WORKERS)), wait_of(facts).usual
        lines = repeated_lines(facts)
        share = min(1.0, sum(line.share for line in lines))
        if workers < 2 or wait < facts.threshold("exposed_share"):
            return None
        if share < facts.threshold("line_share"):
            return None
        dropped, likely = 1 - 1 / workers, samples_of_batch(facts)
        parts = (dropped * min(share, likely), dropped * likely, dropped)
        return Finding(
            stage=DATA_LOADING,
            title=f"Each of {workers} workers makes all samples and drops "
            f"{percent(dropped)} of them: {lines[0].words}; {percent(wait)} of each step "
            "waits for data",
            advice=f"Split the list of files or entries among the workers before {lines[0].place} "
            "works on them, not what comes out of it. More workers do not help until then.",
            change={"shard_before_work": True},
            snippet=SHARDED,
            evidence=(
                *loader_evidence(facts),
                Evidence(
                    metric="done by every worker",
                    value=share,
                    unit="share of the workers' time",
                    threshold=facts.threshold("line_share"),
                    where=lines[0].place,
                ),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=cheaper_batches(facts, *parts),
            confidence=0.9,
            effort="lines",
        )
