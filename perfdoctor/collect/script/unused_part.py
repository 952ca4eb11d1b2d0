"""How much of the backward passes goes to parameters that no optimizer changes.

As where a teacher is called with gradients on, or a network that follows another one as an average,
or where an optimizer has layers at a learning rate of 0 only (`ZeroRates`).
In the steps that are looked into, and only where the training calls a module with such parameters,
the graph of each backward pass tells what of it leads to these alone: that part is for nothing. An
operation that others rest on too, but whose weight is one of these (a fixed network that the loss
of a generator goes through), has to stay, and does about half of its work for nothing.

Only a backward pass that leads to what an optimizer has tells anything: where gradients are copied
from one model to another before the step, none of them is for nothing.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from types import FrameType
from typing import Any

from perfdoctor.collect.script.gradients import is_cleared, state_of
from perfdoctor.collect.script.graph_owners import NOBODY, OwnedGraph, is_leaf, owned_graph
from perfdoctor.collect.script.marks import Marks
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.recorder import BACKWARD, Recorder

#: Whom a parameter belongs to: one that no optimizer changes, one that an optimizer changes.
_UNUSED, _USED = NOBODY << 1, NOBODY << 2
#: What an operation of a backward pass is for.
KEPT, ALONE, BESIDE = "kept", "alone", "beside"
#: An operation that stands for many, of which none can be told apart.
_MANY_IN_ONE = "CompiledFunctionBackward"
#: Operations of one graph, and of all graphs together, that are walked at most: 20 ms, 0.2 s.
_MOST_NODES, _MOST_IN_ALL = 10_000, 100_000
#: So often a backward pass changes at most from what is for something to what is not.
_MOST_TURNS = 512
#: Steps that are timed: fewer say nothing, more need not be. The first one is slow.
_FEWEST_STEPS, _MOST_STEPS = 3, 40
_NUMBER = "gradients_unused"
#: What the timed steps tell.
_ALONE_PART = "gradients_unused_alone_of_backward"
_BESIDE_PART = "gradients_unused_beside_of_backward"
_MODULE, _CALLED_AT = "gradients_unused_module", "gradients_unused_called_at"
TIMED = (_ALONE_PART, _BESIDE_PART, _MODULE, _CALLED_AT)


@dataclass(frozen=True)
class _Owned:
    """A parameter of so many `numbers` that no optimizer changes, and the module that is called
    with it; `fixed`: which has nothing that is trained. Both may be gone in the end."""

    parameter: weakref.ref[Any]
    module: weakref.ref[Any]
    fixed: bool
    numbers: int
    name: str
    called_at: str


@dataclass(frozen=True)
class _Place:
    """Where a module was called, after so many phases (see `Optimizers`)."""

    module: weakref.ref[Any]
    text: str
    phases: int


@dataclass(eq=False)
class _Pass:
    """One backward pass: from when on it works for what, and when it ended."""

    turns: list[tuple[Any, str]]
    end: Any = None

    def spans(self) -> Iterator[tuple[str, Any, Any]]:
        """What for, from and to."""
        ends = [*(mark for mark, _ in self.turns[1:]), self.end]
        for (start, kind), end in zip(self.turns, ends, strict=True):
            yield kind, start, end


@dataclass
class _Watch:
    """Whether somebody else updates a module: it changes, and its gradients are cleared."""

    before: object
    by_hand: bool = False
    among: set[int] = field(default_factory=set)


class UnusedPart:
    """Looks for it. `modules`: what the training calls, as `Modules` of the observer."""

    def __init__(self, optimizers: Optimizers, modules: Any, recorder: Recorder) -> None:
        self._optimizers, self._modules, self._recorder = optimizers, modules, recorder
        self._marks = Marks(recorder)
        self._learned = (-1, -1)
        self._owned: dict[int, _Owned] = {}
        self._reached: dict[int, _Owned] = {}
        self._watched: dict[int, _Watch] = {}
        self._places: dict[int, _Place] = {}
        self._steps: dict[int, list[_Pass]] = {}
        self._now: _Pass | None = None
        self._hooks: list[Any] = []
        self._walked = 0
        self._unknown = False

    # -- what happens ------------------------------------------------------------------------

    def called(self, module: Any, frame: FrameType | None) -> None:
        """The training calls this module in that frame, with gradients on."""
        phases = self._optimizers.phases
        if self._place(module) and self._places[id(module)].phases == phases:
            return
        while frame is not None and "/torch/" in frame.f_code.co_filename:
            frame = frame.f_back
        if frame is not None and len(self._places) < _MOST_TURNS:
            text = f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}"
            self._places[id(module)] = _Place(weakref.ref(module), text, phases)

    def looks_into(self, outputs: Any) -> None:
        """A backward pass from `outputs` is about to begin."""
        self._learn()
        if self._looks():
            self._look_into(_listed(outputs))

    def begins(self, outputs: Any) -> None:
        """It begins; None: one that names what it is of, of which the time counts at least."""
        if not self._looks():
            return
        one = _Pass([(self._marks.now(), KEPT)])
        self._steps.setdefault(self._recorder.count, []).append(one)
        self._now = one if self._marks.can_time(_listed(outputs)) else None

    def ends(self) -> None:
        """It is done, or failed."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._now is not None:
            self._now.end = self._marks.now()
        self._now = None

    # -- what was found ----------------------------------------------------------------------

    def parameters(self) -> list[Any]:
        """Those that no optimizer changes and that backward passes which train lead to."""
        found = (one.parameter() for one in self._unused())
        return [p for p in found if p is not None]

    def settings(self) -> dict[str, Any]:
        """The parts of all backward passes that are for these alone and beside others, and the
        module that most of them are of; nothing where it is not known."""
        known = not self._unknown and not self._optimizers.rates.raised
        parts = self._parts() if known and self._unused() else None
        if parts is None:
            return {}
        return {
            **self._numbers(),
            _ALONE_PART: parts[ALONE],
            _BESIDE_PART: parts[BESIDE],
            **self._module(),
        }

    def _numbers(self) -> dict[str, float]:
        """Their part of the numbers with gradients, where the first step belonged to another
        training."""
        if not self._optimizers.phases:
            return {}
        numbers = sum(one.numbers for one in self._unused())
        return {_NUMBER: numbers / (numbers + self._optimizers.elements())}

    def _unused(self) -> list[_Owned]:
        by_hand = {i for watch in self._watched.values() if watch.by_hand for i in watch.among}
        return [
            one
            for key, one in list(self._reached.items())
            if key not in by_hand and not self._is_used(one)
        ]

    def _is_used(self, one: _Owned) -> bool:
        parameter = one.parameter()
        return parameter is not None and not (
            parameter.requires_grad and not self._optimizers.uses(parameter)
        )

    def _parts(self) -> dict[str, float] | None:
        """Of all passes of the steps that were timed, but for the first step."""
        told = [found for step in list(self._steps)[1:] if (found := self._spent(step)) is not None]
        spent = {kind: sum(step[kind] for step in told) for kind in (KEPT, ALONE, BESIDE)}
        whole = sum(spent.values())
        if len(told) < _FEWEST_STEPS or not whole:
            return None
        since = self._since(next(iter(self._steps))) if self._optimizers.phases else 1.0
        return {kind: since * seconds / whole for kind, seconds in spent.items()}

    def _since(self, step: int) -> float:
        """How much of all backward passes came from this step on: another training may have come
        before."""
        self._recorder.settle()
        rows = self._recorder.steps.rows()
        backward = rows.sums[:, BACKWARD]
        whole = float(backward.sum())
        return float(backward[step // rows.stride :].sum()) / whole if whole else 1.0

    def _spent(self, step: int) -> dict[str, float] | None:
        """Seconds of one step; None where a pass of it is not timed."""
        spent = dict.fromkeys((KEPT, ALONE, BESIDE), 0.0)
        for one in self._steps[step]:
            for kind, start, end in one.spans():
                seconds = self._marks.seconds(start, end)
                if seconds is None:
                    return None
                spent[kind] += seconds
        return spent

    def _module(self) -> dict[str, str]:
        """The module of most of them, where it has nothing that is trained."""
        numbers: Counter[tuple[str, str, bool]] = Counter()
        for one in self._unused():
            numbers[one.name, one.called_at, one.fixed] += one.numbers
        (name, called_at, fixed), _ = numbers.most_common(1)[0]
        return {_MODULE: name, _CALLED_AT: called_at} if fixed else {}

    def _place(self, module: Any) -> str:
        """Where it was called first with gradients on, since the newest optimizer was made; empty
        where it was not."""
        place = self._places.get(id(module))
        return place.text if place is not None and place.module() is module else ""

    # -- one backward pass -------------------------------------------------------------------

    def _looks(self) -> bool:
        known = self._recorder.count in self._steps or len(self._steps) < _MOST_STEPS
        return bool(self._owned) and known and self._walked < _MOST_IN_ALL

    def _learn(self) -> None:
        """The parameters that no optimizer changes, of modules that were called with gradients on.
        Without any of them, as in most trainings, no graph is walked."""
        known = self._modules.with_parameters()
        called = [(module, trained) for module, trained in known if self._place(module)]
        state = self._optimizers.version, len(called)
        if state == self._learned:
            return
        self._learned, self._owned = state, {}
        self._reached = {k: one for k, one in self._reached.items() if not self._is_used(one)}
        if not len(self._optimizers):
            return
        for module, trained in called:
            for parameter in module.parameters():
                if _is_plain(parameter) and not self._optimizers.uses(parameter):
                    one = _Owned(
                        weakref.ref(parameter),
                        weakref.ref(module),
                        not trained,
                        int(parameter.numel()),
                        type(module).__name__,
                        self._place(module),
                    )
                    self._owned.setdefault(id(parameter), one)

    def _look_into(self, tensors: Sequence[Any]) -> None:
        graph = owned_graph(tensors, self._owner, _MOST_NODES)
        self._walked += _MOST_NODES if graph is None else len(graph.owners)
        if graph is None:
            self._unknown = True
            return
        if not any(owner & _USED for owner in graph.owners.values()):
            return
        leaves = [n.variable for n in graph.owners if is_leaf(n) and graph.owners[n] == _UNUSED]
        if not leaves:
            return
        self._reach(leaves)
        turns = list(_turns(graph))
        if len(turns) > _MOST_TURNS or any(_is_many(n, graph) for n in graph.nodes):
            self._unknown = True
            return
        self._hooks = [node.register_prehook(self._noting(kind)) for node, kind in turns]

    def _owner(self, parameter: Any) -> int:
        if self._optimizers.uses(parameter):
            return _USED
        known = self._owned.get(id(parameter))
        return _UNUSED if known is not None and known.parameter() is parameter else NOBODY

    def _reach(self, leaves: Sequence[Any]) -> None:
        of_module: dict[int, list[Any]] = {}
        for leaf in leaves:
            one = self._reached[id(leaf)] = self._owned[id(leaf)]
            if one.fixed:
                of_module.setdefault(id(one.module()), []).append(leaf)
        for key, parameters in of_module.items():
            self._watch(key, parameters)

    def _watch(self, module: int, parameters: Sequence[Any]) -> None:
        smallest = min(parameters, key=lambda p: (p.numel(), id(p)))
        now = state_of(smallest)
        watch = self._watched.setdefault(module, _Watch(now))
        watch.among |= {id(p) for p in parameters}
        watch.by_hand |= now != watch.before and is_cleared(smallest)
        watch.before = now

    def _noting(self, kind: str) -> Any:
        def note(_: Any) -> None:
            if self._now is not None:
                self._now.turns.append((self._marks.now(), kind))

        return note


def _listed(outputs: Any) -> Sequence[Any]:
    return outputs if isinstance(outputs, list | tuple) else (outputs,)


def _turns(graph: OwnedGraph) -> Iterator[tuple[Any, str]]:
    """Where a backward pass comes to operations of another kind."""
    before = KEPT
    for node in graph.nodes:
        kind = _kind(node, graph)
        if kind != before:
            yield node, kind
        before = kind


def _kind(node: Any, graph: OwnedGraph) -> str:
    if graph.owners[node] == _UNUSED:
        return ALONE
    into = (graph.owners[after] for after, _ in node.next_functions if after is not None)
    return BESIDE if any(owner == _UNUSED for owner in into) else KEPT


def _is_many(node: Any, graph: OwnedGraph) -> bool:
    """Whether it stands for operations of which some are for these parameters and others not."""
    owner = graph.owners[node]
    return type(node).__name__ == _MANY_IN_ONE and bool(owner & _UNUSED) and owner != _UNUSED


def _is_plain(parameter: Any) -> bool:
    """Whether it gets gradients, and lies here in one piece: not shared among processes."""
    return bool(parameter.requires_grad) and type(parameter).__name__ == "Parameter"
