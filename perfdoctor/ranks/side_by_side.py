"""The same steps of all ranks side by side: who needs how much by itself, and who waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfdoctor.ranks.parts import RankPart, coarser
from perfdoctor.record import Floats
from perfdoctor.report import RankSkew
from perfdoctor.stages import BACKWARD, DATA_LOADING, FORWARD
from perfdoctor.stats import ratio_of_sums_interval

COMMUNICATION = "communication"
#: A rank that made less than half of the steps of the others cannot be laid beside them.
_ENOUGH_STEPS = 0.5
#: As many as a trend or an interval of a median takes.
_FEWEST_STRETCHES = 6
_PARTS = 20


@dataclass(frozen=True)
class SideBySide:
    """The same steps of several ranks: one row a rank, one column a stretch of steps.

    Attributes:
        stages: stage → seconds per step. apart: the same between the steps. own: without waiting.
            wait: the waiting. between: what lies between the steps. floor: mean communication
            per step of the rank that has least of it. can_wait: they wait for each other.
    """

    ranks: tuple[int, ...]
    stages: Mapping[str, Floats]
    apart: Mapping[str, Floats]
    own: Floats
    wait: Floats
    between: Floats
    floor: float
    can_wait: bool

    @classmethod
    def of(cls, parts: Sequence[RankPart]) -> SideBySide | None:
        """None where fewer than two ranks made enough steps together."""
        most = max(part.steps for part in parts)
        usable = [p for p in parts if p.columns and p.steps >= _ENOUGH_STEPS * most]
        if len(usable) < 2:
            return None
        stretch = max(part.stretch for part in usable)
        tables = [_table(part, stretch) for part in usable]
        count = min(len(next(iter(table.values()))) for table in tables)
        settled = max(-(-part.settled * part.stretch // stretch) for part in usable)
        settled = min(settled, max(0, count - _FEWEST_STRETCHES))
        if count - settled < _FEWEST_STRETCHES:
            return None
        names = {name for table in tables for name in table}
        nothing = np.zeros(count)
        stages = {
            name: np.stack([t.get(name, nothing)[settled:count] for t in tables])
            for name in sorted(names)
        }
        return cls._made(usable, stages)

    @classmethod
    def _made(cls, parts: Sequence[RankPart], stages: Mapping[str, Floats]) -> SideBySide:
        names = {name for part in parts for name in part.between}
        apart = {name: values for name, values in stages.items() if name in names}
        stages = {name: values for name, values in stages.items() if name not in names}
        between, step = _sum(list(apart.values()), stages), _sum(list(stages.values()), stages)
        can_wait = all(trains_together(part) for part in parts)
        met = _sum([v for n, v in stages.items() if n in _meeting(parts)], stages)
        communication = stages.get(COMMUNICATION, np.zeros_like(step))
        wait = np.zeros_like(step)
        if can_wait:
            wait = communication + met - met.min(axis=0)
        return cls(
            ranks=tuple(part.rank for part in parts),
            stages=stages,
            apart=apart,
            own=np.maximum(0.0, step - wait),
            wait=wait,
            between=between,
            floor=float(communication.min(axis=0).mean()) + _exposed_s(parts),
            can_wait=can_wait,
        )

    def own_s(self) -> Floats:
        """Median of each rank."""
        medians: Floats = np.median(self.own, axis=1)
        return medians

    def critical(self) -> int:
        """The rank that needs most time by itself, what it does between the steps included."""
        return self.ranks[int(np.argmax((self.own + self.between).mean(axis=1)))]

    def skew(self) -> RankSkew | None:
        """How unequal they are; None where they do not wait for each other."""
        own_s = self.own_s()
        usual = float(_lower_median(own_s))
        if not self.can_wait or usual <= 0:
            return None
        slowest = int(np.argmax(own_s))
        step_s, even_s = self._steps(own_s, usual)
        stage, excess_s = self._stage(slowest)
        alone, alone_stage, alone_s = self._alone()
        return RankSkew(
            slowest=self.ranks[slowest],
            skew=float(own_s[slowest]) / usual - 1,
            slowest_in=float((np.argmax(self.own, axis=0) == slowest).mean()),
            stretches=int(self.own.shape[1]),
            step_s=float(step_s.mean()),
            even_step_s=float(even_s.mean()),
            speedup=float(step_s.sum() / even_s.sum()),
            speedup_ci=ratio_of_sums_interval(step_s, even_s, _PARTS),
            stage=stage,
            stage_excess_s=excess_s,
            communication_s=self.floor,
            between_s=alone_s,
            between_rank=alone,
            between_stage=alone_stage,
        )

    def _steps(self, own_s: Floats, usual: float) -> tuple[Floats, Floats]:
        """All time of each step as it is, and if no rank were slower than the median one."""
        now: Floats = (self.own + self.wait + self.between).mean(axis=0)
        factors = np.minimum(1.0, usual / np.maximum(own_s, 1e-12))[:, None]
        saved = self.own.max(axis=0) - (self.own * factors).max(axis=0)
        return now, np.maximum(now - saved, 0.01 * now)

    def _alone(self) -> tuple[int | None, str | None, float]:
        """The rank that does more than the median one between the steps, what, and how much."""
        spent_s = self.between.mean(axis=1)
        most = int(np.argmax(spent_s))
        excess_s = float(spent_s[most]) - _lower_median(spent_s)
        means = {name: float(values[most].mean()) for name, values in self.apart.items()}
        if excess_s <= 0:
            return None, None, 0.0
        return self.ranks[most], max(means, key=lambda name: means[name]), excess_s

    def _stage(self, slowest: int) -> tuple[str | None, float | None]:
        """Where the slowest rank takes most time beyond the median rank."""
        medians = {name: np.median(values, axis=1) for name, values in self.stages.items()}
        excess = {
            name: float(values[slowest] - _lower_median(values))
            for name, values in medians.items()
            if name != COMMUNICATION
        }
        stage = max(excess, key=lambda name: excess[name], default=None)
        if stage is None or excess[stage] <= 0:
            return None, None
        return stage, excess[stage]


def _lower_median(values: Floats) -> float:
    """Of two ranks the faster: it is the one that could be reached."""
    return float(np.sort(values)[(values.size - 1) // 2])


def _sum(values: Sequence[Floats], like: Mapping[str, Floats]) -> Floats:
    total: Floats = np.zeros_like(next(iter(like.values())))
    for one in values:
        total = total + one
    return total


def trains_together(part: RankPart) -> bool:
    """Whether it says that it is one of several."""
    world = part.report.configuration.get("world_size") if part.report else None
    return isinstance(world, int) and world > 1


def _meeting(parts: Sequence[RankPart]) -> set[str]:
    """The stages in which a rank may wait for the others without saying so."""
    settings = [part.report.configuration for part in parts if part.report is not None]
    if any(str(found.get("device", "cpu")) != "cpu" for found in settings):
        apart = {COMMUNICATION, DATA_LOADING, *(n for part in parts for n in part.between)}
        return {name for part in parts for name in part.columns} - apart
    shares_forward = any(_ddp(f).get("broadcast_buffers") or f.get("fsdp") for f in settings)
    return {BACKWARD, FORWARD} if shares_forward else {BACKWARD}


def _exposed_s(parts: Sequence[RankPart]) -> float:
    """What DDP's own clock says of communication that the backward pass does not hide, per step:
    of the rank with the least, since in the others' it is also waiting."""
    logs = [_ddp(part.report.configuration) for part in parts if part.report is not None]
    if not all(isinstance(log.get("exposed_s"), float) for log in logs):
        return 0.0
    return min(_shared_s(log) for log in logs)


def _shared_s(log: Mapping[str, Any]) -> float:
    return float(log["exposed_s"]) * max(1.0, float(log.get("syncs_per_step", 1.0)))


def _ddp(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """What DDP tells of itself."""
    log = configuration.get("ddp_log")
    return log if isinstance(log, Mapping) else {}


def _table(part: RankPart, stretch: int) -> dict[str, Floats]:
    each = stretch // part.stretch
    return {name: coarser(np.array(values), each) for name, values in part.columns.items()}
