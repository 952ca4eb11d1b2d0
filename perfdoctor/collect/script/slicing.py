"""Backward slices: the statements that make the values which another statement uses.

A name is `x`, or `self.x` for what is kept in an object that the loop itself does not make.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from perfdoctor.collect.script.source import FUNCTIONS, LOOPS, blocks, heads, levels, repeats

_LoopHead = ast.For | ast.AsyncFor


@dataclass
class Slice:
    """Line ranges found so far, the names still to be explained, and those the code varies.

    `sources` are the names that the statements found so far read.
    """

    needed: set[str]
    varies: set[str]
    sources: set[str] = field(default_factory=set)
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def statement(self, statement: ast.stmt, *, certain: bool) -> None:
        """Takes in `statement` if it makes a needed name; `certain`: whenever what follows runs."""
        inside = [] if isinstance(statement, FUNCTIONS) else list(blocks(statement))
        before = len(self.ranges)
        for block in inside:
            for inner in reversed(block):
                self.statement(inner, certain=False)
        if self._makes(statement) or (isinstance(statement, LOOPS) and len(self.ranges) > before):
            self._take(statement, certain=certain and not inside)

    def head(self, owner: ast.AST) -> None:
        """The same for the loop or `with` around what was sliced."""
        if isinstance(owner, (ast.For, ast.AsyncFor, ast.With, ast.AsyncWith)) and self._makes(
            owner
        ):
            self._take(owner, certain=False)

    def _makes(self, statement: ast.stmt) -> bool:
        made = assigned(statement)
        if made & self.needed:
            return True
        changed = mutated(statement)
        # A model is called to change itself too (`model.train()`), but it is made before the loop.
        return bool(changed & self.needed & self.varies)

    def _take(self, statement: ast.stmt, *, certain: bool) -> None:
        parts = [statement] if isinstance(statement, FUNCTIONS) else heads(statement)
        if certain and isinstance(statement, ast.Assign):
            self.needed -= assigned(statement)
        read = {name for part in parts for name in loaded(part)}
        self.sources |= read
        self.needed |= read
        if parts:
            first = min(getattr(part, "lineno", statement.lineno) for part in parts)
            last = max(getattr(part, "end_lineno", None) or statement.lineno for part in parts)
            self.ranges.append((min(first, statement.lineno), last))


def batch_making(
    function: ast.AST, line: int, *, each_step: bool, needed: set[str] | None = None
) -> Slice:
    """What makes the values used at `line` (or of those the `needed`), in the loops around it.

    `each_step`: the whole function runs each step, so all that comes before counts.
    """
    way = levels(function, line)
    varies = {
        name
        for level in way
        if each_step or isinstance(level.owner, LOOPS)
        for name in _all_assigned(level.owner)
    }
    used = _used(way[-1].on_line(line)) if way else set()
    # A closure made in the loop reads the batch: calling it is using it.
    closures = {s.name for lv in way if repeats(lv) for s in lv.block if isinstance(s, FUNCTIONS)}
    found = Slice(closures | used if needed is None else set(needed), varies)
    for depth in reversed(range(len(way))):
        if not each_step and not any(repeats(level) for level in way[: depth + 1]):
            break
        level = way[depth]
        for statement in reversed(level.block[: level.index]):
            found.statement(statement, certain=True)
        found.head(level.owner)
        if isinstance(level.owner, LOOPS) and found.sources:
            # Outside of the loop only what the batch is made of counts, and not the model.
            found.needed &= found.sources
    return found


def _used(row: list[ast.stmt]) -> set[str]:
    """What a line reads of before: which of `optimizer.zero_grad(); loss = f(model(x))` calls the
    model the line does not tell, and what comes after a backward reads what has been made."""
    last = next((i for i, one in enumerate(row) if _goes_back(one)), len(row) - 1)
    names: set[str] = set()
    for statement in reversed(row[: last + 1]):
        if isinstance(statement, ast.Assign):
            names -= assigned(statement)
        names = names.union(*(loaded(part) for part in heads(statement)))
    return names


def _goes_back(statement: ast.stmt) -> bool:
    calls = [n for part in heads(statement) for n in ast.walk(part) if isinstance(n, ast.Call)]
    return any(isinstance(c.func, ast.Attribute) and c.func.attr == "backward" for c in calls)


def assigned(statement: ast.AST) -> set[str]:
    """Names that the statement itself binds."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return {statement.name}
    return {name for part in _own_parts(statement) for name in _stored(part)}


def loaded(part: ast.AST) -> set[str]:
    """Names that are read in it, save those that are merely called."""
    names = set()
    called = {id(node.func) for node in ast.walk(part) if isinstance(node, ast.Call)}
    for node in ast.walk(part):
        if id(node) in called and _is_plain(node):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.AugAssign):
            names |= _stored(node.target)
    return names


def handed(statement: ast.stmt, function: ast.AST, names: set[str]) -> set[str]:
    """Names in the arguments that a call of `function` in `statement` gives its `names`."""
    if not isinstance(function, FUNCTIONS):
        return set()
    found: set[str] = set()
    order = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    calls = [n for part in heads(statement) for n in ast.walk(part) if isinstance(n, ast.Call)]
    for call in calls:
        bound = isinstance(call.func, ast.Attribute) and order[:1] in (["self"], ["cls"])
        name = getattr(call.func, "attr", None) or getattr(call.func, "id", None)
        if name == function.name:
            given = list(zip(order[1:] if bound else order, call.args, strict=False))
            given += [(k.arg, k.value) for k in call.keywords if k.arg is not None]
            found |= {n for parameter, value in given if parameter in names for n in loaded(value)}
    return found


def parameters(function: ast.AST) -> set[str]:
    """Names that the caller gives."""
    if not isinstance(function, FUNCTIONS):
        return set()
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    every += [one for one in (given.vararg, given.kwarg) if one is not None]
    return {argument.arg for argument in every}


def _stored(part: ast.AST) -> set[str]:
    """Names that are bound in it; those of a comprehension are its own."""
    names = set()
    own = {
        id(name)
        for node in ast.walk(part)
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
    }
    for node in (node for node in ast.walk(part) if id(node) not in own):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
        ):
            names.add(f"{node.value.id}.{node.attr}")
    return names


def _is_plain(called: ast.AST) -> bool:
    """`model(…)` and `self.model(…)`; in `batch.to(…)` the batch is read."""
    return isinstance(called, ast.Name) or (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and called.value.id in ("self", "cls")
    )


def _own_parts(statement: ast.AST) -> Iterable[ast.AST]:
    return heads(statement) if isinstance(statement, ast.stmt) else ()


def mutated(statement: ast.stmt) -> set[str]:
    """What is changed in place: `x[i] = …`, `x.y = …`, `x.add_(…)`."""
    names = set()
    for target in _targets(statement):
        while isinstance(target, (ast.Subscript, ast.Attribute)):
            target = target.value
            if isinstance(target, ast.Name):
                names.add(target.id)
    call = statement.value if isinstance(statement, ast.Expr) else None
    method = call.func if isinstance(call, ast.Call) else None
    if isinstance(method, ast.Attribute) and isinstance(method.value, ast.Name):
        names.add(method.value.id)
    return names


def _targets(statement: ast.stmt) -> Iterator[ast.expr]:
    if isinstance(statement, ast.Assign):
        yield from statement.targets
    elif isinstance(statement, (ast.AugAssign, ast.AnnAssign)):
        yield statement.target


def _all_assigned(owner: ast.AST) -> set[str]:
    own = _stored(owner.target) if isinstance(owner, (ast.For, ast.AsyncFor)) else set()
    inside = (name for block in blocks(owner) for s in block for name in _stored(s))
    return own | set(inside)
