"""Lines of a dataset that draw for each sample by weights that stay the same, by their source.

`rng.choice(n, k, p=self.p)` checks all n weights and adds them up each time, to draw k numbers: for
weights that only `__init__` sets, that gives the same sums for every sample.
"""

from __future__ import annotations

import ast
import functools

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
    try:
        classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
        found = [_drawn(Dataset(module, node), DrawSource(module, line), line) for node in classes]
    except RecursionError:
        return None
    return next((how for how in found if how is not None), None)


def _drawn(dataset: Dataset, source: DrawSource, line: int) -> str | None:
    """What draws there for each of its samples."""
    if not dataset.is_dataset():
        return None
    reached = [one for one, _ in dataset.followed() if one.node is source.function]
    statement = statement_at(reached[0].node, line) if reached else None
    for node in () if statement is None else ast.walk(statement):
        asked = drawn_by(source, node) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and asked and _stays(dataset, reached[0], asked[0]):
            return source.dotted(node.func)
    return None


def _stays(dataset: Dataset, one: Called, weights: ast.expr) -> bool:
    """Whether it is an attribute that only `__init__` sets, whole or in part."""
    name = own_attribute(weights, one.own)
    made_in = [by.node.name for by, attribute, _ in dataset.kept() if attribute == name]
    return bool(name) and bool(made_in) and set(made_in) == {INIT}
