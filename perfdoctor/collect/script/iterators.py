"""The wrappers around the beginning and the end of a DataLoader's iterator, once for each."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from perfdoctor.collect.script.settings_used import loader_settings
from perfdoctor.collect.script.state import State, guarded

NoteIterator = Callable[[Any, int, float], None]
_Call = Callable[..., Any]


def iterating(original: _Call, state: State, note: NoteIterator) -> _Call:
    """`DataLoader.__iter__`; `note` is told of the iterator, its loader's number, and the seconds
    that making it took."""
    import torch

    observer = state.observer
    clock = observer.recorder.clock

    def iterate(self: Any) -> Any:
        if state.amid() or not state.here():
            return original(self)
        begins = partial(observer.iterator_begins, learning=torch.is_grad_enabled())
        facts = guarded(state, begins, self)
        if facts is None:
            return original(self)
        began, depth = clock(), observer.recorder.depth
        try:
            iterator = original(self)
        finally:
            observer.recorder.unwind(depth)
            guarded(state, observer.iterator_ends, facts)
        took_s = (clock() - began) * 1e-9
        if facts.settings is None:  # it may be gone when they are wanted
            facts.settings = guarded(state, loader_settings, self)
        guarded(state, note, iterator, facts.number, took_s)
        with suppress(AttributeError, TypeError):
            iterator._perfdoctor_facts = facts
            facts.iterator = weakref.ref(iterator)
        return iterator

    return iterate


def ending(original: _Call, state: State) -> _Call:
    """`_shutdown_workers` of an iterator, which waits for its workers to end.

    It is called where the batches are used up, within `__next__`, and by `__del__`: in the middle
    of anything, and a second time of the same iterator.
    """
    observer = state.observer
    clock = observer.recorder.clock

    def shut_down(self: Any) -> Any:
        facts = self.__dict__.get("_perfdoctor_facts")
        if facts is None or self.__dict__.get("_shutdown", True) or not state.here():
            return original(self)
        began, entered = clock(), guarded(state, observer.workers_end, facts)
        try:
            return original(self)
        finally:
            guarded(state, observer.workers_ended, facts, clock() - began, entered)

    return shut_down
