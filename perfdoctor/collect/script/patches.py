"""Narrow wrappers around what every training calls, and their removal without a trace.

Each wrapper tells the observer that something begins and ends, in the main thread and outside of
`torch.compile`'s tracing, and otherwise calls what was there. A failure of ours ends the
observation, never the training.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from perfdoctor import stages
from perfdoctor.collect.script import copies, frames, iterators, steps
from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.copies import (
    Copies,
    copying,
    goes_to,
    goes_to_cuda,
    is_copied_over,
)
from perfdoctor.collect.script.imports import after_import
from perfdoctor.collect.script.iterators import NoteIterator, ending, iterating
from perfdoctor.collect.script.saved_data import SavedData
from perfdoctor.collect.script.saved_tensors import SavedTensors
from perfdoctor.collect.script.state import State, guarded
from perfdoctor.collect.script.steps import (
    advancing,
    differentiating,
    outermost,
    step_hooks,
    updating,
)
from perfdoctor.collect.script.untraced import leave_untraced

_MISSING = object()
_OURS = (__file__, steps.__file__, iterators.__file__, copies.__file__)


class UserStages:
    """Reports the blocks that the script names with `perfdoctor.stage`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def enter(self, stage: str) -> None:
        """`stage` begins."""
        observer = self._state.observer
        guarded(self._state, observer.block_begins, observer.recorder.label(stage))

    def leave(self) -> None:
        """It ends."""
        guarded(self._state, self._state.observer.block_ends)

    def is_current(self) -> bool:
        """Whether the caller is observed."""
        return self._state.here()


class Patches:
    """The wrappers in place; `remove` puts back what was there."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        self._hooks: list[Any] = []
        self.copies = Copies()
        self.saved = SavedTensors()
        self.saved_data = SavedData(state.observer.modules, state.observer.optimizers)

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
        after_import(_CHECKPOINT, self._checkpointing)
        leave_untraced(torch, *[ours for _, _, ours, _ in self._replaced])
        self._communication(torch)

    def watch_copies(self) -> None:
        """Copies to a device are a stage from now on."""
        import torch

        state, seen = self.state, self.copies
        for name, goes in _COPYING:
            self.replace(torch.Tensor, name, partial(copying, state=state, goes=goes, seen=seen))

    def settings(self) -> dict[str, Any]:
        """What was noted of copies and saves, as configuration."""
        return self.copies.settings() | self.saved.settings() | self.saved_data.settings()

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
        if ours.__code__.co_filename in _OURS:
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

        self.replace(module, "__call__", lambda original: outermost(original, state, torch))

        def make_eval(original: Callable[..., Any]) -> Callable[..., Any]:
            def eval(self: Any) -> Any:
                if state.here() and not state.amid():
                    guarded(state, observer.model_evaluates, self)
                return original(self)

            return eval

        self.replace(module, "eval", make_eval)

    def _checkpointing(self) -> None:
        """Tells whether parts of the model run again in the backward pass. `checkpoint` itself has
        to stay what it is: torch.compile knows it by identity. The other of its two ways leaves a
        trace in the graph, see `LooksOfTraining`."""
        observer = self.state.observer

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def recomputed(*args: Any, **kwargs: Any) -> Any:
                observer.looks.now.recomputes = True
                return original(*args, **kwargs)

            return recomputed

        if self.state.active:
            name = "_checkpoint_without_reentrant_generator"
            self.replace(sys.modules[_CHECKPOINT], name, make)

    def _gradients(self, torch: Any) -> None:
        for name in ("backward", "grad"):
            self.replace(
                torch.autograd,
                name,
                partial(differentiating, state=self.state, named=name == "grad"),
            )

    # -- updates -----------------------------------------------------------------------------

    def _optimizers(self, torch: Any) -> None:
        from torch.optim import optimizer as module

        state, observer = self.state, self.state.observer

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def add_param_group(self: Any, param_group: Any) -> Any:
                result = original(self, param_group)
                if state.active and self.param_groups:
                    guarded(state, observer.updates, self, self.param_groups[-1]["params"])
                return result

            return add_param_group

        self.replace(module.Optimizer, "add_param_group", make)

        before, after = step_hooks(state)
        self._hooks.append(module.register_optimizer_step_pre_hook(before))
        self._hooks.append(module.register_optimizer_step_post_hook(after))

        def update(original: Callable[..., Any]) -> Callable[..., Any]:
            return updating(original, state)

        self.replace(module.Optimizer, "zero_grad", update)
        self.replace(torch.nn.utils, "clip_grad_norm_", update)
        self.replace(torch.nn.utils, "clip_grad_value_", update)
        for name in ("step", "unscale_", "update"):
            self.replace(torch.amp.GradScaler, name, update)

    # -- data ------------------------------------------------------------------------------

    def _loaders(self, note_iterator: NoteIterator) -> None:
        from torch.utils.data import dataloader as module

        state = self.state
        self.replace(
            module.DataLoader, "__iter__", partial(iterating, state=state, note=note_iterator)
        )
        self.replace(module._BaseDataLoaderIter, "__next__", partial(advancing, state=state))
        with_workers = getattr(module, "_MultiProcessingDataLoaderIter", None)
        self.replace(with_workers, "_shutdown_workers", partial(ending, state=state))

    # -- the rest ----------------------------------------------------------------------------

    def _saving(self, torch: Any) -> None:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            return self._block(original, r.CHECKPOINT, look=self._look_at_saved)

        self.replace(torch, "save", make)

    def _look_at_saved(self, saved: Any, file: Any = None) -> None:
        self.saved.note(saved)
        self.saved_data.note(saved, file)

    def _communication(self, torch: Any) -> None:
        if not torch.distributed.is_available():
            return

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            return self._block(original, r.COMMUNICATION)

        for name in _COLLECTIVES:
            self.replace(torch.distributed, name, make)

    def _block(
        self,
        original: Callable[..., Any],
        label: int,
        look: Callable[..., None] | None = None,
    ) -> Callable[..., Any]:
        """`original` under `label`; `look` is given its first arguments, two at most."""
        observer = self.state.observer

        def begins(args: Sequence[Any]) -> bool:
            if observer.recorder.current == label:
                return False
            observer.block_begins(label)
            if look is not None and args:
                look(*args[:2])
            return True

        return self._around(original, begins, observer.block_ends)

    def _around(
        self,
        original: Callable[..., Any],
        begins: Callable[[Sequence[Any]], bool],
        ends: Callable[[], None],
    ) -> Callable[..., Any]:
        """`original` between `begins` and `ends`; not observed where `begins` says no."""
        state, get_ident = self.state, threading.get_ident
        recorder = state.observer.recorder

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not state.active or get_ident() != state.thread or not guarded(state, begins, args):
                return original(*args, **kwargs)
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


_CHECKPOINT = "torch.utils.checkpoint"
_COPYING = (("to", goes_to), ("cuda", goes_to_cuda), ("copy_", is_copied_over))
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
