"""PD206, PD207: what the GPU's own counter says of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.logs import (
    BENCH,
    FULL_DEVICE,
    RUN,
    WHOLE_RUNS,
    compiled,
    device_memory_share,
    known_data_share,
    precision,
)
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING, FORWARD

_GPU = "utilisation.gpu"
_MEAN, _P50 = f"{_GPU}.mean", f"{_GPU}.p50"


class GpuUnderused:
    """The GPU is idle for a large part of the run.

    ## What it does
    Looks at how busy the GPU was over the whole run, and at what else the run tells of the reason.

    ## Why it is slow
    A GPU without work waits: for the next batch, for the CPU to launch operations, for a
    synchronisation (`.item()`, `print` of a tensor), or for validation and checkpoints that run
    on the CPU.

    ## Evidence and threshold
    The mean of the GPU's own counter, percent of the time in which anything ran on it.
    - `low_percent` = 80 (source: a rule of thumb in projects' own guides to slow trainings;
      between this and the next it is an option, unless training is known to wait for data)
    - `fault_percent` = 50 (source: PyTorch's TensorBoard plug-in and nsys call a GPU that is busy
      for less than half of the time underused)
    - `waiting_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time)
    - `unused_percent` = 2 (source: our own choice; below, nothing was trained on it meanwhile)

    ## What to change
    Where training waits for data: the loader. Where it does not: a larger batch, fewer
    synchronisations, `torch.compile`. Where that is not known: find out first.

    ## How the gain is predicted
    It is not: the counter says that something ran, not how much of the GPU it filled.

    ## When not to
    Small models cannot fill a large GPU; several trainings can share it.
    """

    code: ClassVar[str] = "PD206"
    name: ClassVar[str] = "gpu-underused"
    needs: ClassVar[tuple[str, ...]] = (_MEAN,)
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = "batch-size"
    thresholds: ClassVar[Mapping[str, float]] = {
        "low_percent": 80.0,
        "fault_percent": 50.0,
        "waiting_share": 0.10,
        "unused_percent": 2.0,
    }
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS
    rests_on: ClassVar[tuple[str, ...]] = (_GPU,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires below the low threshold; it is a fault below the other, or if data is late."""
        busy, waiting = facts.number(_MEAN), known_data_share(facts)
        if busy >= facts.threshold("low_percent") or busy < facts.threshold("unused_percent"):
            return None
        late = waiting is not None and waiting >= facts.threshold("waiting_share")
        fault = late or busy < facts.threshold("fault_percent")
        limit = facts.threshold("fault_percent" if fault and not late else "low_percent")
        evidence = [Evidence(metric="GPU busy", value=busy, unit="%", threshold=limit)]
        if waiting is not None:
            evidence.append(Evidence(metric="wait for data", value=waiting, unit="share of step"))
        return Finding(
            stage=DATA_LOADING if late else FORWARD,
            title=f"The GPU is busy only {busy:.0f} % of the time",
            advice=_advice(facts, waiting, late),
            change={},
            snippet="",
            evidence=tuple(evidence),
            cause=LOADER_CAUSE if late else self.cause,
            confidence=0.5 if waiting is not None else 0.4,
            effort="lines",
            optional=not fault,
        )


class GpuSaturated:
    """The GPU is busy nearly all the time: only the model's own work can become faster.

    ## What it does
    Looks for a GPU that hardly ever waits.

    ## Why it is slow
    It is not: nothing outside the GPU holds the training up. What is left is the work itself.

    ## Evidence and threshold
    The median of the GPU's own counter.
    - `busy_percent` = 95 (source: a rule of thumb in projects' own guides to slow trainings)

    ## What to change
    16-bit autocast, TF32, `torch.compile`, `channels_last` for convolutions, a smaller model; or
    more GPUs. More workers or faster disks bring nothing.

    ## How the gain is predicted
    It is not: the counter says that something ran, not how well it filled the GPU.

    ## When not to
    The counter also counts a GPU that is filled badly, with many small operations.
    """

    code: ClassVar[str] = "PD207"
    name: ClassVar[str] = "gpu-saturated"
    needs: ClassVar[tuple[str, ...]] = (_P50,)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "gpu-saturated"
    thresholds: ClassVar[Mapping[str, float]] = {"busy_percent": 95.0}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS
    rests_on: ClassVar[tuple[str, ...]] = (_GPU,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires as an option if the median is above the threshold."""
        busy, limit = facts.number(_P50), facts.threshold("busy_percent")
        if busy <= limit:
            return None
        options = _not_yet(facts)
        return Finding(
            stage=FORWARD,
            title=f"The GPU is busy {busy:.0f} % of the time: only its own work can become faster",
            advice=f"What can help: {options}. `{BENCH}` measures which of it does.",
            change={},
            snippet="",
            evidence=(Evidence(metric="GPU busy, median", value=busy, unit="%", threshold=limit),),
            cause=self.cause,
            confidence=0.4,
            effort="lines",
            safety="numerics",
            optional=True,
        )


def _advice(facts: Facts, waiting: float | None, late: bool) -> str:
    if waiting is None:
        return (
            f"The run does not tell how long training waits for data; `{RUN}` does. If it waits, "
            f"mend the loader; if not, {_BUSIER}."
        )
    if late:
        return f"It waits for data, {percent(waiting)} of each step: mend the loader first."
    larger = "" if _memory_is_full(facts) else "try a larger batch, "
    return (
        f"Loading is not the reason ({percent(waiting)} of each step): {larger}call .item() and "
        "print less often, and try torch.compile."
    )


_BUSIER = "call .item() and print less often, and try torch.compile"


def _memory_is_full(facts: Facts) -> bool:
    """Whether a larger batch might not fit."""
    share = device_memory_share(facts)
    return share is not None and share > FULL_DEVICE


def _not_yet(facts: Facts) -> str:
    """What is not on already, as far as known."""
    left = []
    if precision(facts) not in ("bf16", "fp16"):
        left.append("16-bit autocast")
    if not compiled(facts):
        left.append("torch.compile")
    return ", ".join([*left, "a smaller model", "more GPUs"])
