"""PD303, PD304: the host's memory over a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.logs import FULL_RAM, WHOLE_RUNS, ram_share, workers
from perfdoctor.rules.wording import percent, size
from perfdoctor.stages import DATA_LOADING

_CAUSE = "host-memory"
_SWAP = "utilisation.swap_bytes"
_GROWN = "counters.swap_grown_bytes"
_GIB = 2**30


class HostMemoryNearlyFull:
    """The host's memory is nearly full.

    ## What it does
    Looks at how much of the host's memory was in use over the run.

    ## Why it is slow
    What is left of the memory caches files. When that shrinks, the dataset is read from the disk
    again in every epoch; when nothing is left, the system swaps or kills a process.

    ## Evidence and threshold
    The 95th percentile of the memory in use.
    - `warn_share` = 0.8 (source: a rule of thumb in projects' own guides to slow trainings; shown
      as an option, not as a fault)
    - `high_share` = 0.9 (source: our own choice, halfway to full)

    ## What to change
    Fewer workers or a smaller `prefetch_factor`: each worker holds its own batches, and its own
    copy of what the dataset keeps in Python lists. Arrays that are mapped from a file
    (`numpy.memmap`, Arrow) are shared by all of them.

    ## How the gain is predicted
    It is not: this buys safety.

    ## When not to
    Where the memory in use counts caches that the system can drop at any time.
    """

    code: ClassVar[str] = "PD303"
    name: ClassVar[str] = "host-memory-nearly-full"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"warn_share": FULL_RAM, "high_share": 0.90}
    sources: ClassVar[tuple[str, ...]] = (*WHOLE_RUNS, "bench")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires above the warning share; it is a fault above the high one."""
        share = ram_share(facts)
        if share is None:
            raise Missing("utilisation.ram.p95")
        if share <= facts.threshold("warn_share"):
            return None
        high = share > facts.threshold("high_share")
        limit = facts.threshold("high_share" if high else "warn_share")
        return Finding(
            stage=DATA_LOADING,
            title=f"{percent(share)} of the host's memory is in use",
            advice=_less_memory(facts),
            change={},
            snippet=_MAPPED,
            evidence=(
                Evidence(metric="host memory in use", value=share, unit="share", threshold=limit),
            ),
            cause=self.cause,
            confidence=0.6 if high else 0.4,
            effort="lines",
            optional=not high,
            danger="here" if high else "none",
        )


class Swapping:
    """The host swaps memory out while the training runs.

    ## What it does
    Looks for swap space that fills while the training runs; in a log also for swap that is in use
    while the memory is full.

    ## Why it is slow
    Memory that was swapped out has to be read back from a disk, a thousand times as slowly, in
    the middle of a step or of a batch.

    ## Evidence and threshold
    In a training that was measured or observed: how much more was swapped out at most than when
    it began, as much as `used_gib`, or `grown_gib` where the memory is full (PD303's 80 %). In a
    log, which may begin at any time: the swap in use (95th percentile), and how much more that is
    than its median. Swap that was full before and stays so says nothing: systems swap out what
    nobody uses.
    - `used_gib` = 1 (source: our own choice; less holds only what idle programs left)
    - `grown_gib` = 0.25 (source: our own choice, a quarter of that)

    ## What to change
    Less memory: fewer workers, a smaller `prefetch_factor`, arrays mapped from files. Or more of
    it.

    ## How the gain is predicted
    It is not: how often swapped memory is needed again cannot be read off its size.

    ## When not to
    Where other programs on the machine were swapped out, and not the training.
    """

    code: ClassVar[str] = "PD304"
    name: ClassVar[str] = "host-swapping"
    needs: ClassVar[tuple[str, ...]] = (f"{_SWAP}.p95",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"used_gib": 1.0, "grown_gib": 0.25}
    sources: ClassVar[tuple[str, ...]] = (*WHOLE_RUNS, "bench")
    rests_on: ClassVar[tuple[str, ...]] = (_SWAP,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if it grew during the training; of a log if much is swapped out and it grew, or
        the memory is full."""
        if not facts.from_log and facts.has(_GROWN):
            return _filled(facts)
        used, share = facts.number(f"{_SWAP}.p95"), ram_share(facts)
        grown = used - (facts.known(f"{_SWAP}.p50") or 0.0)
        if used < facts.threshold("used_gib") * _GIB:
            return None
        if grown < facts.threshold("grown_gib") * _GIB and (share is None or share <= FULL_RAM):
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"The host swaps: {size(used)} are swapped out",
            advice=_less_memory(facts),
            change={},
            snippet=_MAPPED,
            evidence=(
                Evidence(
                    metric="swap in use",
                    value=used,
                    unit="bytes",
                    threshold=facts.threshold("used_gib") * _GIB,
                ),
                Evidence(metric="more than usual", value=grown, unit="bytes"),
            ),
            cause=self.cause,
            confidence=0.7,
            effort="lines",
            danger="here",
        )


def _filled(facts: Facts) -> Finding | None:
    """PD304 of a training that was seen from its beginning on."""
    grown, share = facts.number(_GROWN), ram_share(facts)
    full = share is not None and share > FULL_RAM
    least = facts.threshold("grown_gib" if full else "used_gib") * _GIB
    if grown < least:
        return None
    return Finding(
        stage=DATA_LOADING,
        title=f"The host swaps: {size(grown)} were swapped out during the training",
        advice=_less_memory(facts),
        change={},
        snippet=_MAPPED,
        evidence=(
            Evidence(
                metric="swapped out since it began", value=grown, unit="bytes", threshold=least
            ),
        ),
        cause=_CAUSE,
        confidence=0.7,
        effort="lines",
        danger="here",
    )


_MAPPED = 'features = numpy.load("features.npy", mmap_mode="r")  # shared by all workers'


def _less_memory(facts: Facts) -> str:
    now = workers(facts)
    if now == 0:
        return "Keep large data in arrays mapped from files, not in Python lists."
    workers_now = "workers" if now is None else f"workers than {now}"
    return (
        f"Use fewer {workers_now}, or a smaller prefetch_factor; keep large data in arrays mapped "
        "from files, not in Python lists."
    )
