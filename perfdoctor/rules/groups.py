"""Stages in groups: what a verdict is about. And how the groups share a step, or a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.observed import OUTSIDE, is_between
from perfdoctor.stages import DATA_LOADING, OTHER

COMPUTE = "compute"
INPUT = "input"
EVALUATION = "evaluation"
VALIDATION = "validation"
OVERHEAD = "overhead"
#: Stage → group; the user's own stages are part of the computation.
GROUPS = {
    "data_loading": INPUT,
    "h2d_copy": "transfer",
    "forward": COMPUTE,
    "loss": COMPUTE,
    "backward": COMPUTE,
    "optimizer": "optimizer",
    "arch_step": "search",
    VALIDATION: EVALUATION,
    "metrics": EVALUATION,
    "checkpoint": "io",
    "logging": "io",
    "communication": "communication",
    OTHER: OVERHEAD,
}
_PARTS = 10


def group_of(stage: str) -> str:
    """The group that a stage belongs to; what is before and after the training is its own."""
    return stage if stage in OUTSIDE else GROUPS.get(stage, COMPUTE)


@dataclass(frozen=True)
class Split:
    """How one step is shared out: stage → share of the step, all of them adding up to 1."""

    stages: Mapping[str, float]
    #: Stages that count as the model's own computation beside those that always do.
    own: tuple[str, ...] = ()

    @property
    def computing_timed(self) -> bool:
        """Whether any computing was timed by itself. If not, `other` is where it is."""
        return any(group_of(stage) == COMPUTE for stage in self.stages)

    @property
    def groups(self) -> dict[str, float]:
        """Group → share of the step."""
        shares: dict[str, float] = {}
        for stage, share in self.stages.items():
            group = self._group(stage)
            shares[group] = shares.get(group, 0.0) + share
        return shares

    def members(self, group: str) -> list[str]:
        """The stages of a group, largest first."""
        stages = [stage for stage in self.stages if self._group(stage) == group]
        return sorted(stages, key=lambda stage: -self.stages[stage])

    def leader(self, floor: float) -> str:
        """The largest group besides the computation, if it has at least `floor`."""
        others = {g: share for g, share in self.groups.items() if g != COMPUTE}
        largest = max(others, key=lambda g: others[g], default=COMPUTE)
        return largest if others.get(largest, 0.0) >= floor else COMPUTE

    def _group(self, stage: str) -> str:
        group = COMPUTE if stage in self.own else group_of(stage)
        return COMPUTE if group == OVERHEAD and not self.computing_timed else group


def whole_run(facts: Facts) -> Split:
    """The split over all steps; stages whose share is not known are left out."""
    stages = facts.get("stages") if facts.has("stages") else {}
    shares = {name: facts.known(f"stages.{name}.share") for name in stages}
    return Split({name: share for name, share in shares.items() if share is not None})


def loading_moved(split: Split, part: float) -> Split:
    """The same with that part of validation, which waits for batches, as data loading."""
    moved = part * split.stages.get(VALIDATION, 0.0)
    if not moved:
        return split
    loading, evaluating = (split.stages.get(n, 0.0) for n in (DATA_LOADING, VALIDATION))
    stages = {DATA_LOADING: loading + moved, VALIDATION: evaluating - moved}
    return replace(split, stages={**split.stages, **stages})


def each_tenth(facts: Facts) -> list[Split]:
    """The split in each tenth of the run's time; empty where no series was kept.

    Of its time and not of its steps: where steps become shorter, the last half of them may be a
    tenth of what there is to explain.
    """
    columns = stage_columns(facts)
    step_s = np.sum(list(columns.values()), axis=0) if columns else np.zeros(0)
    total_s = float(step_s.sum())
    if not total_s > 0:
        return []
    part = np.minimum((np.cumsum(step_s) - step_s / 2) / total_s * _PARTS, _PARTS - 1).astype(int)
    sums = {stage: np.bincount(part, values, _PARTS) for stage, values in columns.items()}
    whole = np.bincount(part, step_s, _PARTS)
    return [
        Split({stage: float(sums[stage][at] / whole[at]) for stage in columns})
        for at in np.flatnonzero(whole)
    ]


def tenths(values: Floats) -> list[Floats]:
    """The series cut into ten parts, fewer where it has fewer elements."""
    return list(np.array_split(values, max(1, min(_PARTS, values.size))))


def stage_columns(facts: Facts) -> dict[str, Floats]:
    """Seconds of each stage in each step whose time is known; `other` is what the stages leave."""
    step_s = _column(facts, "step_s")
    timed = np.isfinite(step_s)
    columns = {}
    for stage in facts.get("stages") if facts.has("stages") else ():
        values = _column(facts, f"{stage}_s")
        if stage != OTHER and values.size == step_s.size > 0:
            columns[stage] = np.nan_to_num(values)[timed]
    step_s = step_s[timed]
    if columns:
        within = [v for stage, v in columns.items() if not is_between(facts, stage)]
        columns[OTHER] = np.maximum(0.0, step_s - np.sum(within, axis=0))
    return columns


def _column(facts: Facts, name: str) -> Floats:
    """A column of the series; empty where nothing of it is known."""
    try:
        return facts.series(name)
    except Missing:
        return np.empty(0)
