"""What DistributedDataParallel tells of itself: its settings, and its own clock."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Any

#: Its clock runs in its first ten iterations, then in every hundredth (logger.cpp of torch's
#: distributed): when to look, by the number of steps.
_ALL, _FIRST, _EVERY = 10, 12, 100
#: The first iteration connects, and is no measure.
_CONNECTS = 1
_TIMES_KEPT = 101


class DdpWatch:
    """Reads the log of the largest DDP model now and then; ninety microseconds each time."""

    def __init__(self) -> None:
        self._model: Callable[[], Any] = lambda: None
        self._looked = False
        self._seen = 0
        self._exposed_s: deque[float] = deque(maxlen=_TIMES_KEPT)
        self._found: dict[str, Any] = {}

    def step(self, count: int, trained: Callable[[], list[Any]]) -> None:
        """After step `count`; `trained` gives the outermost modules that are trained."""
        if count > _FIRST and count % _EVERY != 1:
            return
        if not self._looked:
            self._looked = True
            found = _ddp_in(trained())
            if found is not None:
                self._model = weakref.ref(found)
        model = self._model()
        if model is not None:
            self._read(model, count)

    def settings(self) -> dict[str, Any]:
        """What was found, as `ddp_log` in the configuration; empty without DDP.

        `syncs_per_step`: how often gradients are shared in a step of the optimizer. `exposed_s`:
        median time that sharing them once takes beyond the backward pass. `unused_bytes`: of
        parameters without a gradient.
        """
        times = {"exposed_s": median(self._exposed_s)} if self._exposed_s else {}
        return {"ddp_log": {**self._found, **times}} if self._found else {}

    def _read(self, model: Any, count: int) -> None:
        try:
            log = model._get_ddp_logging_data()
        except Exception:  # it is private, and not everywhere
            self._model = lambda: None
            return
        self._found |= {
            "find_unused_parameters": bool(log.get("find_unused_parameters")),
            "unused_bytes": log.get("unused_parameter_size"),
            "static_graph": bool(getattr(model, "static_graph", False)),
            "broadcast_buffers": _shares_buffers(model),
        }
        iteration = int(log.get("iteration", 0))
        if iteration == self._seen:
            return
        self._seen = iteration
        if iteration < _ALL or count == 1:  # it is one behind, and later not every one is told
            self._found["syncs_per_step"] = (iteration + 1) / count
        took_ns, hidden_ns = (
            log.get(f"backward_{name}_time") for name in ("comm", "compute_comm_overlap")
        )
        if took_ns and hidden_ns is not None and iteration > _CONNECTS:
            self._exposed_s.append(max(0, took_ns - hidden_ns) * 1e-9)


def _ddp_in(modules: list[Any]) -> Any:
    found = [
        inner
        for module in modules
        for inner in module.modules()
        if type(inner).__name__ == "DistributedDataParallel"
    ]
    return max(found, key=lambda m: sum(p.numel() for p in m.parameters()), default=None)


def _shares_buffers(model: Any) -> bool:
    wanted = bool(getattr(model, "broadcast_buffers", True))
    return wanted and next(iter(model.buffers()), None) is not None
