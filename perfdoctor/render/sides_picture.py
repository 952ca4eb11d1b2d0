"""The picture of two sides: how much each quantity changed, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from perfdoctor.compare.checks import CheckResult
from perfdoctor.compare.shifts import MARGIN, Shift, Sides
from perfdoctor.render import check_words, sides_words
from perfdoctor.render.axes import BLUE, GREEN, GREY, ORANGE, VERMILLION, fit, rows, say
from perfdoctor.render.figure import Heading, Panel, page, style, to_png, wrapped
from perfdoctor.render.text import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    "slower": VERMILLION, "more": VERMILLION, "faster": GREEN, "less": GREEN, "unclear": ORANGE,
}  # fmt: skip
_ROW_IN, _LEAST_IN = 0.34, 1.0
_NAME_CELLS = 26
#: A change beyond this is drawn at the edge: it would squeeze the others.
_MOST, _LEAST = 3.0, 0.33
_TICKS = (
    (0.33, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0),
    (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8),
    (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2),
)


def png(sides: Sides) -> bytes | None:
    """The picture; None where nothing has a value on both sides."""
    shown = [shift for shift in sides.shifts if shift.ratio is not None]
    if not shown:
        return None
    sentences = [sides_words.summary(sides)]
    sentences += [sides_words.difference(found) for found in sides.differences[:3]]
    head = Heading(
        name=wrapped(f"{clean(sides.before.label)} → {clean(sides.after.label)}", 84, 2),
        facts=wrapped(sides_words.basis(sides)[0].partition(". ")[0], 150, 1)[0],
        verdict=None,
        sentences=[line for text in sentences for line in wrapped(text, 128, 2)],
    )
    return _drawn(head, shown, sides.margin)


def of_check(result: CheckResult) -> bytes:
    """The picture of a check: what was judged comes first."""
    lines = [check_words.verdict(found) for found in result.judged]
    lines += [sides_words.difference(found) for found in result.why[:3]]
    head = Heading(
        name=wrapped(clean(result.measured), 84, 2),
        facts=wrapped(f"{check_words.sides(result)} · {check_words.effort(result)}", 150, 1)[0],
        verdict=check_words.outcome(result),
        sentences=[line for text in lines for line in wrapped(text, 128, 2)],
    )
    shown = [shift for shift in check_words.shown(result) if shift.ratio is not None]
    return _drawn(head, shown, MARGIN)


def _drawn(head: Heading, shown: Sequence[Shift], margin: float) -> bytes:
    panel = Panel(
        partial(draw_shifts, shifts=shown, margin=margin),
        max(_LEAST_IN, _ROW_IN * len(shown)), left_in=2.3, right_in=4.2,
    )  # fmt: skip
    with style():
        return to_png(page(head, [[panel]]))


def draw_shifts(ax: Axes, shifts: Sequence[Shift], margin: float) -> None:
    """A point and its interval for each; the band is what is called the same."""
    if not shifts:
        say(ax, "too little was measured to compare")
        return
    ax.axvspan(1 / (1 + margin), 1 + margin, color="#EEEEEE", zorder=0)
    ax.axvline(1.0, color=GREY, lw=1)
    ends = [1 / (1 + 2 * margin), 1 + 2 * margin]
    for y, shift in enumerate(shifts):
        ends += _point(ax, y, shift)
    ax.set_xscale("log")
    low, high = max(_LEAST, min(ends)), min(_MOST, max(ends))
    ax.set_xlim(low * 0.97, high * 1.03)
    _ticks(ax, low, high)
    ax.set_title("after ÷ before")
    ax.set_xlabel(f"change; grey: within {100 * margin:g} %, called the same")
    names = [fit(sides_words.name(shift), _NAME_CELLS) for shift in shifts]
    rows(ax, names, [_told(shift, margin) for shift in shifts])


def _ticks(ax: Axes, low: float, high: float) -> None:
    """As many as have room."""
    span = high / low
    steps = _TICKS[0] if span > 2.2 else _TICKS[1] if span > 1.35 else _TICKS[2]
    shown = [tick for tick in steps if low * 0.97 <= tick <= high * 1.03]
    ax.set_xticks(shown, ["0 %" if tick == 1 else f"{(tick - 1) * 100:+.0f} %" for tick in shown])
    ax.set_xticks([], minor=True)


def _point(ax: Axes, y: int, shift: Shift) -> list[float]:
    assert shift.ratio is not None
    centre = min(_MOST, max(_LEAST, shift.ratio))
    low, high = shift.ratio_ci or (shift.ratio, shift.ratio)
    bounds = [[max(0.0, centre - max(_LEAST, low))], [max(0.0, min(_MOST, high) - centre)]]
    colour = _COLOURS.get(shift.direction or "", BLUE)
    mark = "<" if shift.ratio < _LEAST else ">" if shift.ratio > _MOST else "o"
    ax.errorbar([centre], [y], xerr=bounds, fmt=mark, color=colour, capsize=4, markersize=6, lw=2)
    for beyond, edge, arrow in ((low < _LEAST, _LEAST, "<"), (high > _MOST, _MOST, ">")):
        if beyond:  # it goes on: an end would be read as a bound
            ax.plot([edge], [y], arrow, color=colour, markersize=8)
    return [low, high, centre]


def _told(shift: Shift, margin: float) -> str:
    both = f"{sides_words.value(shift, shift.before)} → {sides_words.value(shift, shift.after)}"
    assert shift.ratio is not None
    change = sides_words.relative_change(shift.ratio)
    return f"{both}  {change}  {sides_words.direction(shift, margin)}"
