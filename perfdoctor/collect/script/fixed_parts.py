"""Parts of what a step computes that no optimizer trains, as an encoder that is kept as it was or a
teacher, and whether they are given the same samples in every epoch.

Their time is taken in steps that are looked into, on the host. Of what they are given a few numbers
of each sample are read: where those of the first epoch come again, the same is computed again.
"""

from __future__ import annotations

import statistics
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.module_roles import FIXED, TRAINED, Modules
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.same_calls import EARLY, alone

#: Modules whose result is another each time while they are in training mode.
_RANDOM = ("Dropout", "BatchNorm", "DropPath", "InstanceNorm", "RReLU")
#: Samples of the first epoch that are remembered, and of each the numbers that are read.
_MOST_SAMPLES, _NUMBERS = 2048, 256
#: A median of fewer steps, and a part of fewer samples, say nothing.
_FEWEST_STEPS, _FEWEST_SAMPLES = 3, 16
#: The epoch whose samples are compared with those of the first: in all later ones together a flip
#: at random would bring each of them again.
_COMPARED = 2
#: Spreads the numbers that are read over a sample (Knuth's multiplicative hashing).
_SPREAD = 2654435761
_MOST_PARTS = 8
#: Weights that are looked at, and numbers of each.
_MOST_WEIGHTS, _OF_WEIGHT = 16, 8
#: Nesting of what is given.
_DEEPEST = 3


@dataclass
class _Part:
    """One such module. `weights`: some of their numbers; `first` samples were given in the first
    epoch and `later` after it; `gives` bytes for one of them."""

    module: weakref.ref[Any]
    name: str
    weights: str
    step_ns: dict[int, int] = field(default_factory=dict)
    noted: set[bytes] = field(default_factory=set)
    again: set[bytes] = field(default_factory=set)
    first: int = 0
    later: int = 0
    gives: int = 0
    began: int | None = None
    places: dict[tuple[int, ...], Any] = field(default_factory=dict)

    @property
    def repeats(self) -> float | None:
        """How many of the samples that were to come again did; None where too few were."""
        if not self.first:
            return None
        due = len(self.noted) * min(1.0, self.later / self.first)
        return min(1.0, len(self.again) / due) if due >= _FEWEST_SAMPLES else None


class FixedParts:
    """Those of a training. `among` holds them by identity: what is to be told of when called."""

    def __init__(self, optimizers: Optimizers, modules: Modules, recorder: Recorder) -> None:
        self._optimizers, self._modules, self._recorder = optimizers, modules, recorder
        self.among: dict[int, _Part] = {}
        self._ended: list[_Part] = []
        self._moved: weakref.WeakSet[Any] = weakref.WeakSet()
        self._epochs_before = 0

    def another_begins(self) -> None:
        """Another optimizer was made after others have made steps: epochs count from here."""
        self._epochs_before = self._recorder.epochs_begun

    @property
    def _epochs(self) -> int:
        return self._recorder.epochs_begun - self._epochs_before

    def look(self, module: Any) -> None:
        """An outermost module is called, in a step that is looked into.

        What `among` holds must not change once something is compiled: it would be compiled anew.
        """
        if self._recorder.on_device or not alone():
            return
        self._drop_moved()
        for one in self._fixed(module) if self._epochs <= 1 else ():
            weights = _weights(one)
            known = id(one) in self.among or one in self._moved
            if weights is not None and not known and len(self.among) < _MOST_PARTS:
                self.among[id(one)] = _Part(weakref.ref(one), type(one).__name__, weights)

    def begins(
        self, module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], noting: bool
    ) -> None:
        """One of them is called."""
        part = self.among.get(id(module))
        if part is None or part.module() is not module or self._recorder.current != r.FORWARD:
            return
        given = _first_tensor((args, kwargs))
        if given is None or given.requires_grad or not given.dim() or _changes(module):
            return
        epochs = self._epochs
        if epochs <= 1:
            part.first += len(given)
        compares = epochs == _COMPARED
        part.later += len(given) if compares else 0
        prints = _prints(given, part.places) if noting or compares else []
        if noting and epochs <= 1 and len(part.noted) < _MOST_SAMPLES:
            part.noted.update(prints)
        elif compares:
            part.again.update(part.noted.intersection(prints))
        if noting and self._recorder.count not in EARLY:
            part.began = self._recorder.clock()

    def ends(self, module: Any, gives: Any) -> None:
        """It has returned."""
        part = self.among.get(id(module))
        if part is None or part.began is None:
            return
        took, part.began = self._recorder.clock() - part.began, None
        step = self._recorder.count
        part.step_ns[step] = part.step_ns.get(step, 0) + took
        given = _first_tensor(gives)
        if given is not None and len(given.shape):
            part.gives = given.numel() * given.element_size() // max(1, len(given))

    def settings(self) -> dict[str, Any]:
        """As configuration, of the one that takes the most; empty where nothing was looked into."""
        if self._recorder.on_device or not self._recorder.count:
            return {}
        self._drop_moved()
        parts = (*self.among.values(), *self._ended)
        timed = [part for part in parts if len(part.step_ns) >= _FEWEST_STEPS]
        if not timed:
            return {"fixed_part_s": 0.0}
        most = max(timed, key=lambda part: statistics.median(part.step_ns.values()))
        return {
            "fixed_part_s": statistics.median(most.step_ns.values()) / 1e9,
            "fixed_part_module": most.name,
            "fixed_part_repeats": most.repeats,
            "fixed_part_gives_bytes": most.gives,
        }

    def _drop_moved(self) -> None:
        """Those that follow another one, as an average of it does, are not fixed."""
        for key, part in list(self.among.items()):
            held = part.module()
            if held is None:
                self._ended.append(self.among.pop(key))
            elif not self._is_fixed(held):
                del self.among[key]
            elif part.weights != _weights(held):
                del self.among[key]
                self._moved.add(held)

    def _fixed(self, module: Any) -> Iterator[Any]:
        """The outermost parts of it that no optimizer trains, itself at best."""
        role = self._modules.role(module)
        if role == FIXED and self._is_fixed(module):
            yield module
        elif role == TRAINED:
            waiting = list(module.children())
            while waiting:
                one = waiting.pop()
                if self._is_fixed(one):
                    yield one
                else:
                    waiting += one.children()

    def _is_fixed(self, module: Any) -> bool:
        parameters = list(module.parameters())
        return bool(parameters) and not any(map(self._optimizers.has, parameters))


def _changes(module: Any) -> bool:
    """Whether it gives something else each time, for it draws or counts in training mode."""
    return bool(module.training) and any(
        any(name in type(one).__name__ for name in _RANDOM) and one.training
        for one in module.modules()
    )


def _weights(module: Any) -> str | None:
    """Some numbers of them, since what is changed behind autograd's back has no new version; None
    where they cannot be read."""
    found = []
    for parameter in islice(module.parameters(), _MOST_WEIGHTS):
        there = type(parameter).__name__ != "UninitializedParameter" and parameter.is_cpu
        if not there or str(parameter.layout) != "torch.strided":
            return None
        flat = parameter.detach().reshape(-1)
        found.append(flat[:: max(1, len(flat) // _OF_WEIGHT)].tolist())
    return repr(found)


def _first_tensor(value: Any, depth: int = 0) -> Any:
    """The first plain tensor; None where there is none."""
    if type(value).__name__ == "Tensor" and type(value).__module__ == "torch":
        return None if value.is_nested else value
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(parts, list | tuple) and depth <= _DEEPEST:
        found = (_first_tensor(part, depth + 1) for part in parts[:_MOST_PARTS])
        return next((one for one in found if one is not None), None)
    return None


def _prints(given: Any, places: dict[tuple[int, ...], Any]) -> list[bytes]:
    """Of each sample, some of its numbers; empty where they cannot be read."""
    import numpy as np

    try:
        numbers = given.numpy()
    except (RuntimeError, TypeError):  # traced, fake, or of a type that numpy has not
        return []
    if numbers.ndim < 2:
        return [sample.tobytes() for sample in numbers]
    shape = numbers.shape[1:]
    if shape not in places:
        size = int(np.prod(shape))
        chosen = sorted({n * _SPREAD % size for n in range(min(size, _NUMBERS))})
        places[shape] = np.unravel_index(chosen, shape)
    read = (slice(None), *places[shape])
    return [sample.tobytes() for sample in numbers[read]]
