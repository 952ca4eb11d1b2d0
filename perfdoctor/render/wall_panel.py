"""The panel of the whole wall clock as one bar of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perfdoctor.render import log_words
from perfdoctor.render.axes import (
    BLUE,
    DARK,
    GREEN,
    INDIGO,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WINE,
    YELLOW,
    fit,
)
from perfdoctor.render.text import seconds, share
from perfdoctor.report import Report, Wall, WallPart
from perfdoctor.stages import OTHER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    "train": BLUE,
    "data_loading": VERMILLION,
    "validation": ORANGE,
    "checkpoint": PURPLE,
    "arch_step": GREEN,
    "start_up": YELLOW,
    "unexplained": "#E4E4E4",
    OTHER: SKY,
}
#: Of the other parts: as many colours as parts are shown.
_MORE_COLOURS = (
    BLUE, INDIGO, GREEN, WINE, PURPLE, YELLOW, SKY, ORANGE, DARK, VERMILLION
)  # fmt: skip
_PARTS_SHOWN, _COLUMNS = 9, 3
_BAR_IN, _ENTRY_IN = 0.5, 0.25
_NAME_CELLS = 26
#: A part narrower than this has no room for its share.
_LABELLED_SHARE = 0.05


def wall_height(wall: Wall) -> float:
    """Inches that the bar and the list of its parts need."""
    lines = -(-min(len(wall.parts), _PARTS_SHOWN + 1) // _COLUMNS)
    return _BAR_IN + 0.12 + _ENTRY_IN * lines


def draw_wall(ax: Axes, report: Report) -> None:
    """One bar from the first to the last thing that the log tells of; below it, what is what."""
    from matplotlib.patches import Rectangle

    wall = report.wall
    if wall is None:
        return
    height = wall_height(wall)
    ax.set_title(f"Where the wall clock went: {seconds(wall.total_s)}")
    ax.axis("off")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, height)
    start, parts = 0.0, _shown(wall)
    for index, (part, colour) in enumerate(zip(parts, _colours(parts), strict=True)):
        looks: dict[str, Any] = {"fc": colour, "ec": "white", "lw": 0.8}
        if part.name == "unexplained":
            looks["hatch"] = "////"
        end = min(1.0, start + max(0.0, part.share))
        ax.add_patch(Rectangle((start, height - _BAR_IN), end - start, _BAR_IN, **looks))
        if part.share >= _LABELLED_SHARE:
            middle = ((start + end) / 2, height - _BAR_IN / 2)
            dark = colour == YELLOW or part.name == "unexplained"
            ax.text(
                *middle, share(part.share), ha="center", va="center", fontsize=9,
                fontweight="bold", color="#333333" if dark else "white",
            )  # fmt: skip
        start = end
        row, entry = divmod(index, _COLUMNS)
        y = height - _BAR_IN - 0.12 - _ENTRY_IN * (row + 0.5)
        x = entry / _COLUMNS
        ax.add_patch(Rectangle((x, y - 0.06), 0.011, 0.12, **looks))
        ax.text(x + 0.018, y, _entry(part), va="center", fontsize=9)


def _shown(wall: Wall) -> list[WallPart]:
    """The parts in their order; the smallest as one where there are many."""
    if len(wall.parts) <= _PARTS_SHOWN + 1:
        return list(wall.parts)
    ranked = sorted(wall.parts, key=lambda part: -part.seconds)
    large, small = ranked[:_PARTS_SHOWN], ranked[_PARTS_SHOWN:]
    rest = WallPart(
        name=f"{len(small)} more parts",
        seconds=sum(part.seconds for part in small),
        share=sum(part.share for part in small),
    )
    return [*(part for part in wall.parts if part in large), rest]


def _colours(parts: Sequence[WallPart]) -> list[str]:
    """One for each part, and no two the same."""
    named = [_COLOURS.get(part.name) for part in parts]
    more = (colour for colour in _MORE_COLOURS if colour not in named)
    return [colour or next(more) for colour in named]


def _entry(part: WallPart) -> str:
    times = f" · {part.count:,} times" if part.count > 1 else ""
    name = fit(log_words.part(part.name), _NAME_CELLS)
    return f"{name}  {share(part.share)} · {seconds(part.seconds)}{times}"
