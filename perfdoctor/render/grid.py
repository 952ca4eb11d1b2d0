"""What the console's tables share: their look, columns that fit, bars of characters."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from perfdoctor.render.text import ABSENT, known

Row = tuple[Text, ...]

#: Characters between two columns.
GAP = 2
#: What the edges of a table take.
EDGES = 2
_EIGHTHS = " ▏▎▍▌▋▊▉"
#: A shorter bar tells nothing.
_SHORTEST_BAR, _LONGEST_BAR = 4, 32


def plain_table() -> Table:
    """An empty table: a line below its heading, none between its rows."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)


def cell(text: str | None) -> Text:
    """A cell; a dash where there is nothing."""
    return Text(ABSENT, "dim") if text is None else Text(text)


def bar(part: float, width: int) -> str:
    """A bar of block characters, `part` (0–1) of `width` characters long."""
    eighths = round(min(max(part, 0.0), 1.0) * width * 8) if known(part) else 0
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def bar_width(room: int) -> int:
    """How long bars are where `room` characters are left; 0 where that is too little."""
    return min(_LONGEST_BAR, room) if room >= _SHORTEST_BAR else 0


def total_width(rows: Sequence[Row], headings: Sequence[str]) -> int:
    """Characters that the first columns, named `headings`, and the gaps before them take."""
    return sum(
        GAP + max(Text(heading).cell_len, *(row[index].cell_len for row in rows))
        for index, heading in enumerate(headings)
    )


def fitting(rows: Sequence[Row], headings: Sequence[str], room: int) -> int:
    """How many columns, from the left, fit into `room` characters; at least one."""
    counts = range(len(headings), 0, -1)
    return next((n for n in counts if total_width(rows, headings[:n]) <= room), 1)
