"""What the wrappers share: what is going on, and looks into what they are given."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from perfdoctor.collect.script.loop_finder import LoopFinder
from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.same_calls import SameCalls

_MOST_SEARCHES = 16
_OURS = str(Path(__file__).parents[2]) + os.sep  # unresolved, as in frames
#: So many operations are counted at most, about 20 ms.
_MOST_NODES = 20_000


@dataclass
class State:
    """What the wrappers ask on each call.

    `inside`: within a call that is observed as a whole, where nothing else is looked at.
    `noting`: in this step the lines that call the model and so on are noted in `loop`, and the
    functions that make architecture steps in `searches`, by file and first line.
    `elsewhere`: steps of optimizers in each other thread, none of which is observed.
    """

    observer: Observer
    thread: int = field(default_factory=threading.get_ident)
    active: bool = True
    inside: bool = False
    noting: bool = True
    loop: LoopFinder = field(default_factory=LoopFinder)
    searches: set[tuple[str, int]] = field(default_factory=set)
    elsewhere: dict[int, int] = field(default_factory=dict)
    same_calls: SameCalls = field(default_factory=SameCalls)
    on_failure: Callable[[Exception], None] = lambda error: None

    def here(self) -> bool:
        """Whether this call is to be observed."""
        return self.active and threading.get_ident() == self.thread

    def stepped_elsewhere(self) -> None:
        """An optimizer made a step in another thread; threads that add to one number lose some."""
        thread = threading.get_ident()
        self.elsewhere[thread] = self.elsewhere.get(thread, 0) + 1

    def settings(self) -> dict[str, int]:
        """What was noted of threads that are not observed, as configuration."""
        steps = sum(list(self.elsewhere.values()))
        return {"steps_in_other_threads": steps} if steps else {}

    def note_search(self, frame: FrameType | None) -> None:
        """The script's function that made an architecture step."""
        while frame is not None and not _is_the_scripts(frame):
            frame = frame.f_back
        if frame is not None and len(self.searches) < _MOST_SEARCHES:
            self.searches.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    def failed(self, error: Exception) -> None:
        """Ends the observation."""
        if self.active:
            self.active = False
            self.on_failure(error)


def _is_the_scripts(frame: FrameType) -> bool:
    """Neither torch's nor ours: a trial has wrappers around those of the observation."""
    path = frame.f_code.co_filename
    return "/torch/" not in path and not path.startswith(_OURS)


def guarded(state: State, call: Callable[..., Any], *args: Any) -> Any:
    """The call's result; None, and the end of the observation, where it fails."""
    try:
        return call(*args)
    except Exception as error:
        state.failed(error)
        return None


def note_graph(observer: Observer, outputs: Any) -> None:
    """Adds how many operations a backward pass from these tensors goes through, and how many of
    these came after the forward; and whether parts of the forward are run again for it."""
    functions = [f for f in _graph(outputs) if type(f).__name__ != "AccumulateGrad"]
    if not functions:
        return
    observer.autograd_nodes = (observer.autograd_nodes or 0) + len(functions)
    observer.transforms.note(functions)
    observer.arithmetic.add(functions)
    if observer.first_after_forward is not None:
        later = sum(f._sequence_nr() >= observer.first_after_forward for f in functions)
        observer.loss_nodes = (observer.loss_nodes or 0) + later
    observer.padded_batches.note_graph(observer.recorder.count, functions)
    if any(type(f).__name__ == "CheckpointFunctionBackward" for f in functions):
        observer.recomputes = True


def next_operation(torch: Any) -> int | None:
    """The number that autograd will give to the next operation of this thread; None where this
    torch does not tell."""
    number = getattr(torch._C._autograd, "_get_sequence_nr", None)
    return None if number is None else int(number())


def _graph(outputs: Any) -> set[Any]:
    tensors = outputs if isinstance(outputs, list | tuple) else (outputs,)
    waiting = [tensor.grad_fn for tensor in tensors if getattr(tensor, "grad_fn", None) is not None]
    seen = set(waiting)
    while waiting and len(seen) < _MOST_NODES:
        for function, _ in waiting.pop().next_functions:
            if function is not None and function not in seen:
                seen.add(function)
                waiting.append(function)
    return seen


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
    if type(batch) is list and batch:  # what most loaders give
        shape = getattr(batch[0], "shape", None)
        if shape and isinstance(shape, tuple) and type(shape[0]) is int and shape[0]:
            return shape[0]
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
