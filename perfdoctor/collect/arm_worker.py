"""The other side of an arm: a process that sets a training up and steps it when asked.

Anything that can be stepped and paused can be an arm: it needs the methods of `Trains`.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from importlib import import_module
from typing import Any, Protocol

from perfdoctor.collect import belongings
from perfdoctor.collect.channel import Channel
from perfdoctor.collect.out_of_memory import OUT_OF_MEMORY, ran_out
from perfdoctor.errors import PerfdoctorError, UserCodeError, first_line, user_traceback

Answer = dict[str, Any]
#: Set in a process that cannot change files of the user's.
GUARDED = "PERFDOCTOR_GUARDED"


class Trains(Protocol):
    """What trains in an arm. Answers are JSON; see `Chunk` and `ArmFacts` for their fields."""

    def warm(self, steps: int, mode: str | None) -> Answer:
        """Makes steps: {"step_s": [...]}."""

    def chunk(self, steps: int, mode: str | None) -> Answer:
        """Makes unrecorded steps, then recorded ones: the fields of `Chunk`."""

    def facts(self, mode: str | None) -> Answer:
        """The fields of `ArmFacts` but for the modules."""

    def first_losses(self, steps: int, mode: str | None) -> Answer:
        """{"losses": [...], "gradient_norms": [...]} of a training made anew."""

    def batches(self, mode: str, count: int) -> Answer:
        """{"relation": …}, see `first_batches.relation`."""

    def add_mode(self, name: str, changes: dict[str, Any]) -> Answer:
        """One mode more: {}."""

    def forget(self, mode: str) -> Answer:
        """Drops what a mode holds: {}."""

    def close(self) -> None:
        """Ends loader workers."""


def main(read_fd: int, write_fd: int, life_fd: int) -> None:
    """Answers requests until told to close, or until the process that asks has gone."""
    faulthandler.enable(all_threads=False)  # where a crash of C code, or a hang, was
    belongings.become_expendable()
    belongings.take_in_orphans()
    threading.Thread(target=die_with_parent, args=(life_fd,), daemon=True).start()
    channel = Channel(read_fd, write_fd)
    training: Trains | None = None
    while (request := channel.receive()) is not None:
        what = request.pop("do")
        if what == "close":
            break
        try:
            if what == "set_up":
                training = set_up(request)
                answer: Answer = {}
            else:
                answer = perform(training, what, request)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            channel.send({"error": described(error)})
            del error
        else:
            channel.send({"result": answer})
    else:
        end_all()
    if training is not None:
        training.close()
    sys.stdout.flush()
    os._exit(0)  # destructors of the user's objects have nothing to say any more


def set_up(request: dict[str, Any]) -> Trains:
    """The training that was described."""
    module, _, name = request.pop("training").partition(":")
    made: Trains = getattr(import_module(module), name)(**request)
    return made


def perform(training: Trains | None, what: str, arguments: dict[str, Any]) -> Answer:
    """Does one thing that was asked for."""
    assert training is not None
    answer: Answer = getattr(training, what)(**arguments)
    if what != "facts":
        return answer
    extra = {**answer.get("extra", {}), "guarded": GUARDED in os.environ}
    return answer | {"modules": project_modules(), "extra": extra}


def project_modules() -> dict[str, str]:
    """Module → its file, of all that are neither installed, nor Python's own, nor perfdoctor."""
    found = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and name.partition(".")[0] != "perfdoctor" and not _installed(path):
            absolute = os.path.abspath(path)  # noqa: PTH100 - as imported, links not followed
            if os.path.isfile(absolute):  # noqa: PTH113 - torch.ops calls itself _ops.py
                found[name] = absolute
    return found


def _installed(path: str) -> bool:
    if "site-packages" in path or "dist-packages" in path:
        return True
    return path.startswith(os.path.dirname(os.__file__) + os.sep)  # noqa: PTH120


def described(error: BaseException) -> dict[str, str]:
    """An error as a message, with the traceback of the user's code where it is theirs."""
    full = {"slug": OUT_OF_MEMORY} if ran_out(error) else {}
    if isinstance(error, UserCodeError):
        return {"message": str(error), "slug": error.slug, "details": error.details} | full
    if isinstance(error, PerfdoctorError):
        return {"message": str(error), "slug": error.slug, "details": ""} | full
    message = f"the training failed: {first_line(error)}"
    return {"message": message, "slug": "user-code", "details": user_traceback(error)} | full


def die_with_parent(life_fd: int) -> None:
    """Ends this process when the other end of the pipe is closed."""
    os.read(life_fd, 1)
    end_all()


def end_all() -> None:
    """Ends this process and all it has started: whoever asked has gone."""
    belongings.end_with_all()
