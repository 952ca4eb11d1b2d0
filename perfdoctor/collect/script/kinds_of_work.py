"""What kind of work a look has met: which stage the time is of that no hook explains."""

from __future__ import annotations

import re
from collections.abc import Sequence

from perfdoctor.collect.script import batch_source, work
from perfdoctor.collect.script.batch_source import BatchSource
from perfdoctor.collect.script.environments import of_environment
from perfdoctor.collect.script.libraries import USER, Libraries
from perfdoctor.collect.script.source import calls_at
from perfdoctor.collect.script.stacks import Frame, Sampled
from perfdoctor.collect.script.weight_records import recorded
from perfdoctor.collect.script.work import Work
from perfdoctor.stages import BACKWARD, DATA_LOADING, FORWARD, LOSS, OPTIMIZER, OTHER

#: The label of the time after a forward, of which it is not known yet what follows.
AFTER_FORWARD = "after_forward"
START_UP = "start_up"
#: What is done by an environment that the model acts in.
MOVES_ON = "moves an environment on"
#: How torch calls modules; ours looks like the first of them.
CALLS_MODULE = frozenset(["_wrapped_call_impl", "_call_impl"])
#: Stages that count even inside what makes the batch: a print there is a print.
_DECISIVE = frozenset([work.LOGGING, work.CHECKPOINT, work.COMMUNICATION, work.GRAPH_BUILD])
#: Stages that are measured as a whole, where hooks of the user's run too.
HOOKED = (FORWARD, BACKWARD, OPTIMIZER)
#: What is written down, also in the midst of these and of validation.
_WRITES = frozenset([work.LOGGING, work.CHECKPOINT])
#: Where torch and accelerate wrap an optimizer's step, as their functions are called.
_OPTIMIZERS = frozenset(["torch.optim.optimizer", "accelerate.optimizer"])
_UPDATES = frozenset(["wrapper", "step", "zero_grad"])
#: What these call besides the update itself.
_BESIDE_UPDATES = frozenset(["torch.autograd.profiler", "torch._ops", "contextlib", "functools"])
#: What losses are called.
_LOSSES = re.compile(r"loss|criterion|objective", re.IGNORECASE)
_IMPORTLIB = "importlib._bootstrap"
#: How environments are moved on.
_OF_ENVIRONMENTS = frozenset(["step", "reset"])

_Stack = Sequence[Frame]


class Kinds:
    """Tells what stage a look's time is of, and why.

    Args:
        batches: the lines that make the batch. names: the stage that each label stands for; `other`
            and `after_forward` are divided, and what is written down is told apart from
            `validation` and from what hooks run in.
        acting: what the model computes without gradients is for its data, and not validation.
    """

    def __init__(
        self, libraries: Libraries, batches: BatchSource, names: Sequence[str], *, acting: bool
    ) -> None:
        self._libraries, self._batches = libraries, batches
        self._names, self._acting = names, acting

    def of(self, sample: Sampled) -> Work:
        """What a look found the thread at."""
        label, stack = self._names[sample.label], sample.stack
        if label in HOOKED:
            return self._by_hook(stack) or Work(label, "as measured")
        if label not in (OTHER, AFTER_FORWARD, work.VALIDATION):
            return Work(label, "as measured")
        if label != work.VALIDATION and self.imports(stack):
            return Work(OTHER, "imports modules")
        if label != work.VALIDATION and self._updates(stack):
            return Work(OPTIMIZER, "calls the update")
        near, far = self._by_library(stack), self._by_call(stack)
        decisive = _WRITES if label == work.VALIDATION else _DECISIVE
        for found in (near[:1], far):
            if found and found[0] is not None and found[0].stage in decisive:
                return found[0]
        if label == work.VALIDATION:
            return Work(label, "as measured")
        maker = self._batches.maker(stack) if label == OTHER else None
        if maker is not None:
            loads = Work(DATA_LOADING, f"makes the batch for {maker.name}, line {maker.line}")
            return self._acts(stack[: stack.index(maker)]) or loads
        record = self._by_record(stack)
        if record is not None:
            return record
        if label == AFTER_FORWARD and self._in_environment(stack):
            return Work(OTHER, MOVES_ON)
        named = (self._by_name(stack), self._by_purpose(stack))
        known = [w for w in (*near, *far, *named) if w is not None]
        if label == AFTER_FORWARD and self._is_loss(stack):
            known = [w for w in known if w.stage != DATA_LOADING]
        return known[0] if known else self._by_position(stack, label)

    def _by_hook(self, stack: _Stack) -> Work | None:
        """What a hook, or the model itself, writes down in the midst of its computation."""
        for found in (self._by_library(stack)[:1], self._by_call(stack)):
            if found and found[0] is not None and found[0].stage in _WRITES:
                return found[0]
        return self._by_record(stack)

    def _by_record(self, stack: _Stack) -> Work | None:
        is_record = recorded(self.inside_loop(stack), self._is_user)
        return Work(work.LOGGING, "records numbers on weights or gradients") if is_record else None

    def _acts(self, inside: _Stack) -> Work | None:
        """What is no loading of what makes the batch, where the model acts for its data: the model
        is asked, or the environment moved on, in turns with the training."""
        draws = self._acting and any(self._draws_an_action(frame) for frame in inside)
        moves = self._acting and any(frame.name in _OF_ENVIRONMENTS for frame in inside)
        asks = self._asks_the_model(inside)
        if asks is None and draws:
            return Work(FORWARD, "draws an action")
        return asks or (Work(OTHER, MOVES_ON) if moves else None)

    def _draws_an_action(self, frame: Frame) -> bool:
        return self._libraries.module(frame.file).startswith("torch.distributions")

    def _in_environment(self, stack: _Stack) -> bool:
        """Whether it is no part of a loss, though a forward went before: the model has acted."""
        return any(of_environment(f, self._owner(f)) for f in self.inside_loop(stack))

    def _asks_the_model(self, inside: _Stack) -> Work | None:
        if self._acting and any(frame.name in CALLS_MODULE for frame in inside):
            return Work(FORWARD, "calls a model without gradients")
        return None

    def _updates(self, stack: _Stack) -> bool:
        """Whether it is what surrounds an update, and not a closure or a hook that runs in it."""
        for frame in stack:
            module = self._libraries.module(frame.file)
            if module in _OPTIMIZERS and frame.name in _UPDATES:
                return True
            if module not in _BESIDE_UPDATES and not module.startswith("accelerate."):
                return False
        return False

    def _by_library(self, stack: _Stack) -> list[Work | None]:
        """What each run of library frames does, the innermost first; in a run the outermost."""
        runs: list[Work | None] = []
        run: list[Frame] = []
        for frame in self.inside_loop(stack):
            if self._owner(frame) == USER:
                runs.append(self._outermost(run))
                run = []
            else:
                run.append(frame)
        return [*runs, self._outermost(run)]

    def _outermost(self, run: list[Frame]) -> Work | None:
        modules = ((self._libraries.module(frame.file), frame.function) for frame in reversed(run))
        return next((w for m, f in modules if (w := work.of_library(m, f)) is not None), None)

    def _by_call(self, stack: _Stack) -> list[Work | None]:
        """What the user's innermost line calls, if no library's frame stands for it."""
        if not stack or self._owner(stack[0]) != USER:
            return []
        found = (work.of_call(name) for name in calls_at(stack[0].file, stack[0].line))
        return [next((w for w in found if w is not None), None)]

    def imports(self, stack: _Stack) -> bool:
        """Whether a module is being imported: what its functions then do is not their work."""
        for frame in self.inside_loop(stack):
            if self._libraries.module(frame.file) == _IMPORTLIB:
                return True
            if self._owner(frame) == USER:
                return False
        return False

    def starts_up(self, sample: Sampled) -> bool:
        """Whether it is an import before the first step."""
        return self._names[sample.label] == START_UP and self.imports(sample.stack)

    def _by_name(self, stack: _Stack) -> Work | None:
        """The function that holds the training loop is not meant: it does everything."""
        depth = self._batches.loop_depth(stack)
        users = (f for f in stack[:depth] if self._owner(f) == USER)
        return next((w for f in users if (w := work.of_name(f.function)) is not None), None)

    def _by_purpose(self, stack: _Stack) -> Work | None:
        """What is made for a call that logs, whose own frame is not there yet:
        `logger.log(summary(model))`."""
        depth = self._batches.loop_depth(stack)
        if not depth:
            return None
        called = next(iter(calls_at(stack[depth].file, stack[depth].line)), "")
        found = work.of_call(called) or work.of_name(called)
        return found if found is not None and found.stage == work.LOGGING else None

    def _is_loss(self, stack: _Stack) -> bool:
        """Whether a module, or what is called a loss, runs: what it prepares is no batch."""
        depth = self._batches.loop_depth(stack)
        inside = stack[:depth]
        return any(f.name in CALLS_MODULE or _LOSSES.search(f.name) for f in inside)

    def _by_position(self, stack: _Stack, label: str) -> Work:
        position = self._batches.position(stack)
        if label == AFTER_FORWARD and position not in (
            batch_source.UPDATE,
            batch_source.AFTER_STEP,
        ):
            return Work(LOSS, "follows the forward")
        return self._asks_the_model(self.inside_loop(stack)) or Work(OTHER, position)

    def inside_loop(self, stack: _Stack) -> _Stack:
        """The frames up to the one that holds the training loop."""
        depth = self._batches.loop_depth(stack)
        return stack if depth is None else stack[: depth + 1]

    def _owner(self, frame: Frame) -> str:
        return self._libraries.of(frame.file)

    def _is_user(self, frame: Frame) -> bool:
        return self._owner(frame) == USER
