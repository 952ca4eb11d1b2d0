"""What a step of one training is like: its graph, and how long its work takes in other ways.

A script may train one model after another, as a teacher and then its student, or one for each fold
of a cross-validation. Each has looks of its own; a report tells those of the longest.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.arithmetic import Arithmetic
from perfdoctor.collect.script.dense_tables import DenseTables
from perfdoctor.collect.script.late_heads import LateHeads
from perfdoctor.collect.script.loss_part import LossPart
from perfdoctor.collect.script.micro_batches import MicroBatches
from perfdoctor.collect.script.more_threads import MoreThreads
from perfdoctor.collect.script.padded_transforms import PaddedTransforms
from perfdoctor.collect.script.pieces import LayersOnPieces
from perfdoctor.collect.script.plain_attention import PlainAttention
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.stepped_layers import SteppedLayers
from perfdoctor.collect.script.unused_rows import UnusedRows
from perfdoctor.collect.script.zero_products import ZeroProducts
from perfdoctor.collect.script.zeroed_branches import ZeroedBranches

#: The step of a training whose operations are counted, once.
_COUNTED_STEP = 2
#: So many operations are counted at most, about 20 ms.
_MOST_NODES = 20_000
#: The configuration is read after these steps of a training: at its end, models and loaders are
#: gone.
_SETTLED_STEPS = (3, 20)


@dataclass(frozen=True)
class Began:
    """Where a training begins: at this time, after so many steps of the script."""

    at_ns: int
    steps: int


class LooksOfTraining:
    """The looks into one training that began there, and what they found.

    Attributes:
        autograd_nodes, loss_nodes: operations that the backward passes of one step go through, and
            those of its loss among them; None where they were not counted.
        recomputes: whether parts of the forward are run again in the backward.
        used: the configuration, once it is settled.
    """

    def __init__(self, recorder: Recorder, began: Began) -> None:
        self._clock, self._looked_from = recorder.clock, recorder.count
        self._began = began
        self._next: Began | None = None
        self._seen_ns = 0
        self.used: dict[str, Any] = {}
        self.autograd_nodes: int | None = None
        self.loss_nodes: int | None = None
        self.recomputes = False
        self.loss_part = LossPart(recorder.clock)
        self.arithmetic = Arithmetic()
        self.tables = DenseTables()
        self.transforms = PaddedTransforms()
        self.micro_batches = MicroBatches()
        self._timed = (
            self.transforms,
            LateHeads(),
            PlainAttention(),
            SteppedLayers(),
            LayersOnPieces(),
            self.micro_batches,
            MoreThreads(),
            ZeroedBranches(),
            UnusedRows(),
            ZeroProducts(),
        )

    def counts(self, count: int) -> bool:
        """Whether the graph is looked into after `count` steps of the script."""
        return count - self._looked_from == _COUNTED_STEP

    def settles(self, count: int) -> bool:
        """Whether the configuration is read then."""
        return count - self._looked_from in _SETTLED_STEPS

    def note_graph(self, outputs: Any, first_of_loss: int | None) -> Collection[Any]:
        """Adds how many operations a backward pass from these tensors goes through, and how many of
        these came after the forward (numbers from `first_of_loss` on); and whether parts of the
        forward are run again for it. The operations."""
        functions = [f for f in _graph(outputs) if type(f).__name__ != "AccumulateGrad"]
        if not functions:
            return functions
        if self.autograd_nodes is None:
            self._seen_ns = self._clock()
        self.autograd_nodes = (self.autograd_nodes or 0) + len(functions)
        for look in self._timed:
            look.note(functions)
        self.arithmetic.add(functions)
        if first_of_loss is not None:
            later = sum(f._sequence_nr() >= first_of_loss for f in functions)
            self.loss_nodes = (self.loss_nodes or 0) + later
        if any(type(f).__name__ == "CheckpointFunctionBackward" for f in functions):
            self.recomputes = True
        return functions

    def end(self, following: Began) -> None:
        """What came from there on is another training."""
        self._next = following

    @property
    def steps(self) -> tuple[int, int | None]:
        """The steps of the script before its first and up to its last; None: until now."""
        return self._began.steps, None if self._next is None else self._next.steps

    @property
    def lasted_ns(self) -> int:
        """How long the training lasted, or has until now, since its graph was seen (before its
        first step much may be prepared); 0 where it was not."""
        if self.autograd_nodes is None:
            return 0
        ended_ns = self._clock() if self._next is None else self._next.at_ns
        return ended_ns - self._seen_ns

    def settings(self) -> dict[str, Any]:
        """What is known only at the end, as configuration."""
        found: dict[str, Any] = {}
        for look in (self.tables, *self._timed):
            found |= look.settings()
        return found

    def measure(self) -> None:
        """What rules would have to guess, on the host, once the training is over."""
        for look in (self.tables, *self._timed):
            look.measure()


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
