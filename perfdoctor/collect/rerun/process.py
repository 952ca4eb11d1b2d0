"""The process of a rerun: the script in its main thread, answers to trials in another one.

Nothing heavy is imported before the script's first line (see `perfdoctor.running`).
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from perfdoctor.collect import belongings
from perfdoctor.collect.channel import Channel
from perfdoctor.collect.out_of_memory import OUT_OF_MEMORY, ran_out
from perfdoctor.collect.sandbox import enter
from perfdoctor.collect.sandbox.scratch import PLACE
from perfdoctor.collect.script.launch import Script, execute
from perfdoctor.errors import PerfdoctorError, first_line


def main(read_fd: int, write_fd: int, life_fd: int) -> None:
    """Runs the script that the first request describes; never returns."""
    belongings.become_expendable()
    belongings.take_in_orphans()
    channel = Channel(read_fd, write_fd)
    request = channel.receive()
    if request is None:
        os._exit(0)
    workload = request["workload"]
    try:
        enter(Path(os.environ.pop(PLACE)))
    except PerfdoctorError as error:
        channel.send({"error": {"message": str(error), "slug": error.slug, "details": ""}})
        os._exit(0)
    from perfdoctor.collect.arm_worker import GUARDED, die_with_parent
    from perfdoctor.collect.rerun.training import ScriptTraining

    os.environ[GUARDED] = "1"
    training = ScriptTraining(request["modes"], request["options"], prolonged=workload["prolonged"])
    training.install()
    for job in (lambda: die_with_parent(life_fd), lambda: _serve(channel, training)):
        threading.Thread(target=job, daemon=True).start()
    script = Script(workload["script"], tuple(workload["arguments"]), workload["is_module"])
    try:
        execute(script, training.ended)
    except PerfdoctorError as error:  # there is no such script
        training.gate.end(str(error))
        raise SystemExit(2) from None


def _serve(channel: Channel, training: Any) -> None:
    """Answers until told to close."""
    from perfdoctor.collect.arm_worker import end_all, perform

    _answer(channel, lambda: training.ready() or {})
    while (request := channel.receive()) is not None:
        what = request.pop("do")
        if what == "close":
            break
        _answer(channel, lambda what=what, request=request: perform(training, what, request))
    else:
        end_all()
    with suppress(Exception):
        training.close()
    sys.stdout.flush()
    os._exit(0)


def _answer(channel: Channel, job: Any) -> None:
    try:
        channel.send({"result": job()})
    except PerfdoctorError as error:
        channel.send({"error": {"message": str(error), "slug": error.slug, "details": ""}})
    except Exception as error:  # the user's objects may raise anything
        slug = OUT_OF_MEMORY if ran_out(error) else "user-code"
        channel.send({"error": {"message": first_line(error), "slug": slug, "details": ""}})
