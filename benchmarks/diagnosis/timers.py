"""Runs a script with manual timers around the statements that its truth names.

    python timers.py SCRIPT TRUTH_JSON OUT_JSON

`timers` in the truth maps a stage to what is timed: a piece of a statement's first line (a `for`
times each `next`, a `def` the whole body, anything else the statement), or `call:MODULE:NAME` for
a function of a library that the script does not call itself. Times are each stage's own; what runs
inside validation or a checkpoint belongs to that. The clock leaves out the time for which the main
thread stood ready but had no core, so a busy machine does not shift the shares.
"""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import sys
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WHOLE = {"validation", "checkpoint", "arch_step", "metrics"}


class Timers:
    """Own time of nested stages, in seconds."""

    def __init__(self) -> None:
        try:
            self._schedule = os.open("/proc/self/schedstat", os.O_RDONLY)
        except OSError:
            self._schedule = -1
        self.own_s: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self.began = self._mark = self.clock()
        self.first: float | None = None

    def clock(self) -> float:
        """Seconds in which the main thread ran or slept."""
        now = time.perf_counter()
        if self._schedule < 0:
            return now
        return now - int(os.pread(self._schedule, 64, 0).split()[1]) / 1e9

    def _charge(self) -> None:
        now = self.clock()
        if self._open:
            self.own_s[self._open[-1]] += now - self._mark
        self._mark = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._charge()
        if self.first is None:
            self.first = self._mark
        self._open.append(self._open[-1] if self._open and self._open[-1] in WHOLE else name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def each(self, name: str, items: Iterable[Any]) -> Iterator[Any]:
        """Times how long each item takes to come."""
        with self.stage(name):
            source = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return timed

    def shares(self) -> dict[str, Any]:
        """Shares of the training (from the first timed stage on) and of the whole run."""
        end = self.clock()
        training_s = end - (self.began if self.first is None else self.first)
        stages = sorted(self.own_s.items(), key=lambda item: -item[1])
        return {
            "training": {name: own / training_s for name, own in stages},
            "wall": {name: own / (end - self.began) for name, own in stages},
            "wall_s": end - self.began,
        }


class Placer(ast.NodeTransformer):
    """Puts the timers into a script's syntax tree."""

    def __init__(self, source: str, pieces: dict[str, str]) -> None:
        self.lines = source.splitlines()
        self.pieces = pieces
        self.used: set[str] = set()

    def stage_of(self, node: ast.stmt) -> str | None:
        line = self.lines[node.lineno - 1]
        for piece, stage in self.pieces.items():
            if piece in line:
                self.used.add(piece)
                return stage
        return None

    def visit(self, node: ast.AST) -> Any:
        stage = self.stage_of(node) if isinstance(node, ast.stmt) else None
        self.generic_visit(node)
        if stage is None or not isinstance(node, ast.stmt):
            return node
        if isinstance(node, ast.For):
            node.iter = _parsed(f"__timers__.each({stage!r}, None)", node.iter)
        elif isinstance(node, ast.FunctionDef):
            node.body = [_timed(stage, node.body)]
        else:
            return _timed(stage, [node])
        return node


def _parsed(call: str, argument: ast.expr) -> ast.expr:
    expression = ast.parse(call, mode="eval").body
    assert isinstance(expression, ast.Call)
    expression.args[1] = argument
    return expression


def _timed(stage: str, body: list[ast.stmt]) -> ast.stmt:
    (block,) = ast.parse(f"with __timers__.stage({stage!r}): pass").body
    assert isinstance(block, ast.With)
    block.body = body
    return block


def _wrap_call(timers: Timers, stage: str, place: str) -> None:
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, timers.wrap(stage, getattr(owner, name)))


def main(script: str, truth: str, out: str) -> None:
    source = Path(script).read_text()
    wanted = json.loads(Path(truth).read_text())["timers"]
    pieces = {piece: stage for stage, found in wanted.items() for piece in found}
    timers = Timers()
    for piece in [piece for piece in pieces if piece.startswith("call:")]:
        _wrap_call(timers, pieces.pop(piece), piece.removeprefix("call:"))
    placer = Placer(source, pieces)
    tree = ast.fix_missing_locations(placer.visit(ast.parse(source)))
    if unused := pieces.keys() - placer.used:
        sys.exit(f"{script}: no statement holds {sorted(unused)}")
    module = types.ModuleType("__main__")
    module.__file__ = script
    module.__dict__["__timers__"] = timers
    sys.modules["__main__"] = module
    sys.argv = [script]
    sys.path[0] = str(Path(script).parent)
    try:
        exec(compile(tree, script, "exec"), module.__dict__)
    finally:
        Path(out).write_text(json.dumps(timers.shares()))


if __name__ == "__main__":
    main(*sys.argv[1:4])
