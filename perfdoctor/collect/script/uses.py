"""What a function does with what a statement makes: logs, keeps or returns it, decides by it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from perfdoctor.collect.script import work
from perfdoctor.collect.script.reading_names import KEEPING
from perfdoctor.collect.script.slicing import assigned, loaded
from perfdoctor.collect.script.source import FUNCTIONS, blocks, call_name, heads

FORS = (ast.For, ast.AsyncFor)
_ASSIGNS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_PLAIN = (*_ASSIGNS, *FORS, ast.With, ast.AsyncWith, ast.Delete)
#: Calls of trackers and of progress bars, whatever their objects are called.
_LOGS = re.compile(
    r"\.(?:add_(?:scalars?|histogram(?:_raw)?|text|image|figure)|info|debug|track"
    r"|set_(?:postfix|description)(?:_str)?)$"
)
#: Of these, `log` is the logarithm; "": of what a call gives.
_CALCULATE = frozenset(["", "torch", "np", "numpy", "math", "F", "jnp"])
#: What numbers are kept in until they are shown.
_KEPT_IN = re.compile(
    r"(?:^|[._])(?:hist\w*|logs?|logged|records?|recorded|stats?|statistics|traces?|track\w*"
    r"|reports?|monitor\w*|norms?|curves?|snapshots?)(?:_\w+)?$",
    re.IGNORECASE,
)
#: Comparisons that only ask whether there is something.
_ASK = (ast.Is, ast.IsNot, ast.In, ast.NotIn)
#: What is made of what is made of …: no code goes further.
_MOST_ROUNDS = 4


@dataclass(frozen=True)
class Uses:
    """`logged`: a log is given it. `kept`: it is put where numbers are kept until they are shown.
    `returned`: the caller is given it. `decides`: anything else is done with it, as to compare it
    or to hand it to another function."""

    logged: bool = False
    kept: bool = False
    returned: bool = False
    decides: bool = False


def uses(function: ast.AST, statement: ast.stmt, made: Set[str], through: Set[str]) -> Uses:
    """What becomes of the names that `statement`, with all inside it, has `made`, there and in the
    rest of the function; `through` are the names of what it goes through."""
    inside = [node for node in ast.walk(statement) if isinstance(node, ast.stmt)]
    known = made | through
    logged = any(_logs(call, known) for call in _calls(statement) if _is_given(call, known))
    others = [one for one in statements(function) if one not in inside]
    kept = any(_keeps(one) for one in inside)
    first = Uses(logged, kept, isinstance(statement, ast.Return))
    return _together(first, others, made)


def given(function: ast.AST, statement: ast.stmt, name: str) -> Uses:
    """The same of what the function of that name gives to the statement that calls it."""
    calls = [call for part in heads(statement) for call in _calls(part)]
    logged = any(_logs(call, set()) for call in calls if _is_given(call, set(), name))
    others = [one for one in statements(function) if one is not statement]
    decides = isinstance(statement, (ast.If, ast.While, ast.Assert)) and not logged
    first = Uses(logged, _keeps(statement), isinstance(statement, ast.Return), decides)
    return _together(first, others, assigned(statement) | _kept_in(statement))


def _together(first: Uses, others: list[ast.stmt], made: Set[str]) -> Uses:
    whole = closure(others, made)
    found = [first, *(_use(one, whole) for one in others)]
    return Uses(
        logged=any(one.logged for one in found),
        kept=any(one.kept for one in found),
        returned=any(one.returned for one in found),
        decides=any(one.decides for one in found),
    )


def closure(others: Iterable[ast.stmt], made: Set[str]) -> Set[str]:
    """The names with what these statements make of them in turn."""
    every = list(others)
    for _ in range(_MOST_ROUNDS):
        made = made | {n for s in every if loads(s, made) for n in assigned(s) | _kept_in(s)}
    return made


def names_kept(statement: ast.stmt) -> set[str]:
    """Names that the statement, or one in it, binds, or keeps something in: `x[i] = …`,
    `x.append(…)`."""
    inside = (node for node in ast.walk(statement) if isinstance(node, ast.stmt))
    return {name for one in inside for name in assigned(one) | _kept_in(one)}


def _kept_in(statement: ast.stmt) -> set[str]:
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    held = {_base(t) for t in targets if isinstance(t, (ast.Subscript, ast.Attribute))}
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        held |= {_base(call.func.value)} if call.func.attr in KEEPING else set()
    return held - {""}


def _keeps(statement: ast.stmt) -> bool:
    return any(_KEPT_IN.search(name) for name in _kept_in(statement))


def _use(statement: ast.stmt, made: Set[str]) -> Uses:
    if not loads(statement, made):
        return Uses()
    calls = [call for part in heads(statement) for call in _calls(part)]
    if any(_logs(call, made) for call in calls if _is_given(call, made)):
        return Uses(logged=True)
    if isinstance(statement, ast.Return):
        return Uses(returned=True)
    if isinstance(statement, ast.If):
        return Uses(decides=_compares(statement.test, made) or not _calls_log(statement, made))
    return Uses(kept=_keeps(statement), decides=_decides(statement))


def _decides(statement: ast.stmt) -> bool:
    kept = _kept_in(statement)
    changes = any(name.endswith((".grad", ".data")) for name in kept)
    return changes or not (kept or isinstance(statement, _PLAIN))


def _calls_log(statement: ast.stmt, made: Set[str]) -> bool:
    return any(_logs(call, made) for call in _calls(statement))


def _compares(test: ast.expr, made: Set[str]) -> bool:
    compared = (node for node in ast.walk(test) if isinstance(node, ast.Compare))
    return any(loaded(one) & made and not isinstance(one.ops[0], _ASK) for one in compared)


def _is_given(call: ast.Call, names: Set[str], called: str = "") -> bool:
    """Whether it is given one of these, or what the function of that name returns."""
    parts = [*call.args, *(keyword.value for keyword in call.keywords)]
    asked = {name.rpartition(".")[2] for part in parts for name in call_names(part)}
    return (called != "" and called in asked) or any(loaded(part) & names for part in parts)


def _logs(call: ast.Call, made: Set[str]) -> bool:
    """Whether it is the call of a log; `x.log()` is none of what is made."""
    name = call_name(call)
    known = work.of_call(name)
    if _LOGS.search(name) or (known is not None and known.stage == work.LOGGING):
        return True
    on, _, last = name.rpartition(".")
    named = work.of_name(last)
    if named is None or named.stage != work.LOGGING:
        return False
    root = name.partition(".")[0]
    return "." not in name or (root not in _CALCULATE and not {root, on} & made)


def loads(statement: ast.stmt, names: Set[str]) -> bool:
    """Whether the statement itself reads one of these."""
    return any(loaded(part) & names for part in heads(statement))


def call_names(part: ast.AST) -> set[str]:
    """The dotted names of all calls in it."""
    return {call_name(call) for call in _calls(part)}


def _calls(part: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(part) if isinstance(node, ast.Call)]


def statements(owner: ast.AST) -> Iterator[ast.stmt]:
    """All of a function, but those of functions in it."""
    for block in blocks(owner):
        for statement in block:
            yield statement
            if not isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
                yield from statements(statement)


def _base(node: ast.AST) -> str:
    """`record` of `record["norm"][name]`, `self.norms` of `self.norms[name]`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
