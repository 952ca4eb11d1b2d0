"""PD902, PD903: a device that slows itself down, and epochs that are not alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.measured import MEASURED, beside
from perfdoctor.rules.wording import on_cuda, percent, size
from perfdoctor.stages import DATA_LOADING, FORWARD

_CLOCK, _HEAT = "utilisation.gpu_clock_mhz", "utilisation.gpu_temperature_c"
#: What the device's processors can have at most, by its driver.
_HIGHEST = "counters.gpu_clock_max_mhz"


class DeviceThrottled:
    """The GPU lowered its clock while it was busy: it is too hot, or limited in power.

    ## What it does
    Compares the usual clock of a busy GPU with the highest it was seen at, and, where its driver
    tells, with the highest it can have: that shows a GPU that was slowed down throughout.

    ## Why it is slow
    A GPU that gets too hot, or that draws more power than it is allowed, lowers its clock. All
    that was measured is then of that clock, and not of the training.

    ## Evidence and threshold
    The mean clock ÷ its 95th percentile, and the median ÷ the highest clock, while the GPU was
    busy; the temperature, where it is known. Below the highest throughout and not hot it is an
    option: boards of little power never have that clock under load.
    - `clock` = 0.75 (source: NVBench discards measurements below 75 % of the default clock)
    - `busy_percent` = 50 (source: an idle GPU lowers its clock to save power)
    - `hot_c` = 82 (source: gpuprof warns from 82 °C)

    ## What to change
    Cooling, the power limit (`nvidia-smi -q -d PERFORMANCE` names the reason); then measure again.

    ## How the gain is predicted
    There is none: the training itself is not at fault.

    ## When not to
    Where the clock was set lower on purpose.
    """

    code: ClassVar[str] = "PD902"
    name: ClassVar[str] = "device-throttled"
    needs: ClassVar[tuple[str, ...]] = ("source.kind",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "device-throttled"
    thresholds: ClassVar[Mapping[str, float]] = {"clock": 0.75, "busy_percent": 50.0, "hot_c": 82.0}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if a busy GPU ran well below the clock that it can have."""
        try:
            if not on_cuda(facts):
                return None
        except Missing:
            return None
        varied = facts.number(f"{_CLOCK}.mean") / max(1.0, facts.number(f"{_CLOCK}.p95"))
        throughout = _of_highest(facts)
        part = min(varied, throughout)
        busy = facts.number("utilisation.gpu.p50")
        if part >= facts.threshold("clock") or busy < facts.threshold("busy_percent"):
            return None
        heat = facts.known(f"{_HEAT}.p95")
        hot = heat is not None and heat >= facts.threshold("hot_c")
        reason = f", at {heat:.0f} °C" if hot else ""
        best = "it can have" if throughout < varied else "it reached"
        return Finding(
            stage=FORWARD,
            title=f"The busy GPU ran at {percent(part)} of the clock that {best}{reason}",
            advice="Look for the reason with nvidia-smi -q -d PERFORMANCE (heat, power limit), "
            "and measure again.",
            change={},
            snippet="nvidia-smi -q -d PERFORMANCE",
            evidence=(
                beside(facts, "clock ÷ its highest", part, "share", "clock"),
                beside(facts, "GPU busy, median", busy, "%", "busy_percent"),
            ),
            cause=self.cause,
            confidence=0.6,
            optional=varied >= facts.threshold("clock") and not hot,
        )


def _of_highest(facts: Facts) -> float:
    """The median clock ÷ the highest that the device can have; 1 where that is not known."""
    highest, usual = facts.known(_HIGHEST), facts.known(f"{_CLOCK}.p50")
    return 1.0 if not highest or usual is None else min(1.0, usual / highest)


class ColdCacheMeasured:
    """The first part of the measurement read the dataset from the disk, the rest from memory.

    ## What it does
    Compares the reading from the disk in the first half of the samples with that in the second.

    ## Why it is slow
    The first time files come from the disk, later from the system's cache. What was measured in
    between is neither the first epoch nor the others.

    ## Evidence and threshold
    Bytes from the disk, early ÷ late.
    - `early_late` = 3 (source: gpuprof calls that a cold cache)
    - `bytes_per_s` = 5e+07 (source: our own choice, a tenth of the 500 MB/s from which gpuprof
      calls a disk busy)

    ## What to change
    Nothing in the training. Measure again: the cache is warm now. For a first epoch that counts,
    copy the data to a local disk.

    ## How the gain is predicted
    There is none: the training itself is not at fault.

    ## When not to
    Where the training has a single epoch: then the cold one is what it gets.
    """

    code: ClassVar[str] = "PD903"
    name: ClassVar[str] = "cold-cache-measured"
    needs: ClassVar[tuple[str, ...]] = (
        "counters.disk_early_bytes_per_s",
        "counters.disk_late_bytes_per_s",
    )
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "cold-cache"
    thresholds: ClassVar[Mapping[str, float]] = {"early_late": 3.0, "bytes_per_s": 5e7}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if reading from the disk faded away while it was measured."""
        early, late = (facts.number(path) for path in self.needs)
        ratio = early / max(late, 1.0)
        if early < facts.threshold("bytes_per_s") or ratio < facts.threshold("early_late"):
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"The dataset was read from the disk at first ({size(early)}/s), then from "
            "memory",
            advice="Measure again, now that the files are in memory; in the first epoch loading "
            "takes longer than what is shown.",
            change={},
            snippet="",
            evidence=(
                beside(facts, "early", early, "bytes/s", "bytes_per_s"),
                Evidence(metric="late", value=late, unit="bytes/s"),
            ),
            cause=self.cause,
            confidence=0.4,
            optional=True,
        )
