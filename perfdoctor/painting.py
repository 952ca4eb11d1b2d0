"""The pictures of a report, and a process that gets ready to draw them while a log is read.

Importing matplotlib takes as long as reading 50 MB of a log, and has to wait for nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

    from perfdoctor.report import Report

#: The name of each picture's file, and what is in it.
Pictures = Iterable[tuple[str, bytes]]
_Drawn = list[tuple[str, bytes]]
#: Of smaller logs, a second process takes more processor time than it saves.
_LONG_BYTES = 16 * 2**20
_OF_LOGS = ("throughput", "stages", "comparison")
#: How nice importing is to the two threads that read the log meanwhile; and where other programs
#: run, beside which it would never end.
_NICE, _NICE_BESIDE_OTHERS = 19, 5
#: With this process's own path: `-c` would put the working directory first, where anything may lie.
_START = "import sys; sys.path[:] = sys.argv[1:]; from perfdoctor.painting import serve; serve()"


def pictures(report: Report) -> Pictures:
    """All that there are of a report, drawn one after the other."""
    for name in _names(report):
        yield from _drawn(name, report)


def _names(report: Report) -> tuple[str, ...]:
    return ("graph_benchmark",) if report.source.kind == "bench" else _OF_LOGS


def _drawn(name: str, report: Report) -> _Drawn:
    """The picture of that name; none where there is nothing to draw."""
    from perfdoctor.render import png

    picture = getattr(png, name)(report)
    return [] if picture is None else [(f"{name}.png", picture)]


@contextmanager
def painter(logs: Sequence[str]) -> Iterator[Callable[[Report], Pictures]]:
    """What draws the pictures: another process where `logs` are long and there is a processor for
    it, else `pictures`."""
    if (os.cpu_count() or 1) < 2 or not _are_long(logs):
        yield pictures
        return
    import subprocess

    command = [sys.executable, "-c", _START, *sys.path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        try:
            yield partial(_drawn_by, process)
        finally:
            process.kill()


def _are_long(logs: Sequence[str]) -> bool:
    return sum(os.path.getsize(log) for log in logs if os.path.isfile(log)) >= _LONG_BYTES  # noqa: PTH113, PTH202


def _drawn_by(process: subprocess.Popen[bytes], report: Report) -> Pictures:
    """Drawn in this process after all where that one fails: for want of memory, say."""
    import msgspec

    from perfdoctor.readers.memory import give_all_back

    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError), process.stdin as theirs:
        theirs.write(msgspec.json.encode(report))
    give_all_back()  # all that the log took; drawing takes some
    import_module("perfdoctor.render.console")  # printing comes next, and there is time for it
    answer = process.stdout.read()
    try:  # by what came, not by how it ended: an interpreter takes its time to end
        drawn = msgspec.msgpack.decode(answer, type=_Drawn)
    except msgspec.DecodeError:
        yield from pictures(report)
    else:
        yield from drawn


def serve() -> None:
    """What the other process does: a report comes in, its pictures go out."""
    import gc
    from threading import Thread

    gc.disable()  # what takes a tenth of the time of importing, and finds nothing
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that an import prints gets among the pictures
    ready = Thread(target=_get_ready)
    ready.start()
    ready.join()
    import msgspec

    from perfdoctor.schema import from_json

    report = from_json(sys.stdin.buffer.read())
    name, *others = _names(report)
    first = _in_a_fork(lambda: _drawn(name, report))
    rest = [picture for name in others for picture in _drawn(name, report)]
    with out:
        out.write(msgspec.msgpack.encode([*first(), *rest]))
    with suppress(ChildProcessError):
        os.wait()  # the fork has ended: nothing is left of it
    os._exit(0)  # taking matplotlib apart takes as long as drawing half a picture


def _get_ready() -> None:
    """For a thread of its own: on Linux each has its own niceness. While a log is read, that is
    what is waited for; when its pictures are drawn, it is these."""
    if sys.platform == "linux":
        os.nice(_NICE_BESIDE_OTHERS if _others_run() else _NICE)
    import_module("perfdoctor.schema")
    import_module("perfdoctor.render.png")
    import_module("perfdoctor.render.figure").get_ready()


def _others_run() -> bool:
    """Whether more threads are ready to run than this machine has processors. One of them is this
    one, and one reads the log. (The fourth field of /proc/loadavg, see proc_loadavg(5).)"""
    try:
        with open("/proc/loadavg", encoding="ascii") as told:  # noqa: PTH123
            ready = int(told.read().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):  # not told here
        return True
    return ready > (os.cpu_count() or 1)


def _in_a_fork(draw: Callable[[], _Drawn]) -> Callable[[], _Drawn]:
    """Draws in a fork, which has imported everything already; where there is none, later."""
    import msgspec

    if sys.platform != "linux":
        return draw
    theirs, ours = os.pipe()
    if os.fork() == 0:
        with suppress(BaseException), os.fdopen(ours, "wb") as out:
            out.write(msgspec.msgpack.encode(draw()))
        os._exit(0)
    os.close(ours)

    def drawn() -> _Drawn:
        with os.fdopen(theirs, "rb") as answer:
            return msgspec.msgpack.decode(answer.read(), type=_Drawn)

    return drawn
