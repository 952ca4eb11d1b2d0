"""What a call is given and what it gives back, as something small that can be compared later.

A tensor is the same where it is the same living object in the same version; nothing is kept of it
but a weak reference. What may have changed without a trace is `Unfit`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

#: Nesting, elements of a list or tuple, and elements of a tensor that are compared.
_DEEPEST, _MOST_ELEMENTS, _SAMPLED = 4, 256, 64
#: Spreads the elements that are compared over a tensor (Knuth's multiplicative hashing).
_SPREAD = 2654435761
_PLAIN = (type(None), bool, int, float, complex, str, bytes, Enum, slice, range, PurePath)
#: What is what it is, whoever asks.
_CODE = (type, FunctionType, BuiltinFunctionType, ModuleType)
#: By these a function may reach all of a module, whatever it is called.
_REACHING_NAMES = (
    "getattr vars __dict__ _parameters _modules parameters named_parameters modules named_modules"
    " children named_children state_dict get_parameter get_submodule apply"
)
_REACHING = frozenset(_REACHING_NAMES.split())


class Unfit(Exception):  # noqa: N818 (nothing went wrong)
    """Whether this is the same each time cannot be told, or it is known not to be.

    `weights`: it holds what is trained.
    """

    def __init__(self, *, weights: bool = False) -> None:
        super().__init__()
        self.weights = weights


class Thing:
    """Equal to another one while both stand for the same living object."""

    __slots__ = ("_reference",)

    def __init__(self, value: Any) -> None:
        self._reference = weakref.ref(value)

    def __eq__(self, other: object) -> bool:
        mine = self._reference()
        return mine is not None and isinstance(other, Thing) and mine is other._reference()

    def __hash__(self) -> int:
        return 0


class Reader:
    """Reads what code with these names in it is given: of an object only attributes so named.

    `shared` are the globals that it reads. `state`: the plain values among those and among the
    attributes, which may change between two calls.
    """

    def __init__(self, names: Collection[str], shared: Collection[str] = ()) -> None:
        self._names, self._shared = frozenset(names), shared
        self.state: list[Any] = []

    def given_to(self, frame: FrameType) -> tuple[Any, ...]:
        """Arguments, variables of functions around, and globals. Raises `Unfit`."""
        code, values = frame.f_code, frame.f_locals
        named = [values[name] for name in _arguments(code) if name in values]
        outer = [values[name] for name in code.co_freevars if name in values]
        shared = [frame.f_globals[name] for name in self._shared if name in frame.f_globals]
        own = named[:1] if code.co_varnames[:1] == ("self",) else []
        rest = [self.key(value) for value in (*named[len(own) :], *outer)]
        kept = [self._attribute(value) for value in shared]
        return (*(self.key(value, owner=True) for value in own), *rest, *kept)

    def key(self, value: Any, deep: int = 0, *, owner: bool = False) -> Any:
        """Equal for what is the same and unchanged. `owner`: the object whose method is called."""
        torch = sys.modules["torch"]
        if isinstance(value, (*_PLAIN, *_kinds(torch))):
            return value
        if isinstance(value, _CODE):
            return Thing(value)
        if isinstance(value, torch.Tensor):
            return _tensor(value)
        if _is_array(value):
            return Thing(value), sampled_array(value)
        if deep >= _DEEPEST or isinstance(value, MethodType):
            raise Unfit
        if isinstance(value, torch.nn.Module):
            return self._module(value, deep, owner=owner)
        if isinstance(value, (tuple, list, dict)):
            return self._elements(value, deep)
        return self._object(value, deep)

    def _elements(self, value: Any, deep: int) -> tuple[Any, ...]:
        if isinstance(value, dict):
            return tuple((self.key(k), self.key(v, deep + 1)) for k, v in _few(value.items()))
        return tuple(self.key(one, deep + 1) for one in _few(value))

    def _attribute(self, value: Any, deep: int = 0) -> Any:
        if isinstance(value, _PLAIN):
            self.state.append(value)
        return self.key(value, deep)

    def _module(self, module: Any, deep: int, *, owner: bool) -> Any:
        """A module without parameters; of one with them, a method that asks for none of these."""
        if any(True for _ in module.parameters()):
            if not owner or not _REACHING.isdisjoint(self._names):
                raise Unfit(weights=True)
            if any(module._parameters.get(name) is not None for name in self._names):
                raise Unfit(weights=True)
        held = {**module.__dict__, **module._buffers, **module._modules}
        return Thing(module), module.training, self._named(held, deep)

    def _object(self, value: Any, deep: int) -> Any:
        """Of one that looks attributes up by itself, all that it holds."""
        held, kind = _held(value), type(value)
        if hasattr(kind, "__getattr__") or hasattr(kind, "__getitem__"):
            return _thing(value), self.key(held, deep + 1)
        return _thing(value), self._named(held, deep)

    def _named(self, held: Mapping[str, Any], deep: int) -> tuple[Any, ...]:
        names = sorted(name for name in self._names if name in held)
        return tuple((name, self._attribute(held[name], deep + 1)) for name in names)


def print_of(value: Any, deep: int = 0) -> Any:
    """What a result looks like; of a tensor on the host some of its elements. Raises `Unfit` where
    it depends on what is trained, or tells nothing."""
    torch = sys.modules["torch"]
    if isinstance(value, (*_PLAIN, *_kinds(torch))):
        if not deep and (value is None or isinstance(value, bool)):
            raise Unfit  # of a function that is called for what else it does
        return value
    if isinstance(value, torch.Tensor):
        return _print_of_tensor(torch, value)
    if _is_array(value):
        return sampled_array(value)
    if deep >= _DEEPEST or isinstance(value, (torch.nn.Module, *_CODE)):
        raise Unfit
    if isinstance(value, (tuple, list)):
        return tuple(print_of(one, deep + 1) for one in _few(value))
    held = value if isinstance(value, dict) else _held(value)
    return tuple((str(k), print_of(v, deep + 1)) for k, v in _few(held.items()))


def _print_of_tensor(torch: Any, value: Any) -> Any:
    if value.requires_grad:
        raise Unfit(weights=True)
    parts = tuple(_sampled(torch, part) for part in _parts(torch, value.detach()))
    return tuple(value.shape), value.dtype, parts


def sampled_array(value: Any) -> Any:
    """Shape, kind and some elements of one of numpy's arrays."""
    elements = [value[place] for place in _places(value.shape)]
    return value.shape, str(value.dtype), repr(elements)


def _arguments(code: CodeType) -> tuple[str, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)  # *args and **kwargs
    return code.co_varnames[:count]


def _kinds(torch: Any) -> tuple[type, ...]:
    """Plain values of torch's."""
    return torch.dtype, torch.device, torch.layout, torch.memory_format


def _held(value: Any) -> dict[str, Any]:
    """An object's attributes; nothing is known of what an iterator holds."""
    held = getattr(value, "__dict__", None)
    if not isinstance(held, dict) or hasattr(value, "__next__"):
        raise Unfit
    return held


def _tensor(value: Any) -> Any:
    if value.requires_grad:
        raise Unfit(weights=True)
    if value.is_inference() or not type(value).__module__.startswith("torch"):
        raise Unfit
    return Thing(value), value._version


def _parts(torch: Any, value: Any) -> Iterator[Any]:
    """The dense tensors that a sparse one is made of."""
    if value.layout == torch.strided:
        yield value
    elif value.layout == torch.sparse_coo:
        yield from (value._indices(), value._values())
    elif value.layout == torch.sparse_csr:
        yield from (value.crow_indices(), value.col_indices(), value.values())
    else:
        raise Unfit


def _sampled(torch: Any, value: Any) -> Any:
    """Some elements of a tensor on the host; on a device nobody asks, since that would wait."""
    if not value.is_cpu:
        return tuple(value.shape)
    places = list(_places(tuple(value.shape)))
    if not places or not value.dim():
        return repr(value.tolist()) if places else tuple(value.shape)
    columns = tuple(torch.tensor(column, device="cpu") for column in zip(*places, strict=True))
    return tuple(value.shape), repr(value[columns].tolist())


def _places(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    size = 1
    for side in shape:
        size *= side
    for count in range(min(size, _SAMPLED)):
        flat, place = (count if size <= _SAMPLED else count * _SPREAD % size), []
        for side in reversed(shape):
            flat, index = divmod(flat, side)
            place.append(index)
        yield tuple(reversed(place))


def _few(values: Iterable[Any]) -> list[Any]:
    found = list(values)
    if len(found) > _MOST_ELEMENTS:
        raise Unfit
    return found


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _thing(value: Any) -> Thing:
    try:
        return Thing(value)
    except TypeError:
        raise Unfit from None
