"""Lines that draw for each sample of a dataset by weights that stay the same, by their source.

`rng.choice(n, k, p=self.p)` checks all n weights and adds them up each time, to draw k numbers: for
weights that only `__init__` sets, that gives the same sums for every sample.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence

from perfdoctor.collect.script.sample_calls import INIT, Called, Dataset, own_attribute
from perfdoctor.collect.script.source import module_of, statement_at
from perfdoctor.collect.script.weighted_draws import drawn_by
from perfdoctor.collect.script.whole_draws import DrawSource


@functools.lru_cache(maxsize=256)
def kept_weights(file: str, line: int) -> str | None:
    """What draws so at a line, by its whole name; None where nothing does, or it is not known."""
    module = module_of(file)
    if module is None:
        return None
    source = DrawSource(module, line)
    try:
        classes = [Dataset(module, n) for n in ast.walk(module) if isinstance(n, ast.ClassDef)]
        datasets = [one for one in classes if one.is_dataset()]
        drawing = [(one, _runs(one, datasets, source.function)) for one in classes]
        found = [_drawn(one, by, source, line) for one, by in drawing if by is not None]
    except RecursionError:
        return None
    return next((how for how in found if how is not None), None)


def _runs(one: Dataset, datasets: Sequence[Dataset], function: ast.AST | None) -> Called | None:
    """This function, if it runs for each sample: of a dataset, or of an object that one asks."""
    if one in datasets:
        return next((by for by, _ in one.followed() if by.node is function), None)
    by = None if function is None else one.method(function)
    if by is None or not any(_asks(dataset, by.node.name) for dataset in datasets):
        return None
    return by


def _asks(dataset: Dataset, name: str) -> bool:
    """Whether a sample calls a method of that name of another object."""
    calls = (
        node.func
        for one, _ in dataset.followed()
        for node in ast.walk(one.node)
        if isinstance(node, ast.Call) and not own_attribute(node.func, one.own)
    )
    return any(isinstance(func, ast.Attribute) and func.attr == name for func in calls)


def _drawn(one: Dataset, by: Called, source: DrawSource, line: int) -> str | None:
    """What draws there, in that function of the object."""
    statement = statement_at(by.node, line)
    for node in () if statement is None else ast.walk(statement):
        asked = drawn_by(source, node) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and asked and _stays(one, by, asked[0]):
            return source.dotted(node.func)
    return None


def _stays(one: Dataset, by: Called, weights: ast.expr) -> bool:
    """Whether it is an attribute that only `__init__` sets, whole or in part."""
    name = own_attribute(weights, by.own)
    made_in = [method.node.name for method, attribute, _ in one.kept() if attribute == name]
    return bool(name) and bool(made_in) and set(made_in) == {INIT}
