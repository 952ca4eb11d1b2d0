"""Where the main thread's time goes: every nanosecond belongs to exactly one label.

A label is a small number, `names` tells which. Each mark notes which label begins, and when.
Nothing else happens on the way of the training; no device is waited for. Now and then, when a step
has ended, the notes are added up: each step becomes a row of `StepRows`, whose memory is bounded
however long the training runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from perfdoctor.collect.script.device_lane import DeviceLane
from perfdoctor.collect.script.skimmed_steps import SkimmedSteps
from perfdoctor.collect.script.step_rows import (
    EPOCH,
    MOST_LABELS,
    SAMPLES,
    WIDTH,
    StepRows,
)
from perfdoctor.collect.script.usual_step import UsualStep
from perfdoctor.stages import Clock

OTHER = 0
START_UP = 1
FORWARD = 2
#: Between a forward of the training and what follows it: the loss, unless no backward follows.
AFTER_FORWARD = 3
LOSS = 4
BACKWARD = 5
OPTIMIZER = 6
ARCH_STEP = 7
VALIDATION = 8
H2D_COPY = 9
COMMUNICATION = 10
CHECKPOINT = 11
METRICS = 12
#: A module in training mode without gradients, on a whole batch: validation, or a forward, as the
#: whole of a run tells (see `Rollouts`).
WITHOUT_GRADIENTS = 13
#: Steps that are not looked into (see `skimming`): no row has it in the end.
SKIMMED = 14
_FIXED = (
    "other",
    "start_up",
    "forward",
    "after_forward",
    "loss",
    "backward",
    "optimizer",
    "arch_step",
    "validation",
    "h2d_copy",
    "communication",
    "checkpoint",
    "metrics",
    "without_gradients",
    "(skimmed)",
)
#: What ends it that steps are not looked into.
_ENDS = (START_UP, VALIDATION, CHECKPOINT, COMMUNICATION)
#: Among the labels noted: what is not a label.
_STEP, RELABEL, _SAMPLES, _EPOCHS = -1, -2, -3, -4
#: Notes are added up at the first end of a step after so long: 20 short steps at once.
_SETTLE_NS = 5_000_000
#: Notes that may wait, for what has no steps.
_MOST_NOTED = 4096


@dataclass(frozen=True)
class Moment:
    """A moment within a step, to which `Recorder.reassign` goes back."""

    spent: tuple[int, ...]
    marks: int


class Recorder:
    """The main thread's labels; used by that thread alone.

    What happens is only noted: a label, then a time. Adding them up comes later, many at once,
    since code that has just run is several times as fast as code that a step of the training has
    driven out of the processor's caches.

    Attributes:
        current: the label that is running. stack: those that it interrupts. note: takes a label
            and then the time from which on it runs; for those who keep `current` and `stack` right.
        samples, epochs: of the unfinished step. count: steps that have ended.
        steps: those that are added up; the last ones may be missing until `settle`.
        after_s: seconds of `other` after the last step, once all has ended.
        skimmed: notes of steps that are not looked into. usual: what such consist of.
        device_clock: the device's, once that counts.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.clock = clock
        self.names = list(_FIXED)
        self.current = START_UP
        self.stack: list[int] = []
        self.samples = self.epochs = self.count = self.epochs_begun = 0
        self.steps = StepRows()
        self.usual = UsualStep(SKIMMED, OTHER, _ENDS)
        self.skimmed = SkimmedSteps()
        self.after_s = 0.0
        self.device_clock: Clock | None = None
        self._notes: list[int] = []
        self.note = self._notes.append
        self._spent = [0] * WIDTH
        self._beyond = [0] * WIDTH  # after the last step
        self._at = START_UP  # what ran when the lists begin
        self._lane: DeviceLane | None = None
        self._since = self.began = clock()
        self._settle_ns = self.began

    def label(self, name: str) -> int:
        """The label of that name, added if it is new; `other` where there are too many."""
        if name in self.names:
            return self.names.index(name)
        if len(self.names) == MOST_LABELS:
            return OTHER
        self.names.append(name)
        return len(self.names) - 1

    def enter(self, label: int) -> None:
        """`label` begins; what ran until now is interrupted."""
        self.note(label)
        self.note(self.clock())
        self.stack.append(self.current)
        self.current = label
        if self._lane is not None:
            self._lane.mark(label)

    def leave(self) -> None:
        """The innermost label ends; the one around it goes on."""
        if self.stack:
            self.current = self.stack.pop()
        self.note(self.current)
        self.note(self.clock())
        if self._lane is not None:
            self._lane.mark(self.current)
        if len(self._notes) > _MOST_NOTED:
            self.settle()

    def switch(self, label: int) -> None:
        """From now on it is `label` in place of the innermost one."""
        self.note(label)
        self.note(self.clock())
        self.current = label
        if self._lane is not None:
            self._lane.mark(label)

    def rebase(self, label: int) -> None:
        """What runs outside of everything else is `label` from now on."""
        if not self.stack:
            self.switch(label)
        else:
            self.stack[0] = label

    @property
    def half_noted(self) -> bool:
        """Whether a label is noted and its time not yet: what the interpreter calls right there, as
        to throw an object away, must note nothing."""
        return len(self._notes) % 2 == 1

    @property
    def base(self) -> int:
        """The label outside of everything else."""
        return self.stack[0] if self.stack else self.current

    @property
    def depth(self) -> int:
        """How many labels are interrupted."""
        return len(self.stack)

    def unwind(self, depth: int) -> None:
        """Leaves what was entered past `depth` and never left, because of an exception."""
        while len(self.stack) > depth:
            self.leave()

    def relabel(self, old: int, new: int) -> None:
        """What `old` has taken in this step was `new`; it must not be running."""
        self.note(RELABEL)
        self.note(old << 8 | new)
        if self._lane is not None:
            self._lane.relabel((old,), new)

    def now(self) -> Moment:
        """This moment of the step."""
        spent = tuple(self.spent)
        return Moment(spent, 0 if self._lane is None else len(self._lane.marks))

    def reassign(self, since: Moment | None, old: Collection[int], new: int) -> None:
        """What these labels have taken since then (None: in this step) was `new`."""
        spent = self.spent
        for label in old:
            taken = spent[label] - (0 if since is None else since.spent[label])
            spent[label] -= taken
            spent[new] += taken
        if self._lane is not None:
            self._lane.relabel(old, new, 0 if since is None else since.marks)

    @property
    def spent(self) -> list[int]:
        """Nanoseconds of the unfinished step per label until now."""
        self.note(self.current)
        self.note(self.clock())
        self.settle()
        return self._spent

    def unfinished(self) -> list[int]:
        """What is not in `totals` yet, until now; for another thread: it changes nothing."""
        row, label, since = list(self._spent), self._at, self._since
        notes = self._notes[:]
        for what, value in zip(notes[::2], notes[1::2], strict=False):
            if what >= 0:
                row[label] += value - since
                label, since = what, value
            elif what == _SAMPLES:
                row[SAMPLES] += value
            elif what == _EPOCHS:
                row[EPOCH] += value
        row[label] += max(0, self.clock() - since)
        row[SAMPLES] += self.samples
        row[EPOCH] += self.epochs
        return row

    @property
    def on_device(self) -> bool:
        """Whether the device's clock counts."""
        return self._lane is not None

    def use_device(self, clock: Clock) -> None:
        """From the next step on the device's clock counts. To be called as a step has ended."""
        self.settle()
        self._lane, self.device_clock = DeviceLane(clock), clock
        self._lane.mark(self.current)

    def end_step(self) -> int:
        """A step ends here, and what runs from now on is `current`; the number of steps."""
        now = self.clock()
        self._notes += (self.current, now, _SAMPLES, self.samples, _EPOCHS, self.epochs, _STEP, 0)
        self.samples = self.epochs = 0
        self.count += 1
        if now >= self._settle_ns or self._lane is not None:
            self.settle()
            self._settle_ns = now + _SETTLE_NS
        return self.count

    def skim(self, loader: int, on: Sequence[int]) -> None:
        """From here on, where a step has just ended, steps are noted in `skimmed` alone, which `on`
        is for; batches are those of the loader of this label."""
        self.switch(SKIMMED)
        self.settle()
        self.skimmed.begin(on, loader, self._since)

    def watch(self) -> int:
        """No longer: those steps are added to the others; the batches that they took."""
        found, loader = self.skimmed.end(), self.skimmed.loader
        self.usual.leave_out_next()
        self.steps.add_all(self.usual.rows(found, loader))
        self._since = found.until
        self._spent[loader] += found.next_waited
        self._spent[SKIMMED] -= found.next_waited
        self.samples += found.next_samples
        self.switch(OTHER)
        return found.batches

    def end(self) -> None:
        """What came after the last step is in `totals` alone."""
        if self.current == SKIMMED:
            self.watch()
        spent = self.spent
        if spent[SKIMMED]:
            self.usual.part(spent)
        if self._lane is not None:
            self._add_resolved(self._lane)
        self.after_s = spent[OTHER] * 1e-9 if self.steps.steps else 0.0
        spent[SAMPLES] += self.samples
        spent[EPOCH] += self.epochs
        self.samples = self.epochs = 0
        self._beyond = [a + b for a, b in zip(self._beyond, spent, strict=True)]
        self._spent = [0] * WIDTH

    def settle(self) -> None:
        """Adds up what is noted."""
        notes = self._notes[:]
        del self._notes[: len(notes)]
        spent, at, since = self._spent, self._at, self._since
        for what, value in zip(notes[::2], notes[1::2], strict=True):
            if what >= 0:
                spent[at] += value - since
                at, since = what, value
            elif what == RELABEL:
                old, new = value >> 8, value & 0xFF
                spent[new] += spent[old]
                spent[old] = 0
            elif what == _SAMPLES:
                spent[SAMPLES] += value
            elif what == _EPOCHS:
                spent[EPOCH] += value
            else:
                self._add(spent)
                spent = [0] * WIDTH
        self._spent, self._at, self._since = spent, at, since

    def _add(self, row: list[int]) -> None:
        if self._lane is None:
            if row[SKIMMED]:
                self.usual.part(row)
            else:
                self.usual.watched(row)
            self.steps.add(row)
            return
        self._lane.end_step(row)
        self._add_resolved(self._lane)

    def _add_resolved(self, lane: DeviceLane) -> None:
        for row in lane.resolved():
            self.steps.add(row)

    @property
    def totals(self) -> list[int]:
        """Nanoseconds per label (samples, epochs) of all finished steps, and once all has ended of
        what came after them. Not for every step: it adds up all rows that are kept."""
        return [a + b for a, b in zip(self.steps.sums(), self._beyond, strict=True)]
