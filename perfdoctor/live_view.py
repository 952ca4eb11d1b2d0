"""What is shown of a run while it lasts: handed from where it is observed to where it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LiveStage:
    """One stage; its shares (0–1) of the recent time and of the whole run until now."""

    name: str
    recent: float
    whole: float


@dataclass(frozen=True, kw_only=True)
class LiveView:
    """A run at one moment.

    Attributes:
        name: what runs. elapsed_s: since its first line.
        recent_s: how long "recent" is.
        stages: those that took any time, in their fixed order.
        recent_step_s, whole_step_s: the median step.
        recent_rate, whole_rate: samples per second of steps, as in the report.
        rates: the same over the whole run, oldest first.
        machine: the newest sample of each counter: cpu, gpu, gpu_memory (all 0–100),
            resident_bytes, workers_bytes; what cannot be measured is missing.
        verdict, advice: what the last report made while it runs says, and the best thing to do.
        verdict_age_s: since that report.
    """

    name: str
    elapsed_s: float
    steps: int
    recent_s: float
    stages: tuple[LiveStage, ...]
    recent_step_s: float | None = None
    whole_step_s: float | None = None
    recent_rate: float | None = None
    whole_rate: float | None = None
    rates: tuple[float, ...] = ()
    machine: Mapping[str, float] = field(default_factory=dict)
    verdict: str | None = None
    advice: str | None = None
    verdict_age_s: float = 0.0
