"""Short steps that are alike are not all looked into.

To watch a step whole costs about 60 µs, which is more than 1 % of a step of less than 6 ms. Of a
training whose steps are that short and go alike, `_WATCHED` steps now and then are watched, and
of the others only when they end and how long the loader takes. What such a step took besides is
parted as in the watched ones (`UsualStep`). All that is not usual ends the skimming at once, such
as another loader, an evaluation or a checkpoint; and where steps turn out to differ in length, all
of them are watched from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.loaders_seen import LoaderFacts
from perfdoctor.collect.script.recorder import Recorder

#: Steps shorter than this are skimmed.
SHORT_NS = 6_000_000
#: Steps in a row that are watched, and that are skimmed.
_WATCHED, _SKIMMED = 20, 980
#: Until then the training may still settle down, and is looked into often.
_FIRST = 100


class Skimming:
    """Decides whether the steps are skimmed; used by the main thread alone.

    `tell` is told of each change.
    """

    def __init__(self, recorder: Recorder, *, allowed: bool = False) -> None:
        self._recorder = recorder
        self._allowed = allowed
        self.tell: Callable[[bool], None] = lambda on: None
        self._facts: LoaderFacts | None = None
        self._watched_from = 0

    @property
    def on(self) -> bool:
        """Whether they are skimmed now."""
        return bool(self._recorder.skimmed.on)

    def due(self, asked: int, steady: LoaderFacts | None, optimizer: Any) -> int:
        """After a step: begins to skim where that may be. The step to be asked after, at the latest
        `asked`; `steady` as in `Observer`, and the one optimizer."""
        count = self._recorder.count
        if not self._allowed:
            return asked
        watched_until = max(_FIRST, self._watched_from + _WATCHED)
        if count < watched_until:
            return min(asked, watched_until)
        iterator = None if steady is None or steady.iterator is None else steady.iterator()
        if steady is None or iterator is None or asked <= count + 1 or not self._may():
            self._watched_from = count
            return min(asked, count + _WATCHED)
        until = min(asked, count + _SKIMMED)
        self._recorder.skim(steady.label, (id(optimizer), until, id(iterator)))
        self._facts = steady
        self.tell(True)
        return until

    def notes(self) -> tuple[str, ...]:
        """What there is to know of it, as sentences for the report."""
        skimmed, steps = self._recorder.usual.steps, self._recorder.steps.steps
        if not skimmed:
            return ()
        return (
            f"{skimmed:,} of {steps:,} steps, short and alike, were timed as a whole but for their"
            " loading: their stages are shared out as in the steps around them.",
        )

    def end_soon(self) -> None:
        """With the step that is running; in the middle of anything."""
        on = self._recorder.skimmed.on
        if on:
            on[1] = 0

    def end(self) -> None:
        """From now on everything is watched."""
        recorder, facts = self._recorder, self._facts
        batches = recorder.watch()
        self._watched_from = recorder.count
        if facts is not None:  # each of these batches had a backward pass, as those before
            facts.batches += batches
            facts.training += batches
        self.tell(False)

    def _may(self) -> bool:
        recorder = self._recorder
        if recorder.stack or recorder.current != r.OTHER or recorder.on_device:
            return False
        recorder.settle()
        step_ns = recorder.usual.step_ns()
        short = step_ns is not None and step_ns < SHORT_NS
        return short and recorder.usual.is_regular() and recorder.usual.learn()
