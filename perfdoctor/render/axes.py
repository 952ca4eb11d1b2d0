"""What the panels of the picture share: colours, rows of bars, names that fit.

Colours: Okabe & Ito, Color Universal Design (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from perfdoctor.render.text import clean, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILLION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
GREY, LIGHT_GREY = "#666666", "#AAAAAA"

#: Inches that the title, ticks and label of an axes take.
AXES_IN = 0.9


def rows(ax: Axes, left: Sequence[str], right: Sequence[str]) -> None:
    """Names to the left and values to the right of horizontal bars, the first on top."""
    ax.set_yticks(range(len(left)), left)
    ax.set_ylim(len(left) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_color("#CCCCCC")
    ax.grid(axis="x")
    values = ax.secondary_yaxis("right")
    values.set_yticks(range(len(right)), right)
    values.tick_params(axis="y", length=0)
    values.spines["right"].set_visible(False)


def fit(name: str, cells: int) -> str:
    """`name` in about `cells` columns, its middle left out where it is longer."""
    shown = clean(name)
    return shorten(shown, cells * len(shown) // max(1, cell_len(shown)))


def say(ax: Axes, text: str) -> None:
    """A sentence in place of a drawing."""
    ax.axis("off")
    ax.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=ax.transAxes)
