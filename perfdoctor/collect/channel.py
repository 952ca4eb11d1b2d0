"""Messages between perfdoctor and a process that it started, over two pipes of their own.

JSON, since both ends may run other versions of Python and NumPy; pipes of their own, since what
the user's code prints belongs to standard output.
"""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import Any


class Channel:
    """One end: reads from one file descriptor and writes to the other; both are closed by it."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._in = Connection(read_fd, writable=False)
        self._out = Connection(write_fd, readable=False)

    def send(self, message: dict[str, Any]) -> None:
        """Sends one message.

        Raises:
            OSError: the other end has gone.
        """
        self._out.send_bytes(json.dumps(message).encode())

    def ready(self, timeout_s: float) -> bool:
        """Whether something (a message, or the end) arrives within this time."""
        return self._in.poll(timeout_s)

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other end has gone."""
        try:
            message: dict[str, Any] = json.loads(self._in.recv_bytes())
        except (EOFError, OSError):
            return None
        return message

    def close(self) -> None:
        """Closes both pipes."""
        self._in.close()
        self._out.close()
