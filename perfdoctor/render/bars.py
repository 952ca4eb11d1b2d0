"""Panels of horizontal bars: stages, gains and compared configurations."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from perfdoctor.render import log_words, words
from perfdoctor.render.axes import (
    AXES_IN,
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    VERMILLION,
    fit,
    rows,
    say,
)
from perfdoctor.render.text import byte_unit, bytes_, clean, count_per_s, known, seconds, share
from perfdoctor.report import (
    ComparedConfiguration,
    Comparison,
    Prediction,
    Recommendation,
    Report,
    StageStat,
)
from perfdoctor.stages import OTHER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

_STAGES_SHOWN, _STAGE_IN = 30, 0.26
_ADVICE_SHOWN, _ADVICE_IN = 8, 0.42
_CONFIGURATIONS_SHOWN, _CONFIGURATION_IN = 30, 0.38
_NAME_CELLS = 26
_LABEL_CELLS = 36
#: Gains above this are drawn on a logarithmic axis.
_LARGE_GAIN = 4.0
_LEAST_GAIN = 0.1
_GAIN_TICKS = (0.5, 1, 2, 3, 5, 10, 20, 50, 100, 500)


def stages_height(report: Report) -> float:
    """Inches that the stages need."""
    return AXES_IN + _STAGE_IN * min(len(report.stages), _STAGES_SHOWN)


def gains_height(report: Report) -> float:
    """Inches that the recommendations need."""
    return AXES_IN + _ADVICE_IN * min(len(_changes(report)), _ADVICE_SHOWN)


def comparison_height(comparison: Comparison) -> float:
    """Inches that the configurations need."""
    return AXES_IN + 0.2 + _CONFIGURATION_IN * min(len(comparison.rows), _CONFIGURATIONS_SHOWN)


def draw_stages(ax: Axes, report: Report) -> None:
    """Exposed time of each stage as a bar of the step, its hidden work hatched behind it."""
    stages = _largest(report.stages)
    left_out = len(report.stages) - len(stages)
    ax.set_title("Where the time of a step goes" + (f" ({left_out} left out)" if left_out else ""))
    if not stages:
        say(ax, "no stage was measured")
        return
    bottleneck = report.diagnosis.bottleneck if report.diagnosis is not None else None
    colours = [_stage_colour(name, bottleneck) for name in stages]
    step_s = report.steps.time.p50_s if report.steps is not None else 0.0
    ends = []
    for y, (stage, colour) in enumerate(zip(stages.values(), colours, strict=True)):
        exposed = stage.share if known(stage.share) else 0.0
        ax.barh(y, exposed, 0.7, color=colour)
        hidden = (stage.hidden_s or 0.0) / step_s if step_s > 0 else 0.0
        if hidden:
            ax.barh(y, hidden, 0.7, left=exposed, fc="none", ec=GREY, hatch="////", lw=0.5)
        ends.append(exposed + hidden)
    ax.set_xlim(0, min(1.0, 1.08 * max(ends)) or 1.0)
    ax.xaxis.set_major_formatter(lambda value, _: share(value))
    ax.locator_params(axis="x", nbins=5)
    anything_hidden = any(stage.hidden_s for stage in stages.values())
    key = "; hatched (+): hidden behind other work" if anything_hidden else ""
    ax.set_xlabel(f"share of the step{key}")
    names = [fit(log_words.stage(report, name), _NAME_CELLS) for name in stages]
    rows(ax, names, [_stage(stage) for stage in stages.values()])


def _largest(stages: dict[str, StageStat]) -> dict[str, StageStat]:
    ranked = sorted(stages, key=lambda name: -stages[name].share)[:_STAGES_SHOWN]
    return {name: stage for name, stage in stages.items() if name in ranked}


def _stage_colour(name: str, bottleneck: str | None) -> str:
    return VERMILLION if name == bottleneck else LIGHT_GREY if name == OTHER else BLUE


def _stage(stage: StageStat) -> str:
    exposed = f"{share(stage.share)} · {seconds(stage.p50_s)}"
    return exposed if not stage.hidden_s else f"{exposed} (+{seconds(stage.hidden_s)})"


def _changes(report: Report) -> list[Recommendation]:
    return [one for one in report.recommendations if words.is_change(one)]


def draw_gains(ax: Axes, report: Report) -> None:
    """What each recommendation brings, with its interval, and what trials measured."""
    changes = _changes(report)
    ranked = changes[:_ADVICE_SHOWN]
    left_out = len(changes) - len(ranked)
    ax.set_title("What the advice brings" + (f" ({left_out} more not shown)" if left_out else ""))
    if not ranked:
        say(ax, "\n".join(wrap(words.nothing(report), 44)))
        return
    if all(r.predicted is None and r.verified is None for r in ranked):
        say(ax, "\n".join(_advice(r) for r in ranked) + "\n\nno gain can be predicted")
        return
    ends = [1.0]
    for y, recommendation in enumerate(ranked):
        ends += _gain(ax, y, recommendation)
    ax.axvline(1.0, color=GREY, lw=1)
    _gain_axis(ax, min(ends), max(ends))
    tried = any(r.verified is not None for r in ranked)
    bound = any(r.predicted is not None and r.predicted.is_bound for r in ranked)
    keys = ["● predicted   ◆ measured both ways here"] if tried else []
    keys += ["hatched: somewhere in there"] if bound else []
    key = "\n" + "   ".join(keys) if keys else ""
    ax.set_xlabel(f"throughput of the whole training, after ÷ before{key}")
    rows(ax, [_advice(r) for r in ranked], [words.short_gain(r) for r in ranked])


def _gain_axis(ax: Axes, low: float, high: float) -> None:
    """Linear, or logarithmic where one gain dwarfs the others."""
    if high > _LARGE_GAIN:
        ax.set_xscale("log")
        ticks = [tick for tick in _GAIN_TICKS if tick <= 1.3 * high]
        ax.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlim(0.85 * max(low, _LEAST_GAIN), 1.25 * high)
        return
    span = max(high - low, 0.1)
    ax.set_xlim(low - 0.06 * span, high + 0.06 * span)
    ax.locator_params(axis="x", nbins=5)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}×")


def _gain(ax: Axes, y: int, recommendation: Recommendation) -> list[float]:
    """Draws one row; returns the values that must be in view."""
    drawn: list[float] = []
    guess, trial = recommendation.predicted, recommendation.verified
    both = guess is not None and trial is not None
    for record, colour, marker, offset in ((guess, BLUE, "o", -0.13), (trial, GREEN, "D", 0.13)):
        if record is None or record.speedup is None or not known(record.speedup):
            continue
        if isinstance(record, Prediction) and record.is_bound and known(record.high):
            drawn += _bound(ax, y + (offset if both else 0.0), record)
            continue
        low = record.low if record.low is not None and known(record.low) else record.speedup
        high = record.high if record.high is not None and known(record.high) else record.speedup
        ends = [[max(0.0, record.speedup - low)], [max(0.0, high - record.speedup)]]
        ax.errorbar(
            [record.speedup], [y + (offset if both else 0.0)], xerr=ends, fmt=marker,
            color=colour, mfc="white" if recommendation.optional else colour,
            capsize=4, markersize=7, lw=2,
        )  # fmt: skip
        drawn += [low, high, record.speedup]
    return drawn


def _bound(ax: Axes, y: float, guess: Prediction) -> list[float]:
    """No point, since nobody knows where it would lie: a bar from nothing to the most."""
    ax.barh(y, guess.high - guess.low, 0.3, left=guess.low, fc="none", ec=BLUE, hatch="////", lw=1)
    return [guess.low, guess.high]


def _advice(recommendation: Recommendation) -> str:
    optional = " (optional)" if recommendation.optional else ""
    name = fit(recommendation.name, _NAME_CELLS)
    return f"{recommendation.rank}. {clean(recommendation.rule)}{optional}\n{name}"


def draw_comparison(part: SubFigure, comparison: Comparison) -> None:
    """Throughput and peak memory of each configuration, the best marked."""
    shown = comparison.rows[:_CONFIGURATIONS_SHOWN]
    left_out = len(comparison.rows) - len(shown)
    left, right = part.subplots(1, 2, width_ratios=[1.3, 1.0])
    several = ", not distinguishable" if len(comparison.best) > 1 else ""
    left.set_title(f"Throughput by configuration (★ best{several})")
    right.set_title("Peak memory" + (f" ({left_out} more not shown)" if left_out else ""))
    y = range(len(shown))
    colours = [GREEN if index in comparison.best else BLUE for index in y]
    left.barh(y, [row.samples_per_s or 0 for row in shown], 0.7, color=colours)
    scale, unit = byte_unit(max(row.peak_bytes or 0 for row in shown))
    right.barh(y, [(row.peak_bytes or 0) / scale for row in shown], 0.7, color=colours)
    labels = [_label(row.label, index in comparison.best) for index, row in enumerate(shown)]
    rows(left, labels, [_rate(row) for row in shown])
    rows(right, [""] * len(shown), [bytes_(row.peak_bytes) for row in shown])
    left.set_xlabel("samples per second")
    right.set_xlabel(unit)
    left.locator_params(axis="x", nbins=5)
    right.locator_params(axis="x", nbins=4)


def _label(label: str, best: bool) -> str:
    """Two lines at most; of what is longer, the middle of the second is left out."""
    first, *rest = wrap(f"★ {clean(label)}" if best else clean(label), _LABEL_CELLS) or [""]
    lines = [first, " ".join(rest)] if rest else [first]
    return "\n".join(fit(line, _LABEL_CELLS) for line in lines)


def _rate(row: ComparedConfiguration) -> str:
    if row.error is not None:
        return "failed"
    rate = count_per_s(row.samples_per_s).removesuffix(" samples/s")
    return f"{rate} · {words.relative(row.relative, row.relative_ci)}"
