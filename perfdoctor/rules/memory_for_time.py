"""PD308, PD309: memory that is saved without need, and memory that workers collect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import device_memory_share
from perfdoctor.rules.measured import beside, computing_share
from perfdoctor.rules.observed import RUNS, faster
from perfdoctor.rules.wording import count, percent, size
from perfdoctor.stages import BACKWARD, DATA_LOADING

_CHECKPOINTING = "configuration.gradient_checkpointing"
_SLOPE = "counters.workers_bytes_per_step"
#: Forward and backward with ÷ without checkpointing: one more forward pass is a third of the two
#: at most; Hugging Face's guide to training on one GPU says a fifth.
_RECOMPUTED = (1.1, 1.2, 1.33)


class NeedlessCheckpointing:
    """Activations are computed twice to save memory that is not short.

    ## What it does
    Looks for gradient checkpointing in an observed script whose peak of memory is low.

    ## Why it is slow
    What the forward pass computed is thrown away and computed again in the backward pass: up to a
    third more work.

    ## Evidence and threshold
    The switch of the model, and the peak of memory beside what there is.
    - `peak_share` = 0.6 (source: Hugging Face's and torchtune's guides switch it on only where
      memory is short; 40 % are left for what it saves)

    ## What to change
    Switch it off; or keep it, and use the room for a larger batch.

    ## How the gain is predicted
    A range over forward and backward: 1.1 to 1.33 times as fast.

    ## When not to
    Where longer batches are to come, or another model shares the memory.
    """

    code: ClassVar[str] = "PD308"
    name: ClassVar[str] = "needless-checkpointing"
    needs: ClassVar[tuple[str, ...]] = ("source.kind", "stages")
    verify_with: ClassVar[str | None] = "gradient-checkpointing"
    cause: ClassVar[str] = "gradient-checkpointing"
    thresholds: ClassVar[Mapping[str, float]] = {"peak_share": 0.6}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if it is on and memory is left."""
        on = facts.has(_CHECKPOINTING) and facts.flag(_CHECKPOINTING)
        if not on:
            return None
        peak = facts.number("memory.peak_share")
        if peak >= facts.threshold("peak_share"):
            return None
        share = computing_share(facts)
        return Finding(
            stage=BACKWARD,
            title=f"Gradient checkpointing is on, and the peak is {percent(peak)} of the memory",
            advice="Switch it off: activations are then kept instead of being computed twice.",
            change={"gradient_checkpointing": False},
            snippet="model.gradient_checkpointing_disable()",
            evidence=(
                beside(facts, "peak memory", peak, "share of memory", "peak_share"),
                Evidence(metric="forward, loss and backward", value=share, unit="share"),
            ),
            cause=self.cause,
            predicted=faster(share, *_RECOMPUTED),
            confidence=0.7,
        )


class WorkersMemoryGrows:
    """The memory of the workers grows as they read the dataset.

    ## What it does
    Looks at the slope of the workers' own memory (their proportional set size) over the steps.

    ## Why it is slow
    A forked worker shares the dataset's memory until it touches it. Counting references to Python
    objects is touching them, so each worker ends with a copy of every list and string (PyTorch
    issue 5902 saw 5 GB become 17). When memory is full, files are no longer cached, or the system
    ends the training.

    ## Evidence and threshold
    The slope times the steps that were seen.
    - `grown_bytes` = 1.07374e+09 (source: TraceML warns from a steady growth of 1 GiB)

    ## What to change
    Keep paths, labels and tokens in arrays or Arrow tables instead of lists; fewer workers.

    ## How the gain is predicted
    It is not: it keeps the training from failing, or from slowing down later.

    ## When not to
    Where the workers fill a cache on purpose and it fits.
    """

    code: ClassVar[str] = "PD309"
    name: ClassVar[str] = "workers-memory-grows"
    needs: ClassVar[tuple[str, ...]] = ("configuration.num_workers",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "workers-memory"
    thresholds: ClassVar[Mapping[str, float]] = {"grown_bytes": 1.07374e9}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if workers together grew by so much, steadily."""
        workers = int(facts.number("configuration.num_workers"))
        if workers < 1:
            return None
        grown = facts.number(_SLOPE) * facts.number("steps.count")
        if grown < facts.threshold("grown_bytes"):
            return None
        memory = device_memory_share(facts)
        full = "" if memory is None else f"; {percent(memory)} of the memory is used"
        return Finding(
            stage=DATA_LOADING,
            title=f"{count(workers, 'worker')} grew by {size(grown)} so far{full}",
            advice="Keep what the dataset holds in arrays or Arrow tables instead of Python "
            "lists: those are copied by each worker that reads them.",
            change={"dataset_storage": "arrays"},
            snippet="self.paths = numpy.array(paths, dtype=numpy.bytes_)  # one block, no objects",
            evidence=(beside(facts, "grown in all", grown, "bytes", "grown_bytes"),),
            cause=self.cause,
            confidence=0.6,
            effort="lines",
            danger="ahead",
        )
