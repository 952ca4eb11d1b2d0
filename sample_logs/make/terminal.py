"""What a program shows on a terminal: it runs in a pseudo-terminal and every byte is kept."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path


def captured(run: Callable[[], None], path: Path, columns: int = 110) -> None:
    """Run `run` in a child whose terminal is ours to read; its output goes to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    child, terminal = pty.fork()
    if child == 0:
        code = 1
        try:
            run()
            sys.stdout.flush()
            code = 0
        finally:
            os._exit(code)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with path.open("wb") as file:
        while chunk := _read(terminal):
            file.write(chunk)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(path.read_text(errors="replace")[-3000:])


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the child has closed its side
        return b""
