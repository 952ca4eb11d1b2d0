"""How far the graphs of the steps reach back into those of earlier steps.

A state that is carried from step to step without being detached ties each step's graph to all
those before it. Autograd numbers its operations, so what a loss leads to and is no newer than the
loss of the step before belongs to earlier steps. Counted in the first steps.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perfdoctor.collect.script.graph_owners import is_leaf, nodes_behind

#: The steps whose operations are counted: all are looked into (`Session`).
_STEPS = range(1, 29)
#: Operations of one graph, about 20 ms, and of all: after that nothing is counted.
_MOST_NODES, _MOST_IN_ALL = 20_000, 100_000
#: Of the graphs of several losses or batches in a step, so many: each hangs on the step before.
_MOST_CALLS = 2
#: So often operations became more from one step to the next: fewer may be chance. And for each time
#: that they became fewer, since the state began anew with a sequence: who cuts it off after four
#: steps means to (our own choice).
_FEWEST_RISES, _RISES_A_FALL = 4, 5


@dataclass
class _Counted:
    """Operations that a step's losses lead to: the most of them all."""

    epoch: int
    own: int = 0
    earlier: int = 0


class GraphReach:
    """Counts the operations of earlier steps in the graphs of the first steps."""

    def __init__(self) -> None:
        self._counted: dict[int, _Counted] = {}
        self._step, self._calls = -1, 0
        self._began = [0]  # steps with which epochs begin
        self._walked = 0
        self._newest = self._before = -1  # operations of this step's losses, and the one before's
        self._ended = False

    def note(self, step: int, begins: bool, outputs: Any) -> None:
        """A backward pass from these tensors, in a step that is looked into; `begins`: an epoch
        begins with it."""
        tensors = outputs if isinstance(outputs, list | tuple) else (outputs,)
        roots = {t.grad_fn for t in tensors if getattr(t, "grad_fn", None) is not None}
        if self._ended or not roots:
            return
        if step != self._step:
            self._before = self._newest if step == self._step + 1 else -1
            self._step, self._calls, self._newest = step, 0, -1
        if begins and self._began[-1] != step:
            self._began.append(step)
        self._newest = max(self._newest, *(int(root._sequence_nr()) for root in roots))
        self._calls += 1
        if step in _STEPS and self._before >= 0 and self._calls <= _MOST_CALLS:
            self._count(step, tensors)
        self._ended = self._ended or step >= _STEPS.stop

    def _count(self, step: int, tensors: Sequence[Any]) -> None:
        found = _ages(tensors)
        self._walked += 0 if found is None else len(found)
        if found is None or self._walked > _MOST_IN_ALL:
            self._ended = True
            return
        earlier = sum(number <= self._before for number in found)
        counted = self._counted.setdefault(step, _Counted(len(self._began)))
        counted.earlier = max(counted.earlier, earlier)
        counted.own = max(counted.own, len(found) - earlier)

    def settings(self) -> dict[str, Any]:
        """As configuration: operations of a step's own graph, and by how many of earlier steps it
        grows with each step, but where the state begins anew within an epoch, and after how many
        steps that is; 0 where it does not grow. Nothing of too few steps."""
        turns = {
            step: (after.earlier - before.earlier) / (step - last)
            for (last, before), (step, after) in itertools.pairwise(sorted(self._counted.items()))
            if after.epoch == before.epoch
        }
        if len(turns) < _FEWEST_RISES:
            return {}
        rises = [turn for turn in turns.values() if turn > 0]
        falls = [step for step, turn in turns.items() if turn <= 0]
        grows = len(rises) >= max(_FEWEST_RISES, _RISES_A_FALL * len(falls))
        found = {
            "graph_nodes_own": round(statistics.median(c.own for c in self._counted.values())),
            "graph_nodes_grown_per_step": float(statistics.median(rises)) if grows else 0.0,
        }
        lengths = [after - before for before, after in itertools.pairwise(falls)]
        return found | ({"graph_steps_back": max(lengths)} if grows and lengths else {})


def _ages(tensors: Sequence[Any]) -> list[int] | None:
    """The numbers of the operations that these lead to; None where they are too many."""
    nodes = nodes_behind(tensors, _MOST_NODES)
    return None if nodes is None else [int(n._sequence_nr()) for n in nodes if not is_leaf(n)]
