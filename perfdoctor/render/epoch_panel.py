"""The panel of a log's epochs: how long each took, and which was best."""

from __future__ import annotations

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
from perfdoctor.render.text import counted, seconds
from perfdoctor.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METRIC_CELLS = 44
#: Epochs so few have their time written on them.
_LABELLED = 12
#: An epoch is slow if it takes so many times the median, and is beyond so many times the usual
#: spread (median absolute deviation, scaled to a standard deviation).
_SLOW, _SPREADS = 1.2, 5.0


def epoch_times(report: Report) -> Floats:
    """Seconds of each epoch; empty where none is known."""
    epoch_s = column(report, "epoch_s")
    return epoch_s if np.isfinite(epoch_s).any() else epoch_s[:0]


def draw_epochs(ax: Axes, report: Report) -> None:
    """A bar an epoch, its validation on top; slow ones in red, the best marked."""
    epoch_s = epoch_times(report)
    number = _numbers(report, epoch_s.size)
    known = np.isfinite(epoch_s)
    middle_s = float(np.median(epoch_s[known]))
    scale, unit = time_unit(float(epoch_s[known].max()))
    whole, validation = _parts(report, epoch_s)
    slow = _slow(epoch_s, middle_s)
    width = 0.8 if epoch_s.size < 60 else 1.0
    usual = known & ~slow
    columns(ax, number[usual], whole[usual] / scale, BLUE, width=width, label="epoch")
    columns(ax, number[slow], whole[slow] / scale, VERMILLION, width=width, label="slow epoch")
    top, beyond = top_of(whole[known] / scale)
    ax.set_ylim(0, 1.12 * top)
    _best(ax, report, number, whole / scale, width)
    shown = known & np.isfinite(validation)
    columns(
        ax, number[shown], whole[shown] / scale, ORANGE, width=width,
        bottom=(whole - validation)[shown] / scale, label="validation in it",
    )  # fmt: skip
    ax.axhline(middle_s / scale, color=GREY, ls="--", lw=1)
    if epoch_s.size <= _LABELLED:
        for x, y, s in zip(number[known], whole[known] / scale, epoch_s[known], strict=True):
            ax.text(x, min(y, top) + 0.015 * top, seconds(s), ha="center", va="bottom", fontsize=8)
    each = f"{seconds(middle_s)} each (median of {known.sum():,})" if known.sum() > 1 else ""
    ax.set_title(f"Epochs: {each or seconds(middle_s)}")
    _axes(ax, number, unit, beyond)


def _axes(ax: Axes, number: Floats, unit: str, beyond: int) -> None:
    ax.set_xlim(float(number.min()) - 0.7, float(number.max()) + 0.7)
    ax.locator_params(axis="x", nbins=10, integer=True)
    ax.locator_params(axis="y", nbins=5)
    ax.xaxis.set_major_formatter(thousands)
    ax.yaxis.set_major_formatter(thousands)
    ax.set_xlabel("epoch")
    above = f"\n({counted(beyond, 'epoch')} longer)" if beyond else ""
    ax.set_ylabel(f"{unit}{above}")
    ax.grid(axis="y")
    ax.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=5, borderaxespad=0.2,
        columnspacing=1.4, handlelength=1.0,
    )  # fmt: skip


def _numbers(report: Report, count: int) -> Floats:
    """The epochs' numbers as the log counts; one after the other where they repeat."""
    number = column(report, "epoch")
    if number.size == count and np.isfinite(number).all() and bool((np.diff(number) > 0).all()):
        return number
    return np.arange(1.0, count + 1)


def _parts(report: Report, epoch_s: Floats) -> tuple[Floats, Floats]:
    """Heights of the bars and of the validation on top of each, in seconds."""
    validation_s, train_s = column(report, "epoch_validation_s"), column(report, "epoch_train_s")
    if validation_s.size != epoch_s.size:
        return epoch_s, np.full(epoch_s.size, np.nan)
    whole_s = epoch_s
    if train_s.size == epoch_s.size:  # a log may not count the validation into its epochs
        whole_s = np.fmax(epoch_s, train_s + validation_s)
    return whole_s, np.fmin(validation_s, whole_s)


def _slow(epoch_s: Floats, middle_s: float) -> Bools:
    spread_s = 1.4826 * float(np.nanmedian(np.abs(epoch_s - middle_s)))
    return epoch_s > max(_SLOW * middle_s, middle_s + _SPREADS * spread_s)


def _best(ax: Axes, report: Report, number: Floats, height: Floats, width: float) -> None:
    """The best epoch in green, with a star where its bar is too thin to be seen."""
    economics = report.epochs.economics if report.epochs is not None else None
    if economics is None:
        return
    best = (np.abs(number - economics.best_epoch) < 0.5) & np.isfinite(height)
    label = f"best: {fit(log_words.best(economics), _METRIC_CELLS)}"
    columns(ax, number[best], height[best], GREEN, width=width, label=label)
    if number.size > _LABELLED:
        y = np.fmin(height[best], ax.get_ylim()[1] / 1.12)
        ax.plot(number[best], y, "*", color=GREEN, mec="white", ms=12, clip_on=False)
