"""`--follow`: a log that still grows, read again whenever it has grown."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from perfdoctor import pipeline
from perfdoctor.collect import interrupts
from perfdoctor.collect.options import no_progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.render.console import print_report
from perfdoctor.render.log_words import now
from perfdoctor.report import Report
from perfdoctor.settings import Settings

#: Reading again may take so large a part of the time.
_BUSY_SHARE = 0.2


def follow(
    request: pipeline.AnalyzeRequest, settings: Settings, interval_s: float, *, quiet: bool
) -> Report:
    """The report of the file as it was when Ctrl-C came, or when the file went away.

    Raises:
        PerfdoctorError: the file cannot be read, not even once.
        KeyboardInterrupt: Ctrl-C before it was read once.
    """
    path = Path(request.paths[0])
    report: Report | None = None
    seen: tuple[int, float] | None = None
    try:
        with interrupts.heeded():
            while True:
                state = _state(path)
                if state is None and report is not None:
                    return report
                began = time.monotonic()
                if state != seen or report is None:
                    report = _again(request, settings, report)
                    seen = state
                    if not quiet:
                        _show(report)
                interrupts.check()
                took_s = time.monotonic() - began
                time.sleep(max(interval_s, took_s / _BUSY_SHARE))
                interrupts.check()
    except KeyboardInterrupt:
        if report is None:
            raise
        return report


def _state(path: Path) -> tuple[int, float] | None:
    """Size and time of the last change; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime


def _again(request: pipeline.AnalyzeRequest, settings: Settings, before: Report | None) -> Report:
    try:
        return pipeline.analyze(request, settings, no_progress)
    except PerfdoctorError:
        if before is None:
            raise
        return before  # it is being written anew


def _show(report: Report) -> None:
    console = Console(stderr=True)
    if console.is_terminal:
        console.clear()
        print_report(report, console)
    else:
        console.print(f"perfdoctor: {now(report)}", markup=False, highlight=False, soft_wrap=True)
