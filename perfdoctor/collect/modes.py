"""Ways in which one training can go on and from which it can come back without a trace.

A mode is a mapping of changes, by the names that recommendations use: fields of `BenchOptions`,
and the keys of `CHANGES`. It keeps its own loader, compiled model, optimizer and scaler, while
the weights, and the process, are the same in all modes: what differs between two of them is the
change and nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from perfdoctor.collect import switches
from perfdoctor.collect.arm_loop import ArmLoop
from perfdoctor.collect.cached import CachedDataset
from perfdoctor.collect.concurrent import ConcurrentReads
from perfdoctor.collect.loader import is_iterable, make_loader
from perfdoctor.collect.options import BenchOptions
from perfdoctor.collect.precision import gradient_scaler
from perfdoctor.collect.setup import loader_arguments
from perfdoctor.collect.short_epochs import START_EVERY, shorten
from perfdoctor.errors import PerfdoctorError

Context = AbstractContextManager[Any]

_OPTIONS = {f.name for f in fields(BenchOptions)}
_LOADER = {"batch_size", "num_workers", "prefetch_factor", "pin_memory", "persistent_workers"}
#: Changes of what a training is made of: only a new process can make them without a trace.
NEEDS_RESTART = frozenset({"channels_last", "device", "seed", "environment"})
REPLAYED_BATCHES = 8


class Mode:
    """One way, set up on a loop; `active()` is the context in which the loop goes on that way.

    Attributes:
        make_loader: makes another one like its own; None where it uses the loop's.
    """

    def __init__(self, loop: ArmLoop, changes: Mapping[str, Any]) -> None:
        self._loop = loop
        self._held: dict[str, Any] = {}
        self._contexts: list[Callable[[], Context]] = []
        self.make_loader: Callable[[], Any] | None = None
        unknown = set(changes) - _OPTIONS - set(CHANGES)
        if unknown or NEEDS_RESTART & set(changes):
            name = min(unknown or NEEDS_RESTART & set(changes))
            raise PerfdoctorError(
                f"no mode can change {name!r} in a running process", slug="mode-unknown-change"
            )
        self._set_options({k: v for k, v in changes.items() if k in _OPTIONS})
        for name, value in changes.items():
            if name in CHANGES:
                CHANGES[name](self, loop, value)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The loop goes on in this mode inside, and as before afterwards."""
        with ExitStack() as stack:
            for name in self._held:
                self._exchange(name)
                stack.callback(self._exchange, name)
            for context in self._contexts:
                stack.enter_context(context())
            yield

    def hold(self, name: str, value: Any) -> None:
        """The loop's attribute `name` in this mode."""
        self._held[name] = value

    def holds(self, name: str) -> bool:
        """Whether it has a value of its own for this attribute."""
        return name in self._held

    def within(self, context: Callable[[], Context]) -> None:
        """A context of this mode's steps."""
        self._contexts.append(context)

    def _exchange(self, name: str) -> None:
        mine, self._held[name] = self._held[name], getattr(self._loop, name)
        setattr(self._loop, name, mine)

    def _set_options(self, changed: Mapping[str, Any]) -> None:
        if not changed:
            return
        loop = self._loop
        options = replace(loop.options, **changed)
        self.hold("options", options)
        if "precision" in changed:
            self.hold("scaler", gradient_scaler(loop.device, options.precision))
        if {"compile", "precision"} & set(changed):
            self.hold("model", _compiled(loop.eager_model, options.compile))
        if _LOADER & set(changed):
            self.load_from(loop.workload.dataset, options)

    def load_from(self, dataset: Any, options: BenchOptions) -> None:
        """A loader of this mode's own."""
        arguments = loader_arguments(self._loop.workload, options)
        self.make_loader = partial(make_loader, dataset, arguments, strict=options.strict)
        self.hold("loader_arguments", arguments)
        self.hold("loader", self.make_loader())
        self.hold("_batches", None)

    @property
    def options(self) -> BenchOptions:
        """The options in this mode."""
        found: BenchOptions = self._held.get("options", self._loop.options)
        return found


def _compiled(model: nn.Module, mode: str) -> nn.Module:
    if mode == "off":
        return model
    compiled: Any = torch.compile(model, mode=mode)
    return compiled  # type: ignore[no-any-return]


# -- changes that are no options -------------------------------------------------------------


def _process(change: Callable[[Any], Context]) -> Callable[[Mode, ArmLoop, Any], None]:
    """A setting of the whole process, in the steps of this mode."""
    return lambda mode, loop, value: mode.within(lambda: change(value))


def _gc_frozen(mode: Mode, loop: ArmLoop, value: bool) -> None:
    if value:
        mode.within(switches.frozen)


def _fused(mode: Mode, loop: ArmLoop, value: bool) -> None:
    mode.hold("optimizer", _remade(loop.optimizer, fused=value, foreach=None))


def _foreach(mode: Mode, loop: ArmLoop, value: bool) -> None:
    mode.hold("optimizer", _remade(loop.optimizer, foreach=value, fused=None))


def _remade(optimizer: torch.optim.Optimizer, **flags: Any) -> torch.optim.Optimizer:
    """The same kind of optimizer on the same parameters with a state of its own."""
    kind = type(optimizer)
    accepted = set(inspect.signature(kind).parameters)
    if not set(flags) <= accepted | {k for k, v in flags.items() if v is None}:
        raise PerfdoctorError(
            f"{kind.__name__} has no {' or '.join(k for k, v in flags.items() if v is not None)}",
            slug="optimizer-flag",
        )
    defaults = {k: v for k, v in optimizer.defaults.items() if k in accepted}
    flags = {k: v for k, v in flags.items() if k in accepted}
    groups = [{**group, **flags} for group in optimizer.param_groups]
    made: torch.optim.Optimizer = kind(groups, **(defaults | flags))
    return made


def _arch(name: str) -> Callable[[Mode, ArmLoop, int], None]:
    def change(mode: Mode, loop: ArmLoop, value: int) -> None:
        workload = mode._held.get("workload", loop.workload)
        changed: dict[str, Any] = {name: value}
        mode.hold("workload", replace(workload, **changed))

    return change


def _cached(mode: Mode, loop: ArmLoop, value: bool) -> None:
    dataset = loop.workload.dataset
    if is_iterable(dataset):
        raise PerfdoctorError(
            "an iterable dataset cannot be replayed by index", slug="not-cacheable"
        )
    if value:
        mode.load_from(CachedDataset(dataset), mode.options)


def _reads_at_once(mode: Mode, loop: ArmLoop, value: int) -> None:
    mode.load_from(ConcurrentReads(loop.workload.dataset, value), mode.options)


def _short_epochs(mode: Mode, loop: ArmLoop, value: int) -> None:
    if "loader" not in mode._held:
        mode.load_from(loop.workload.dataset, mode.options)
    shorten(mode._held["loader"], value)


def _free_loading(mode: Mode, loop: ArmLoop, value: bool) -> None:
    if value:
        mode.hold("replayed", loop.replay(REPLAYED_BATCHES))


def _non_blocking(mode: Mode, loop: ArmLoop, value: bool) -> None:
    mode.hold("non_blocking", value)


def _checkpointing(mode: Mode, loop: ArmLoop, value: bool) -> None:
    model = loop.eager_model
    with switches.gradient_checkpointing(model, value):
        pass  # an error now, if there is no switch for it
    mode.within(lambda: switches.gradient_checkpointing(model, value))


def checkpointing(model: nn.Module) -> bool | None:
    """Whether gradient checkpointing is on; None where the model has no switch for it."""
    whole = getattr(model, "is_gradient_checkpointing", None)
    if isinstance(whole, bool) and hasattr(model, "gradient_checkpointing_enable"):
        supported = getattr(model, "supports_gradient_checkpointing", True)
        return whole if supported else None
    flags = [getattr(module, name) for module, name in switches.checkpointing_flags(model)]
    return any(flags) if flags else None


#: Change → what prepares it on a mode.
CHANGES: dict[str, Callable[[Mode, ArmLoop, Any], None]] = {
    "threads": _process(switches.threads),
    "anomaly_detection": _process(switches.anomaly_detection),
    "deterministic": _process(switches.deterministic),
    "cudnn_benchmark": _process(switches.cudnn_benchmark),
    "gc_frozen": _gc_frozen,
    "optimizer_fused": _fused,
    "optimizer_foreach": _foreach,
    "arch_every": _arch("arch_every"),
    "arch_order": _arch("arch_order"),
    "cache_samples": _cached,
    "free_loading": _free_loading,
    "reads_at_once": _reads_at_once,
    START_EVERY: _short_epochs,  # of the loader that the others have made
    "non_blocking": _non_blocking,
    "gradient_checkpointing": _checkpointing,
}
