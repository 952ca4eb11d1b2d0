"""The source of functions that have run: their syntax trees, statements and loops."""

from __future__ import annotations

import ast
import dis
import functools
import linecache
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
#: Source that a person wrote is smaller; a generated table of megabytes is not worth parsing.
_LARGEST_LINES = 50_000
#: Python warns of "\\d" in a string once more when it is parsed here, and silencing that would
#: change the script's warning filters. What strings hold does not matter here: only their ends.
_ESCAPE = re.compile(r"\\(.)")
_KEPT_ESCAPES = "\\'\"N"
#: How executors and pools are asked for results: for all at once, and for some to be taken there.
_ASKS = (re.compile(r"\w\.(?:star)?map$"), re.compile(r"\.(?:submit|\w*map|\w*_async)$"))


@dataclass(frozen=True)
class Level:
    """One block on the way to a statement: `block[index]` is it, or holds it; `owner` the block."""

    block: list[ast.stmt]
    index: int
    owner: ast.AST

    @property
    def statement(self) -> ast.stmt:
        """What leads on."""
        return self.block[self.index]

    def on_line(self, line: int) -> list[ast.stmt]:
        """All the block's statements at `line`, in their order: `a(); b()` are two."""
        return [one for one in self.block[self.index :] if _holds(one, line)]


def function_of(code: CodeType) -> Function | None:
    """The definition that `code` was compiled from; None without source, or for a lambda."""
    return _function(code.co_filename, code.co_name, code.co_firstlineno)


def function_at(module: ast.Module, line: int) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The innermost function at a line; None outside of any."""
    around = [
        node
        for node in ast.walk(module)
        if isinstance(node, FUNCTIONS) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return max(around, key=lambda node: node.lineno, default=None)


def line_of(code: CodeType, instruction: int) -> int | None:
    """The line of an instruction (`f_lasti`)."""
    for start, end, line in code.co_lines():
        if start <= instruction < end:
            return line
    return None


def levels(function: ast.AST, line: int) -> list[Level]:
    """The blocks from the function's own down to the innermost statement at `line`."""
    found: list[Level] = []
    owner = function
    while True:
        level = next(
            (_level(owner, block, line) for block in blocks(owner) if _at(block, line)), None
        )
        if level is None or isinstance(level.statement, (*FUNCTIONS, ast.ClassDef)):
            return found
        found.append(level)
        owner = level.statement


def blocks(owner: ast.AST) -> Iterator[list[ast.stmt]]:
    """The lists of statements directly inside a statement or function."""
    for name in ("body", "orelse", "finalbody"):
        inside = getattr(owner, name, None)
        if isinstance(inside, list) and inside and isinstance(inside[0], ast.stmt):
            yield inside
    for part in (*getattr(owner, "handlers", ()), *getattr(owner, "cases", ())):
        yield part.body


def loops_at(function: ast.AST, line: int) -> list[ast.stmt]:
    """The loops whose body encloses `line`, outermost first."""
    owners = (level.owner for level in levels(function, line) if repeats(level))
    return [owner for owner in owners if isinstance(owner, ast.stmt)]


def in_one_loop(code: CodeType, lines: Sequence[int]) -> bool:
    """Whether one loop of the function runs all these lines."""
    function = function_of(code)
    if function is None:
        return any(all(a <= line <= b for line in lines) for a, b in compiled_loops(code))
    enclosing = [set(loops_at(function, line)) for line in lines]
    if set.intersection(*enclosing):
        return True
    return all(_in_comprehension(function, line) for line in lines)


@functools.lru_cache(maxsize=256)
def compiled_loops(code: CodeType) -> tuple[tuple[int, int], ...]:
    """First and last line of each loop, as far as the jumps back tell, where there is no source."""
    found = []
    for instruction in dis.get_instructions(code):
        target = instruction.argval
        # The one without interrupt waits for an awaited value.
        jumps = "JUMP" in instruction.opname and "NO_INTERRUPT" not in instruction.opname
        if jumps and isinstance(target, int) and target < instruction.offset:
            inside = [n for a, _, n in code.co_lines() if n and target <= a <= instruction.offset]
            if inside:
                found.append((min(inside), max(inside)))
    return tuple(found)


def calls_at(file: str, line: int) -> tuple[str, ...]:
    """Dotted names, as written, of the calls in each statement at `line`, outermost first.

    Of a statement that holds others only its head counts.
    """
    module = module_of(file)
    found = [] if module is None else _statements_at(module, line)
    nodes = [node for one in found for part in heads(one) for node in ast.walk(part)]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    on_line = [call for call in calls if call.lineno <= line <= (call.end_lineno or call.lineno)]
    return tuple(name for name in map(call_name, on_line) if name)


def asked_at_once(file: str, line: int) -> str | None:
    """What the innermost statement at `line` asks a pool for, as written, and waits for at once:
    "pool.map" of `list(pool.map(f, xs))`, "pool.submit" of `pool.submit(f, x).result()`.

    Who loops over results is given one while others are made; and a result may be one of before.
    """
    module = module_of(file)
    statement = None if module is None else statement_at(module, line)
    if statement is None or isinstance(statement, (ast.For, ast.AsyncFor)):
        return None
    nodes = [node for part in heads(statement) for node in ast.walk(part)]
    if any(isinstance(node, ast.YieldFrom) for node in nodes):
        return None
    attributes = (node.value for node in nodes if isinstance(node, ast.Attribute))
    asked_on = {id(value) for value in attributes if isinstance(value, ast.Call)}
    calls = [(call_name(node), id(node)) for node in nodes if isinstance(node, ast.Call)]
    at_once = (name for name, call in calls if _ASKS[call in asked_on].search(name))
    return next(at_once, None)


def heads(statement: ast.stmt) -> list[ast.AST]:
    """What a statement evaluates itself: without the statements inside it."""
    if not any(True for _ in blocks(statement)):
        return [statement]
    inside = {id(s) for block in blocks(statement) for s in block}
    skip = (*FUNCTIONS, ast.ExceptHandler, ast.match_case)
    children = [c for c in ast.iter_child_nodes(statement) if id(c) not in inside]
    return [child for child in children if not isinstance(child, skip)]


def statement_at(module: ast.AST, line: int) -> ast.stmt | None:
    """The innermost statement at `line`; of several in a row the first."""
    return next(iter(_statements_at(module, line)), None)


def _statements_at(module: ast.AST, line: int) -> list[ast.stmt]:
    owner = module
    found: list[ast.stmt] = []
    while True:
        inside = [s for block in blocks(owner) for s in block if _holds(s, line)]
        if not inside:
            return found
        found = inside
        owner = inside[0]


def call_name(call: ast.Call) -> str:
    """The dotted name of what is called, as written; it begins with a dot where that is called on
    what has no name."""
    parts: list[str] = []
    node: ast.AST = call.func
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    # `f(x).mean()`: what it is called on has no name.
    parts.append(node.id if isinstance(node, ast.Name) else "")
    return ".".join(reversed(parts))


def _level(owner: ast.AST, block: list[ast.stmt], line: int) -> Level:
    index = next(i for i, statement in enumerate(block) if _holds(statement, line))
    return Level(block, index, owner)


def _at(block: list[ast.stmt], line: int) -> bool:
    return any(_holds(statement, line) for statement in block)


def _holds(statement: ast.stmt, line: int) -> bool:
    return statement.lineno <= line <= (statement.end_lineno or statement.lineno)


def repeats(level: Level) -> bool:
    """A loop's `else` runs once."""
    return isinstance(level.owner, LOOPS) and level.block is level.owner.body


@functools.lru_cache(maxsize=4096)
def loops_around(file: str, name: str, first_line: int, line: int) -> int:
    """Loops and comprehensions around a line of a function, which is known by its name and first
    line; 0 without source."""
    function = _function(file, name, first_line)
    if function is None:
        return 0
    return len(loops_at(function, line)) + _in_comprehension(function, line)


def _in_comprehension(function: ast.AST, line: int) -> bool:
    kinds = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    found = [node for node in ast.walk(function) if isinstance(node, kinds)]
    return any(node.lineno <= line <= (node.end_lineno or node.lineno) for node in found)


@functools.lru_cache(maxsize=512)
def _function(file: str, name: str, first_line: int) -> Function | None:
    module = module_of(file)
    if module is None or name == "<module>":
        return module
    for node in ast.walk(module):
        if not isinstance(node, FUNCTIONS) or node.name != name:
            continue
        # A decorated function's code begins at its first decorator.
        if min([node.lineno, *(d.lineno for d in node.decorator_list)]) == first_line:
            return node
    return None


def _harmless(escape: re.Match[str]) -> str:
    return escape[0] if escape[1] in _KEPT_ESCAPES else "__"


@functools.lru_cache(maxsize=64)
def module_of(file: str) -> ast.Module | None:
    """The syntax tree of a file; None without source."""
    lines = linecache.getlines(file)
    if not lines or len(lines) > _LARGEST_LINES:
        return None
    try:
        return ast.parse(_ESCAPE.sub(_harmless, "".join(lines)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
