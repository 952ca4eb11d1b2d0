"""How many hooks the modules and parameters of a training have, early on and later.

A hook that is registered in each epoch, validation or step and never removed runs once more in
every pass from then on. Only how many there are is counted, after a few early steps, then now
and then, and in the end: hooks that come and go between two of these are none that pile up.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import PurePath
from typing import Any

from perfdoctor.collect.script.qualified import qualified_name
from perfdoctor.stages import BACKWARD, FORWARD

#: Steps after which they are counted: the session looks after these anyway.
_EARLY, _EVERY = frozenset({3, 20, 40, 60, 80}), 100
#: Modules and parameters together whose hooks are counted: about 1 ms on two cores.
_MOST_HOLDERS = 1000
#: Of the hooks of one module so many, the newest, are looked into for what they are.
_MOST_NEWEST = 64
#: Fewer counts do not tell what comes again and again from what comes once.
_FEWEST_LOOKS = 3
#: Functions within functions, as `functools.partial` makes them, that are looked through.
_DEEPEST = 4

_OF_MODULE = {
    "_forward_hooks": FORWARD,
    "_forward_pre_hooks": FORWARD,
    "_backward_hooks": BACKWARD,
    "_backward_pre_hooks": BACKWARD,
}
_OF_PARAMETER = ("_backward_hooks", "_post_accumulate_grad_hooks")


@dataclass
class _Counted:
    """Hooks that run in one stage; `rises`: how often there were more of them than ever before.

    Of the module or parameter with the most of them: how many are of one function, its name and
    where it is.
    """

    first: int
    last: int
    most: int
    rises: int = 0
    alike: int = 0
    name: str = ""
    place: str = ""


@dataclass
class PiledHooks:
    """Counts them for a whole run, and remembers nothing but numbers and names."""

    _counted: dict[str, _Counted] = field(default_factory=dict)
    _looks: int = 0
    _ended: bool = False

    def step(self, count: int, modules: Callable[[], Iterable[Any]]) -> None:
        """After step `count`; `modules` gives the outermost ones that have parameters."""
        if self._ended or (count not in _EARLY and count % _EVERY):
            return
        self._look(modules)
        self._looks += 1

    def at_end(self, modules: Callable[[], Iterable[Any]]) -> None:
        """After the last step, which may be long after the last look. Fewer than then tell of who
        tidies up."""
        if not self._ended and self._looks:
            self._look(modules, only_more=True)

    def _look(self, modules: Callable[[], Iterable[Any]], *, only_more: bool = False) -> None:
        try:
            for stage, held in _held(modules()).items():
                known = self._counted.get(stage)
                if not only_more or known is None or sum(map(len, held)) > known.last:
                    self._note(stage, held)
        except Exception:  # modules of anyone's making
            self._ended, self._counted = True, {}

    def settings(self) -> dict[str, Any]:
        """As configuration: hooks at first and at last, of the stages in which they became more
        (else of all); and of these stages which, how often they became more, how many are of one
        function at one module, and its name and place. Nothing of few looks."""
        if self._looks < _FEWEST_LOOKS or not self._counted:
            return {}
        grown = {stage: one for stage, one in self._counted.items() if one.last > one.first}
        counted = grown or self._counted
        found: dict[str, Any] = {
            "hooks_at_first": sum(one.first for one in counted.values()),
            "hooks_at_last": sum(one.last for one in counted.values()),
        }
        if not grown:
            return found
        most = max(grown.values(), key=lambda one: one.alike)
        found |= {
            "hooks_stages": ", ".join(grown),
            "hooks_rises": max(one.rises for one in grown.values()),
            "hooks_alike": most.alike,
            "hooks_function": most.name,
        }
        return found | ({"hooks_where": most.place} if most.place else {})

    def _note(self, stage: str, held: list[dict[Any, Any]]) -> None:
        count = sum(map(len, held))
        one = self._counted.setdefault(stage, _Counted(count, count, count))
        one.last = count
        if count > one.most:
            one.most, one.rises = count, one.rises + 1
            one.alike, one.name, one.place = _commonest(max(held, key=len))


def _held(roots: Iterable[Any]) -> dict[str, list[dict[Any, Any]]]:
    """Stage → what holds hooks that run in it, where it holds any."""
    found: dict[str, list[dict[Any, Any]]] = {FORWARD: [], BACKWARD: []}
    everywhere = vars(sys.modules["torch.nn.modules.module"])
    for name, stage in _OF_MODULE.items():
        if everywhere.get(f"_global{name}"):
            found[stage].append(everywhere[f"_global{name}"])
    waiting, left = list(roots), _MOST_HOLDERS
    seen = {id(module) for module in waiting}
    while waiting and left > 0:
        own = waiting.pop().__dict__
        for name, stage in _OF_MODULE.items():
            if own.get(name):
                found[stage].append(own[name])
        parameters = list((own.get("_parameters") or {}).values())[:left]
        if parameters:
            found[BACKWARD] += _of_parameters(parameters, seen)
        for inner in (own.get("_modules") or {}).values():
            if inner is not None and id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)
        left -= 1 + len(parameters)
    return found


def _of_parameters(parameters: Iterable[Any], seen: set[int]) -> list[dict[Any, Any]]:
    """What holds hooks of those that were not seen before, which it adds to `seen`."""
    found = []
    for parameter in parameters:
        if parameter is not None and id(parameter) not in seen:
            seen.add(id(parameter))
            for name in _OF_PARAMETER:
                if hooks := getattr(parameter, name, None):
                    found.append(hooks)
    return found


def _commonest(hooks: dict[Any, Any]) -> tuple[int, str, str]:
    """How many of these are of one function, by the newest of them; its name, and its file and
    line where it is Python's."""
    newest = [_code(hook) for hook in islice(reversed(hooks.values()), _MOST_NEWEST)]
    key, times = Counter(newest).most_common(1)[0]
    alike = round(times / len(newest) * len(hooks))
    if isinstance(key, type):
        return alike, key.__name__, ""
    name = qualified_name(key).rpartition("<locals>.")[2]
    return alike, name, f"{PurePath(key.co_filename).name}:{key.co_firstlineno}"


def _code(hook: Any) -> Any:
    """The code that a hook runs, whatever it is bound to; its type where that is none of Python's.
    Functions that are made anew each time, as lambdas, share it."""
    for _ in range(_DEEPEST):
        if type(hook) is partial:
            hook = hook.func
    code = getattr(hook, "__code__", None) or getattr(type(hook).__call__, "__code__", None)
    return type(hook) if code is None else code
