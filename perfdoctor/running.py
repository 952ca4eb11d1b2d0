"""A script, run and observed. The one way in on which nothing heavy may be imported first.

What a script sets before its own imports (OMP_NUM_THREADS, CUDA_VISIBLE_DEVICES, ...) must count,
so neither numpy nor torch is imported before its first line; a test looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from perfdoctor.collect.script.launch import Script, execute
from perfdoctor.collect.script.session import Limits, Session
from perfdoctor.errors import tell

if TYPE_CHECKING:
    from perfdoctor.ending import Ending
    from perfdoctor.record import Run
    from perfdoctor.report import Report
    from perfdoctor.settings import Settings


@dataclass(frozen=True)
class RunRequest:
    """What `run` is asked for: a script or module, and when to stop observing it."""

    script: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False
    limits: Limits = field(default_factory=Limits)
    command: str | None = None


def run(
    request: RunRequest,
    settings: Settings,
    deliver: Callable[[Report], None],
    deliver_partial: Callable[[Report], None],
) -> NoReturn:
    """Runs a script, observed; `deliver` gets the report when it has ended, however it ends.

    `deliver_partial` gets one now and then until then, in case nothing can be written at the end.
    Never returns: the process ends as the script does.

    Raises:
        PerfdoctorError: there is no such script.
    """
    session = Session(request.script, request.limits, command=request.command)

    def report(run: Run) -> Report:
        from perfdoctor import pipeline

        return pipeline.conclude(run, settings)

    def finish(ending: Ending) -> None:
        found = session.finish(ending)
        if found is None:
            tell(f"{request.script} did not import torch: there is nothing to report")
        else:
            deliver(report(found))

    session.start(on_partial=lambda run: deliver_partial(report(run)))
    execute(Script(request.script, request.arguments, request.is_module), finish)
