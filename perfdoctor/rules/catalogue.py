"""Which rules there are: the built-in ones and those of other packages."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from perfdoctor import plugins
from perfdoctor.errors import PerfdoctorError
from perfdoctor.rules import BUILTIN, Rule

#: The first two digits' meaning, as `perfdoctor rules` shows it.
FAMILIES = {
    "PD1": "data loading",
    "PD2": "transfer and compute",
    "PD3": "memory",
    "PD4": "optimizer and architecture search",
    "PD5": "evaluation, checkpoint, logging",
    "PD6": "distributed",
    "PD7": "trends over a run",
    "PD9": "the measurement itself",
}

_ATTRIBUTES = ("code", "name", "needs", "verify_with", "cause", "thresholds")


@dataclass(frozen=True)
class Catalogue:
    """Rules in the order of their codes, and a line for each that could not be loaded."""

    rules: tuple[Rule, ...]
    problems: tuple[str, ...] = ()


def builtin() -> tuple[Rule, ...]:
    """The rules of this package, in the order of their codes."""
    return tuple(_builtin(where) for where, _ in BUILTIN.values())


def load() -> Catalogue:
    """The built-in rules, then those of the entry point group `perfdoctor.rules`."""
    rules: dict[str, Rule] = {rule.code: rule for rule in builtin()}
    found = plugins.load(plugins.RULES)
    problems = list(found.problems)
    for thing in found.objects:
        problem = _add(rules, thing)
        if problem is not None:
            problems.append(problem)
    return Catalogue(tuple(rules[code] for code in sorted(rules)), tuple(problems))


def find(rules: Sequence[Rule], wanted: str) -> Rule:
    """The rule with this code or name.

    Raises:
        PerfdoctorError: there is none; says which ones are like it.
    """
    for rule in rules:
        if wanted.lower() in (rule.code.lower(), rule.name):
            return rule
    known = [word for rule in rules for word in (rule.code, rule.name)]
    code = wanted.upper().replace("O", "0").replace("I", "1")
    near = difflib.get_close_matches(code, known, n=3)
    near += difflib.get_close_matches(wanted.lower(), known, n=3)
    hint = f"did you mean {' or '.join(near[:3])}?" if near else "`perfdoctor rules` lists them all"
    raise PerfdoctorError(f"no rule {wanted!r}: {hint}", slug="unknown-rule")


def explanation(rule: Rule) -> str:
    """The rule's docstring as Markdown, under its code and name."""
    return f"# {rule.code} {rule.name}\n\n{inspect.getdoc(type(rule)) or ''}\n"


def attributes(rule: Rule) -> str:
    """What a rule says besides its docstring: family, cause, needs, experiment, in one line."""
    told = [f"family {family(rule)}", f"cause `{rule.cause}`"]
    if rule.needs:
        told.append("needs " + ", ".join(f"`{path}`" for path in rule.needs))
    if rule.verify_with:
        told.append(f"tried by the experiment `{rule.verify_with}`")
    return "; ".join(told)


def one_line(rule: Rule) -> str:
    """The first line of the rule's docstring."""
    return (inspect.getdoc(type(rule)) or "").split("\n", 1)[0]


def section(rule: Rule, heading: str) -> str:
    """What the rule's docstring says under a heading, without it; empty where it has none."""
    text = inspect.getdoc(type(rule)) or ""
    _, _, rest = text.partition(f"## {heading}\n")
    return rest.split("\n## ", 1)[0].strip()


def why_unpredicted(rule: Rule) -> str:
    """The sentence that says why the gain is not predicted: the docstring's, if it has one."""
    text = " ".join(section(rule, "How the gain is predicted").split())
    sentences = [s.strip().rstrip(".") for s in text.replace(": ", "\x00").split(". ")]
    for sentence in sentences:
        before, _, reason = sentence.partition("\x00")
        if reason and before.endswith(_NOT_PREDICTED):
            return reason.replace("\x00", ": ")
    return "this was not measured here"


#: How the docstrings begin the sentence that gives the reason.
_NOT_PREDICTED = ("It is not", "There is none", "it is not", "Not as a speed-up", "else it is not")


def family(rule: Rule) -> str:
    """What the rule's family is about; its package's own prefix for third-party ones."""
    return FAMILIES.get(rule.code[:3], rule.code.rstrip("0123456789"))


def _builtin(where: str) -> Rule:
    module, _, name = where.partition(":")
    rule: Rule = getattr(import_module(module), name)()
    return rule


def _add(rules: dict[str, Rule], thing: Any) -> str | None:
    """Adds another package's rule, or says why not."""
    try:
        rule = thing() if isinstance(thing, type) else thing
    except Exception as error:  # another package's code may raise anything
        return f"rule {thing!r} cannot be made: {error}"
    lacking = [name for name in (*_ATTRIBUTES, "evaluate") if not hasattr(rule, name)]
    if lacking:
        return f"{thing!r} is not a rule: it has no {', '.join(lacking)}"
    if rule.code in rules:
        return f"rule {rule.code} of {type(rule).__module__} is ignored: the code is taken"
    rules[rule.code] = rule
    return None
