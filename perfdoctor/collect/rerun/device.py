"""What a script computes on, which works while its code goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Device:
    """The GPUs that the trained modules are on; none of them where the script uses no CUDA."""

    def __init__(self, trained: Callable[[], list[Any]]) -> None:
        self._trained = trained
        self._used: list[Any] | None = None

    def settle(self) -> None:
        """Waits until they have done what was asked of them; in the script's thread."""
        cuda = getattr(sys.modules.get("torch"), "cuda", None)
        if cuda is None or not cuda.is_initialized():
            return
        with suppress(Exception):  # what a kernel of the script has failed with is raised there
            if cuda.is_current_stream_capturing():  # which waiting would break
                return
            for device in self._devices():
                cuda.synchronize(device)

    def _devices(self) -> list[Any]:
        if self._used is None:
            places = {p.device for module in self._trained() for p in module.parameters()}
            self._used = [device for device in places if device.type == "cuda"] or [None]
        return self._used
