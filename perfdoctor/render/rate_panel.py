"""The panel of a log's speed over the run: records, changes, stalls, warm-up and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perfdoctor.record import Bools, Floats
from perfdoctor.render import log_words, series
from perfdoctor.render.axes import BLUE, GREY, LIGHT_GREY, SKY, VERMILLION, fit, thousands, top_of
from perfdoctor.render.series import Positions, positions, rates
from perfdoctor.render.text import counted, in_unit, number, seconds
from perfdoctor.report import ChangePoint, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Fewer records than this are drawn one by one and joined.
_FEW = 40
#: So few records have a tick each.
_TICKED = 3
_WINDOWS, _LEAST_WINDOW = 80, 5
_CHANGES_SHOWN, _RESTARTS_SHOWN = 4, 20
#: A record is drawn as slow below so much of its neighbours' rate.
_SLOW = 0.96
#: Part of the panel's height that the label of a change takes.
_LABEL_SHARE = 0.085
_WHERE_CELLS = 34


def draw_rates(ax: Axes, report: Report) -> None:
    """The rate of each record, its running median, and what happened to it."""
    found = rates(report)
    if found is None:
        return
    place = positions(report, found[0].size)
    known = np.isfinite(found[0])
    x, values, unit = place.x[known], found[0][known], found[1]
    each = "record" if log_words.from_log(report) else "step"
    ax.set_title(f"Throughput: {in_unit(float(np.median(values)), unit)} (median {each})")
    changes = _changes(report)
    top, beyond = top_of(values)
    ax.set_ylim(0, top / (1 - _LABEL_SHARE * len(changes)))
    _records(ax, x, values)
    _slow(ax, report, x, values)
    _warm_up(ax, report, place)
    _restarts(ax, report, place)
    for row, change in enumerate(changes):
        _change(ax, row, change, place, _change_text(report, change, unit))
    _axes(ax, place, unit, beyond)


def _axes(ax: Axes, place: Positions, unit: str, beyond: int) -> None:
    ends = float(np.nanmin(place.x)), float(np.nanmax(place.x))
    margin = 0.01 * (ends[1] - ends[0]) or 1.0
    left = min(0.0, ends[0]) if ax.patches else ends[0] - margin  # the patch is the warm-up
    ax.set_xlim(left, ends[1] + margin)
    ax.locator_params(axis="both", nbins=8)
    if place.x.size <= _TICKED:
        ax.set_xticks(np.unique(place.x))
    ax.xaxis.set_major_formatter(thousands)
    ax.yaxis.set_major_formatter(thousands)
    above = f" ({counted(beyond, 'record')} above what is drawn)" if beyond else ""
    ax.set_xlabel(f"{place.label}{above}")
    ax.set_ylabel(unit)
    ax.grid(axis="y")
    ax.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=5, borderaxespad=0.2,
        columnspacing=1.4, handlelength=1.4, markerscale=1.8,
    )  # fmt: skip


def _records(ax: Axes, x: Floats, rate: Floats) -> None:
    """Each record as a point; the running median as a line."""
    if rate.size < _FEW:
        ax.plot(x, rate, "o-", color=BLUE, ms=4, lw=1.4, label="records")
        return
    ax.plot(x, rate, "o", color=SKY, ms=2.2, alpha=0.7, mew=0, label="records")
    ax.plot(x, _running(rate), color=BLUE, lw=1.6, label="median")


def _running(values: Floats) -> Floats:
    """The median of the neighbours of each value, itself among them."""
    reach = min(max(_LEAST_WINDOW, values.size // _WINDOWS) // 2, values.size - 1)
    padded = np.pad(values, reach, mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)


def _slow(ax: Axes, report: Report, x: Floats, rate: Floats) -> None:
    slow = _stalled(report, rate)
    if slow.any():
        ax.plot(x[slow], rate[slow], "o", color=VERMILLION, ms=4, mew=0, label=_stall_label(report))


def _stalled(report: Report, rate: Floats) -> Bools:
    """The records furthest below their neighbours, as many as there are stalls."""
    below = rate / _running(rate)
    if report.stalls is None or not report.stalls.count:
        return np.zeros(rate.size, dtype=np.bool_)
    count = max(1, report.stalls.count // series.stride(report, rate.size))
    last = np.sort(below)[min(count, below.size) - 1]
    slow: Bools = (below <= last) & (below < _SLOW)
    return slow


def _stall_label(report: Report) -> str:
    stalls = report.stalls
    if stalls is None or (stalls.period_steps is None and not stalls.at_epoch_start):
        return "slow steps"
    each = seconds(stalls.excess_s)
    if stalls.at_epoch_start:
        return f"slow: first of an epoch, {each}"
    return f"slow: every {counted(stalls.period_steps or 0, 'step')}, {each}"


def _warm_up(ax: Axes, report: Report, place: Positions) -> None:
    first = float(place.x[0])
    if report.steps is None or not report.steps.warmup_discarded or place.by != "step":
        return
    label = "another training" if report.steps.before_training else "warm-up"
    if first > 0:
        ax.axvspan(0, first, color=LIGHT_GREY, alpha=0.35, lw=0, label=label)


def _restarts(ax: Axes, report: Report, place: Positions) -> None:
    label = "restart"
    for index in report.restarts[:_RESTARTS_SHOWN]:
        at = series.place(report, index, place.x.size)
        if at is not None:
            ax.axvline(float(place.x[at]), color=GREY, ls=":", lw=1.2, label=label)
            label = "_"  # named once


def _changes(report: Report) -> list[ChangePoint]:
    """The change points to mark, the largest where there are too many."""
    trend = report.throughput.trend if report.throughput is not None else None
    points = trend.change_points if trend is not None else ()
    ranked = sorted(points, key=_factor, reverse=True)
    return sorted(ranked[:_CHANGES_SHOWN], key=lambda point: point.index)


def _factor(change: ChangePoint) -> float:
    """By how much the rate changed, whichever way."""
    low, high = sorted((change.before, change.after))
    return high / low if low > 0 else 0.0


def _change(ax: Axes, row: int, change: ChangePoint, place: Positions, text: str) -> None:
    """A line with what changed; every change has a row of its own, so that none overlap."""
    x = _place_of(change, place)
    low, high = float(np.nanmin(place.x)), float(np.nanmax(place.x))
    if x is None or not low <= x <= high:
        return
    height = 0.955 - _LABEL_SHARE * row
    ax.axvline(x, color=VERMILLION, ls="--", lw=1.3, ymax=height)
    right = x > low + 0.55 * (high - low)
    ax.annotate(
        text, (x, height), xycoords=("data", "axes fraction"),
        xytext=(-5 if right else 5, 0), textcoords="offset points", va="center", fontsize=8.5,
        ha="right" if right else "left", color=VERMILLION,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )  # fmt: skip


def _place_of(change: ChangePoint, place: Positions) -> float | None:
    if place.by == "step":
        return change.step
    if place.by == "at_s":
        return None if change.at_s is None else change.at_s / place.scale
    return change.index + 1.0


def _change_text(report: Report, change: ChangePoint, unit: str) -> str:
    rates = f"{in_unit(change.before, unit, bare=True)} → {in_unit(change.after, unit)}"
    step = f" at step {number(change.step)}" if change.step is not None else ""
    where = f" ({fit(log_words.place(report, change.where), _WHERE_CELLS)})" if change.where else ""
    return f"{rates}{step}{where}"
