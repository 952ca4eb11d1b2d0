"""Pictures of a report: how fast, where the time goes, and what the advice would bring.

`graph_benchmark` is of what was measured here; `throughput`, `stages` and `comparison` are of
logs, and None where there is nothing to draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdoctor.render import bars, log_pictures, over_time, setting_words, trials_panel, words
from perfdoctor.render.figure import DPI, WIDTH_IN, Heading, heading, style, to_png
from perfdoctor.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

_LEAST_ROW_IN = 3.1


def graph_benchmark(report: Report) -> bytes:
    """The picture as PNG, 1,320 pixels wide and as high as its rows need."""
    with style():
        return to_png(draw(report))


def throughput(report: Report) -> bytes | None:
    """Speed over the run, and the time of each epoch."""
    return log_pictures.painted(log_pictures.throughput, report)


def stages(report: Report) -> bytes | None:
    """Where the wall clock and the time of a step went, and what the advice would bring."""
    return log_pictures.painted(log_pictures.stages, report)


def comparison(report: Report) -> bytes | None:
    """Several logged runs, best first."""
    return log_pictures.painted(log_pictures.comparison, report)


def draw(report: Report) -> Figure:
    """The figure of a benchmark, not yet laid out; to be used under `style()`."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    head = _heading(report)
    needed = (bars.stages_height(report), bars.gains_height(report))
    grid = [max(_LEAST_ROW_IN, height) for height in needed]
    heights = [head.height_in, sum(grid)]
    if report.comparison is not None:
        heights.append(bars.comparison_height(report.comparison))
    if trials_panel.anything(report):
        heights.append(trials_panel.height(report))
    layout = ConstrainedLayoutEngine(w_pad=0.13, h_pad=0.09)
    figure = Figure(figsize=(WIDTH_IN, sum(heights)), dpi=DPI, layout=layout)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    head.draw(parts[0], heights[0])
    _draw_grid(parts[1], report, grid)
    if report.comparison is not None:
        bars.draw_comparison(parts[2], report.comparison)
    if trials_panel.anything(report):
        trials_panel.draw(parts[-1], report)
    return figure


def _heading(report: Report) -> Heading:
    facts = [words.device(report.environment), setting_words.configuration(report.configuration)]
    summary = report.diagnosis.summary if report.diagnosis is not None else ""
    return heading(report, facts, [summary])


def _draw_grid(part: SubFigure, report: Report, heights: list[float]) -> None:
    axes = part.subplots(2, 2, height_ratios=heights)
    over_time.draw_throughput(axes[0, 0], report)
    bars.draw_stages(axes[0, 1], report)
    over_time.draw_step_times(axes[1, 0], report)
    bars.draw_gains(axes[1, 1], report)
