"""How the speed went over a run: falls that last, and falls that passed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.report import Evidence
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.groups import stage_columns, tenths
from perfdoctor.rules.wording import duration, grouped, rate, rate_number
from perfdoctor.stages import DATA_LOADING
from perfdoctor.stats import kendall_p

#: A throughput that fell by less can be other load on the machine: 16 % was the coefficient of
#: variation of the mean step over identical blocks on a loaded two-core machine.
DEGRADED = 0.15
#: A trend is seen in twenty parts of a run: five steps each, or a minute in all, or it may be a
#: mood of the machine.
TREND_STEPS = 100
TREND_S = 60.0
#: A fall to this part of the speed is no mood of a machine, whose identical blocks varied by 16 %:
#: the change by which few records show a trend (perfdoctor/trends.py).
_NO_MOOD = 0.55
#: The unit of a speed that is known from the times of epochs.
EPOCHS = "epochs/s"
#: Epochs that a trend of their times needs, without the first, which warms up; and the
#: significance that it needs.
_FEWEST_EPOCHS = 8
_TREND_P = 0.01
#: Samples that became so many times as large became larger, and steps with so many times as many
#: backward passes do more (our own choice). What is computed then grows by this power at most:
#: attention goes over all pairs of positions, and second-order passes take several times as long.
_LARGER, _WORK = 1.1, 2.0
#: A change so many records from a restart is its doing.
_NEAR = 3
#: Shapes in which a speed goes from one level to another.
_MOVING = ("step", "drift", "decay")
#: A part of the step that grew by less than this part of what the step grew by did not cause it.
_OF_THE_GROWTH = 0.2
#: And one that grew by less than this part of a step is none that made steps longer: the median of
#: identical blocks varied by 2.1 % on a loaded two-core machine.
_VISIBLE = 0.021


@dataclass(frozen=True)
class Point:
    """A change of speed for good: rates on both sides, its step, time and place."""

    before: float
    after: float
    index: int
    step: float | None
    step_before: float | None
    at_s: float | None
    where: str | None


@dataclass(frozen=True)
class Fall:
    """A fall of the speed: from which rate to which, and where; `tested` for significance."""

    before: float
    after: float
    unit: str
    place: str
    where: str | None = None
    tested: bool = False

    @property
    def share(self) -> float:
        """The part of the speed that was lost."""
        return 1 - self.after / self.before

    def sentence(self) -> str:
        """Such as "Throughput fell from 2052 to 539 samples/s at step 4,600 (train.log:4123)"."""
        file = None if self.where is None else re.split(r"[\\/]", self.where)[-1]
        place = f"{self.place} ({file})" if file else self.place
        if self.unit == EPOCHS:
            before, after = (duration(1 / speed) for speed in (self.before, self.after))
            return f"Epochs take longer and longer: from {before} to {after}{place}"
        rates = f"from {rate_number(self.before)} to {rate(self.after, self.unit)}"
        return f"Throughput fell {rates}{place}"

    def evidence(self, limit: float) -> tuple[Evidence, ...]:
        """The loss beside its threshold, and both rates (for epochs, both times)."""
        ends, unit = (self.before, self.after), self.unit
        if unit == EPOCHS:
            ends, unit = (1 / self.before, 1 / self.after), "s"
        return (
            Evidence(metric="speed lost", value=self.share, unit="share", threshold=limit),
            Evidence(metric="before", value=ends[0], unit=unit),
            Evidence(metric="after", value=ends[1], unit=unit, where=self.where),
        )


def shape(facts: Facts) -> str | None:
    """The trend's shape; None where it is not known."""
    found = facts.get(_path("shape")) if facts.has(_path("shape")) else None
    return found if isinstance(found, str) else None


def unit(facts: Facts) -> str:
    """The unit of the trend's rates."""
    found = facts.get(_path("unit")) if facts.has(_path("unit")) else "samples/s"
    return found if isinstance(found, str) else "samples/s"


def lasting_fall(facts: Facts, least: float, *, short: bool = False) -> Fall | None:
    """A fall by at least `least` (a share) from the start to the end of a run; `short`: also of a
    few steps in a few seconds, if these ended at about half of their speed. None where the steps
    do as much more."""
    fall = _lasting_fall(facts, least, short=short)
    return None if fall is None or _does_more(facts, fall) else fall


def _lasting_fall(facts: Facts, least: float, *, short: bool) -> Fall | None:
    first, last = facts.known(_path("first")), facts.known(_path("last"))
    if shape(facts) not in _MOVING or first is None or last is None or last <= 0:
        return None
    halved = short and last <= _NO_MOOD * first
    if last > first * (1 - least) or (is_short(facts) and not halved):
        return None
    drops = last_drops(facts)
    if drops and drops[-1].after <= drops[0].before * (1 - least):
        return _between(facts, drops)
    if _restarts(facts):
        return None  # other runs in the file, or another machine
    return Fall(first, last, unit(facts), " over the run")


def passing_fall(facts: Facts, least: float) -> Fall | None:
    """A fall by at least `least` that was made good again."""
    if lasting_fall(facts, least) is not None or is_short(facts):
        return None
    points = _points(facts)
    for index, drop in enumerate(points):
        fell = drop.after <= drop.before * (1 - least)
        back = next((p for p in points[index + 1 :] if p.after > drop.before * (1 - least)), None)
        if fell and back is not None:
            place = f"{_at(drop)} and recovered{_at(back)}"
            return Fall(drop.before, drop.after, unit(facts), place, drop.where)
    return None


def epochs_slowed(facts: Facts, least: float) -> Fall | None:
    """The same of the times of epochs, of which the first is not counted.

    Not with restarts: a file of several runs has epochs of different lengths.
    """
    epoch_s = _epoch_times(facts)
    if _restarts(facts):
        return None
    if epoch_s.size < _FEWEST_EPOCHS or epoch_s.min() <= 0:
        return None
    first, last = float(np.median(epoch_s[:3])), float(np.median(epoch_s[-3:]))
    if first > last * (1 - least) or kendall_p(epoch_s) >= _TREND_P:
        return None
    place = f" over {epoch_s.size + 1} epochs"
    fall = Fall(1 / first, 1 / last, EPOCHS, place, tested=True)
    return None if _does_more(facts, fall) else fall


def _does_more(facts: Facts, fall: Fall) -> bool:
    """Whether samples became larger, or steps have more backward passes, and the speed fell no more
    than that explains."""
    return any(_explains(facts, name, fall) for name in ("sample_elements", "passes"))


def _explains(facts: Facts, name: str, fall: Fall) -> bool:
    first, last = (facts.known(f"configuration.{name}_at_{end}") for end in ("first", "last"))
    if not first or not last or last < _LARGER * first:
        return False
    return fall.before <= fall.after * float((last / first) ** _WORK)


def _epoch_times(facts: Facts) -> Floats:
    return _finite(facts, "epoch_s")[1:]


def _finite(facts: Facts, column: str) -> Floats:
    try:
        values = facts.series(column)
    except Missing:
        return np.empty(0)
    known: Floats = values[np.isfinite(values)]
    return known


def grown_stage(facts: Facts) -> str | None:
    """The stage that added most seconds between the first and the last tenth.

    None where none added a visible part of a step: then the steps did not grow on average.
    """
    grown, step_s = growth(facts), sum(first_tenth(facts).values())
    most = max(grown, key=lambda stage: grown[stage], default=None)
    return most if most is not None and grown[most] > _VISIBLE * step_s else None


def growth(facts: Facts) -> dict[str, float]:
    """Stage → seconds by which it is longer in the last tenth than in the first."""
    grown = {}
    for stage, column in stage_columns(facts).items():
        parts = tenths(column)
        grown[stage] = float(parts[-1].mean() - parts[0].mean())
    return grown


def first_tenth(facts: Facts) -> dict[str, float]:
    """Stage → its mean seconds in the first tenth."""
    columns = stage_columns(facts)
    return {stage: float(tenths(column)[0].mean()) for stage, column in columns.items()}


def loading_grew(facts: Facts) -> bool | None:
    """Whether waiting for data is what made the steps longer; None where it is not known."""
    grown = growth(facts)
    total = sum(grown.values())
    if DATA_LOADING not in grown or total <= 0:
        return None
    if grown_stage(facts) == DATA_LOADING:
        return True
    return False if grown[DATA_LOADING] < _OF_THE_GROWTH * total else None


def before_and_after(facts: Facts, fall: Fall, column: Floats) -> tuple[Floats, Floats]:
    """The steps of a column before a fall and after it: its first and last tenth, where the fall is
    not at a step."""
    drops = last_drops(facts) if fall.tested else []
    if drops and 0 < drops[0].index <= drops[-1].index < column.size:
        return column[: drops[0].index], column[drops[-1].index :]
    parts = tenths(column)
    return parts[0], parts[-1]


def lost_share(facts: Facts, fall: Fall) -> float | None:
    """The part of the time of all steps that the speed of the first tenth would have saved.

    No more than the fall itself, which is what a run loses that is slow from its start: the rest
    of it are single long steps.
    """
    step_s = finite_steps(facts)
    if step_s.size < 2 or step_s.mean() <= 0:
        return None
    lost = 1 - float(np.median(tenths(step_s)[0])) / float(step_s.mean())
    return min(fall.share, max(0.0, lost))


def halves_by_time(facts: Facts) -> tuple[float, float] | None:
    """Mean seconds of a step in the first and in the second half of the steps' time."""
    step_s = finite_steps(facts)
    ends = np.cumsum(step_s)
    cut = int(np.searchsorted(ends, ends[-1] / 2)) + 1 if step_s.size else 0
    if not 0 < cut < step_s.size or ends[-1] <= 0:
        return None
    return float(step_s[:cut].mean()), float(step_s[cut:].mean())


def finite_steps(facts: Facts) -> Floats:
    """The step times that are known, in their order."""
    return _finite(facts, "step_s")


def _path(name: str) -> str:
    return f"throughput.trend.{name}"


def is_short(facts: Facts) -> bool:
    """Whether the run is known to be short in steps and in time."""
    steps = facts.known("steps.count")
    times = [facts.known("steps.time.total_s"), facts.known("wall.total_s")]
    longest = max((t for t in times if t is not None), default=None)
    if steps is None and longest is None:
        return False
    return (steps or 0) < TREND_STEPS and (longest or 0.0) < TREND_S


def _points(facts: Facts) -> list[Point]:
    """Change points in their order; those without usable rates are left out."""
    path = _path("change_points")
    listed = facts.get(path) if facts.has(path) else ()
    found = (_point(facts, f"{path}.{i}") for i in range(len(listed)))
    return sorted((p for p in found if p is not None), key=lambda p: p.index)


def _point(facts: Facts, path: str) -> Point | None:
    before, after = facts.known(f"{path}.before"), facts.known(f"{path}.after")
    if before is None or after is None or before <= 0 or after <= 0:
        return None
    where = facts.get(f"{path}.where") if facts.has(f"{path}.where") else None
    return Point(
        before,
        after,
        int(facts.known(f"{path}.index") or 0),
        facts.known(f"{path}.step"),
        facts.known(f"{path}.step_before"),
        facts.known(f"{path}.at_s"),
        str(where) if where else None,
    )


def _between(facts: Facts, drops: list[Point]) -> Fall:
    first, last = drops[0], drops[-1]
    start = first.step if len(drops) > 1 else first.step_before
    place = _at(first)
    if start is not None and last.step is not None and last.step - start > 1:
        place = f" between step {grouped(start)} and {grouped(last.step)}"
    return Fall(first.before, last.after, unit(facts), place, first.where, tested=True)


def last_drops(facts: Facts) -> list[Point]:
    """The changes since the last one for the better, or since another run began."""
    drops: list[Point] = []
    for point in _points(facts):
        drops = [*drops, point] if point.after < point.before else []
        if any(abs(point.index - restart) <= _NEAR for restart in _restarts(facts)):
            drops = []
    return drops


def _restarts(facts: Facts) -> list[float]:
    """Records after which steps repeat."""
    count = len(facts.get("restarts")) if facts.has("restarts") else 0
    known = (facts.known(f"restarts.{index}") for index in range(count))
    return [record for record in known if record is not None]


def _at(point: Point) -> str:
    if point.step is not None:
        return f" at step {grouped(point.step)}"
    return "" if point.at_s is None else f" after {duration(point.at_s)}"
