"""Copies to the device that the script does not wait for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from perfdoctor.collect import switches

#: What copies a tensor to another device.
_COPIES = ("to", "cuda")


@contextmanager
def non_blocking(torch: Any, value: bool) -> Iterator[None]:
    """Copies from the host return at once, where the script does not say itself whether they do.

    Without effect on memory that is not pinned. What comes back to the host is waited for.
    """
    with ExitStack() as stack:
        for name in _COPIES:
            ours = _copying(getattr(torch.Tensor, name), value)
            stack.enter_context(switches.set_for_now(torch.Tensor, name, ours))
        yield


def _copying(original: Callable[..., Any], value: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def copies(self: Any, *args: Any, **kwargs: Any) -> Any:
        said = "non_blocking" in kwargs or any(isinstance(arg, bool) for arg in args)
        if not said and self.device.type == "cpu":
            kwargs["non_blocking"] = value
        return original(self, *args, **kwargs)

    return copies
