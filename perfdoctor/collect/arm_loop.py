"""The training loop with what trials need besides: first losses, replayed batches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from perfdoctor.collect.batches import to_device
from perfdoctor.collect.failures import in_user_code
from perfdoctor.collect.loader import TimedBatch
from perfdoctor.collect.options import BenchOptions
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.stages import H2D_COPY
from perfdoctor.workload import WorkloadFactory


class ArmLoop(TrainingLoop):
    """A `TrainingLoop` whose parts a mode can exchange while it stands still.

    Attributes:
        losses, gradient_norms: of its first `record` steps; no norms of those that a gradient
            scaler leaves out while it looks for its scale.
        replayed: batches to train on for ever in place of the loader's; None: the loader's.
        non_blocking: whether copies to the device are asynchronous; None: where batches are
            pinned.
    """

    def __init__(self, factory: WorkloadFactory, options: BenchOptions, *, record: int = 0) -> None:
        self.losses: list[float] = []
        self.gradient_norms: list[float] = []
        self.replayed: Iterator[TimedBatch] | None = None
        self.non_blocking: bool | None = None
        self._record = record
        super().__init__(factory, options)

    def replay(self, count: int) -> Iterator[TimedBatch]:
        """The loader's next `count` batches, over and over, at no cost."""
        kept = [self._next_batch()[0] for _ in range(count)]
        return itertools.cycle(kept)

    def _next_batch(self) -> tuple[TimedBatch, bool]:
        if self.replayed is None:
            return super()._next_batch()
        timed, now = next(self.replayed), time.perf_counter_ns()
        info = replace(timed.info, start_ns=now, fetched_ns=now, done_ns=now, worker=None)
        return TimedBatch(timed.data, info), False

    def _update_weights(self, batch: Any) -> None:
        recorded = len(self.losses) < self._record
        scale = self._scale() if recorded else 1.0
        norm = self._norm(scale) if recorded and not self._wants_closure else None
        super()._update_weights(batch)
        if recorded and self.last_loss is not None:
            self.losses.append(float(self.last_loss))
        if norm is not None and self._scale() >= scale:  # or the scaler has left the step out
            self.gradient_norms.append(norm)

    def _scale(self) -> float:
        return 1.0 if self.scaler is None else float(self.scaler.get_scale())

    def _norm(self, scale: float) -> float | None:
        """Of the gradients, which are scaled; None where there are none."""
        gradients = [p.grad for p in self.weights if p.grad is not None and not p.grad.is_sparse]
        squares = [(gradient.detach().float() / scale).square().sum() for gradient in gradients]
        return float(torch.stack(squares).sum().sqrt()) if squares else None

    def on_device(self, data: Any) -> Any:
        """As the loop's, but copying as `non_blocking` says."""
        if self.non_blocking is None or self.device.type == "cpu":
            return super().on_device(data)
        self.timeline.enter(H2D_COPY)
        with in_user_code("copy to the device", data):
            batch = to_device(
                data,
                self.device,
                non_blocking=self.non_blocking,
                channels_last=self.options.channels_last,
            )
        self.timeline.leave()
        return batch
