"""The texts that can be seen in a figure, and where they are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from perfdoctor.render import figure as looks


def laid_out(figure: Figure) -> Figure:
    """The figure, with everything in its place but not painted; under `style()`."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> Iterator[Text]:
    """Every text that can be seen."""
    for part in (figure, *figure.subfigs):
        yield from part.texts
        if part is figure and figure.subfigs:
            continue
        for ax in part.axes:
            yield from _texts_of(ax)


def _texts_of(ax: Axes) -> Iterator[Text]:
    yield from (ax.title, ax._left_title, *ax.texts)  # a left title is a text of its own
    if legend := ax.get_legend():
        yield from legend.get_texts()
    if not ax.axison:
        return
    for axes in (ax, *ax.child_axes):
        for axis in (axes.xaxis, axes.yaxis):
            yield axis.label
            yield from _tick_labels(axis)


def _tick_labels(axis: Axis) -> Iterator[Text]:
    low, high = sorted(axis.get_view_interval())
    for tick in axis.get_major_ticks():
        if low <= tick.get_loc() <= high:
            yield from (label for label in (tick.label1, tick.label2) if label.get_visible())


def extents(figure: Figure) -> list[tuple[str, Bbox]]:
    """Each text with the box around it, in pixels."""
    with looks.style():
        renderer = figure.canvas.get_renderer()
        return [(t.get_text(), t.get_window_extent(renderer)) for t in texts(figure) if _seen(t)]


def _seen(text: Text) -> bool:
    return text.get_visible() and bool(text.get_text().strip())


def overlapping(boxes: list[tuple[str, Bbox]]) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other."""
    return [
        (one, other)
        for (one, a), (other, b) in combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5
    ]


def outside(figure: Figure, boxes: list[tuple[str, Bbox]]) -> list[str]:
    """Texts that leave the picture."""
    return [
        text
        for text, box in boxes
        if box.x0 < 0 or box.y0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1
    ]
