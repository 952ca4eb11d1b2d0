"""Overlapping spans of time, held against counting moments one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.readers.trace_intervals import Layer, Spans, owned, parents, union

END = 40
pairs = st.lists(
    st.tuples(st.integers(0, END), st.integers(0, END)).map(lambda p: (min(p), max(p))), max_size=8
)
Pairs = list[tuple[int, int]]


def spans(of: Pairs) -> Spans:
    return union(np.array([a for a, _ in of], float), np.array([b for _, b in of], float))


def moments(of: Pairs) -> set[int]:
    """Unit intervals, by their start."""
    return {moment for a, b in of for moment in range(a, b)}


@settings(deadline=None)
@given(pairs)
def test_a_union_is_every_moment_once(of: Pairs) -> None:
    joined = spans(of)
    assert joined.length == len(moments(of))
    assert (joined.starts[1:] > joined.stops[:-1]).all()


@settings(deadline=None)
@given(pairs, st.integers(-5, END + 5))
def test_what_lies_before_a_moment_is_counted(of: Pairs, moment: int) -> None:
    expected = sum(m < moment for m in moments(of))
    assert spans(of).before(np.array([float(moment)])).tolist() == [expected]


@settings(deadline=None)
@given(pairs, pairs, pairs, st.lists(st.integers(1, 9), max_size=5))
def test_a_moment_belongs_to_the_first_layer_that_covers_it(
    first: Pairs, outside: Pairs, second: Pairs, lengths: list[int]
) -> None:
    edges = np.cumsum([0, *lengths]).astype(float)
    windows = Spans(edges[:-1], edges[1:])
    found = owned([Layer("a", spans(first), spans(outside)), Layer("b", spans(second))], windows)
    a = moments(first) - moments(outside)
    b = moments(second) - a
    for name, mine in (("a", a), ("b", b)):
        expected = [
            sum(start <= moment < stop for moment in mine)
            for start, stop in zip(windows.starts, windows.stops, strict=True)
        ]
        assert found[name].tolist() == expected


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.randoms())
def test_the_innermost_span_around_each_is_its_parent(depths: list[int], random: object) -> None:
    """Spans as calls: each depth at most one deeper than the one before."""
    open_: list[int] = []
    starts, stops, expected = [], [], []
    clock = 0
    for index, depth in enumerate(depths):
        while len(open_) >= min(depth, len(open_) + 1):
            stops[open_.pop()] = clock
            clock += 1
        expected.append(open_[-1] if open_ else -1)
        starts.append(clock)
        stops.append(clock)
        open_.append(index)
        clock += 1
    while open_:
        stops[open_.pop()] = clock
        clock += 1
    assert parents(np.array(starts, float), np.array(stops, float)).tolist() == expected
