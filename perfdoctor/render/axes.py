"""What the panels of the picture share: colours, rows of bars, names that fit.

Colours: Okabe & Ito, Color Universal Design (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len

from perfdoctor.record import Floats
from perfdoctor.render.text import clean, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILLION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
GREY, LIGHT_GREY = "#666666", "#AAAAAA"
YELLOW = "#F0E442"
#: Three more that keep apart from those, for all kinds of colour blindness; the first two are Paul
#: Tol's (Colour Schemes, SRON/EPS/TN/09-002).
INDIGO, WINE, DARK = "#332288", "#882255", "#222222"

#: A value so many times the 98th percentile would squeeze the others.
_FAR = 2.5
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


def thousands(value: float, _: float = 0.0) -> str:
    """How ticks of rates, steps and times are written."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.4g} M"
    return f"{value:,.6g}"


def top_of(values: Floats) -> tuple[float, int]:
    """Where an axis from 0 should end, and how many values lie beyond.

    A few values far above the others would squeeze these into a line.
    """
    most = float(values.max())
    usual = float(np.percentile(values, 98))
    if most <= _FAR * usual or usual <= 0:
        return 1.08 * most if most > 0 else 1.0, 0
    top = 1.5 * usual
    return top, int((values > top).sum())


def columns(
    ax: Axes, x: Floats, low: Floats, top: Floats, *, colour: str, width: float, label: str
) -> None:
    """Vertical bars, drawn as one: hundreds of single ones take a second."""
    from matplotlib.collections import PolyCollection

    if x.size == 0:
        return
    left, right = x - width / 2, x + width / 2
    corners = np.array([(left, low), (left, top), (right, top), (right, low)])
    edge = "white" if width < 1 else "none"
    bars = PolyCollection(list(corners.transpose(2, 0, 1)), fc=colour, ec=edge, lw=0.5, label=label)
    ax.add_collection(bars, autolim=False)


def say(ax: Axes, text: str) -> None:
    """A sentence in place of a drawing."""
    ax.axis("off")
    ax.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=ax.transAxes)
