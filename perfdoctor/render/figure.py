"""What every picture shares: looks, fonts, a heading, and panels laid out by hand.

Drawn with matplotlib's object interface on the Agg canvas; pyplot, which keeps global state and
may open windows, is never imported.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from perfdoctor.render.axes import GREEN, GREY, ORANGE, VERMILLION
from perfdoctor.render.text import clean
from perfdoctor.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
    "axes.titley": 1.0,  # else every drawing measures all ticks to find a place
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E4E4E4",
    "hatch.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
}
_BADGES = {"healthy": GREEN, "pass": GREEN, "pass, improved": GREEN, "inconclusive": ORANGE}
_NAME_CELLS, _NAME_LINES = 84, 2
_FACTS_CELLS, _SENTENCE_CELLS, _SENTENCE_LINES = 150, 128, 4
_NAME_IN, _BADGE_IN, _LINE_IN, _MARGIN_IN = 0.30, 0.36, 0.20, 0.14
#: Text is looked at for wrapping no further than this; what follows would not be shown anyway.
_LONGEST_TEXT = 2_000


@contextmanager
def style() -> Iterator[None]:
    """What drawing happens under: perfdoctor's looks, whatever matplotlibrc the user has."""
    import matplotlib.style

    settings = {**_STYLE, "font.family": _fonts()}
    with matplotlib.style.context(["default", settings]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield


def get_ready() -> None:
    """Imports what drawing needs and opens the fonts, ahead of the first picture."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(1, 1))
        figure.add_axes((0.2, 0.2, 0.6, 0.6)).set_title("0")
        to_png(figure)


def _fonts() -> list[str]:
    """Matplotlib's own font, then the installed ones that have the letters it lacks."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in CJK_FONTS if name in installed)]


def to_png(figure: Figure) -> bytes:
    """The painted figure; to be used under `style()`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # Level 1 compresses these pictures nearly as well as 6, in a third of the time.
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


@dataclass(frozen=True)
class Heading:
    """The lines above the panels: a name, a line of facts, the verdict's badge, sentences."""

    name: Sequence[str]
    facts: str
    verdict: str | None
    sentences: Sequence[str]

    @property
    def height_in(self) -> float:
        """Inches that it takes."""
        badge_in = _BADGE_IN if self.verdict is not None else 0.0
        lines_in = _LINE_IN * (len(self.sentences) + 1)
        return 2 * _MARGIN_IN + _NAME_IN * len(self.name) + badge_in + lines_in

    def draw(self, part: Figure | SubFigure, height_in: float) -> None:
        """Writes it at the top of `part`, which is so high."""
        left, y_in = _MARGIN_IN / WIDTH_IN, height_in - _MARGIN_IN

        def write(text: str, line_in: float, x: float = left, **looks: Any) -> None:
            nonlocal y_in
            part.text(x, (y_in - line_in / 2) / height_in, text, va="center", **looks)
            y_in -= line_in

        for line in self.name:
            write(line, _NAME_IN, fontsize=15, fontweight="bold")
        write(self.facts, _LINE_IN, fontsize=9, color=GREY)
        if self.verdict is not None:
            colour = _BADGES.get(self.verdict, VERMILLION)
            badge = {"boxstyle": "round,pad=0.3", "facecolor": colour, "edgecolor": "none"}
            write(
                self.verdict.upper(), _BADGE_IN, left + 0.0035,
                fontsize=10, fontweight="bold", color="white", bbox=badge,
            )  # fmt: skip
        for line in self.sentences:
            write(line, _LINE_IN, fontsize=10.5)


def heading(report: Report, facts: Sequence[str | None], sentences: Sequence[str]) -> Heading:
    """The heading of a picture of `report`; what is too long for its lines is cut."""
    line = " · ".join(fact for fact in facts if fact)
    verdict = clean(report.diagnosis.verdict)[:40] if report.diagnosis is not None else None
    lines = [
        line
        for sentence in sentences
        for line in wrapped(clean(sentence), _SENTENCE_CELLS, _SENTENCE_LINES)
    ]
    return Heading(
        name=wrapped(clean(report.name), _NAME_CELLS, _NAME_LINES),
        facts=wrapped(line, _FACTS_CELLS, 1)[0],
        verdict=verdict,
        sentences=lines[:_SENTENCE_LINES],
    )


def wrapped(text: str, cells: int, most: int) -> list[str]:
    """Lines at most `cells` wide, where a Chinese letter takes two; at most `most` lines."""
    shown = Text(text[:_LONGEST_TEXT])
    lines = [line.plain.rstrip() for line in shown.wrap(Console(width=cells), cells)] or [""]
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][:-1]}…"]
    return lines


@dataclass(frozen=True)
class Panel:
    """One drawing: its height and margins in inches, and its part of the row's width."""

    draw: Callable[[Axes], None]
    height_in: float
    left_in: float = 0.85
    right_in: float = 0.35
    top_in: float = 0.42
    bottom_in: float = 0.56
    width: float = 1.0

    @property
    def total_in(self) -> float:
        """Its height with its margins."""
        return self.top_in + self.height_in + self.bottom_in


def page(head: Heading, rows: Sequence[Sequence[Panel]]) -> Figure:
    """A figure of rows of panels below a heading, at fixed places.

    Laying out by hand takes no time, where matplotlib's engines draw everything twice.
    """
    from matplotlib.figure import Figure

    heights = [max(panel.total_in for panel in row) for row in rows]
    height_in = head.height_in + sum(heights)
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI)
    head.draw(figure, height_in)
    top_in = height_in - head.height_in
    for row, row_in in zip(rows, heights, strict=True):
        left_in = 0.0
        for panel in row:
            width_in = WIDTH_IN * panel.width
            inner_in = (width_in - panel.left_in - panel.right_in, panel.height_in)
            corner_in = (left_in + panel.left_in, top_in - panel.top_in - panel.height_in)
            panel.draw(
                figure.add_axes((
                    corner_in[0] / WIDTH_IN, corner_in[1] / height_in,
                    inner_in[0] / WIDTH_IN, inner_in[1] / height_in,
                ))
            )  # fmt: skip
            left_in += width_in
        top_in -= row_in
    return figure
