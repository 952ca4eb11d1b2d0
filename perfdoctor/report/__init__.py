"""The Report: what a Run amounts to. Every renderer takes one, and schema.py writes it as JSON.

Seconds end in `_s`, bytes in `_bytes`, shares are 0–1. `None` means not measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from perfdoctor.ending import Ending
from perfdoctor.record import (
    Environment,
    Hotspot,
    Limit,
    LogFile,
    Probe,
    Sampling,
    SkippedFile,
    Source,
)
from perfdoctor.report.advice import (
    Abstained,
    Choice,
    Diagnosis,
    Evidence,
    Finding,
    Prediction,
    Recommendation,
    Together,
)
from perfdoctor.report.numbers import (
    ChangePoint,
    Economics,
    Epochs,
    Forecast,
    Interval,
    Loader,
    MemoryUse,
    StageStat,
    Stalls,
    Stat,
    Steps,
    Throughput,
    Trend,
    Usage,
    Wall,
    WallPart,
)
from perfdoctor.report.several import (
    ComparedConfiguration,
    Comparison,
    RankRow,
    RankSkew,
)
from perfdoctor.report.trials import (
    CurvePoint,
    Trial,
    Verification,
)

__all__ = [
    "Abstained",
    "ChangePoint",
    "Choice",
    "ComparedConfiguration",
    "Comparison",
    "CurvePoint",
    "Diagnosis",
    "Economics",
    "Epochs",
    "Evidence",
    "Finding",
    "Forecast",
    "Interval",
    "Loader",
    "MemoryUse",
    "Prediction",
    "RankRow",
    "RankSkew",
    "Recommendation",
    "Report",
    "StageStat",
    "Stalls",
    "Stat",
    "Steps",
    "Throughput",
    "Together",
    "Trend",
    "Trial",
    "Usage",
    "Verification",
    "Wall",
    "WallPart",
]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that perfdoctor says about one training."""

    schema_version: int
    tool: dict[str, str]
    created_at: str
    name: str
    source: Source
    environment: Environment
    configuration: dict[str, Any]
    steps: Steps | None
    stages: dict[str, StageStat]
    throughput: Throughput | None
    notes: tuple[str, ...] = ()
    epochs: Epochs | None = None
    alone: dict[str, Stat] = field(default_factory=dict)
    loader: Loader | None = None
    inference: Stat | None = None
    utilisation: dict[str, Usage] = field(default_factory=dict)
    memory: MemoryUse = field(default_factory=MemoryUse)
    limits: dict[str, Limit] = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict)
    sampling: Sampling | None = None
    hotspots: tuple[Hotspot, ...] = ()
    diagnosis: Diagnosis | None = None
    recommendations: tuple[Recommendation, ...] = ()
    together: Together | None = None
    abstained: tuple[Abstained, ...] = ()
    comparison: Comparison | None = None
    skipped: tuple[SkippedFile, ...] = ()
    warnings: tuple[str, ...] = ()
    series: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    stalls: Stalls | None = None
    wall: Wall | None = None
    forecast: Forecast | None = None
    ranks: int = 1
    rank_table: tuple[RankRow, ...] = ()
    rank_skew: RankSkew | None = None
    restarts: tuple[int, ...] = ()
    logs: tuple[LogFile, ...] = ()
    ending: Ending | None = None
    counters: dict[str, float] = field(default_factory=dict)
    verification: Verification | None = None
