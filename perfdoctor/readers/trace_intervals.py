"""Spans of time that overlap: their union, what of it lies in a window, and who owns a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfdoctor.record import Floats


@dataclass(frozen=True)
class Spans:
    """Spans that neither overlap nor touch, in order."""

    starts: Floats
    stops: Floats

    @property
    def length(self) -> float:
        """Of all together."""
        return float((self.stops - self.starts).sum())

    def before(self, moments: Floats) -> Floats:
        """How much of the spans lies before each moment."""
        if self.starts.size == 0:
            return np.zeros(moments.size)
        full = np.concatenate(([0.0], np.cumsum(self.stops - self.starts)))
        index = np.searchsorted(self.starts, moments, side="right")
        beyond = np.where(index > 0, self.stops[index - 1] - moments, 0.0)
        within: Floats = full[index] - np.maximum(beyond, 0.0)
        return within


NONE = Spans(np.empty(0), np.empty(0))


def union(starts: Floats, stops: Floats) -> Spans:
    """The time in which at least one of the spans runs."""
    if starts.size == 0:
        return NONE
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(stops[order])
    new = np.concatenate(([True], starts[1:] > reach[:-1]))
    last = np.concatenate((np.flatnonzero(new[1:]), [starts.size - 1]))
    return Spans(starts[new], reach[last])


@dataclass(frozen=True)
class Layer:
    """Time inside some spans and outside others."""

    name: str
    inside: Spans
    outside: Spans = NONE


def owned(layers: Sequence[Layer], windows: Spans) -> dict[str, Floats]:
    """How long each name owns each window: a moment belongs to the first layer that covers it."""
    edges = [windows.starts, windows.stops]
    for layer in layers:
        edges += [s for spans in (layer.inside, layer.outside) for s in (spans.starts, spans.stops)]
    moments = np.unique(np.concatenate(edges))
    middle, length = (moments[1:] + moments[:-1]) / 2, np.diff(moments)
    window = _index(windows, middle)
    free = window >= 0
    found: dict[str, Floats] = {}
    for layer in layers:
        mine = free & (_index(layer.inside, middle) >= 0) & (_index(layer.outside, middle) < 0)
        free &= ~mine
        total = np.bincount(window[mine], weights=length[mine], minlength=windows.starts.size)
        found.setdefault(layer.name, np.zeros(windows.starts.size))
        found[layer.name] += total
    return found


def _index(spans: Spans, moments: Floats) -> NDArray[np.intp]:
    """Which span each moment lies in; -1 for none."""
    if spans.starts.size == 0:
        return np.full(moments.size, -1)
    index = np.searchsorted(spans.starts, moments, side="right") - 1
    return np.where((index >= 0) & (moments < spans.stops[index]), index, -1)


def parents(starts: Floats, stops: Floats) -> NDArray[np.int64]:
    """For spans of one thread, which nest: the index of the innermost that holds each; -1."""
    found = np.full(starts.size, -1, dtype=np.int64)
    order = np.lexsort((-stops, starts))
    ends = stops.tolist()
    open_: list[int] = []
    for index, start in zip(order.tolist(), starts[order].tolist(), strict=True):
        while open_ and ends[open_[-1]] <= start:
            open_.pop()
        if open_:
            found[index] = open_[-1]
        open_.append(index)
    return found
