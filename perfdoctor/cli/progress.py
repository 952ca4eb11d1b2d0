"""Progress on stderr: a bar in a terminal, a line per phase elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from perfdoctor.collect.options import Progress as Report
from perfdoctor.collect.options import no_progress
from perfdoctor.render.text import clean

#: What is done sooner than this needs no progress.
_SHORT_S = 1.0
#: A redraw costs a few milliseconds between two steps; twice a second keeps that below 1 %.
_REDRAW_S = 0.4


@contextmanager
def shown_progress(*, quiet: bool, only_long: bool = False) -> Iterator[Report]:
    """A function that shows progress, for as long as the context lasts.

    With `only_long`, nothing is shown in the first second.
    """
    start = time.monotonic() + _SHORT_S if only_long else 0.0
    if quiet:
        yield no_progress
    elif sys.stderr.isatty():
        yield from _bar(start)
    else:
        yield _lines(start)


def _lines(start: float) -> Report:
    last = ""

    def report(what: str, done: float, total: float) -> None:
        nonlocal last
        if what != last and time.monotonic() >= start:
            click.echo(f"perfdoctor: {clean(what)}", err=True)
            last = what

    return report


def _bar(start: float) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    # No refresh thread: it would compete with the training that is measured.
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
        auto_refresh=False,
        transient=True,
    )
    drawn = 0.0

    def report(what: str, done: float, total: float) -> None:
        nonlocal drawn
        if time.monotonic() < start:
            return
        if not bar.live.is_started:
            bar.start()
        new = bar.tasks[task].description != clean(what)
        if new:
            bar.reset(task)
        bar.update(task, description=clean(what), completed=done, total=total or None)
        if new or time.perf_counter() - drawn > _REDRAW_S:
            bar.refresh()
            drawn = time.perf_counter()

    task = bar.add_task("starting", total=None)
    if not start:
        bar.start()
        bar.refresh()
    try:
        yield report
    finally:
        bar.stop()
