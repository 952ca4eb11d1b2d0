"""How much of the backward passes goes into gradients that are cleared before they are used.

As where a discriminator's loss is differentiated back through the generator whose output it judges:
the generator's gradients are cleared before its own optimizer steps. In the steps that are looked
into, the graph of each backward pass tells what of it leads to one optimizer's parameters alone. If
that is all of a module's call, whose output goes into another module, the time of that part is
noted; and it counts where only the other module's optimizer steps before these gradients are
cleared. (What is gone through on the way to others, as the discriminator in the generator's step,
is never for one alone.)
"""

from __future__ import annotations

import statistics
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfdoctor.collect.script.calls_made import Call, CallsMade
from perfdoctor.collect.script.graph_owners import NOBODY, OwnedGraph, owned_graph
from perfdoctor.collect.script.marks import Marks
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.recorder import Recorder

#: Operations of one graph, and of all graphs together, that are walked at most: 20 ms, 0.3 s.
_MOST_NODES, _MOST_IN_ALL = 10_000, 150_000
#: Backward passes that are timed, in all.
_MOST_PASSES = 120
#: Optimizers that are told apart: with one for each layer, parts of a graph are no models.
_MOST_OPTIMIZERS = 8
#: From one step of the optimizer to its next, so often: a median of fewer says nothing.
_FEWEST_TURNS = 3
#: A model gives so many parts of its graph at most; more is no model before another.
_MOST_PARTS = 32

_Span = tuple[Any, Any]


@dataclass(eq=False)
class _Part:
    """What of one backward pass is for one optimizer alone, and whether that was of use yet.

    `marks`: where the pass comes to it, leaves it, comes to it again …
    """

    owner: int
    parameter: weakref.ref[Any]
    others: frozenset[int]
    made: Call
    into: Call
    marks: list[Any] = field(default_factory=list)
    others_stepped: bool = False
    was_set: bool = False

    def spans(self) -> list[_Span]:
        """From and to."""
        return list(zip(self.marks[::2], self.marks[1::2], strict=False))

    def is_cleared(self) -> bool:
        """Whether the gradients are gone, set to None or to zero."""
        parameter = self.parameter()
        if parameter is None:
            return False
        return parameter.grad is None or (self.was_set and _any(parameter.grad) is False)


@dataclass
class _Turn:
    """From one step of an optimizer to its next: all backward passes, and what was thrown away."""

    first: int
    last: int = 0
    thrown: list[_Span] = field(default_factory=list)


class ThrownAway:
    """Looks for it where there are several optimizers. `calls`: of modules, to be told of."""

    def __init__(self, optimizers: Optimizers, recorder: Recorder) -> None:
        self.calls = CallsMade()
        self._optimizers, self._recorder = optimizers, recorder
        self._marks = Marks(recorder)
        self._version, self._bits = -1, dict[int, int]()
        self._ids: list[int] = []
        self._passes: list[_Span] = []
        self._began: Any = None
        self._now: list[_Part] = []
        self._waiting: list[_Part] = []
        self._hooks: list[Any] = []
        self._open: dict[int, _Turn] = {}
        self._turns: dict[int, list[_Turn]] = {}
        self._example: dict[int, _Part] = {}
        self._concerned: set[int] = set()
        self._walked = self._step = 0

    @property
    def looks(self) -> bool:
        """Whether there is something to be found out still."""
        several = 1 < len(self._optimizers) <= _MOST_OPTIMIZERS
        return several and self._walked < _MOST_IN_ALL and len(self._passes) < _MOST_PASSES

    # -- what happens ------------------------------------------------------------------------

    def looks_into(self, outputs: Any) -> None:
        """A backward pass from `outputs` is about to begin."""
        self._goes_on()
        self._settle()
        if self.looks:
            self._look_into(outputs if isinstance(outputs, list | tuple) else (outputs,))

    def begins(self) -> None:
        """A backward pass begins, of which at least the time counts."""
        if self.looks:
            self._began = self._marks.now()
        else:
            self._forget()

    def ends(self) -> None:
        """It is done, or failed."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._began is not None:
            end = self._marks.now()
            self._passes.append((self._began, end))
            for part in self._now:
                parameter = part.parameter()
                part.was_set = parameter is not None and _any(parameter.grad) is True
                if len(part.marks) % 2:
                    part.marks.append(end)
        self._began, self._now = None, []

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has made its step, and used all that was still there."""
        self._goes_on()
        owner = id(optimizer)
        self._waiting = [part for part in self._waiting if part.owner != owner]
        for part in self._waiting:
            part.others_stepped |= owner in part.others
        turn = self._open.pop(owner, None)
        if turn is not None:
            turn.last = len(self._passes)
            self._turns.setdefault(owner, []).append(turn)
        if self.looks:
            self._open[owner] = _Turn(len(self._passes))

    def _goes_on(self) -> None:
        """What came before steps that were not looked into says nothing of what comes now."""
        if self._recorder.count > self._step + 1:
            self._forget()
        self._step = self._recorder.count

    def _forget(self) -> None:
        self._waiting = []
        self._open = {}

    def _settle(self) -> None:
        """Gradients that are cleared by now were for nothing if others have stepped since."""
        cleared = [part for part in self._waiting if part.is_cleared()]
        self._waiting = [part for part in self._waiting if part not in cleared]
        for part in cleared:
            turn = self._open.get(part.owner)
            if part.others_stepped and turn is not None:
                turn.thrown += part.spans()
                self._example.setdefault(part.owner, part)

    # -- one backward pass -------------------------------------------------------------------

    def _look_into(self, tensors: Sequence[Any]) -> None:
        known = all(hasattr(tensor, "grad_fn") for tensor in tensors)
        graph = self._graph(tensors) if known and self._marks.can_time(tensors) else None
        if graph is None:  # of what is thrown away in this turn, some would be missing
            self._forget()
            return
        self._now = list(self._parts(graph))
        self._waiting += self._now
        self._concerned |= {part.owner for part in self._now}
        for part in self._now:
            for node, comes in graph.turns(self._bit(part.owner)):
                self._hooks.append(node.register_prehook(self._marks_in(part, comes)))

    def _graph(self, tensors: Sequence[Any]) -> OwnedGraph | None:
        self._learn_owners()
        graph = owned_graph(tensors, lambda p: self._bits.get(id(p), NOBODY), _MOST_NODES)
        self._walked += _MOST_NODES if graph is None else len(graph.owners)
        return graph

    def _learn_owners(self) -> None:
        if self._version == self._optimizers.version:
            return
        self._version = self._optimizers.version
        known = self._optimizers.each()
        self._ids = [id(one.reference()) for one in known]
        self._bits = {}
        for one in known:
            bit = self._bit(id(one.reference()))
            for tensor in one.tensors:
                self._bits[tensor] = NOBODY if tensor in self._bits else bit

    def _bit(self, owner: int) -> int:
        return NOBODY << 1 + self._ids.index(owner)

    def _parts(self, graph: OwnedGraph) -> Iterator[_Part]:
        for owner in self._ids:
            bit = self._bit(owner)
            turns = sum(1 for _ in graph.turns(bit))
            calls = self._calls_before_others(graph, bit) if 0 < turns <= _MOST_PARTS else None
            if calls is not None:
                made, into, mask = calls
                others = frozenset(one for one in self._ids if self._bit(one) & mask & ~bit)
                smallest = min((p for _, p in graph.parameters(bit)), key=lambda p: p.numel())
                yield _Part(owner, weakref.ref(smallest), others, made, into)

    def _calls_before_others(self, graph: OwnedGraph, bit: int) -> tuple[Call, Call, int] | None:
        """The call that makes what this owner's part gives, the call it goes into, and all owners
        there; None unless whole calls are this owner's, and give what goes into calls of others."""
        makers = {self.calls.of(node) for node, _ in graph.parameters(bit)}
        into = [(call, node) for node, _ in graph.edges_into(bit) if (call := self.calls.of(node))]
        if not into or not makers or None in makers:
            return None
        if any(self.calls.of(n) in makers for n in graph.nodes if graph.owners[n] != bit):
            return None
        mask = 0
        for _, node in into:
            mask |= graph.owners[node]
        made = max((call for call in makers if call is not None), key=lambda call: call.first)
        return made, into[0][0], mask

    def _marks_in(self, part: _Part, comes: bool) -> Any:
        """Marks that a pass comes to the part, or leaves it: one that is asked for the gradients of
        some tensors only may never come."""

        def mark(_: Any) -> None:
            if comes != bool(len(part.marks) % 2):
                part.marks.append(self._marks.now())

        return mark

    # -- times -------------------------------------------------------------------------------

    def _seconds(self, spans: Sequence[_Span]) -> float | None:
        """None while a device has not come so far, or where two clocks met."""
        found = [self._marks.seconds(start, end) for start, end in spans]
        told = [seconds for seconds in found if seconds is not None]
        return sum(told) if len(told) == len(found) else None

    def _part_of(self, turn: _Turn) -> float | None:
        whole = self._seconds(self._passes[turn.first : turn.last])
        thrown = self._seconds(turn.thrown)
        return min(1.0, thrown / whole) if whole and thrown is not None else None

    def _shares(self) -> dict[int, float]:
        """Of each optimizer whose steps were seen often enough."""
        shares = {}
        for owner, turns in list(self._turns.items()):
            parts = [part for turn in list(turns) if (part := self._part_of(turn)) is not None]
            if len(parts) >= _FEWEST_TURNS:
                shares[owner] = statistics.median(parts)
        return shares

    def settings(self) -> dict[str, Any]:
        """The part of all backward passes that is thrown away, and where it comes from; nothing
        where it is not known."""
        if len(self._optimizers) == 1 and self._recorder.count:
            return {"thrown_away_of_backward": 0.0}
        shares = self._shares()
        if not shares or self._concerned - shares.keys():
            return {}
        found: dict[str, Any] = {"thrown_away_of_backward": min(1.0, sum(shares.values()))}
        example = self._example.get(max(shares, key=lambda owner: shares[owner]))
        if found["thrown_away_of_backward"] > 0 and example is not None:
            found["thrown_away_module"] = example.made.name
            found["thrown_away_made_at"] = example.made.place
            found["thrown_away_used_at"] = example.into.place
        return found


def _any(gradient: Any) -> bool | None:
    """Whether any of it is not zero; None where that is not there to be read at once."""
    import torch

    if type(gradient) is not torch.Tensor or not gradient.is_cpu or gradient.is_sparse:
        return None
    return bool(gradient.detach().any())
