"""Which hot lines lie inside functions that give the same result in each step, see `same_calls`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from perfdoctor.collect.script.kinds_of_work import AFTER_FORWARD
from perfdoctor.collect.script.stacks import Frame, Sampled
from perfdoctor.collect.script.work import VALIDATION
from perfdoctor.record import Hotspot
from perfdoctor.stages import ARCH_STEP, FORWARD, LOSS

#: Stages in which the model and its loss are called as they are in a step.
_STAGES = (FORWARD, LOSS, ARCH_STEP, VALIDATION)
#: So much of a line's time must lie inside such a function: others may call what it is in, too.
_NEARLY_ALL = 0.9
Functions = Mapping[tuple[str, int], str]


def marked(
    spots: Iterable[Hotspot], samples: Sequence[Sampled], names: Sequence[str], functions: Functions
) -> Iterable[Hotspot]:
    """The same lines, each with the outermost function of `functions` around it (by file and first
    line, with their names). `names` are the stages of the samples' labels."""
    if not functions:
        return spots
    stages = [LOSS if name == AFTER_FORWARD else name for name in names]
    seen = [s for s in samples if stages[s.label] in _STAGES]
    return [replace(spot, same_in=_around(spot, seen, stages, functions)) for spot in spots]


def _around(
    spot: Hotspot, samples: Sequence[Sampled], names: Sequence[str], functions: Functions
) -> str | None:
    inside: dict[str | None, float] = {}
    for sample in samples:
        depth = _depth(sample.stack, spot) if names[sample.label] == spot.stage else None
        if depth is not None:
            outer = reversed(sample.stack[depth:])
            known = (functions.get((frame.file, frame.first_line)) for frame in outer)
            name = next((one for one in known if one is not None), None)
            inside[name] = inside.get(name, 0.0) + sample.seconds
    told = {name: seconds for name, seconds in inside.items() if name is not None}
    if sum(told.values()) < _NEARLY_ALL * sum(inside.values()):
        return None
    return max(told, key=lambda name: told[name], default=None)


def _depth(stack: Sequence[Frame], spot: Hotspot) -> int | None:
    places = enumerate((frame.file, frame.line) for frame in stack)
    return next((depth for depth, place in places if place == (spot.file, spot.line)), None)
