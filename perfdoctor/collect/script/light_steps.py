"""Short steps that go on alike are observed stage by stage in some stretches, and as a whole in
the others: there only loading and the end of each step are noted.

What observing costs does not depend on how long a step takes: about 35 µs, 1 % of 3.5 ms. Of a
shorter step it is more, and a training of such steps has so many of them that a part tells as much.
In the stretches between, the wrappers that every step goes through are taken out of torch. Anything
that is not a step like the ones before puts them back at once: a new iterator, `model.eval()`, a
call without gradients, another optimizer. So do steps that take much longer than the ones before,
or much shorter.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.taken_out import within_module

if TYPE_CHECKING:
    from perfdoctor.collect.script.observer import Observer
    from perfdoctor.collect.script.patches import Patches

#: Steps that are all observed, and after them the first ones of each so many; all are multiples of
#: what `Session` is called after.
OBSERVED_FIRST, CYCLE, OBSERVED_OF_CYCLE = 500, 500, 100
#: Steps that are observed after something else came between, an epoch's end say.
_AGAIN = 30
#: Of a longer step what is noted takes less than 1 %.
SHORT_S = 3.5e-3
#: Stretches that may end before they have brought anything, and how long that is.
_PATIENCE, _LEAST_STEPS = 3, 20
#: A smaller part of the steps is not worth a word.
_TOLD = 0.05
_CONTEXTS = "_contextlib.py"


class LightSteps:
    """Decides which stretches are light. `after` is to be called as a step has ended."""

    def __init__(self, observer: Observer, patches: Patches) -> None:
        self._observer = observer
        self._recorder: Recorder = observer.recorder
        self._patches = patches
        self._began = self._not_before = 0
        self._impatience = 0
        self._torch = ""
        observer.on_irregular = self._recorder.on_unlike = self.end
        self.steps = 0

    def after(self, count: int) -> None:
        """After step `count`, one of those that are looked at."""
        if count < max(OBSERVED_FIRST, self._not_before):
            return
        place = (count - OBSERVED_FIRST) % CYCLE
        if self._recorder.light:
            if place < OBSERVED_OF_CYCLE:
                self.end()
        elif place >= OBSERVED_OF_CYCLE and self._may_begin():
            self._begin(count)

    def next_look(self, count: int) -> int | float:
        """After which step `after` is to be called at the latest."""
        return self._not_before if self._not_before > count else math.inf

    def notes(self) -> tuple[str, ...]:
        """What the report says of it."""
        count = self._recorder.count
        running = count - self._began if self._observer.light is not None else 0
        part = (self.steps + running) / max(1, count)
        if part < _TOLD:
            return ()
        return (
            f"Of {part:.0%} of the steps, which are short, only the whole and its loading were "
            "timed; they are divided like the steps before them.",
        )

    def end(self) -> None:
        """From here on every step is observed again. May be called in the middle of one."""
        if self._observer.light is None:
            return
        steps = self._recorder.count - self._began
        self.steps += steps
        self._not_before = self._recorder.count + _AGAIN
        self._observer.due = min(self._observer.due, self._not_before)
        self._impatience = self._impatience + 1 if steps < _LEAST_STEPS else 0
        self._observer.light = None
        self._recorder.heavier()
        self._patches.restore()

    def _may_begin(self) -> bool:
        plain = self._observer.steady is not None and not self._recorder.has_own_stages
        short = 0 < self._recorder.recent_step_s() < SHORT_S
        return plain and short and self._impatience < _PATIENCE and not _is_special()

    def _begin(self, count: int) -> None:
        if not self._patches.lighten(self._without_gradients):
            return
        self._began = count
        self._torch = str(Path(sys.modules["torch"].__file__ or "").parent) + os.sep
        self._recorder.lighter()
        self._observer.light = self._observer.steady

    def _without_gradients(self, caller: FrameType) -> None:
        """`caller` enters `torch.no_grad()`: the script, to call its model perhaps."""
        if not _is_torch_s(caller, self._torch) and not within_module(caller):
            self.end()


def _is_torch_s(frame: FrameType, folder: str) -> bool:
    """Whether torch itself, in this folder, or a function of its that is decorated, asks for it."""
    path = frame.f_code.co_filename
    if not path.startswith(folder):
        return False
    if path.endswith(_CONTEXTS):
        owner = getattr(frame.f_locals.get("func"), "__module__", None) or ""
        return owner.partition(".")[0] == "torch"
    return True


def _is_special() -> bool:
    """Whether torch compiles what runs, or several processes work together."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is not None and dynamo.counters["frames"]:
        return True
    distributed = sys.modules.get("torch.distributed")
    return bool(distributed and distributed.is_available() and distributed.is_initialized())
