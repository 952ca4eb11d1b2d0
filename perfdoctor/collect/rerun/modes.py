"""What can be changed in a script that stands between two steps, and taken back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from perfdoctor.collect import switches as process
from perfdoctor.collect.rerun import loaders
from perfdoctor.collect.rerun.copying import non_blocking
from perfdoctor.collect.rerun.habits import Habits
from perfdoctor.collect.rerun.reporting import Reporting
from perfdoctor.collect.rerun.searching import Searching
from perfdoctor.collect.rerun.validating import Validating
from perfdoctor.collect.short_epochs import START_EVERY, shorten
from perfdoctor.errors import PerfdoctorError

Context = AbstractContextManager[Any]


class Rerun:
    """What a change needs of the running script.

    Attributes:
        torch: the module. loaders: the switches of its iterators. habits: what it does now and
            then. searching: its architecture steps. validating, reporting, drawing: what it does
            beside the training. compiled: models in a mode of torch.compile, kept.
    """

    torch: Any
    loaders: loaders.Switches
    habits: Habits
    searching: Searching
    validating: Validating
    reporting: Reporting
    drawing: Reporting
    compiled: dict[tuple[Any, str], Any]

    def trained(self) -> list[Any]:
        """The outermost modules that are trained."""
        raise NotImplementedError

    def optimizer(self) -> Any:
        """The main one."""
        raise NotImplementedError

    def training_loader(self) -> Any:
        """The loader of the training, or None."""
        raise NotImplementedError


class Mode:
    """Some changes, on or off. Both in the script's thread."""

    def __init__(self, rerun: Rerun, changes: Mapping[str, Any]) -> None:
        unknown = set(changes) - SUPPORTED
        if unknown:
            raise PerfdoctorError(
                f"{min(unknown)!r} cannot be changed in a script from outside",
                slug="mode-unknown-change",
            )
        self._contexts: list[Callable[[], Context]] = [
            functools.partial(CHANGES[name], rerun, value)
            for name, value in changes.items()
            if name in CHANGES
        ]
        loading = {name: value for name, value in changes.items() if name in LOADING}
        if loading:
            source = _source(rerun, loading)
            held = functools.partial(process.set_for_now, rerun.loaders, "source", source)
            self._contexts.append(held)
        self._stack = ExitStack()

    def on(self) -> None:
        """From here on the changes hold."""
        for context in self._contexts:
            self._stack.enter_context(context())

    def off(self) -> None:
        """As before."""
        self._stack.close()


#: Changes of what batches come from.
LOADING = (*loaders.SETTINGS, "cache_samples", "free_loading", "reads_at_once", START_EVERY)


def _source(rerun: Rerun, changes: Mapping[str, Any]) -> loaders.Source:
    loader = rerun.training_loader()
    if loader is None:
        raise PerfdoctorError("the training uses no DataLoader", slug="no-loader")
    rerun.loaders.load_by_twins(loader)
    if changes.get("free_loading"):
        twin = rerun.loaders.twin(loader, {"num_workers": 0})
        return loaders.Replay([twin.next() for _ in range(loaders.REPLAYED_BATCHES)])
    remade = rerun.loaders.remade(loader, changes, _dataset(loader.dataset, changes))
    if START_EVERY in changes:
        shorten(remade, int(changes[START_EVERY]))
    return loaders.Twin(remade, rerun.loaders)


def batches_compared(rerun: Rerun, changes: Mapping[str, Any], count: int) -> str | None:
    """How the training's first batches with these changes compare, see `first_batches.relation`."""
    from perfdoctor.collect.first_batches import relation

    loader, remade = rerun.training_loader(), rerun.loaders.remade
    loading = {name: value for name, value in changes.items() if name in LOADING}
    if loader is None:
        return None
    return relation(
        lambda: remade(loader, {}),
        lambda: remade(loader, loading, _dataset(loader.dataset, loading)),
        count,
        rerun.loaders.iterate,
    )


def _dataset(given: Any, changes: Mapping[str, Any]) -> Any:
    """Another one in the place of the script's; None: its own."""
    if changes.get("cache_samples"):
        from perfdoctor.collect.cached import CachedDataset

        return CachedDataset(given)
    if changes.get("reads_at_once"):
        from perfdoctor.collect.concurrent import ConcurrentReads

        return ConcurrentReads(given, changes["reads_at_once"])
    return None


# -- the model ---------------------------------------------------------------------------------


@contextmanager
def _precision(rerun: Rerun, value: str) -> Iterator[None]:
    if value == "tf32":
        with process.matmul_precision("high"):
            yield
        return
    if value not in ("bf16", "fp16"):
        raise PerfdoctorError(f"no script is changed to {value}", slug="mode-unknown-change")
    torch = rerun.torch
    dtype = torch.bfloat16 if value == "bf16" else torch.float16
    with ExitStack() as stack:
        for module in rerun.trained():
            stack.enter_context(_autocast(torch, module, dtype))
        yield


@contextmanager
def _autocast(torch: Any, module: Any, dtype: Any) -> Iterator[None]:
    """The module's forward within autocast; its results in float32 again, as losses expect."""
    device = next(module.parameters()).device.type
    inner = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype=dtype):
            return _in_float32(torch, inner(*args, **kwargs))

    with process.set_for_now(module, "forward", forward, delete="forward" not in vars(module)):
        yield


def _in_float32(torch: Any, result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        half = result.dtype in (torch.bfloat16, torch.float16)
        return result.float() if half else result
    if isinstance(result, tuple) and type(result) is tuple:
        return tuple(_in_float32(torch, part) for part in result)
    return result


@contextmanager
def _compile(rerun: Rerun, value: str) -> Iterator[None]:
    before = [(module, module._compiled_call_impl) for module in rerun.trained()]
    for module, _ in before:
        if (module, value) not in rerun.compiled:
            module.compile(mode=None if value == "default" else value)
            rerun.compiled[module, value] = module._compiled_call_impl
        module._compiled_call_impl = rerun.compiled[module, value]
    try:
        yield
    finally:
        for module, compiled in before:
            module._compiled_call_impl = compiled


@contextmanager
def _channels_last(rerun: Rerun, value: bool) -> Iterator[None]:
    torch = rerun.torch
    layouts = (torch.contiguous_format, torch.channels_last)
    for module in rerun.trained():
        module.to(memory_format=layouts[bool(value)])
    try:
        yield
    finally:
        for module in rerun.trained():
            module.to(memory_format=layouts[not value])


@contextmanager
def _checkpointing(rerun: Rerun, value: bool) -> Iterator[None]:
    """Off wherever it comes from; on only by a switch of the model."""
    with ExitStack() as stack:
        if value:
            for module in rerun.trained():
                stack.enter_context(process.gradient_checkpointing(module, value))
        else:
            stack.enter_context(_without_recomputing())
        yield


@contextmanager
def _without_recomputing() -> Iterator[None]:
    """What `torch.utils.checkpoint.checkpoint` looks up when it is called, in its two ways."""
    import torch.utils.checkpoint as module

    def kept(*args: Any, **kwargs: Any) -> Iterator[None]:
        yield

    plain = SimpleNamespace(apply=lambda function, preserve, *args: function(*args))
    with (
        process.set_for_now(module, "_checkpoint_without_reentrant_generator", kept),
        process.set_for_now(module, "CheckpointFunction", plain),
    ):
        yield


# -- the loop ----------------------------------------------------------------------------------


@contextmanager
def _short_epochs(rerun: Rerun, value: int) -> Iterator[None]:
    """What comes at the end of an epoch comes after so many batches."""
    with process.set_for_now(rerun.loaders, "epoch_steps", int(value)):
        yield
    rerun.habits.forget()  # how often it comes now is not how often it does


# -- the optimizer -----------------------------------------------------------------------------


def _flags(**flags: Any) -> Callable[[Rerun, Any], Context]:
    @contextmanager
    def change(rerun: Rerun, value: Any) -> Iterator[None]:
        optimizer = rerun.optimizer()
        wanted = {name: value if other is ... else other for name, other in flags.items()}
        accepted = getattr(optimizer, "defaults", {})
        named = [name for name, other in flags.items() if other is ... and name not in accepted]
        if named:
            kind = type(optimizer).__name__
            raise PerfdoctorError(f"{kind} has no {named[0]}", slug="optimizer-flag")
        before = [{name: group.get(name) for name in wanted} for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group.update(wanted)
        _counters_on_device(optimizer, fused=bool(wanted.get("fused")))
        try:
            yield
        finally:
            for group, values in zip(optimizer.param_groups, before, strict=True):
                group.update(values)
            _counters_on_device(optimizer, fused=False)

    return change


def _counters_on_device(optimizer: Any, *, fused: bool) -> None:
    """Fused kernels count steps on the device, the others on the host."""
    for group in optimizer.param_groups:
        home = fused or bool(group.get("capturable"))
        for parameter in group["params"]:
            counter = optimizer.state.get(parameter, {}).get("step")
            if hasattr(counter, "to"):
                device = parameter.device if home else "cpu"
                optimizer.state[parameter]["step"] = counter.to(device)


#: Change → what makes it, by the names that recommendations use.
CHANGES: dict[str, Callable[[Rerun, Any], Context]] = {
    "threads": lambda rerun, value: process.threads(value),
    "anomaly_detection": lambda rerun, value: process.anomaly_detection(value),
    "deterministic": lambda rerun, value: process.deterministic(value),
    "cudnn_benchmark": lambda rerun, value: process.cudnn_benchmark(value),
    "non_blocking": lambda rerun, value: non_blocking(rerun.torch, bool(value)),
    "gc_frozen": lambda rerun, value: process.frozen(),
    "collect_each_step": lambda rerun, value: rerun.habits.collecting.one_in(int(value)),
    "precision": _precision,
    "compile": _compile,
    "channels_last": _channels_last,
    "gradient_checkpointing": _checkpointing,
    "optimizer_fused": _flags(fused=..., foreach=None),
    "optimizer_foreach": _flags(foreach=..., fused=None),
    "arch_every": lambda rerun, value: rerun.searching.one_in(int(value)),
    "checkpoint_every_times": lambda rerun, value: rerun.habits.saving.one_in(value),
    "validate_every_times": lambda rerun, value: rerun.validating.one_in(int(value)),
    "log_every_times": lambda rerun, value: rerun.reporting.one_in(int(value)),
    "figures_every_times": lambda rerun, value: rerun.drawing.one_in(int(value)),
    "epoch_steps": _short_epochs,
}


#: Changes of what is only known after some steps.
LATER = ("arch_every", "validate_every_times", "log_every_times", "figures_every_times")
SUPPORTED = frozenset({*CHANGES, *LOADING})


def close(mode: Mode | None) -> None:
    """Off, whatever it says."""
    if mode is not None:
        with suppress(Exception):
            mode.off()
