"""The training loop that is measured: real loader, real model, every moment given to a stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from perfdoctor.collect import interrupts
from perfdoctor.collect.arch import ArchitectureStep
from perfdoctor.collect.batches import (
    call_model,
    default_loss,
    default_unpack,
    samples_in,
    to_device,
    tree_map,
)
from perfdoctor.collect.clocks import clock_for, synchronise
from perfdoctor.collect.failures import batch_failure, in_user_code
from perfdoctor.collect.loader import BatchInfo, TimedBatch, make_loader
from perfdoctor.collect.options import BenchOptions
from perfdoctor.collect.precision import autocast, gradient_scaler, matmul_precision
from perfdoctor.collect.setup import (
    arch_parameters,
    check_workload,
    choose_device,
    loader_arguments,
    make_optimizer,
    seed_everything,
    validation_arguments,
    wants_closure,
)
from perfdoctor.errors import PerfdoctorError
from perfdoctor.record import Bools, Floats
from perfdoctor.stages import (
    ARCH_STEP,
    BACKWARD,
    DATA_LOADING,
    FORWARD,
    H2D_COPY,
    LOSS,
    OPTIMIZER,
    PAUSED,
    StageTimeline,
    StepTimes,
    activated,
)
from perfdoctor.workload import Workload, WorkloadFactory

_CONFIGURED = "(configured)"
#: Batches kept on the device for measurements that need the same ones again.
CAPTURED_BATCHES = 2


@dataclass
class Steps:
    """What the loop has recorded so far, one element per step."""

    times: list[StepTimes] = field(default_factory=list)
    infos: list[BatchInfo] = field(default_factory=list)
    epoch_start: list[bool] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    first_batch_s: list[float] = field(default_factory=list)
    create_s: list[float] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def drop_after(self, count: int) -> None:
        """Forgets all but the first `count` steps."""
        for column in (self.times, self.infos, self.epoch_start, self.blocks):
            del column[count:]

    def step_s(self) -> Floats:
        """Seconds per resolved step."""
        return np.array([step.total_s for step in self.times])

    def samples(self) -> Floats:
        """Samples per resolved step."""
        return np.array([info.samples for info in self.infos[: len(self.times)]], dtype=np.float64)

    def block_numbers(self) -> NDArray[np.int64]:
        """The block that each resolved step belongs to."""
        return np.array(self.blocks[: len(self.times)], dtype=np.int64)

    def starts(self) -> Bools:
        """Whether each resolved step began an epoch."""
        return np.array(self.epoch_start[: len(self.times)], dtype=np.bool_)


class TrainingLoop:
    """One configuration, set up and ready to be stepped; keeps its workers between blocks."""

    def __init__(self, factory: WorkloadFactory, options: BenchOptions) -> None:
        self.options = options
        seed_everything(options.seed)
        self.workload: Workload = factory()
        check_workload(self.workload)
        self.device = choose_device(options.device or self.workload.device)
        self.eager_model = self._place_model()
        self.model: nn.Module = self._compiled(self.eager_model)
        self.arch_parameters = arch_parameters(self.workload)
        self.optimizer = self._weight_optimizer()
        self._wants_closure = wants_closure(self.optimizer)
        self.arch = self._architecture_step()
        self.scaler = gradient_scaler(self.device, options.precision)
        self.loader_arguments = loader_arguments(self.workload, options)
        self.loader = make_loader(
            self.workload.dataset, self.loader_arguments, strict=options.strict
        )
        self.timeline = StageTimeline(clock_for(self.device))
        self.steps = Steps()
        self.captured: list[Any] = []
        self.step_index = 0
        self.block = 0
        self.last_loss: torch.Tensor | None = None
        self._batches: Iterator[TimedBatch] | None = None
        self._val_batches: Iterator[TimedBatch] | None = None
        self._val_loader = self._validation_loader()

    @property
    def num_workers(self) -> int:
        """Loader workers in use."""
        return int(self.loader_arguments.get("num_workers") or 0)

    def modules(self) -> Iterator[nn.Module]:
        """Every module of the model."""
        return self.eager_model.modules()

    def worker_pids(self) -> list[int]:
        """The processes that load for this training now."""
        iterators = (self._batches, self._val_batches)
        return [w.pid for it in iterators for w in getattr(it, "_workers", ()) if w.pid]

    @property
    def queue_length(self) -> int:
        """Batches that the loader prepares ahead."""
        return self.num_workers * int(self.loader_arguments.get("prefetch_factor") or 2)

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps in an epoch, where the dataset knows its length."""
        try:
            return len(self.loader)
        except TypeError:  # an iterable dataset without a length
            return None

    # -- running ---------------------------------------------------------------------------

    def run_steps(self, count: int, deadline_s: float | None = None) -> None:
        """Trains `count` steps, recording each; the last one has ended when this returns.

        None begins after `deadline_s` of the monotonic clock, but for the first.
        """
        with self.settings(), activated(self.timeline):
            if not self.timeline.in_step:
                self.timeline.begin_step()
            for _ in range(count):
                self._step()
                self.timeline.begin_step()
                if deadline_s is not None and time.perf_counter() >= deadline_s:
                    break

    def pause(self) -> None:
        """What follows, until `resume`, is no part of a step."""
        self.timeline.enter(PAUSED)

    def resume(self) -> None:
        """The next step goes on from here."""
        self.timeline.leave()

    def collect(self) -> Steps:
        """Moves the finished steps whose times are known into `steps`."""
        self.steps.times.extend(self.timeline.drain())
        return self.steps

    def finish(self) -> Steps:
        """Waits for the device and collects every step made."""
        synchronise(self.device)
        self.collect()
        self.timeline.restart()
        return self.steps

    def abandon(self) -> Steps:
        """Collects what is finished and forgets the step that was interrupted."""
        synchronise(self.device)
        self.collect()
        self.timeline.restart()
        self.steps.drop_after(len(self.steps.times))
        return self.steps

    def close(self) -> None:
        """Ends the workers."""
        self._batches = self._val_batches = None

    def settings(self) -> ExitStack:
        """The process-wide settings of this configuration, as a context."""
        stack = ExitStack()
        stack.enter_context(matmul_precision(self.options.precision))
        if self.device.type == "cuda":  # events go to the current device's queue
            stack.enter_context(torch.cuda.device(self.device))
        return stack

    def autocast(self) -> torch.autocast:
        """The configuration's precision for forward and loss, as a context."""
        return autocast(self.device, self.options.precision)

    def _step(self) -> None:
        interrupts.check()
        timeline = self.timeline
        timeline.enter(DATA_LOADING)
        timed, started = self._next_batch()
        timeline.leave()
        self._note(timed, started)
        batch = self.on_device(timed.data)
        every = self.workload.arch_every  # in trials also 0: never
        if self.arch is not None and every and self.step_index % every == 0:
            self._arch_step(batch)
        self.train(batch)
        self.step_index += 1
        if len(self.captured) < CAPTURED_BATCHES:
            self.captured.append(batch)

    def train(self, batch: Any) -> None:
        """Forward, loss, backward and optimizer on a batch that is on the device."""
        if not self._wants_closure:
            self._gradients(batch)
        self.timeline.enter(OPTIMIZER)
        with in_user_code("optimizer step"):
            self._update_weights(batch)
        self.timeline.leave()

    def _gradients(self, batch: Any) -> torch.Tensor:
        timeline = self.timeline
        with self.autocast():
            loss = self._forward(batch)
        timeline.enter(BACKWARD)
        with in_user_code("backward"):
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        timeline.leave()
        self.last_loss = loss.detach()
        return loss

    def _update_weights(self, batch: Any) -> None:
        if self._wants_closure:  # its forward and backward are stages inside this one
            self.optimizer.step(lambda: float(self._gradients_anew(batch).detach()))
        elif self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _gradients_anew(self, batch: Any) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        return self._gradients(batch)

    def loss_of(self, batch: Any, precision: str | None = _CONFIGURED) -> torch.Tensor:
        """The training loss of a batch, in the configuration's or another precision, unstaged."""
        if precision is _CONFIGURED:
            precision = self.options.precision
        with autocast(self.device, precision):
            if self.workload.step is not None:
                return self.workload.step(self.model, _opened(batch))
            inputs, target = self.unpack(batch)
            output = call_model(self.model, inputs)
            return (self.workload.loss or default_loss)(output, target)

    def unpack(self, batch: Any) -> tuple[Any, Any]:
        """(inputs, target) of a batch, by the user's function or the default one."""
        if self.workload.unpack is None:
            return default_unpack(batch)
        return self.workload.unpack(_opened(batch))

    def _forward(self, batch: Any) -> torch.Tensor:
        timeline, workload = self.timeline, self.workload
        if workload.step is not None:
            timeline.enter(FORWARD)
            with in_user_code("step function"):
                loss = workload.step(self.model, _opened(batch))
            timeline.leave()
            return _with_graph(_scalar(loss, "Workload(step=...)"))
        with in_user_code("unpack function"):
            inputs, target = self.unpack(batch)
        timeline.enter(FORWARD)
        with in_user_code("forward of the model", inputs):
            output = call_model(self.model, inputs)
        timeline.leave()
        timeline.enter(LOSS)
        with in_user_code("loss", (output, target)):
            loss = (workload.loss or default_loss)(output, target)
        timeline.leave()
        return _scalar(loss, "the loss")

    def _arch_step(self, batch: Any) -> None:
        self.timeline.enter(DATA_LOADING)
        timed = self._next_validation_batch()
        self.timeline.leave()
        val_batch = self.on_device(timed.data)
        self.timeline.enter(ARCH_STEP)
        self.arch_step(batch, val_batch, self.workload.arch_order)
        self.timeline.leave()

    def arch_step(self, batch: Any, val_batch: Any, order: int) -> None:
        """One architecture update on two batches that are on the device."""
        assert self.arch is not None
        with in_user_code("architecture step"):
            self.arch.step(batch, val_batch, order)

    # -- batches ---------------------------------------------------------------------------

    def _next_batch(self) -> tuple[TimedBatch, bool]:
        """The next batch, and whether an epoch began with it."""
        with in_user_code("data loading"):
            if self._batches is not None and (batch := next(self._batches, None)) is not None:
                return batch, False
            start = time.perf_counter_ns()
            self._batches = iter(self.loader)
            self.steps.create_s.append((time.perf_counter_ns() - start) * 1e-9)
            batch = next(self._batches, None)
        if batch is None:
            raise PerfdoctorError(
                "the loader gave no batch: the dataset is empty, or drop_last drops all of it",
                slug="no-batches",
            )
        self.steps.first_batch_s.append((time.perf_counter_ns() - start) * 1e-9)
        return batch, True

    def _next_validation_batch(self) -> TimedBatch:
        assert self._val_loader is not None
        with in_user_code("loading of validation data"):
            batch = None if self._val_batches is None else next(self._val_batches, None)
            if batch is None:
                self._val_batches = iter(self._val_loader)
                batch = next(self._val_batches)
        if batch.info.failure is not None:
            raise batch_failure(batch.info.failure)
        return batch

    def _note(self, timed: TimedBatch, started: bool) -> None:
        if timed.info.failure is not None:
            raise batch_failure(timed.info.failure)
        if self.loader_arguments.get("batch_size", 1) is None:  # the dataset gives whole batches
            timed.info.samples = samples_in(timed.data) or 1
        self.steps.infos.append(timed.info)
        self.steps.epoch_start.append(started)
        self.steps.blocks.append(self.block)
        self.steps.skipped.update(timed.info.skipped)

    def on_device(self, data: Any) -> Any:
        """The batch on the device, as `h2d_copy`."""
        channels_last = self.options.channels_last
        if self.device.type == "cpu" and not channels_last:
            return data
        self.timeline.enter(H2D_COPY)
        pinned = bool(self.loader_arguments.get("pin_memory"))
        with in_user_code("copy to the device", data):
            batch = to_device(data, self.device, non_blocking=pinned, channels_last=channels_last)
        self.timeline.leave()
        return batch

    # -- parts -----------------------------------------------------------------------------

    def _place_model(self) -> nn.Module:
        model = self.workload.model
        with in_user_code(f"moving the model to {self.device}"):
            model = model.to(self.device)
            if self.options.channels_last:
                # torch's annotations lack this overload for Module.to
                model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.train()

    def _compiled(self, model: nn.Module) -> nn.Module:
        if self.options.compile == "off":
            return model
        compiled: Any = torch.compile(model, mode=self.options.compile)
        return compiled  # type: ignore[no-any-return]

    def _weight_optimizer(self) -> torch.optim.Optimizer:
        searched = {id(p) for p in self.arch_parameters}
        weights = [
            p for p in self.eager_model.parameters() if p.requires_grad and id(p) not in searched
        ]
        self.weights = weights
        with in_user_code("making the optimizer"):
            return make_optimizer(
                self.workload.optimizer, weights, lambda ps: torch.optim.AdamW(ps, lr=1e-3)
            )

    def _architecture_step(self) -> ArchitectureStep | None:
        if not self.arch_parameters:
            return None
        with in_user_code("making the architecture's optimizer"):
            optimizer = make_optimizer(
                self.workload.arch_optimizer,
                self.arch_parameters,
                # DARTS, section 3.1.1: Adam, 3e-4, (0.5, 0.999), weight decay 1e-3
                lambda ps: torch.optim.Adam(ps, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3),
            )
        return ArchitectureStep(
            self.loss_of, self.weights, self.arch_parameters, optimizer, self.optimizer
        )

    def _validation_loader(self) -> Any:
        if self.arch is None:
            return None
        dataset = self.workload.val_dataset
        data = self.workload.dataset if dataset is None else dataset
        arguments = validation_arguments(self.workload, self.loader_arguments)
        return make_loader(data, arguments, strict=self.options.strict)


def _opened(batch: Any) -> Any:
    """The same tensors in new containers: user code may take parts out of a batch used again."""
    return tree_map(lambda tensor: tensor, batch)


def _with_graph(loss: torch.Tensor) -> torch.Tensor:
    if not loss.requires_grad:
        raise PerfdoctorError(
            "Workload(step=...) must return the loss before its backward: perfdoctor calls "
            "backward() and the optimizer itself",
            slug="loss-without-graph",
        )
    return loss


def _scalar(loss: Any, what: str) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        kind = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise PerfdoctorError(
            f"{what} must give one number to minimise, got {kind}", slug="loss-not-scalar"
        )
    return loss
