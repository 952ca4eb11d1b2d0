"""Two sides on the console: what changed, how surely, and what else differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.text import Text

from perfdoctor.compare.differences import Difference
from perfdoctor.compare.shifts import Shift, Side, Sides
from perfdoctor.render import sides_words
from perfdoctor.render.axes import fit
from perfdoctor.render.encoding import encodable
from perfdoctor.render.facts import fact_grid, heading
from perfdoctor.render.grid import cell, plain_table
from perfdoctor.render.text import clean, counted

STYLES = {"slower": "red", "more": "red", "faster": "green", "less": "green", "unclear": "yellow"}
_DIFFERENCES_SHOWN = 20
#: Below this the interval has no column of its own.
_WIDE = 92
#: Columns of the panel's border, its padding and the labels in it.
_FRAME = 4 + len("before") + 2
#: A name that is shorter tells no file from another.
_SHORTEST = 24


def print_sides(sides: Sides, console: Console, files: Sequence[Path] = ()) -> None:
    """Prints the comparison; `files` are those that were written from it."""
    with encodable(console):
        for part in _parts(sides, console.width, files):
            console.print(part)


def _parts(sides: Sides, width: int, files: Sequence[Path]) -> Iterator[RenderableType]:
    room = width - _FRAME
    yield Panel(
        fact_grid([("before", side(sides.before, room)), ("after", side(sides.after, room))]),
        title=Text(" Comparison ", "bold"), title_align="left", border_style="cyan",
    )  # fmt: skip
    main = sides_words.main_shift(sides)
    style = STYLES.get(main.direction or "", "") if main is not None else ""
    yield Text(sides_words.summary(sides), f"bold {style}".strip())
    yield heading("What changed")
    yield shift_table(sides.shifts, sides.margin, width)
    for sentence in sides_words.basis(sides):
        yield Text(sentence, "dim")
    for note in sides.notes:
        yield fact_grid([("!", clean(note))], label_style="bold yellow")
    if sides.differences:
        yield heading("What else differs")
        yield from difference_lines(sides.differences)
    for path in files:
        yield Text.assemble(("wrote ", "dim"), clean(path), overflow="fold")


def side(which: Side, room: int) -> str:
    """What a side is: its name, its runs, its verdict; the name shortened to so many columns."""
    parts = []
    if len(which.reports) > 1:
        parts.append(counted(len(which.reports), "run"))
    if which.steps:
        parts.append(counted(which.steps, "step"))
    if which.verdict is not None:
        parts.append(clean(which.verdict))
    rest = "".join(f" · {part}" for part in parts)
    return f"{fit(which.label, max(_SHORTEST, room - cell_len(rest)))}{rest}"


def shift_table(shifts: Sequence[Shift], margin: float, width: int) -> RenderableType:
    """One row a quantity."""
    table = plain_table()
    table.add_column("", overflow="fold")
    headings = ["before", "after", "change"] + (["interval"] if width >= _WIDE else [])
    for title in headings:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for shift in shifts:
        table.add_row(*_row(shift, margin, len(headings)))
    return table


def _row(shift: Shift, margin: float, columns: int) -> list[Text]:
    changed = None if shift.ratio is None else sides_words.relative_change(shift.ratio)
    cells = [
        cell(sides_words.value(shift, shift.before)),
        cell(sides_words.value(shift, shift.after)),
        cell(changed),
        cell(sides_words.interval(shift.ratio_ci) or None),
    ]
    style = STYLES.get(shift.direction or "", "")
    bold = "bold" if shift.name == "step" else ""
    told = Text(sides_words.direction(shift, margin), style)
    return [Text(sides_words.name(shift), bold), *cells[:columns], told]


def difference_lines(differences: Sequence[Difference]) -> Iterator[RenderableType]:
    """One line each, the most telling first."""
    for found in differences[:_DIFFERENCES_SHOWN]:
        yield fact_grid([("•", sides_words.difference(found))])
    if len(differences) > _DIFFERENCES_SHOWN:
        yield Text(f"and {len(differences) - _DIFFERENCES_SHOWN} more, in the JSON", "dim")
