"""What the wrappers share: what is going on, and looks into what they are given."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from perfdoctor.collect.script.frame_paths import path_to
from perfdoctor.collect.script.loop_finder import LoopFinder
from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.optimizers import ARCHITECTURE
from perfdoctor.collect.script.same_calls import SameCalls
from perfdoctor.collect.script.search_lines import SearchLines

_MOST_SEARCHES = 16
_OURS = str(Path(__file__).parents[2]) + os.sep  # unresolved, as in frames


@dataclass
class State:
    """What the wrappers ask on each call.

    `inside`: within a call that is observed as a whole, where nothing else is looked at, and in all
    of the steps that are skimmed.
    `noting`: in this step the lines that call the model and so on are noted in `loop`, and what
    makes architecture steps: the lines in `search_lines`, the functions in `searches`, by file and
    first line.
    `elsewhere`: steps of optimizers in each other thread, none of which is observed.
    """

    observer: Observer
    thread: int = field(default_factory=threading.get_ident)
    active: bool = True
    inside: bool = False
    noting: bool = True
    loop: LoopFinder = field(default_factory=LoopFinder)
    search_lines: SearchLines = field(default_factory=SearchLines)
    searches: set[tuple[str, int]] = field(default_factory=set)
    elsewhere: dict[int, int] = field(default_factory=dict)
    same_calls: SameCalls = field(default_factory=SameCalls)
    on_failure: Callable[[Exception], None] = lambda error: None

    def __post_init__(self) -> None:
        self.observer.skimming.tell = self._skims

    def here(self) -> bool:
        """Whether this call is to be observed."""
        return self.active and threading.get_ident() == self.thread

    def amid(self) -> bool:
        """Whether a call is going on that is observed as a whole."""
        return self.inside and not self.observer.recorder.skimmed.on

    def _skims(self, on: bool) -> None:
        self.inside = on

    def stepped_elsewhere(self) -> None:
        """An optimizer made a step in another thread; threads that add to one number lose some."""
        thread = threading.get_ident()
        self.elsewhere[thread] = self.elsewhere.get(thread, 0) + 1

    def settings(self) -> dict[str, int]:
        """What was noted of threads that are not observed, as configuration."""
        steps = sum(list(self.elsewhere.values()))
        return {"steps_in_other_threads": steps} if steps else {}

    def note_call(self, frame: FrameType | None, event: str) -> None:
        """The model, backward or an optimizer is called in `frame`, see `LoopFinder`."""
        path = path_to(frame)
        self.loop.note(path, event)
        self.search_lines.note(path, event)

    def note_update(self, kind: str, frame: FrameType | None) -> None:
        """What was noted since the last one was for an update of this kind, made in `frame`."""
        self.search_lines.updated(kind)
        if kind == ARCHITECTURE:
            self.note_search(frame)

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
            self.observer.recorder.skimmed.on.clear()
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
