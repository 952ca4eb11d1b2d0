"""A script, run and observed. The one way in on which nothing heavy may be imported first.

What a script sets before its own imports (OMP_NUM_THREADS, CUDA_VISIBLE_DEVICES, ...) must count,
so neither numpy nor torch is imported before its first line; a test looks.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from perfdoctor.collect.script.launch import Script, execute
from perfdoctor.collect.script.ranks import Meeting, meet
from perfdoctor.collect.script.session import Limits, Session
from perfdoctor.errors import tell
from perfdoctor.live import panel

if TYPE_CHECKING:
    from perfdoctor.ending import Ending
    from perfdoctor.record import Run
    from perfdoctor.report import Report
    from perfdoctor.settings import Settings


@dataclass(frozen=True)
class RunRequest:
    """What `run` is asked for: a script or module, and when to stop observing it.

    `folder` is where reports go: if there are several ranks, they meet there. `live` shows the
    run at the bottom of the terminal.
    """

    script: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False
    limits: Limits = field(default_factory=Limits)
    command: str | None = None
    folder: Path = Path()
    live: bool = False


def run(
    request: RunRequest,
    settings: Settings,
    deliver: Callable[[Report], None],
    deliver_partial: Callable[[Report], Path | None],
) -> NoReturn:
    """Runs a script, observed; `deliver` gets the report when it has ended, however it ends.

    `deliver_partial` gets one now and then until then, in case nothing can be written at the end.
    Of several ranks only one delivers, and a report of all of them. Never returns: the process
    ends as the script does.

    Raises:
        PerfdoctorError: there is no such script.
    """
    session = Session(request.script, request.limits, command=request.command)
    meeting = meet(os.environ, request.folder)
    if meeting is not None:
        _run_as_rank(request, session, meeting, settings, deliver, deliver_partial)
    view = panel(os.environ) if request.live else None

    def report(run: Run) -> Report:
        from perfdoctor import pipeline

        return pipeline.conclude(run, settings)

    def finish(ending: Ending) -> None:
        found = session.finish(ending)
        if found is None:
            tell(f"{request.script} did not import torch: there is nothing to report")
        else:
            deliver(report(_with_printed(found, session)))

    def partial(run: Run) -> None:
        so_far = report(run)
        deliver_partial(so_far)
        if view is not None:
            view.concluded(so_far)

    session.start(partial, view, import_ahead)
    session.printed.start(sys.stdout, sys.stderr)
    execute(Script(request.script, request.arguments, request.is_module), finish)


def _run_as_rank(
    request: RunRequest,
    session: Session,
    meeting: Meeting,
    settings: Settings,
    deliver: Callable[[Report], None],
    deliver_partial: Callable[[Report], Path | None],
) -> NoReturn:
    def finish(ending: Ending) -> None:
        found = session.finish(ending)
        if found is not None:
            found = _with_printed(found, session)
        from perfdoctor import pipeline

        try:
            report = pipeline.conclude_ranks(meeting, found, ending, settings)
            if report is not None:
                if meeting.place.rank != 0:  # else it is replaced
                    meeting.remove_report()
                deliver(report)
        finally:
            meeting.close()

    def partial(run: Run) -> None:
        from perfdoctor import pipeline

        pipeline.hand_in_partial(meeting, run)
        if meeting.place.rank == 0:  # it is all there is if every rank is killed
            note = f"Of rank 0 alone: the {meeting.place.world} ranks have yet to be merged."
            path = deliver_partial(pipeline.conclude(replace(run, notes=(note,)), settings))
            if path is not None:
                meeting.note_report(path)

    shown = request.live and meeting.place.rank == 0  # one terminal has room for one
    session.start(partial, panel(os.environ) if shown else None, import_ahead)
    session.printed.start(sys.stdout, sys.stderr)
    execute(Script(request.script, request.arguments, request.is_module), finish)


def import_ahead() -> None:
    """What reports need, before the training begins: it would have to wait for it.

    Imports in another thread hold the interpreter's lock, 0.3 s in all, a third of it for a
    collection of torch's objects, which they set off.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        import perfdoctor.collect.counters
        import perfdoctor.collect.environment
        import perfdoctor.collect.script.assembly
        import perfdoctor.collect.script.settings_used
        import perfdoctor.pipeline
        import perfdoctor.schema  # noqa: F401
        from perfdoctor.rules import catalogue

        catalogue.builtin()
    finally:
        if collects:
            gc.enable()


def _with_printed(run: Run, session: Session) -> Run:
    from perfdoctor.printed import with_printed

    return with_printed(run, session.printed)
