"""The panel of a log's epochs: how long each took, and which was best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perfdoctor.record import Bools, Floats
from perfdoctor.render import log_words
from perfdoctor.render.axes import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    columns,
    fit,
    thousands,
    top_of,
)
from perfdoctor.render.series import column, time_unit
from perfdoctor.render.text import seconds
from perfdoctor.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METRIC_CELLS = 44
#: Epochs so few have their time written on them.
_LABELLED = 12
#: Room for so many epochs at least: a bar across the page looks like a background.
_LEAST_WIDTH = 7.0
#: Bars so many are drawn without gaps.
_JOINED = 60
#: An epoch is slow if it takes so many times the median, and is beyond so many times the usual
#: spread (median absolute deviation, scaled to a standard deviation).
_SLOW, _SPREADS = 1.2, 5.0


def epoch_times(report: Report) -> Floats:
    """Seconds of each epoch; empty where none is known."""
    epoch_s = column(report, "epoch_s")
    return epoch_s if np.isfinite(epoch_s).any() else epoch_s[:0]


@dataclass(frozen=True)
class _Bars:
    """One bar an epoch that is timed: its number, its height, and the validation on its top."""

    number: Floats
    whole_s: Floats
    validation_s: Floats

    @property
    def width(self) -> float:
        """Bars so many that gaps would hide them have none."""
        return 0.8 if self.number.size < _JOINED else 1.0


def draw_epochs(ax: Axes, report: Report) -> None:
    """A bar an epoch, its validation on top; slow ones in red, the best in green."""
    bars = _bars(report)
    middle_s = float(np.median(bars.whole_s))
    top_s, beyond = top_of(bars.whole_s)
    scale, unit = time_unit(top_s)
    slow = _slow(bars.whole_s, middle_s)
    best = _best(report, bars)
    ground_s = np.zeros(bars.whole_s.size)
    for chosen, low_s, colour, label in (
        (~slow & ~best, ground_s, BLUE, "epoch"),
        (slow & ~best, ground_s, VERMILLION, "slow epoch"),
        (best, ground_s, GREEN, _best_label(report)),
        (np.isfinite(bars.validation_s), bars.whole_s - bars.validation_s, ORANGE, "validation"),
    ):
        columns(
            ax, bars.number[chosen], low_s[chosen] / scale, bars.whole_s[chosen] / scale,
            colour=colour, width=bars.width, label=label,
        )  # fmt: skip
    ax.axhline(middle_s / scale, color=GREY, ls="--", lw=1)
    ax.set_ylim(0, 1.12 * top_s / scale)
    _labels(ax, bars, best, top_s, scale)
    count = bars.number.size
    each = f" each (median of {count:,})" if count > 1 else ""
    ax.set_title(f"Epochs: {seconds(middle_s)}{each}")
    _axes(ax, bars.number, unit, beyond)


def _labels(ax: Axes, bars: _Bars, best: Bools, top_s: float, scale: float) -> None:
    """The time on each bar where they are few, else a star on the best."""
    height = np.fmin(bars.whole_s, top_s) / scale
    if bars.number.size > _LABELLED:
        ax.plot(bars.number[best], height[best], "*", color=GREEN, mec="white", ms=12)
        return
    for x, y, whole_s in zip(bars.number, height, bars.whole_s, strict=True):
        text = seconds(float(whole_s))
        ax.text(x, y + 0.02 * top_s / scale, text, ha="center", va="bottom", fontsize=8)


def _axes(ax: Axes, number: Floats, unit: str, beyond: int) -> None:
    first, last = float(number.min()), float(number.max())
    ax.set_xlim(first - 0.7, max(last + 0.7, first + _LEAST_WIDTH))
    ax.locator_params(axis="x", nbins=10, integer=True)
    if number.size <= _LABELLED:
        ax.set_xticks(number)
    ax.locator_params(axis="y", nbins=5)
    ax.xaxis.set_major_formatter(thousands)
    ax.yaxis.set_major_formatter(thousands)
    longer = "takes" if beyond == 1 else "take"
    ax.set_xlabel(f"epoch ({beyond:,} {longer} longer than drawn)" if beyond else "epoch")
    ax.set_ylabel(unit)
    ax.grid(axis="y")
    ax.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=5, borderaxespad=0.2,
        columnspacing=1.4, handlelength=1.0,
    )  # fmt: skip


def _bars(report: Report) -> _Bars:
    epoch_s = epoch_times(report)
    whole_s, validation_s = _parts(report, epoch_s)
    known = np.isfinite(whole_s)
    return _Bars(_numbers(report, epoch_s.size)[known], whole_s[known], validation_s[known])


def _numbers(report: Report, count: int) -> Floats:
    """The epochs' numbers as the log counts; one after the other where they repeat."""
    number = column(report, "epoch")
    if number.size == count and np.isfinite(number).all() and bool((np.diff(number) > 0).all()):
        return number
    return np.arange(1.0, count + 1)


def _parts(report: Report, epoch_s: Floats) -> tuple[Floats, Floats]:
    """Heights of the bars and of the validation on top of each, in seconds."""
    validation_s, train_s = column(report, "validation_s"), column(report, "epoch_train_s")
    if validation_s.size != epoch_s.size:
        return epoch_s, np.full(epoch_s.size, np.nan)
    whole_s = epoch_s
    if train_s.size == epoch_s.size:  # a log may not count the validation into its epochs
        whole_s = np.fmax(epoch_s, train_s + validation_s)
    return whole_s, np.fmin(validation_s, whole_s)


def _slow(epoch_s: Floats, middle_s: float) -> Bools:
    spread_s = 1.4826 * float(np.median(np.abs(epoch_s - middle_s)))
    slow: Bools = epoch_s > max(_SLOW * middle_s, middle_s + _SPREADS * spread_s)
    return slow


def _best(report: Report, bars: _Bars) -> Bools:
    economics = report.epochs.economics if report.epochs is not None else None
    if economics is None:
        return np.zeros(bars.number.size, dtype=np.bool_)
    best: Bools = np.abs(bars.number - economics.best_epoch) < 0.5
    return best


def _best_label(report: Report) -> str:
    economics = report.epochs.economics if report.epochs is not None else None
    return "" if economics is None else f"best: {fit(log_words.best(economics), _METRIC_CELLS)}"
