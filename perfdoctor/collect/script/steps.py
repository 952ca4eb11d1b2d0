"""The wrappers that every training step goes through several times: next, forward, backward, step.

Each has two ways. In a training that goes steadily (`Observer.steady`), what happens is what
happened in the step before, and all there is to do is to note that it does: those few lines are
written out here, since a call into the observer costs more than they do. Everything else is told to
the observer, who finds out.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from perfdoctor.collect.script import frames
from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.loop_finder import BACKWARD, FORWARD, OPTIMIZER
from perfdoctor.collect.script.optimizers import ARCHITECTURE
from perfdoctor.collect.script.sample_sizes import EVERY as SIZES_EVERY
from perfdoctor.collect.script.state import (
    State,
    guarded,
    samples_in,
)

_LOSS_FOLLOWED = r.AFTER_FORWARD << 8 | r.LOSS
_SETTLE_EVERY = 1024
_MOST_NOTED = 3 * 4096
_UPDATING = (r.OPTIMIZER, r.BACKWARD, r.FORWARD)
Call = Callable[..., Any]


def advancing(original: Call, state: State) -> Call:
    """`__next__` of a loader's iterator."""
    observer, recorder = state.observer, state.observer.recorder
    stack, note, clock = recorder.stack, recorder.note, recorder.clock
    skims, noted = recorder.skimmed.on, recorder.skimmed.batches
    get_ident = threading.get_ident

    def advance(self: Any) -> Any:
        if skims and skims[2] == id(self):
            began, size = clock(), -1
            try:
                batch = original(self)
                try:
                    size = samples_in(batch)
                except Exception:  # objects of anyone's making
                    size = 0
                return batch
            finally:
                if skims:  # what it called may have ended that
                    now = clock()
                    noted.extend((now, now - began, size))
                    if len(noted) > _MOST_NOTED:  # there may be batches and no steps
                        guarded(state, observer.watch_again)
        facts = self.__dict__.get("_perfdoctor_facts")
        if facts is None or not state.active or get_ident() != state.thread or state.amid():
            return original(self)
        steady, samples = facts is observer.steady and not recorder.current, None
        if steady:
            depth = len(stack)
            note(facts.label)
            note(clock())
            stack.append(r.OTHER)
            recorder.current = facts.label
        else:
            guarded(state, observer.next_begins, facts)
            depth = len(stack)
        state.inside = True
        try:
            batch = original(self)
            samples = guarded(state, samples_in, batch)
            return batch
        finally:
            state.inside = False
            if not steady:
                recorder.unwind(depth)
                if samples and facts.began_ns is not None:
                    note_size = observer.sample_sizes.note
                    guarded(state, note_size, recorder.count, facts.number, batch, samples)
                guarded(state, observer.next_ends, facts, samples)
            else:
                del stack[depth:]
                recorder.current = r.OTHER
                note(r.OTHER)
                note(clock())
                if samples is not None:
                    facts.batches += 1
                    observer.counted = samples
                    recorder.samples += samples
                    if not facts.batches % _SETTLE_EVERY:  # there may be batches and no steps
                        recorder.settle()

    return advance


def note_sizes(state: State, args: Any, kwargs: Any) -> None:
    """How large the samples are that a model is called with, where no loader gives them."""
    samples = samples_in((args, kwargs))
    if samples:
        observer = state.observer
        observer.sample_sizes.note_call(observer.recorder.count, [args, kwargs], samples)


def outermost(original: Call, state: State, torch: Any) -> Call:
    """`Module.__call__`, which tells of calls from outside of any module.

    A module inside another one costs one look at a flag. Tracing never gets here: torch.compile
    enters a module at its forward.
    """
    observer, recorder = state.observer, state.observer.recorder
    stack, note, clock = recorder.stack, recorder.note, recorder.clock
    grad_enabled, who = torch.is_grad_enabled, threading.get_ident
    looks, validated = observer.looks, observer.looks.validation_calls
    parts, fixed = looks.fixed_parts, looks.fixed_parts.among
    traced = torch.compiler.is_dynamo_compiling
    tracing = torch._C._get_tracing_state  # of torch.jit.trace, which must not see what we ask

    # The first five lines stand, indented alike, where torch's do: tracebacks show torch's.
    def _wrapped_call_impl(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._compiled_call_impl is not None and (state.inside or not state.here()):
            return self._compiled_call_impl(*args, **kwargs)
        if (state.inside and (not fixed or traced())) or not state.active or who() != state.thread:
            return self._call_impl(*args, **kwargs)
        grad, current, depth = grad_enabled(), recorder.current, len(stack) + 1
        if state.inside:
            if id(self) not in fixed:
                return original(self, *args, **kwargs)
            given = None
            guarded(state, parts.begins, self, args, kwargs, state.noting)
            try:
                given = original(self, *args, **kwargs)
                return given
            finally:
                guarded(state, parts.ends, self, given)
        steady = grad and observer.steady is not None
        if steady and not current and id(self) == observer.steady_module and self.training:
            note(r.FORWARD)
            note(clock())
            stack.append(r.OTHER)
            recorder.current = r.FORWARD
        elif grad and current == r.AFTER_FORWARD and observer.is_again(self):
            note(r.FORWARD)
            note(clock())
            note(r.RELABEL)
            note(_LOSS_FOLLOWED)
            recorder.current = r.FORWARD
            steady, depth = True, depth - 1
        elif steady and current == r.AFTER_FORWARD and observer.silent_module() is self:
            return original(self, *args, **kwargs)
        else:
            steady = False
            try:
                told = tracing() is None and observer.forward_begins(
                    self, grad, lambda: samples_in((args, kwargs))
                )
            except Exception as error:
                state.failed(error)
                told = False
            if not told:
                return original(self, *args, **kwargs)
            depth = len(stack)
            if grad and not observer.used_loader and not recorder.count % SIZES_EVERY:
                guarded(state, note_sizes, state, args, kwargs)
            if not grad and validated.looks:
                guarded(state, validated.begins, self, args, kwargs, sys._getframe(1))
        if state.noting:
            guarded(state, parts.look, self)
        if state.noting and grad:
            guarded(state, state.note_call, sys._getframe(1), FORWARD)
            guarded(state, looks.forward_begins, self, args, kwargs, sys._getframe(1))
            guarded(state, state.same_calls.begins, recorder.count)
        given = None
        if fixed:
            guarded(state, parts.begins, self, args, kwargs, state.noting)
        state.inside = True
        try:
            given = original(self, *args, **kwargs)
            return given
        finally:
            state.inside = False
            if fixed:
                guarded(state, parts.ends, self, given)
            if state.noting and grad:
                guarded(state, state.same_calls.ends)
                guarded(state, looks.forward_ends, self)
                if sys.exc_info()[0] is None:  # the loss follows
                    guarded(state, state.same_calls.begins, recorder.count)
            if steady:
                del stack[depth:]
                recorder.current = r.AFTER_FORWARD
                note(r.AFTER_FORWARD)
                note(clock())
            else:
                if not grad and validated.looks:
                    guarded(state, validated.ends)
                recorder.unwind(depth)
                guarded(state, observer.forward_ends, grad)

    # torch.compile does not trace frames of this file of torch's
    _wrapped_call_impl.__code__ = frames.disguised(
        _wrapped_call_impl.__code__, original.__code__, lines=5
    )
    return _wrapped_call_impl


def differentiating(original: Call, state: State, *, named: bool) -> Call:
    """`torch.autograd.backward`, or `grad`, which names what the gradients are of."""
    observer, recorder = state.observer, state.observer.recorder
    looks = observer.looks
    stack, note, clock = recorder.stack, recorder.note, recorder.clock
    skims, get_ident = recorder.skimmed.on, threading.get_ident

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if skims and not named:  # gradients that are named may be a search's
            return original(*args, **kwargs)
        if not state.active or get_ident() != state.thread:
            return original(*args, **kwargs)
        steady, depth = observer.steady, len(stack)
        follows = recorder.current == r.AFTER_FORWARD and not named
        if steady is not None and follows and not observer.in_closure:
            note(r.BACKWARD)
            note(clock())
            note(r.RELABEL)
            note(_LOSS_FOLLOWED)
            recorder.current = r.BACKWARD
            steady.training += 1
        else:
            steady = None
            if not guarded(state, observer.backward_begins):
                return original(*args, **kwargs)
            depth = len(stack)
        noting, inside = state.noting, state.inside  # which what is told there may have changed
        if noting:
            guarded(state, state.same_calls.ends)
            guarded(state, state.note_call, sys._getframe(1), BACKWARD)
            if named:
                guarded(state, looks.gradients_begin, args, kwargs, sys._getframe(1))
            else:
                guarded(state, looks.backward_begins, args, kwargs, observer.given)
        state.inside = True
        try:
            return original(*args, **kwargs)
        finally:
            state.inside = inside
            if noting:
                guarded(state, looks.backward_ends)
            if steady is not None:
                recorder.current = around = stack[depth - 1]
                del stack[depth - 1 :]
                note(around)
                note(clock())
            else:
                recorder.unwind(depth)
                guarded(state, observer.backward_ends)
            if named:
                inputs = args[1] if len(args) > 1 else kwargs.get("inputs")
                if guarded(state, observer.gradients_taken, inputs) and state.noting:
                    guarded(state, state.note_update, ARCHITECTURE, sys._getframe(1))

    return wrapper


def step_hooks(state: State) -> tuple[Call, Call]:
    """What an optimizer calls before and after its step."""
    observer, recorder = state.observer, state.observer.recorder
    looks = observer.looks
    stack, note, clock = recorder.stack, recorder.note, recorder.clock
    skims, noted = recorder.skimmed.on, recorder.skimmed.ends
    get_ident, thread = threading.get_ident, state.thread

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        if skims or not state.active or get_ident() != state.thread:
            return
        if state.noting:
            guarded(state, state.same_calls.ends)  # where no backward pass followed
            guarded(state, state.note_call, sys._getframe(1), OPTIMIZER)
            guarded(state, looks.update_begins, optimizer)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None and observer.steady is not None and not recorder.current:
            note(r.OPTIMIZER)
            note(clock())
            stack.append(r.OTHER)
            recorder.current = r.OPTIMIZER
        else:
            guarded(state, observer.optimizer_begins, closure is not None)

    def after(optimizer: Any, args: Any, kwargs: Any) -> None:
        if skims and skims[0] == id(optimizer) and get_ident() == thread:
            noted.append(clock())
            recorder.count += 1
            if recorder.count >= skims[1]:
                guarded(state, observer.is_due)
            return
        if not state.active or get_ident() != state.thread:
            if state.active:
                state.stepped_elsewhere()
            return
        steady = observer.steady is not None and recorder.current == r.OPTIMIZER
        if steady and observer.is_only(optimizer) and not observer.in_closure:
            recorder.current = stack.pop()
            if recorder.end_step() >= observer.due:
                guarded(state, observer.is_due)
            return
        if state.noting:
            guarded(state, looks.thrown_away.stepped, optimizer)
        noting = state.noting
        kind = guarded(state, observer.optimizer_ends, optimizer)
        if noting:
            guarded(state, looks.search_gradients.stepped, kind)
            guarded(state, state.note_update, kind, sys._getframe(1))

    return before, after


def updating(original: Call, state: State) -> Call:
    """Part of the update outside of the optimizer's step: zero_grad, clipping, a scaler."""
    observer, recorder = state.observer, state.observer.recorder
    stack, note, clock = recorder.stack, recorder.note, recorder.clock
    skims, get_ident = recorder.skimmed.on, threading.get_ident

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        current = recorder.current
        if skims or not state.active or current in _UPDATING or get_ident() != state.thread:
            return original(*args, **kwargs)
        steady, depth, inside = observer.steady is not None, len(stack), state.inside
        if steady:
            note(r.OPTIMIZER)
            note(clock())
            stack.append(current)
            recorder.current = r.OPTIMIZER
        else:
            recorder.enter(r.OPTIMIZER)
        state.inside = True
        try:
            return original(*args, **kwargs)
        finally:
            state.inside = inside
            if steady:
                recorder.current = around = stack[depth]
                del stack[depth:]
                note(around)
                note(clock())
            else:
                recorder.unwind(depth)

    return wrapper
