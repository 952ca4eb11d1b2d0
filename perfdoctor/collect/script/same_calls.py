"""Functions of the script's that the forward pass, or the loss after it, calls with the very same
arguments each step.

In a few steps every call of such a function is noted while the model and its loss are computed
(`sys.setprofile`, for the main thread alone). Patching functions could not do this: nobody knows
them beforehand, and the source does not tell which tensors are the same. One that is given what it
was given in the steps before, draws nothing, reads nothing that is trained and gives the same could
have been called once.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from perfdoctor.collect.script.drawn_names import draws
from perfdoctor.collect.script.libraries import USER, Libraries
from perfdoctor.collect.script.value_keys import Reader, Unfit, print_of

#: Steps that are looked at: a few early ones, and then those that are noted anyway, see `session`.
EARLY = frozenset({3, 6, 12, 28, 100, 300})
_EVERY, _MOST_LOOKS = 1000, 16
#: So many looks have to agree.
_FEWEST = 3
#: After so many looks no function that was not seen before is looked at.
_MEETS = 3
#: Events of one step that are looked at, tens of milliseconds; calls of a function to compare.
_MOST_EVENTS, _MOST_CALLS = 60_000, 64
#: Functions that are remembered.
_MOST_FUNCTIONS = 2000
_SUSPENDED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
#: Functions in C whose result is another each time, beside those that draw.
_CHANGING_NAMES = (
    "next open read readline recv time time_ns perf_counter perf_counter_ns monotonic getenv"
    " rand randn randint randperm rand_like randn_like randint_like dropout dropout_"
    " alpha_dropout feature_dropout native_dropout rrelu"
)
_CHANGING = frozenset(_CHANGING_NAMES.split())


@dataclass
class _Function:
    """One function and what its calls had in common so far.

    `fits`: it may be the same each time. `spoils`: it reads what is trained, or draws, and so do
    all that call it. `names` are those in its code, `shared` the globals among them.
    """

    name: str
    names: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    fits: bool = False
    spoils: bool = False
    keys: list[Any] = field(default_factory=list)
    prints: dict[int, Any] = field(default_factory=dict)
    looks: int = 0
    calls: int = 0


@dataclass
class _Call:
    """One that has not returned. `state`: plain values that what it calls reads of objects."""

    frame: int
    function: _Function
    place: int
    state: int = 0


class SameCalls:
    """Looks for such functions, and knows them once it has looked often enough."""

    def __init__(self, libraries: Libraries | None = None) -> None:
        self._libraries = libraries or Libraries()
        self._functions: dict[int, _Function | None] = {}  # by their code's identity
        self._codes: list[CodeType] = []  # kept, so that their identities stay their own
        self._active: list[_Call] = []
        self._step: int | None = None
        self._looks = self._events = 0
        self._error: Exception | None = None

    def begins(self, step: int) -> None:
        """The forward pass of this step, or a part of it, is about to begin; or it has returned,
        and what follows is the loss."""
        self.ends()
        if step != self._step:
            self._settle()
            if not self._is_looked_at(step):
                return
            self._step, self._events = step, 0
            self._looks += 1
        if self._events <= _MOST_EVENTS and alone():
            self._active = []
            sys.setprofile(self._profile)

    def ends(self) -> None:
        """It has returned, or the backward pass begins. Raises what went wrong meanwhile."""
        if sys.getprofile() == self._profile:
            sys.setprofile(None)
        self._active = []
        error, self._error = self._error, None
        if error is not None:
            raise error

    def found(self) -> dict[tuple[str, int], str]:
        """File and first line of these functions, and their names."""
        self._settle()
        return {
            (code.co_filename, code.co_firstlineno): function.name
            for code, function in zip(self._codes, self._functions.values(), strict=True)
            if function is not None and function.fits and function.looks >= _FEWEST
        }

    def _is_looked_at(self, step: int) -> bool:
        chosen = step in EARLY or (step > 0 and step % _EVERY == 0)
        hopeful = self._looks < _MEETS or any(f and f.fits for f in self._functions.values())
        return chosen and hopeful and self._looks < _MOST_LOOKS

    def _settle(self) -> None:
        """The step that was looked at is over: what it left out, or did more often, is not the same
        each step. Of one that was not seen to its end nothing is said."""
        if self._step is None:
            return
        whole = self._events <= _MOST_EVENTS
        for function in self._functions.values():
            if function is None or not function.fits:
                continue
            if whole and min(function.calls, _MOST_CALLS) != len(function.keys):
                function.fits = False
            function.looks += bool(function.calls)
            function.calls = 0
        self._step = None

    # -- one event ---------------------------------------------------------------------------

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        self._events += 1
        try:
            if event == "call":
                known = id(frame.f_code) in self._functions
                function = self._functions[id(frame.f_code)] if known else self._meet(frame.f_code)
                if function is not None:
                    self._called(frame, function)
            elif self._active:
                if event == "c_call" and _changes(getattr(arg, "__name__", "")):
                    if not _is_ours(frame):
                        self._drop_active()
                elif event == "return" and self._active[-1].frame == id(frame):
                    self._returned(self._active.pop(), arg)
            if self._events > _MOST_EVENTS:
                sys.setprofile(None)
        except Exception as error:
            self._error = error
            sys.setprofile(None)

    def _meet(self, code: CodeType) -> _Function | None:
        """A function of the script's that was not called before."""
        if len(self._codes) >= _MOST_FUNCTIONS:
            return None
        function = None
        if self._libraries.of(code.co_filename) == USER:
            named = not code.co_name.startswith("<") and not code.co_flags & _SUSPENDED
            function = _function_of(code, fits=named and self._looks <= _MEETS)
        self._codes.append(code)
        self._functions[id(code)] = function
        return function

    def _called(self, frame: FrameType, function: _Function) -> None:
        if not function.fits and not self._active:
            return
        reader, key = Reader(function.names, function.shared), None
        try:
            key = reader.given_to(frame)
        except Unfit as why:
            function.fits, function.spoils = False, function.spoils or why.weights
        except Exception:  # objects of anyone's making
            function.fits = False
        if function.spoils:
            self._drop_active()
        for call in self._active:
            call.state = hash((call.state, repr(reader.state)))
        if function.fits:
            self._compare(frame, function, key)

    def _compare(self, frame: FrameType, function: _Function, key: Any) -> None:
        place = function.calls
        function.calls += 1
        if place >= _MOST_CALLS:
            return
        if not function.looks:
            function.keys.append(key)
        elif place >= len(function.keys) or function.keys[place] != key:
            function.fits = False
            return
        self._active.append(_Call(id(frame), function, place))

    def _returned(self, call: _Call, result: Any) -> None:
        """Results are looked at once the arguments were the same."""
        function = call.function
        if not function.looks or not function.fits:
            return
        try:
            seen = (print_of(result), call.state)
        except Exception:  # tensors of any kind: wrapped ones, or ones without elements
            function.fits = False
            return
        if function.prints.setdefault(call.place, seen) != seen:
            function.fits = False

    def _drop_active(self) -> None:
        for call in self._active:
            call.function.fits, call.function.spoils = False, True
        self._active = []


def _function_of(code: CodeType, *, fits: bool) -> _Function:
    name = getattr(code, "co_qualname", code.co_name).rpartition("<locals>.")[2]
    loaded = (one for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL")
    shared = frozenset(str(one.argval) for one in loaded)
    return _Function(name, frozenset(code.co_names), shared, fits)


@functools.lru_cache(maxsize=4096)
def _changes(name: str) -> bool:
    return name in _CHANGING or draws(name)


def _is_ours(frame: FrameType) -> bool:
    """Whether it is of perfdoctor's handler of signals, which may come in the midst of anything and
    draws when the next one comes."""
    return str(frame.f_globals.get("__name__", "")).startswith("perfdoctor.")


def alone() -> bool:
    """Whether nobody else listens: a profiler, a tracer, a mode that sees every operation."""
    torch = sys.modules["torch"]
    if sys.getprofile() is not None or torch._C._get_tracing_state() is not None:
        return False
    if getattr(torch._C, "_len_torch_dispatch_stack", int)():
        return False
    return not torch.autograd.profiler._is_profiler_enabled and not _compiles(torch)


def _compiles(torch: Any) -> bool:
    """Whether torch.compile works in this process: what it runs is no Python of the script's."""
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    backends = getattr(compiler, "cached_backends", {})  # None's is that of what is not compiled
    return any(backend is not None for backend in backends.values())
