"""Several ranks of one training: from a report each to one of all of them.

Ranks that train together wait for each other, so each step takes all of them as long as the
slowest needs. What a rank needs by itself is its step without the waiting. A rank waits in
collectives, and under DDP where those of the gradients end: on the CPU in the backward pass, with
buffers to share in the forward pass too, on a GPU wherever the host waits for the device. What
these take beyond the rank that has least of it counts as waiting: a rank whose backward pass
itself is slower than others' is not seen so, and the others then seem to compute as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from perfdoctor.ending import Ending
from perfdoctor.record import Floats, Run
from perfdoctor.report import RankRow, RankSkew, Report, Throughput, Trend
from perfdoctor.stages import BACKWARD, DATA_LOADING, FORWARD
from perfdoctor.stats import ratio_of_sums_interval

COMMUNICATION = "communication"
#: Why a rank handed in no part.
DIED, NEVER_BEGAN, STILL_RUNS = "it died", "it never began", "it had not ended"
#: Stretches of steps that a rank hands in, at most. A power of two, as are the steps in each.
MOST_STRETCHES = 1024
#: A rank that made less than half of the steps of the others cannot be laid beside them.
_ENOUGH_STEPS = 0.5
#: As many as a trend or an interval of a median takes.
_FEWEST_STRETCHES = 6
_PARTS = 20


@dataclass(frozen=True, kw_only=True)
class RankPart:
    """What one rank hands in when it ends.

    Attributes:
        report: None where the script did not use torch. ended_at: seconds since 1970.
        stretch: how many steps each element of `columns` stands for, from the first step on.
        columns: stage → mean seconds per step. between: those of them between the steps.
        settled: elements to leave out at the start.
    """

    rank: int
    ending: Ending
    ended_at: float
    report: Report | None = None
    steps: int = 0
    stretch: int = 1
    columns: dict[str, tuple[float, ...]] = field(default_factory=dict)
    between: tuple[str, ...] = ()
    settled: int = 0


def part_of_run(rank: int, run: Run, report: Report, ended_at: float) -> RankPart:
    """The part of a rank that was observed."""
    stride = _stride(run)
    columns = {s.name: np.nan_to_num(_seconds(s.mean_s, s.exposed_s)) for s in run.stages}
    rows = min((values.size for values in columns.values()), default=0)
    each = 1
    while rows > MOST_STRETCHES * each:
        each *= 2
    return RankPart(
        rank=rank,
        ending=run.ending or Ending("running"),
        ended_at=ended_at,
        report=report,
        steps=rows * stride,
        stretch=stride * each,
        columns={name: tuple(_coarser(values, each).tolist()) for name, values in columns.items()},
        between=tuple(s.name for s in run.stages if s.between),
        settled=-(-(report.steps.warmup_discarded if report.steps else 0) // each),
    )


def to_bytes(part: RankPart) -> bytes:
    """For `from_bytes` of the same version of perfdoctor."""
    return msgspec.msgpack.encode(part)


def from_bytes(data: bytes) -> RankPart | None:
    """None where it is something else, or of another version."""
    try:
        return msgspec.msgpack.decode(data, type=RankPart)
    except msgspec.DecodeError:
        return None


def merge(parts: Sequence[RankPart], world: int, absent: Mapping[int, str]) -> Report | None:
    """One report of all ranks; None where none of them has one.

    Steps, stages and everything that is found from them are of the rank that needs most time by
    itself: what it does is what all others wait for, while in theirs the waiting hides in the
    stage before a collective. Rates are of all ranks together.

    Args:
        parts: of the ranks that handed one in, in any order.
        world: how many ranks there were.
        absent: those that did not until they ended, and in a word why. What they handed in before
            that is among `parts`.
    """
    told = sorted((p for p in parts if p.report is not None), key=lambda part: part.rank)
    if not told:
        return None
    side = SideBySide.of(told)
    skew = None if side is None else side.skew()
    chosen = _chosen(told, side)
    rows = [_row(part, side, absent.get(part.rank)) for part in parts]
    seen = {part.rank for part in parts}
    rows += [RankRow(rank=rank, note=note) for rank, note in absent.items() if rank not in seen]
    factor = _all_to_one(told, chosen)
    first = _first_failure(parts)
    report = chosen.report
    assert report is not None
    return replace(
        report,
        ranks=world,
        rank_table=tuple(sorted(rows, key=lambda row: row.rank)),
        rank_skew=skew,
        throughput=_together(told, report.throughput, factor),
        series=_scaled_samples(report.series, factor),
        notes=(*report.notes, _whose(chosen, len(told))),
        warnings=(*_warnings(parts, absent, first), *_their_warnings(told)),
        ending=first.ending if first is not None else told[0].ending,
    )


# -- side by side ------------------------------------------------------------------------------


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
        can_wait = all(_trains_together(part) for part in parts)
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


def _trains_together(part: RankPart) -> bool:
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


def _stride(run: Run) -> int:
    steps = None if run.track is None else run.track.steps
    return max(1, int(steps[0])) if steps is not None and steps.size else 1


def _seconds(mean_s: Floats | None, exposed_s: Floats) -> Floats:
    return exposed_s if mean_s is None else mean_s


def _coarser(values: Floats, each: int) -> Floats:
    """Means over so many elements; a last, partial group is left out."""
    whole = values.size // each
    means: Floats = values[: whole * each].reshape(whole, each).mean(axis=1)
    return means


def _table(part: RankPart, stretch: int) -> dict[str, Floats]:
    each = stretch // part.stretch
    return {name: _coarser(np.array(values), each) for name, values in part.columns.items()}


# -- one report --------------------------------------------------------------------------------


def _chosen(parts: Sequence[RankPart], side: SideBySide | None) -> RankPart:
    if side is not None:
        rank = side.critical()
        return next(part for part in parts if part.rank == rank)
    return max(parts, key=lambda part: (part.steps, -part.rank))


def _row(part: RankPart, side: SideBySide | None, note: str | None) -> RankRow:
    report = part.report
    if report is None:
        return RankRow(rank=part.rank, ending=part.ending, note="it did not import torch")
    place = side.ranks.index(part.rank) if side and part.rank in side.ranks else None
    waits = side is not None and place is not None and side.can_wait
    return RankRow(
        rank=part.rank,
        steps=part.steps,
        step_p50_s=report.steps.time.p50_s if report.steps else None,
        samples_per_s=report.throughput.samples_per_s if report.throughput else None,
        own_s=float(side.own_s()[place]) if waits and side and place is not None else None,
        wait_s=float(np.median(side.wait[place])) if waits and side and place is not None else None,
        between_s=sum(float(np.mean(part.columns[n])) for n in part.between if part.columns[n]),
        stages=_stage_medians(part),
        peak_bytes=report.memory.peak_bytes,
        ending=None if note is not None else part.ending,
        note=note,
    )


def _stage_medians(part: RankPart) -> dict[str, float]:
    columns = {n: v for n, v in part.columns.items() if v and n not in part.between}
    return {n: float(np.median(v[min(part.settled, len(v) - 1) :])) for n, v in columns.items()}


def _all_to_one(parts: Sequence[RankPart], chosen: RankPart) -> float:
    """Samples of all ranks ÷ those of the chosen one, in the same time.

    Ranks that wait for each other make the same steps in it: what each does in one counts, since
    the time of its steps depends on whether it waits in them or works beside them.
    """
    together = all(_trains_together(part) for part in parts)
    own, *others = (_rate(p, each_step=together) for p in (chosen, *parts))
    return sum(rate for rate in others if rate is not None) / own if own else 1.0


def _rate(part: RankPart, each_step: bool) -> float | None:
    told = part.report.throughput if part.report else None
    rate = None if told is None else told.samples_per_s or told.tokens_per_s
    if told is None or rate is None or not each_step:
        return rate
    return rate / told.steps_per_s if told.steps_per_s else None


def _together(
    parts: Sequence[RankPart], told: Throughput | None, factor: float
) -> Throughput | None:
    """Sums over the ranks, which work at the same time. Steps are the same ones for all.

    The intervals are as wide relative to the rate as the chosen rank's: ranks that wait for each
    other are slow at the same time.
    """
    if told is None:
        return None
    interval = told.samples_per_s_ci
    return replace(
        told,
        samples_per_s=_times(told.samples_per_s, factor),
        samples_per_s_ci=None if interval is None else (interval[0] * factor, interval[1] * factor),
        tokens_per_s=_times(told.tokens_per_s, factor),
        median_samples_per_s=_times(told.median_samples_per_s, factor),
        median_tokens_per_s=_times(told.median_tokens_per_s, factor),
        trend=None if told.trend is None else _scaled_trend(told.trend, factor),
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _scaled_trend(trend: Trend, factor: float) -> Trend:
    if trend.unit not in ("samples/s", "tokens/s"):
        return trend
    return replace(
        trend,
        first=trend.first * factor,
        last=trend.last * factor,
        change_points=tuple(
            replace(point, before=point.before * factor, after=point.after * factor)
            for point in trend.change_points
        ),
    )


def _scaled_samples(
    series: Mapping[str, tuple[float | None, ...]], factor: float
) -> dict[str, tuple[float | None, ...]]:
    """The samples of a step are those of all ranks, as the rates are."""
    samples = tuple(_times(value, factor) for value in series.get("samples", ()))
    return {**series, "samples": samples} if samples else dict(series)


def _whose(chosen: RankPart, count: int) -> str:
    if count == 1:
        return f"Everything is of rank {chosen.rank}, the only one with a report."
    return (
        f"Rates are of {count} ranks together; steps, stages and advice are of rank {chosen.rank}, "
        "which waits least for the others."
    )


# -- ranks that ended early --------------------------------------------------------------------

_WELL = ("finished", "stopped", "running")


def failed(ending: Ending) -> bool:
    """Whether a script ended otherwise than it was meant to."""
    if ending.how in ("exit", "os._exit"):
        return bool(ending.code)
    return ending.how not in _WELL


def _first_failure(parts: Sequence[RankPart]) -> RankPart | None:
    """The rank that failed first: what the others then ran into are consequences.

    A signal is sent by somebody who saw a failure, so an error goes before it.
    """
    return min(
        (part for part in parts if failed(part.ending)),
        key=lambda part: (part.ending.how == "signal", part.ended_at),
        default=None,
    )


def _warnings(
    parts: Sequence[RankPart], absent: Mapping[int, str], first: RankPart | None
) -> list[str]:
    until = {part.rank for part in parts}
    lines = [
        f"Rank {rank} left no report at its end: {note}. {_kept(rank in until)}"
        for rank, note in sorted(absent.items())
    ]
    gone = any(note in (DIED, NEVER_BEGAN) for note in absent.values())
    if first is not None and not (gone and _is_consequence(first)):
        lines.append(f"Rank {first.rank} ended early: {describe_ending(first.ending)}.")
    after = [p.rank for p in parts if failed(p.ending) and p is not first]
    if gone and first is not None and _is_consequence(first):
        after.append(first.rank)
    if after:
        ranks = ", ".join(str(rank) for rank in sorted(after))
        lines.append(f"Rank{'s' if len(after) > 1 else ''} {ranks} ended early after that.")
    return lines


def _kept(before: bool) -> str:
    return "What it handed in before counts." if before else "The others are reported."


def _is_consequence(part: RankPart) -> bool:
    """Whether an ending may come from another rank's: a signal, or a lost connection."""
    lost = ("connection", "gloo", "nccl", "distbackend", "socket", "timed out", "store")
    text = part.ending.detail.lower()
    return part.ending.how == "signal" or any(word in text for word in lost)


def describe_ending(ending: Ending) -> str:
    """Such as "ValueError: no such file" or "exit code 3"."""
    if ending.detail:
        return ending.detail
    if ending.how in ("exit", "os._exit") and ending.code is not None:
        return f"exit code {ending.code}"
    return ending.how


def _their_warnings(parts: Sequence[RankPart]) -> list[str]:
    """What the ranks' reports warn of, once each."""
    told = (warning for part in parts if part.report for warning in part.report.warnings)
    return list(dict.fromkeys(told))
