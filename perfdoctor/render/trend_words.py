"""Sentences about how the speed of a logged run went."""

from __future__ import annotations

from collections.abc import Sequence

from perfdoctor.render.log_words import place
from perfdoctor.render.text import change, clean, counted, in_unit, known, number, seconds
from perfdoctor.report import ChangePoint, Report, Trend

#: Change points of one direction that are no further apart, as a part of the run, are one change.
_ONE_CHANGE = 0.1
_CHANGES_SAID = 3
#: What differs by less is steady; of fewer values than this, a trend is hardly seen.
_STEADY, _FEW = 0.05, 40
#: A change is due to a restart if it is so many records away from one at most.
_AT_RESTART = 5
_SHAPES = {
    "drift": "changed gradually",
    "decay": "kept falling",
    "step": "changed at once",
    "periodic": "goes up and down at regular distances",
}


def trend(report: Report) -> list[str]:
    """How the rate went over the run, as sentences."""
    found = report.throughput.trend if report.throughput is not None else None
    if found is None:
        return []
    changes = [
        _changed(report, group, found.unit) for group in _grouped(report, found.change_points)
    ]
    more = len(changes) - _CHANGES_SAID
    if more > 0:
        changes = [*changes[:_CHANGES_SAID], f"and {counted(more, 'more change')} of speed"]
    return changes or [_shape(found, _values(report))]


def _steady(found: Trend, values: int) -> str:
    """No change was found; where the ends differ all the same, it may hide in the noise."""
    if not known(found.change) or abs(found.change) <= _STEADY:
        return "steady"
    few = values < _FEW
    return "too few values to tell whether it changed" if few else "no change beyond its noise"


def _values(report: Report) -> int:
    """How many the trend rests on."""
    names = ("step_s", "samples_per_s", "tokens_per_s", "epoch_s")
    columns = (report.series.get(name, ()) for name in names)
    return max(sum(value is not None for value in column) for column in columns)


def _shape(found: Trend, values: int) -> str:
    last = in_unit(found.last, found.unit, bare=True)
    ends = f"{in_unit(found.first, found.unit)} at the start, {last} at the end"
    if found.shape == "steady":
        return f"{_steady(found, values)}: {ends}"
    word = _SHAPES.get(found.shape, clean(found.shape))
    if found.shape != "periodic" and known(found.change):
        word = word.replace("changed", "rose" if found.change > 0 else "fell")
    return f"Throughput {word}: {ends} ({change(found.change)})"


def _grouped(report: Report, points: Sequence[ChangePoint]) -> list[list[ChangePoint]]:
    """Neighbouring change points of one direction are one change, in several parts."""
    groups: list[list[ChangePoint]] = []
    reach = _ONE_CHANGE * _length(report)
    for point in points:
        before = groups[-1][-1] if groups else None
        if before is not None and _continues(before, point, reach):
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def _continues(before: ChangePoint, point: ChangePoint, reach: float) -> bool:
    same = (before.after > before.before) == (point.after > point.before)
    if before.step is None or point.step is None:
        return False
    return same and 0 <= point.step - before.step <= reach


def _length(report: Report) -> float:
    steps = [step for step in report.series.get("step", ()) if step is not None]
    return max(steps) - min(steps) if steps else 0.0


def _changed(report: Report, points: Sequence[ChangePoint], unit: str) -> str:
    first, last = points[0], points[-1]
    verb = "rose" if last.after > first.before else "fell"
    rates = f"from {in_unit(first.before, unit, bare=True)} to {in_unit(last.after, unit)}"
    where = " and ".join(dict.fromkeys(place(report, p.where) for p in (first, last) if p.where))
    sentence = f"Throughput {verb} {rates} {_between(report, points)}"
    return f"{sentence} ({where})" if where else sentence


def _between(report: Report, points: Sequence[ChangePoint]) -> str:
    first, last = points[0], points[-1]
    if first is last and any(abs(first.index - end) <= _AT_RESTART for end in report.restarts):
        return "at a restart"
    if first.step is None or last.step is None:
        into = first.at_s
        return f"at record {first.index + 1:,}" if into is None else f"after {seconds(into)}"
    start = first.step if first.step_before is None else first.step_before
    if last.step - start <= 1:
        return f"at step {number(last.step)}"
    return f"between step {number(start)} and {number(last.step)}"
