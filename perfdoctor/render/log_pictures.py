"""The pictures of a log, put together from their panels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from perfdoctor.render import bars, log_words, setting_words, trend_words
from perfdoctor.render.axes import AXES_IN
from perfdoctor.render.epoch_panel import draw_epochs, epoch_times
from perfdoctor.render.figure import Heading, Panel, heading, page, style, to_png
from perfdoctor.render.rate_panel import draw_rates
from perfdoctor.render.runs_panel import draw_runs, left_out, measures, runs_height
from perfdoctor.render.series import rates
from perfdoctor.render.text import clean, counted
from perfdoctor.render.wall_panel import draw_wall, wall_height
from perfdoctor.report import Report
from perfdoctor.stages import OTHER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Below rates, epochs are drawn from so many on.
_FEWEST_EPOCHS = 3
_RATES_IN, _EPOCHS_IN = 3.7, 2.1
#: Room for names on the left and values on the right of bars.
_NAMES_IN, _VALUES_IN = 2.15, 1.75
_GAINS_IN = 1.55
_LEAST_BARS_IN = 1.0


def painted(build: Callable[[Report], Figure | None], report: Report) -> bytes | None:
    """The picture that `build` makes, as PNG."""
    with style():
        figure = build(report)
        return None if figure is None else to_png(figure)


def throughput(report: Report) -> Figure | None:
    """The rate over the run, above the time of each epoch."""
    epochs, has_rates = epoch_times(report).size, rates(report) is not None
    panels = []
    if has_rates:
        panels.append(Panel(partial(draw_rates, report=report), _RATES_IN))
    if epochs >= (_FEWEST_EPOCHS if has_rates else 1):
        panels.append(Panel(partial(draw_epochs, report=report), _EPOCHS_IN))
    if not panels:
        return None
    sentences = trend_words.trend(report)
    if report.stalls is not None and report.stalls.count:
        sentences.append(f"Stalls {log_words.stalls(report.stalls)}")
    return page(_heading(report, sentences), [[panel] for panel in panels])


def stages(report: Report) -> Figure | None:
    """The wall clock as one bar, above the stages of a step and the gains of the advice."""
    rows = []
    if report.wall is not None and report.wall.parts and report.wall.total_s > 0:
        height = wall_height(report.wall)
        wall = Panel(
            partial(draw_wall, report=report), height, left_in=0.3, right_in=0.3, bottom_in=0.15
        )
        rows.append([wall])
    if below := _below(report):
        rows.append(below)
    if not rows:
        return None
    summary = [report.diagnosis.summary] if report.diagnosis is not None else []
    return page(_heading(report, summary), rows)


def _below(report: Report) -> list[Panel]:
    """Stages and gains beside each other, as far as they are known."""
    split = bool(set(report.stages) - {OTHER})
    gains = any(r.predicted or r.verified for r in report.recommendations)
    width = 0.5 if split and gains else 1.0
    panels = []
    if split:
        inner = max(_LEAST_BARS_IN, bars.stages_height(report) - AXES_IN)
        panels.append(
            Panel(
                partial(bars.draw_stages, report=report), inner,
                left_in=_NAMES_IN, right_in=_VALUES_IN, width=width,
            )
        )  # fmt: skip
    if gains:
        inner = max(_LEAST_BARS_IN, bars.gains_height(report) - AXES_IN)
        panels.append(
            Panel(
                partial(bars.draw_gains, report=report), inner,
                left_in=_NAMES_IN, right_in=_GAINS_IN, bottom_in=0.7, width=width,
            )
        )  # fmt: skip
    return panels


def comparison(report: Report) -> Figure | None:
    """One row a run, best first: how fast, and how long."""
    compared = report.comparison
    if compared is None or not (shown := measures(compared)):
        return None
    widths = (0.58, 0.42) if len(shown) > 1 else (1.0,)
    panels = [
        Panel(
            partial(draw_runs, comparison=compared, measure=measure, named=not index),
            max(_LEAST_BARS_IN, runs_height(compared)), left_in=2.9 if not index else 0.3,
            right_in=1.85 if not index else 1.35, width=width,
        )
        for index, (measure, width) in enumerate(zip(shown, widths, strict=True))
    ]  # fmt: skip
    more = left_out(compared)
    sentence = [f"{counted(more, 'run')} behind these not shown"] if more else []
    named = replace(report, name=f"{len(compared.rows):,} runs", diagnosis=None)
    return page(heading(named, [_formats(report)], sentence), [panels])


def _heading(report: Report, sentences: list[str]) -> Heading:
    facts = [
        _formats(report),
        log_words.ran(report.wall),
        setting_words.main_settings(report.configuration),
    ]
    return heading(report, facts, sentences)


def _formats(report: Report) -> str:
    return " + ".join(dict.fromkeys(clean(log.format) for log in report.logs))
