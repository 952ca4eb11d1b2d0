"""How often a forward pass computes a parametrized weight, and what that takes beyond once.

Such a weight (`torch.nn.utils.parametrize`) is computed each time that it is read, unless
`parametrize.cached()` is around. In a few steps the lists of parametrizations of what is trained
are followed, by hooks that are gone after the call. What gives the same again before a backward
pass, from parameters and buffers in the same version, need not have been computed. What draws
(weights dropped at random) gives something else each time, and what keeps a state (the power
iteration of spectral norm, in training) changes it: these do not count.
"""

from __future__ import annotations

import statistics
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from types import FrameType
from typing import Any

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.libraries import USER, Libraries
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.same_calls import alone
from perfdoctor.collect.script.value_keys import Unfit, print_of

#: Steps that are looked at: early ones, but none in which `same_calls` slows Python down.
_LOOKED_AT = frozenset({5, 8, 10, 15, 20, 25})
#: A median of fewer says nothing.
_FEWEST = 3
#: Operations of one weight, and of a step, that are timed in the backward pass: some milliseconds.
_MOST_OF_WEIGHT, _MOST_NODES = 256, 3000
_LEAF = "AccumulateGrad"


@dataclass
class _Weight:
    """One parametrized weight in one step.

    `state`: what it was computed from and what came of it, `times` how often since then; `most`:
    the most of these. `took`: nanoseconds of all computations but the first.
    """

    name: str
    by: str
    state: Any = None
    times: int = 0
    most: int = 1
    took: int = 0
    read_at: str = ""


@dataclass
class _Look:
    """One step, in nanoseconds: forward and backward pass, and what of them was needless.

    `own`: what looking took in the forward pass.
    """

    forward: int = 0
    backward: int = 0
    backward_again: int = 0
    own: int = 0
    nodes: int = 0
    weights: dict[int, _Weight] = field(default_factory=dict)

    @property
    def again(self) -> int:
        return sum(one.took for one in self.weights.values())

    @property
    def of_forward(self) -> float:
        return min(1.0, self.again / max(1, self.forward - self.own))

    @property
    def of_backward(self) -> float:
        return min(1.0, self.backward_again / max(1, self.backward))


class Parametrized:
    """Looks at it on the host, where work is done when a call returns."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._libraries = Libraries()
        self._looks: list[_Look] = []
        self._step = -1  # of the last look
        self._without: weakref.WeakSet[Any] = weakref.WeakSet()
        self._hooks: list[Any] = []
        self._node_hooks: list[Any] = []
        self._open: Any = None
        self._since = self._node_since = 0
        self._given_up = False

    # -- what happens ------------------------------------------------------------------------

    def begins(self, module: Any) -> None:
        """A module that is trained is about to be called from outside of any."""
        self.ends()
        count = self._recorder.count
        if count not in _LOOKED_AT or self._given_up or self._recorder.on_device or not alone():
            return
        if count != self._step:
            self._step = count
            self._looks.append(_Look())
        for name, one in self._lists(module):
            weight = _Weight(_weight_name(name), type(one[0]).__name__.lstrip("_"))
            weight = self._looks[-1].weights.setdefault(id(one), weight)
            self._hooks.append(one.register_forward_pre_hook(self._computes))
            self._hooks.append(one.register_forward_hook(partial(self._computed, weight)))

    def ends(self) -> None:
        """It has returned, or raised."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._open = [], None

    def backward_begins(self) -> None:
        """A backward pass begins: what is computed from now on belongs to another graph."""
        look = self._now
        if look is not None:
            look.forward = self._recorder.spent[r.FORWARD]
            for weight in look.weights.values():
                weight.state = None

    def backward_ends(self) -> None:
        """It is done, or failed."""
        for hook in self._node_hooks:
            hook.remove()
        self._node_hooks = []
        look = self._now
        if look is not None:
            look.backward = self._recorder.spent[r.BACKWARD]

    def settings(self) -> dict[str, Any]:
        """As configuration; nothing where it is not known."""
        looks = [look for look in self._looks if look.forward > 0 and look.backward > 0]
        if self._given_up or not looks:
            return {}
        if not any(look.again for look in looks):
            return {"parametrized_times": 1}
        if len(looks) < _FEWEST:
            return {}
        main = max((w for look in looks for w in look.weights.values()), key=lambda w: w.took)
        told = {"weight": main.name, "by": main.by, "read_at": main.read_at}
        return {
            "parametrized_times": main.most,
            "parametrized_of_forward": statistics.median(look.of_forward for look in looks),
            "parametrized_of_backward": statistics.median(look.of_backward for look in looks),
            **{f"parametrized_{key}": value for key, value in told.items() if value},
        }

    @property
    def _now(self) -> _Look | None:
        """That of this step."""
        return self._looks[-1] if self._step == self._recorder.count else None

    def _lists(self, module: Any) -> list[tuple[str, Any]]:
        """Of parametrizations, in it, with their names. Most models have none, and walking through
        one takes a millisecond."""
        kind = getattr(sys.modules.get("torch.nn.utils.parametrize"), "ParametrizationList", None)
        if kind is None or module in self._without:
            return []
        found = [(name, one) for name, one in module.named_modules() if isinstance(one, kind)]
        if not found:
            self._without.add(module)
        return found

    # -- one weight --------------------------------------------------------------------------

    def _computes(self, one: Any, _: Any) -> None:
        torch = sys.modules["torch"]
        cached = sys.modules["torch.nn.utils.parametrize"]._cache_enabled
        if self._open is None and not cached and torch.is_grad_enabled():
            self._open, self._since = one, self._recorder.clock()

    def _computed(self, weight: _Weight, one: Any, _: Any, result: Any) -> None:
        now = self._recorder.clock()
        look = self._now
        if self._open is not one or look is None:
            return
        self._open = None
        try:
            self._note(look, weight, one, result, now - self._since)
        except Exception:  # tensors of any kind: wrapped ones, on a device, or without elements
            self._given_up = True
        look.own += self._recorder.clock() - now

    def _note(self, look: _Look, weight: _Weight, one: Any, result: Any, took: int) -> None:
        state = _state_of(one, result)
        if state != weight.state:
            weight.state, weight.times = state, 1
            return
        weight.times += 1
        weight.most = max(weight.most, weight.times)
        weight.took += took
        weight.read_at = weight.read_at or self._reader(sys._getframe(2))
        self._time_backward(look, one, result)

    def _reader(self, frame: FrameType | None) -> str:
        """Where the script reads it, such as "train.py:52"."""
        while frame is not None and self._libraries.of(frame.f_code.co_filename) != USER:
            frame = frame.f_back
        name = "" if frame is None else PurePath(frame.f_code.co_filename).name
        return f"{name}:{frame.f_lineno}" if frame is not None else ""

    # -- its part of the backward pass ---------------------------------------------------------

    def _time_backward(self, look: _Look, one: Any, result: Any) -> None:
        nodes = list(_operations(result, one))
        look.nodes += len(nodes)
        if look.nodes > _MOST_NODES:
            return
        for node in nodes:
            self._node_hooks.append(node.register_prehook(self._node_begins))
            self._node_hooks.append(node.register_hook(partial(self._node_ends, look)))

    def _node_begins(self, _: Any) -> None:
        self._node_since = self._recorder.clock()

    def _node_ends(self, look: _Look, _: Any, __: Any) -> None:
        look.backward_again += self._recorder.clock() - self._node_since


def _weight_name(path: str) -> str:
    """Such as "cell.weight", of the list "cell.parametrizations.weight"."""
    return path.replace("parametrizations.", "").removeprefix("module.")


def _state_of(one: Any, result: Any) -> Any:
    """What the weight was computed from, by versions, and what came of it, by some elements and
    the sum of all. Raises `Unfit` where that is not to be read at once."""
    if not result.is_cpu:
        raise Unfit
    held = [*one.parameters(), *one.buffers()]
    versions = tuple((id(tensor), tensor._version) for tensor in held)
    plain = result.detach()
    return versions, print_of(plain), repr(plain.sum().item())


def _operations(result: Any, one: Any) -> Iterator[Any]:
    """Those that made it; none where they rest on more than its own parameters, or are many."""
    own = {id(parameter) for parameter in one.parameters()}
    waiting = [] if result.grad_fn is None else [result.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if type(node).__name__ == _LEAF:
            if id(node.variable) not in own:
                return iter(())
            continue
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                waiting.append(after)
        if len(seen) > _MOST_OF_WEIGHT:
            return iter(())
    return (node for node in seen if type(node).__name__ != _LEAF)
