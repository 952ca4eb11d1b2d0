"""Which label a look counts for that fell into a step that was not looked into.

The looks into watched steps tell: they make a tree of calls, from the outermost on, and at each
place it is known under which labels it was met. A look of a skimmed step goes down that tree as far
as it can. An unknown line of a function that does several things is `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.stacks import Frame, Sampled

#: What may run in a step that is skimmed, besides the loader; all else ends the skimming.
_STEPS = frozenset((r.OTHER, r.FORWARD, r.AFTER_FORWARD, r.LOSS, r.BACKWARD, r.OPTIMIZER))
#: A function that is so clearly of one label is so in its other lines too.
_CLEAR = 0.9


@dataclass
class _Place:
    """A frame in its context: seconds by label, and what was called from there."""

    seconds: dict[int, float] = field(default_factory=dict)
    calls: dict[Frame, _Place] = field(default_factory=dict)

    def add(self, label: int, seconds: float) -> None:
        self.seconds[label] = self.seconds.get(label, 0.0) + seconds


def told_apart(samples: Sequence[Sampled]) -> list[Sampled]:
    """The looks, those of skimmed steps under the labels that they most likely belong to."""
    root = _tree(s for s in samples if s.label in _STEPS or s.label > r.SKIMMED)
    found: list[Sampled] = []
    for sample in samples:
        found += [sample] if sample.label != r.SKIMMED else _by_label(sample, root)
    return found


def _tree(samples: Iterable[Sampled]) -> _Place:
    root = _Place()
    for sample in samples:
        place = root
        place.add(sample.label, sample.seconds)
        for frame in reversed(sample.stack):
            place = place.calls.setdefault(frame, _Place())
            place.add(sample.label, sample.seconds)
    return root


def _by_label(sample: Sampled, root: _Place) -> Iterator[Sampled]:
    seconds = _labels(sample.stack, root)
    whole = sum(seconds.values())
    for label, part in seconds.items():
        share = part / whole
        count = max(1, round(sample.count * share))
        yield replace(sample, label=label, seconds=sample.seconds * share, count=count)


def _labels(stack: Sequence[Frame], root: _Place) -> dict[int, float]:
    """The labels that share a look, by weight."""
    place = root
    for frame in reversed(stack):
        known = place.calls.get(frame)
        if known is None:
            return _of_unknown(frame, place)
        place = known
    return place.seconds or {r.OTHER: 1.0}


def _of_unknown(frame: Frame, caller: _Place) -> dict[int, float]:
    """Of a line that no watched step was met in, called from a place that one was."""
    lines = [p for known, p in caller.calls.items() if _function(known) == _function(frame)]
    if not lines:  # another function that is called there
        return caller.seconds if caller.calls else {r.OTHER: 1.0}
    sums: dict[int, float] = {}
    for one in lines:
        for label, seconds in one.seconds.items():
            sums[label] = sums.get(label, 0.0) + seconds
    likely = max(sums, key=lambda label: sums[label])
    return {likely if sums[likely] >= _CLEAR * sum(sums.values()) else r.OTHER: 1.0}


def _function(frame: Frame) -> tuple[str, int]:
    return frame.file, frame.first_line
