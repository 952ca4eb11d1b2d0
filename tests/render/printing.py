"""What the console prints, as text."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console

from perfdoctor.render.console import print_report
from perfdoctor.report import Report


def piped(show: Callable[[Console], None], width: int = 100) -> str:
    """As a pipe gets it, without the spaces at the ends of lines."""
    file = io.StringIO()
    show(Console(file=file, width=width, color_system=None))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def printed(report: Report, width: int = 100, files: tuple[Path, ...] = ()) -> str:
    """The report as a pipe gets it."""
    return piped(lambda console: print_report(report, console, files), width)


def widest(report: Report, width: int) -> int:
    """Cells of the longest line, but for code, which is never broken."""
    code = [line.strip() for one in report.recommendations for line in one.snippet.splitlines()]
    lines = printed(report, width).splitlines()
    return max(cell_len(line) for line in lines if line.strip() not in code)


def on_terminal(show: Callable[[Console], None]) -> str:
    """As a terminal gets it, colours and all."""
    file = io.StringIO()
    show(Console(file=file, width=100, force_terminal=True, color_system="256"))
    return file.getvalue()


def one_line(text: str) -> str:
    """Without line breaks and boxes: for sentences that are wrapped."""
    return " ".join(text.replace("│", " ").split())
