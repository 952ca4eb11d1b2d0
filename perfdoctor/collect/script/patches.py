"""Narrow wrappers around what every training calls, and their removal without a trace.

Each wrapper tells the observer that something begins and ends, in the main thread and outside of
`torch.compile`'s tracing, and otherwise calls what was there. A failure of ours ends the
observation, never the training.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from perfdoctor import stages
from perfdoctor.collect.script import frames
from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.loop_finder import BACKWARD, FORWARD, OPTIMIZER, LoopFinder
from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.optimizers import ARCHITECTURE
from perfdoctor.collect.script.settings_used import loader_settings

_MISSING = object()
_MOST_SEARCHES = 16
#: The step whose operations are counted, once; and so many at most, about 20 ms.
_COUNTED_STEP, _MOST_NODES = 2, 20_000
NoteIterator = Callable[[Any, int, float], None]


@dataclass
class State:
    """What the wrappers ask on each call.

    `inside`: within a call that is observed as a whole, where nothing else is looked at.
    `noting`: in this step the lines that call the model and so on are noted in `loop`, and the
    functions that make architecture steps in `searches`, by file and first line.
    """

    observer: Observer
    thread: int = field(default_factory=threading.get_ident)
    active: bool = True
    inside: bool = False
    noting: bool = True
    loop: LoopFinder = field(default_factory=LoopFinder)
    searches: set[tuple[str, int]] = field(default_factory=set)
    on_failure: Callable[[Exception], None] = lambda error: None

    def here(self) -> bool:
        """Whether this call is to be observed."""
        return self.active and threading.get_ident() == self.thread

    def note_search(self, frame: FrameType | None) -> None:
        """The script's function that made an architecture step."""
        while frame is not None and "/torch/" in frame.f_code.co_filename:
            frame = frame.f_back
        if frame is not None and len(self.searches) < _MOST_SEARCHES:
            self.searches.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    def failed(self, error: Exception) -> None:
        """Ends the observation."""
        if self.active:
            self.active = False
            self.on_failure(error)


class UserStages:
    """Reports the blocks that the script names with `perfdoctor.stage`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def enter(self, stage: str) -> None:
        """`stage` begins."""
        observer = self._state.observer
        _guarded(self._state, observer.block_begins, observer.recorder.label(stage))

    def leave(self) -> None:
        """It ends."""
        _guarded(self._state, self._state.observer.block_ends)

    def is_current(self) -> bool:
        """Whether the caller is observed."""
        return self._state.here()


class Patches:
    """The wrappers in place; `remove` puts back what was there."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        self._hooks: list[Any] = []

    def install(self, note_iterator: NoteIterator = lambda iterator, loader, took_s: None) -> None:
        """Puts every wrapper in place. Needs torch to be imported.

        `note_iterator` is told of each loader's iterator, the loader's number, and the seconds
        that making it took.
        """
        import torch

        stages.activate(UserStages(self.state))
        self._modules(torch)
        self._gradients(torch)
        self._optimizers(torch)
        self._loaders(note_iterator)
        self._saving(torch)
        self._communication(torch)

    def remove(self) -> None:
        """From here on the training runs as if nothing had been there."""
        self.state.active = False
        stages.activate(None)
        for owner, name, ours, before in reversed(self._replaced):
            if vars(owner).get(name) is not ours:
                continue  # someone replaced ours: theirs stays, and ours does nothing
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        self._replaced.clear()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Puts `make(original)` in place of an attribute, if there is such a one.

        Also in the module that a function comes from: `pickle` looks it up there, and refuses a
        function that it does not find.
        """
        original = getattr(owner, name, None)
        if original is None:
            return
        ours = make(original)
        if ours.__code__.co_filename == __file__:
            ours.__code__ = frames.unnoticed(ours.__code__)
        with suppress(AttributeError, TypeError):
            functools.update_wrapper(ours, original)
        self._put(owner, name, ours)
        home = sys.modules.get(getattr(original, "__module__", ""))
        if home is not None and vars(home).get(name) is original:
            self._put(home, name, ours)

    def _put(self, owner: Any, name: str, ours: Any) -> None:
        before = vars(owner).get(name, _MISSING)
        setattr(owner, name, ours)
        self._replaced.append((owner, name, ours, before))

    # -- the model -------------------------------------------------------------------------

    def _modules(self, torch: Any) -> None:
        module = torch.nn.Module
        state, observer = self.state, self.state.observer

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            return _outermost(original, state, torch)

        self.replace(module, "__call__", make)

        def make_eval(original: Callable[..., Any]) -> Callable[..., Any]:
            def eval(self: Any) -> Any:
                if not state.inside and state.here():
                    _guarded(state, observer.model_evaluates, self)
                return original(self)

            return eval

        self.replace(module, "eval", make_eval)

    def _gradients(self, torch: Any) -> None:
        observer = self.state.observer

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            return self._around(
                original, observer.backward_begins, observer.backward_ends, BACKWARD
            )

        self.replace(torch.autograd, "backward", make)
        self.replace(torch.autograd, "grad", make)

    # -- updates -----------------------------------------------------------------------------

    def _optimizers(self, torch: Any) -> None:
        from torch.optim import optimizer as module

        state, observer = self.state, self.state.observer

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def add_param_group(self: Any, param_group: Any) -> Any:
                result = original(self, param_group)
                if state.active and self.param_groups:
                    _guarded(
                        state,
                        observer.optimizers.add_group,
                        self,
                        self.param_groups[-1]["params"],
                    )
                return result

            return add_param_group

        self.replace(module.Optimizer, "add_param_group", make)

        def before(optimizer: Any, args: Any, kwargs: Any) -> None:
            if state.here():
                if state.noting:
                    _guarded(state, state.loop.note, sys._getframe(1), OPTIMIZER)
                closure = args[1] if len(args) > 1 else kwargs.get("closure")
                _guarded(state, observer.optimizer_begins, closure is not None)

        def after(optimizer: Any, args: Any, kwargs: Any) -> None:
            if state.here():
                kind = _guarded(state, observer.optimizer_ends, optimizer)
                if kind == ARCHITECTURE and state.noting:
                    _guarded(state, state.note_search, sys._getframe(1))

        self._hooks.append(module.register_optimizer_step_pre_hook(before))
        self._hooks.append(module.register_optimizer_step_post_hook(after))

        def update(original: Callable[..., Any]) -> Callable[..., Any]:
            return self._around(original, observer.update_begins, observer.block_ends)

        self.replace(module.Optimizer, "zero_grad", update)
        self.replace(torch.nn.utils, "clip_grad_norm_", update)
        self.replace(torch.nn.utils, "clip_grad_value_", update)
        for name in ("step", "unscale_", "update"):
            self.replace(torch.amp.GradScaler, name, update)

    # -- data ------------------------------------------------------------------------------

    def _loaders(self, note_iterator: NoteIterator) -> None:
        from torch.utils.data import dataloader as module

        state, observer = self.state, self.state.observer
        recorder, clock, get_ident = observer.recorder, observer.recorder.clock, threading.get_ident

        def make_iter(original: Callable[..., Any]) -> Callable[..., Any]:
            def iterate(self: Any) -> Any:
                if state.inside or not state.here():
                    return original(self)
                facts = _guarded(state, observer.iterator_begins, self)
                if facts is None:
                    return original(self)
                began, depth = clock(), observer.recorder.depth
                try:
                    iterator = original(self)
                finally:
                    observer.recorder.unwind(depth)
                    _guarded(state, observer.iterator_ends, facts)
                took_s = (clock() - began) * 1e-9
                if facts.settings is None:  # it may be gone when they are wanted
                    facts.settings = _guarded(state, loader_settings, self)
                _guarded(state, note_iterator, iterator, facts.number, took_s)
                with suppress(AttributeError, TypeError):
                    iterator._perfdoctor_facts = facts
                    facts.iterator = weakref.ref(iterator)
                return iterator

            return iterate

        def make_next(original: Callable[..., Any]) -> Callable[..., Any]:
            def advance(self: Any) -> Any:
                facts = self.__dict__.get("_perfdoctor_facts")
                if facts is None or state.inside or not state.active:
                    return original(self)
                if get_ident() != state.thread:
                    return original(self)
                _guarded(state, observer.next_begins, facts)
                depth, samples = len(recorder.stack), None
                state.inside = True
                try:
                    batch = original(self)
                    samples = _guarded(state, samples_in, batch)
                    return batch
                finally:
                    state.inside = False
                    if len(recorder.stack) > depth:
                        recorder.unwind(depth)
                    _guarded(state, observer.next_ends, facts, samples)

            return advance

        self.replace(module.DataLoader, "__iter__", make_iter)
        self.replace(module._BaseDataLoaderIter, "__next__", make_next)

    # -- the rest ----------------------------------------------------------------------------

    def _saving(self, torch: Any) -> None:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            return self._block(original, r.CHECKPOINT)

        self.replace(torch, "save", make)

    def _communication(self, torch: Any) -> None:
        if not torch.distributed.is_available():
            return

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            return self._block(original, r.COMMUNICATION)

        for name in _COLLECTIVES:
            self.replace(torch.distributed, name, make)

    def _block(self, original: Callable[..., Any], label: int) -> Callable[..., Any]:
        observer = self.state.observer

        def begins() -> bool:
            if observer.recorder.current == label:
                return False
            observer.block_begins(label)
            return True

        return self._around(original, begins, observer.block_ends)

    def _around(
        self,
        original: Callable[..., Any],
        begins: Callable[[], bool],
        ends: Callable[[], None],
        event: str | None = None,
    ) -> Callable[..., Any]:
        """`original` between `begins` and `ends`; not observed where `begins` says no."""
        state, get_ident = self.state, threading.get_ident
        recorder = state.observer.recorder

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not state.active or get_ident() != state.thread or not _guarded(state, begins):
                return original(*args, **kwargs)
            if event is not None and state.noting:
                _guarded(state, state.loop.note, sys._getframe(1), event)
                if event == BACKWARD and recorder.steps.steps == _COUNTED_STEP:
                    state.observer.autograd_nodes = _guarded(state, autograd_nodes, args)
            depth, inside = len(recorder.stack), state.inside
            state.inside = True
            try:
                return original(*args, **kwargs)
            finally:
                state.inside = inside
                if len(recorder.stack) > depth:
                    recorder.unwind(depth)
                ends()

        return wrapper


def _outermost(original: Callable[..., Any], state: State, torch: Any) -> Callable[..., Any]:
    """`Module.__call__`, which tells of calls from outside of any module.

    A module inside another one costs one look at a flag. Tracing never gets here: torch.compile
    enters a module at its forward.
    """
    observer, recorder = state.observer, state.observer.recorder
    grad_enabled, get_ident = torch.is_grad_enabled, threading.get_ident
    tracing = torch._C._get_tracing_state  # of torch.jit.trace, which must not see what we ask

    # The first five lines stand, indented alike, where torch's do: tracebacks show torch's.
    def _wrapped_call_impl(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._compiled_call_impl is not None and (state.inside or not state.here()):
            return self._compiled_call_impl(*args, **kwargs)
        if state.inside or not state.active or get_ident() != state.thread:
            return self._call_impl(*args, **kwargs)
        grad = grad_enabled()
        try:
            told = tracing() is None and observer.forward_begins(
                self, grad, lambda: samples_in((args, kwargs))
            )
        except Exception as error:
            state.failed(error)
            told = False
        if not told:
            return original(self, *args, **kwargs)
        depth = len(recorder.stack)
        if state.noting and grad:
            observer.autocast = autocast_dtype(torch)
            _guarded(state, state.loop.note, sys._getframe(1), FORWARD)
        state.inside = True
        try:
            return original(self, *args, **kwargs)
        finally:
            state.inside = False
            if len(recorder.stack) > depth:
                recorder.unwind(depth)
            _guarded(state, observer.forward_ends, grad)

    # torch.compile does not trace frames of this file of torch's
    _wrapped_call_impl.__code__ = frames.disguised(
        _wrapped_call_impl.__code__, original.__code__, lines=5
    )
    return _wrapped_call_impl


#: What waits for other processes.
_COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "monitored_barrier",
)


def _guarded(state: State, call: Callable[..., Any], *args: Any) -> Any:
    """The call's result; None, and the end of the observation, where it fails."""
    try:
        return call(*args)
    except Exception as error:
        state.failed(error)
        return None


def autograd_nodes(outputs: Any) -> int | None:
    """Operations that a backward pass from these tensors goes through; None where there is none."""
    tensors = outputs if isinstance(outputs, list | tuple) else (outputs,)
    waiting = [tensor.grad_fn for tensor in tensors if getattr(tensor, "grad_fn", None) is not None]
    seen = set(waiting)
    while waiting and len(seen) < _MOST_NODES:
        for function, _ in waiting.pop().next_functions:
            if function is not None and function not in seen:
                seen.add(function)
                waiting.append(function)
    return sum(type(function).__name__ != "AccumulateGrad" for function in seen) or None


def autocast_dtype(torch: Any) -> str | None:
    """The precision that autocast gives to what runs now; None where it is off."""
    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device):
            name = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
            return {"bfloat16": "bf16", "float16": "fp16"}.get(name, name)
    return None


def samples_in(batch: Any, depth: int = 0) -> int:
    """The length of the first tensor in a batch; 0 where there is none.

    Only plain numbers: to ask a symbolic one for its value binds whoever traces to that value.
    """
    shape = getattr(batch, "shape", None)
    if isinstance(shape, tuple):
        return (shape[0] if type(shape[0]) is int else 0) if shape else 1
    if depth < 4:
        if isinstance(batch, dict) or hasattr(batch, "values"):
            batch = list(batch.values())
        if isinstance(batch, list | tuple):
            for part in batch:
                found = samples_in(part, depth + 1)
                if found:
                    return found
    return 0
