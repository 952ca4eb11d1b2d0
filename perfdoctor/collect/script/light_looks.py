"""Looks at steps that were observed as a whole: under which label each of them counts.

The same line does the same in every step, so a look counts under the label under which the same
place was seen in steps observed stage by stage. Where it was never seen there it is `other`, as is
the time by which a step was longer than those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perfdoctor.collect.script.libraries import USER, Libraries
from perfdoctor.collect.script.recorder import LIGHT, OTHER
from perfdoctor.collect.script.stacks import Frame, Sampled

_Stack = tuple[Frame, ...]
_Labels = dict[int, float]


def labelled(samples: Sequence[Sampled], libraries: Libraries | None = None) -> list[Sampled]:
    """The looks, with a label of its own in place of each LIGHT."""
    if all(one.label != LIGHT for one in samples):
        return list(samples)
    known: dict[_Stack, _Labels] = {}
    for one in samples:
        if one.label != LIGHT:
            _learn(known, one)
    owners = libraries or Libraries()
    return [
        one if one.label != LIGHT else replace(one, label=_label(one.stack, known, owners))
        for one in samples
    ]


def _learn(known: dict[_Stack, _Labels], one: Sampled) -> None:
    for inner in range(len(one.stack)):
        seconds = known.setdefault(one.stack[inner:], {})
        seconds[one.label] = seconds.get(one.label, 0.0) + one.seconds


def _label(stack: _Stack, known: dict[_Stack, _Labels], owners: Libraries) -> int:
    """That of most looks at the innermost place that is known, down to the user's own line. What is
    called there is of the stage that it calls, and not of what else the line does."""
    for inner, frame in enumerate(stack):
        seconds = known.get(stack[inner:])
        if seconds is not None:
            called = {label: s for label, s in seconds.items() if label != OTHER} if inner else {}
            return max(called or seconds, key=lambda label: seconds[label])
        if owners.of(frame.file) == USER:
            break
    return OTHER
