"""The trials as a picture: predicted and measured side by side, against what noise does here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perfdoctor.render import words
from perfdoctor.render.axes import (
    AXES_IN,
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    VERMILLION,
    fit,
    rows,
    thousands,
)
from perfdoctor.render.text import byte_unit, clean, known
from perfdoctor.report import CurvePoint, Prediction, Report, Trial, Verification

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

_ROW_IN = 0.44
_NAME_CELLS = 34
_COLOURS = {"verified": GREEN, "refuted": VERMILLION, "inconclusive": ORANGE}
_Row = tuple[str, Prediction | None, Trial]


def anything(report: Report) -> bool:
    """Whether a trial has measured something."""
    return report.verification is not None and bool(_rows(report))


def height(report: Report) -> float:
    """Inches that the trials need."""
    return AXES_IN + 0.2 + _ROW_IN * max(2, len(_rows(report)))


def draw(part: SubFigure, report: Report) -> None:
    """One row a trial; beside it, throughput and memory by batch size, where that was tried."""
    assert report.verification is not None
    curve = [t.curve for _, _, t in _rows(report) if len(_measured(t.curve)) > 1]
    if curve:
        left, right = part.subplots(1, 2, width_ratios=[1.5, 1.0])
        _draw_curve(right, curve[0])
    else:
        left = part.subplots(1, 1)
    _draw_trials(left, report, report.verification)


def _rows(report: Report) -> list[_Row]:
    return [row for row in _all_rows(report) if row[2].speedup is not None]


def _all_rows(report: Report) -> Iterator[_Row]:
    for one in report.recommendations:
        if one.verified is not None:
            yield f"{clean(one.rule)} {clean(one.name)}", one.predicted, one.verified
    if report.verification is not None:
        for name, trial in report.verification.ceilings.items():
            yield words.ceiling(name), None, trial
        if report.verification.together is not None:
            yield "all together", None, report.verification.together


def _draw_trials(ax: Axes, report: Report, verification: Verification) -> None:
    ax.set_title("What was tried: predicted and measured")
    shown = _rows(report)
    ceilings = {words.ceiling(name) for name in verification.ceilings}
    control = verification.control
    if control is not None and control.low is not None and control.high is not None:
        ax.axvspan(control.low, control.high, color=LIGHT_GREY, alpha=0.4, lw=0)
    ax.axvline(1.0, color=GREY, lw=1)
    for y, (_, guess, trial) in enumerate(shown):
        if guess is not None and known(guess.low) and known(guess.high):
            ax.plot([guess.low, guess.high], [y - 0.15] * 2, color=BLUE, lw=5, alpha=0.35)
            if not guess.is_bound:
                ax.plot([guess.speedup], [y - 0.15], "o", color=BLUE, markersize=6)
        colour = _COLOURS.get(trial.outcome, GREY)
        gain = trial.speedup or 1.0
        ax.plot([trial.low or gain, trial.high or gain], [y + 0.15] * 2, color=colour, lw=2)
        ax.plot([gain], [y + 0.15], "D", color=colour, markersize=7)
    names = [fit(name, _NAME_CELLS) for name, _, _ in shown]
    gains = [_gain(t, name in ceilings) for name, _, t in shown]
    rows(ax, names, gains)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}×")
    ax.set_xlabel(
        "throughput of the whole training, after ÷ before\n"
        "● predicted   ◆ measured in turns, 90 % interval   grey band: nothing changed"
    )


def _gain(trial: Trial, ceiling: bool) -> str:
    return f"{words.measured_gain(trial) or ''}\n{words.outcome(trial, ceiling=ceiling)}"


def _measured(curve: tuple[CurvePoint, ...]) -> list[CurvePoint]:
    return [point for point in curve if point.samples_per_s is not None]


def _draw_curve(ax: Axes, curve: tuple[CurvePoint, ...]) -> None:
    ax.set_title("Throughput and memory by batch size")
    points = _measured(curve)
    sizes = [p.batch_size for p in points]
    ax.plot(sizes, [p.samples_per_s or 0.0 for p in points], "o-", color=BLUE)
    ax.set_ylabel("samples per second", color=BLUE)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set_ylim(0, 1.1 * max(p.samples_per_s or 0.0 for p in points))
    ax.yaxis.set_major_formatter(thousands)
    ax.set_xlabel("samples per batch")
    scale, unit = byte_unit(max(p.peak_bytes or 0 for p in points))
    peaks = ax.twinx()
    peaks.plot(sizes, [(p.peak_bytes or 0) / scale for p in points], "s--", color=ORANGE)
    peaks.set_ylabel(f"peak memory, {unit}", color=ORANGE)
    peaks.set_ylim(0, 1.1 * max(p.peak_bytes or 1 for p in points) / scale)
    peaks.spines["right"].set_visible(True)
