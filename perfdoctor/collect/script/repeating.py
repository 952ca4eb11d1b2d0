"""Whether each worker does a hot line for all samples and then drops those of the others.

An `__iter__` that splits what it makes, `islice(self.samples(), info.id, None, info.num_workers)`
or `if i % info.num_workers != info.id: continue` behind the work, makes everything in each worker.
One that splits the files or the numbers of the samples before does not.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

from perfdoctor.collect.script.sample_calls import Called, Dataset, last_name
from perfdoctor.collect.script.slicing import assigned
from perfdoctor.collect.script.source import (
    levels,
    module_of,
    repeats,
)

#: Names of the worker's number and of how many there are.
_WORKER = re.compile(r"worker", re.IGNORECASE)


@functools.lru_cache(maxsize=256)
def repeated_in_workers(file: str, line: int) -> bool:
    """Whether a line of an iterable dataset runs for all samples in each worker."""
    module = module_of(file)
    if module is None:
        return False
    classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    datasets = (Dataset(module, node) for node in classes)
    return any(_repeats(one, line) for one in datasets if one.is_dataset() and one.iterates())


def _repeats(dataset: Dataset, line: int) -> bool:
    for one in dataset.reached(dataset.roots()):
        for work in _before_split(one):
            called = dataset.used(work, one.own)
            own = isinstance(work, ast.stmt) or _makes_each(work)
            if (own and _holds(work, line)) or any(
                _holds(c.node, line) for c in dataset.reached(called)
            ):
                return True
    return False


def _before_split(one: Called) -> Iterator[ast.AST]:
    """What a function does for all samples before it keeps those of its worker."""
    parts = _Parts(one.node)
    for node in ast.walk(one.node):
        if isinstance(node, ast.Call) and last_name(node) == "islice" and len(node.args) > 3:
            if parts.of_worker(node.args[3]):
                yield from parts.made(node.args[0])
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            if node.slice.step is not None and parts.of_worker(node.slice.step):
                yield from parts.made(node.value)
        elif isinstance(node, ast.If) and parts.drops(node):
            yield from parts.earlier(node)


class _Parts:
    """Which names of a function are the worker's, and what the others are made of."""

    def __init__(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._function = function
        self._set = [n for n in ast.walk(function) if isinstance(n, (ast.Assign, ast.AnnAssign))]
        self._worker: set[str] = set()
        before = -1
        while before != len(self._worker):
            before = len(self._worker)
            for one in self._set:
                if one.value is not None and self.of_worker(one.value):
                    self._worker |= assigned(one)

    def of_worker(self, node: ast.AST) -> bool:
        """Whether the worker's number, or how many there are, is in it."""
        return any(
            name in self._worker or _WORKER.search(name)
            for part in ast.walk(node)
            if (name := getattr(part, "id", None) or getattr(part, "attr", None))
        )

    def drops(self, node: ast.If) -> bool:
        """`if i % workers != worker: continue`, or the other way round."""
        inside = [n for one in node.body for n in ast.walk(one)]
        if not any(isinstance(n, (ast.Continue, ast.Yield, ast.YieldFrom)) for n in inside):
            return False
        return any(
            isinstance(part, ast.BinOp)
            and isinstance(part.op, ast.Mod)
            and self.of_worker(part.right)
            for part in ast.walk(node.test)
        )

    def made(self, node: ast.AST, deep: int = 3) -> Iterator[ast.AST]:
        """The expression, and what the names in it are set to."""
        yield node
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - self._worker
        for one in self._set if deep else ():
            if one.value is not None and assigned(one) & names and one.value is not node:
                yield from self.made(one.value, deep - 1)

    def earlier(self, node: ast.If) -> Iterator[ast.AST]:
        """What the loops around it go over, and the statements before it in them."""
        way = levels(self._function, node.lineno)
        inside = False
        for level in way:
            inside = inside or repeats(level)
            if repeats(level) and isinstance(level.owner, (ast.For, ast.AsyncFor)):
                yield from self.made(level.owner.iter)
            if inside:
                yield from level.block[: level.index]


def _makes_each(node: ast.AST) -> bool:
    """Whether it calls something for each sample: `[read(path) for path in paths]`."""
    kinds = (ast.ListComp, ast.GeneratorExp)
    made = (n.elt for n in ast.walk(node) if isinstance(n, kinds))
    return any(isinstance(n, ast.Call) for one in made for n in ast.walk(one))


def _holds(node: ast.AST, line: int) -> bool:
    first = getattr(node, "lineno", None)
    return first is not None and first <= line <= (getattr(node, "end_lineno", None) or first)
