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
#: Of smaller logs, a second process takes more processor time than it saves.
_LONG_BYTES = 16 * 2**20
#: With this process's own path: `-c` would put the working directory first, where anything may lie.
_START = "import sys; sys.path[:] = sys.argv[1:]; from perfdoctor.painting import serve; serve()"


def pictures(report: Report) -> Pictures:
    """All that there are of a report, drawn one after the other."""
    from perfdoctor.render import png

    if report.source.kind == "bench":
        yield "graph_benchmark.png", png.graph_benchmark(report)
        return
    for draw in (png.throughput, png.stages, png.comparison):
        picture = draw(report)
        if picture is not None:
            yield f"{draw.__name__}.png", picture


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

    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError), process.stdin as theirs:
        theirs.write(msgspec.json.encode(report))
    import_module("perfdoctor.render.console")  # printing comes next, and there is time for it
    answer = process.stdout.read()
    if process.wait():
        yield from pictures(report)
    else:
        yield from msgspec.msgpack.decode(answer, type=list[tuple[str, bytes]])


def serve() -> None:
    """What the other process does: a report comes in, its pictures go out."""
    import gc

    import msgspec

    from perfdoctor.render import figure
    from perfdoctor.schema import from_json

    gc.disable()  # what takes a tenth of the time of importing, and finds nothing
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that an import prints gets among the pictures
    figure.get_ready()
    report = sys.stdin.buffer.read()
    with out:
        out.write(msgspec.msgpack.encode(list(pictures(from_json(report)))))
