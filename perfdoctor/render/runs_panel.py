"""The panels of several logged runs side by side, best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from perfdoctor.render import words
from perfdoctor.render.axes import BLUE, GREEN, GREY, fit, rows, thousands
from perfdoctor.render.log_tables import in_order_of_merit
from perfdoctor.render.series import time_unit
from perfdoctor.render.text import clean, known, number, seconds
from perfdoctor.report import ComparedConfiguration, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROWS_SHOWN, _ROW_IN = 30, 0.38
#: So many letters have room beside the bars, fewer where they are wider than others.
_LABEL_CELLS = 30
_WIDE, _WIDER = frozenset("mwMW@%—"), 0.7


@dataclass(frozen=True)
class Measure:
    """Something that the runs can be compared by. `timed`: in seconds, less is better."""

    title: str
    unit: str
    value: Callable[[ComparedConfiguration], float | None]
    timed: bool = False


_MEASURES = (
    Measure("Throughput", "samples per second", lambda row: row.samples_per_s),
    Measure("Throughput", "tokens per second", lambda row: row.tokens_per_s),
    Measure("Throughput", "steps per second", lambda row: row.steps_per_s),
    Measure("Median epoch", "", lambda row: row.epoch_p50_s, timed=True),
    Measure("Median step", "", lambda row: row.step_p50_s, timed=True),
    Measure("Whole run", "", lambda row: row.wall_s, timed=True),
)


def measures(comparison: Comparison) -> list[Measure]:
    """At most two that the runs tell, the one they are compared by first.

    Of rates, and of times, the one that most runs tell; of those that as many tell, the first.
    """
    tellers = {m: sum(known(m.value(row)) for row in comparison.rows) for m in _MEASURES}
    kinds = ([m for m in _MEASURES if m.timed is timed and tellers[m]] for timed in (False, True))
    best = [max(kind, key=lambda m: tellers[m]) for kind in kinds if kind]
    rest = [m for m in _MEASURES if m.timed and tellers[m] and m not in best]
    return (best + rest)[:2]


def runs_height(comparison: Comparison) -> float:
    """Inches that the rows need."""
    return _ROW_IN * min(len(comparison.rows), _ROWS_SHOWN)


def draw_runs(ax: Axes, comparison: Comparison, measure: Measure, *, named: bool) -> None:
    """A bar a run, with its interval where there is one; the best in green."""
    order = in_order_of_merit(comparison)[:_ROWS_SHOWN]
    shown = [comparison.rows[index] for index in order]
    values = [measure.value(row) for row in shown]
    most = max((v for v in values if v is not None and known(v)), default=1.0)
    scale, unit = time_unit(most) if measure.timed else (1.0, measure.unit)
    colours = [GREEN if index in comparison.best else BLUE for index in order]
    lengths = [value / scale if value is not None and known(value) else 0.0 for value in values]
    ax.barh(range(len(shown)), lengths, 0.7, color=colours)
    if not measure.timed:
        _intervals(ax, shown, lengths)
    ax.set_xlabel(f"{unit}, less is better" if measure.timed else unit)
    ax.locator_params(axis="x", nbins=5)
    ax.xaxis.set_major_formatter(thousands)
    labels = [_label(comparison.rows[index], index in comparison.best) for index in order]
    rows(ax, labels if named else [""] * len(shown), [_value(row, measure) for row in shown])
    several = ", not distinguishable" if len(comparison.best) > 1 else ""
    ax.set_title(f"{measure.title} (★ best{several})" if named else measure.title)


def left_out(comparison: Comparison) -> int:
    """How many runs are not drawn."""
    return max(0, len(comparison.rows) - _ROWS_SHOWN)


def _intervals(ax: Axes, shown: Sequence[ComparedConfiguration], lengths: Sequence[float]) -> None:
    for y, (row, length) in enumerate(zip(shown, lengths, strict=True)):
        if row.relative_ci is None or not row.relative or not length:
            continue
        low, high = (max(0.0, length * end / row.relative) for end in row.relative_ci)
        ends = [[max(0.0, length - low)], [max(0.0, high - length)]]
        ax.errorbar([length], [y], xerr=ends, fmt="none", ecolor=GREY, capsize=4, lw=1.6)


def _value(row: ComparedConfiguration, measure: Measure) -> str:
    value = measure.value(row)
    if row.error is not None:
        return "not read"
    if row.note is not None and row.relative is None:
        few = "too few records"
        return (
            few
            if value is None
            else seconds(value)
            if measure.timed
            else f"{number(value)} · {few}"
        )
    if value is None:
        return "not in its log"
    if measure.timed:
        return seconds(value)
    if row.relative is None:
        return number(value)
    return f"{number(value)} · {words.relative(row.relative, row.relative_ci)}"


def _label(row: ComparedConfiguration, best: bool) -> str:
    """Two lines at most; of what is longer, the middle is left out."""
    name = clean(row.label)[:400]
    cells = _cells(name)
    short = fit(f"★ {name}" if best else name, 2 * cells - 4)
    first, *rest = wrap(short, cells) or [""]
    return "\n".join([first, fit("".join(rest), cells)] if rest else [first])


def _cells(name: str) -> int:
    """How many letters of a name have room: fewer where they are wide."""
    wide = sum(1.0 if c in _WIDE else 0.4 if c.isupper() else 0.0 for c in name)
    return int(_LABEL_CELLS / (1 + _WIDER * wide / max(1, len(name))))
