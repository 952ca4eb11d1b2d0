"""A report as one picture: how fast, where the time goes, and what the advice would bring.

Drawn with matplotlib's object interface on the Agg canvas; pyplot, which keeps global state and
may open windows, is never imported.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from perfdoctor.render import bars, over_time, words
from perfdoctor.render.axes import GREEN, GREY, ORANGE, VERMILLION
from perfdoctor.render.text import clean
from perfdoctor.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

WIDTH_IN = 12.0
DPI = 110
#: Fonts with Chinese, Japanese or Korean letters, as Linux, Windows and macOS name them.
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "SimHei",
    "Yu Gothic",
    "Malgun Gothic",
    "PingFang SC",
    "Hiragino Sans GB",
    "Arial Unicode MS",
)
_STYLE: dict[str, Any] = {
    "text.parse_math": False,  # "$" in a name is a dollar
    "text.usetex": False,
    "font.size": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E4E4E4",
    "hatch.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
}
_BADGES = {"healthy": GREEN, "inconclusive": ORANGE}
_LEAST_ROW_IN = 3.1
_NAME_CELLS, _NAME_LINES = 84, 2
_SUMMARY_CELLS, _SUMMARY_LINES = 128, 4
_NAME_IN, _BADGE_IN, _LINE_IN, _MARGIN_IN = 0.30, 0.36, 0.20, 0.14


def graph_benchmark(report: Report) -> bytes:
    """The picture as PNG, 1,320 pixels wide and as high as its rows need."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with style():
        figure = draw(report)
        buffer = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """What drawing happens under: perfdoctor's looks, whatever matplotlibrc the user has."""
    import matplotlib.style

    settings = {**_STYLE, "font.family": _fonts()}
    with matplotlib.style.context(["default", settings]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield


def _fonts() -> list[str]:
    """Matplotlib's own font, then the installed ones that have the letters it lacks."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in CJK_FONTS if name in installed)]


def draw(report: Report) -> Figure:
    """The figure, not yet laid out; to be used under `style()`."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    header = _header_lines(report)
    needed = (bars.stages_height(report), bars.gains_height(report))
    grid = [max(_LEAST_ROW_IN, height) for height in needed]
    heights = [_header_height(header), sum(grid)]
    if report.comparison is not None:
        heights.append(bars.comparison_height(report.comparison))
    layout = ConstrainedLayoutEngine(w_pad=0.13, h_pad=0.09)
    figure = Figure(figsize=(WIDTH_IN, sum(heights)), dpi=DPI, layout=layout)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_header(parts[0], header, heights[0], report)
    _draw_grid(parts[1], report, grid)
    if report.comparison is not None:
        bars.draw_comparison(parts[2], report.comparison)
    return figure


def _draw_grid(part: SubFigure, report: Report, heights: list[float]) -> None:
    axes = part.subplots(2, 2, height_ratios=heights)
    over_time.draw_throughput(axes[0, 0], report)
    bars.draw_stages(axes[0, 1], report)
    over_time.draw_step_times(axes[1, 0], report)
    bars.draw_gains(axes[1, 1], report)


def _header_lines(report: Report) -> tuple[list[str], list[str], str]:
    """The lines of the name and of the verdict's sentence, and one line of facts."""
    summary = report.diagnosis.summary if report.diagnosis is not None else ""
    facts = [words.device(report.environment), words.configuration(report.configuration)]
    line = " · ".join(fact for fact in facts if fact)
    return (
        wrapped(clean(report.name), _NAME_CELLS, _NAME_LINES),
        wrapped(clean(summary), _SUMMARY_CELLS, _SUMMARY_LINES),
        wrapped(line, _SUMMARY_CELLS, 1)[0],
    )


def _header_height(header: tuple[list[str], list[str], str]) -> float:
    name, summary, _ = header
    lines_in = _LINE_IN * (len(summary) + 1)
    return 2 * _MARGIN_IN + _NAME_IN * len(name) + _BADGE_IN + lines_in


def _draw_header(
    part: SubFigure, header: tuple[list[str], list[str], str], height_in: float, report: Report
) -> None:
    name, summary, facts = header
    left, y_in = _MARGIN_IN / WIDTH_IN, height_in - _MARGIN_IN

    def write(text: str, below_in: float, x: float = left, **looks: Any) -> None:
        part.text(x, (y_in - below_in) / height_in, text, va="center", **looks)

    for line in name:
        write(line, _NAME_IN / 2, fontsize=15, fontweight="bold")
        y_in -= _NAME_IN
    write(facts, _LINE_IN / 2, fontsize=9, color=GREY)
    y_in -= _LINE_IN
    if report.diagnosis is not None:
        verdict = clean(report.diagnosis.verdict)
        colour = _BADGES.get(verdict, VERMILLION)
        badge = {"boxstyle": "round,pad=0.3", "facecolor": colour, "edgecolor": "none"}
        write(
            verdict.upper(), _BADGE_IN / 2, left + 0.0035,
            fontsize=10, fontweight="bold", color="white", bbox=badge,
        )  # fmt: skip
    y_in -= _BADGE_IN
    for line in summary:
        write(line, _LINE_IN / 2, fontsize=10.5)
        y_in -= _LINE_IN


def wrapped(text: str, cells: int, most: int) -> list[str]:
    """Lines at most `cells` wide, where a Chinese letter takes two; at most `most` lines."""
    lines = [line.plain.rstrip() for line in Text(text).wrap(Console(width=cells), cells)] or [""]
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][:-1]}…"]
    return lines
