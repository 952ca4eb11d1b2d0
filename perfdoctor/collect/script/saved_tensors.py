"""What of the bytes that `torch.save` writes belongs to no tensor that is saved.

A tensor is saved with the whole storage that it looks into: of `images[:16]`, all images.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Saves that are looked into: the others save the same.
_LOOKED_AT = 3
#: Tensors of a save, and containers around them; optimizer states of large models have thousands.
_MOST_TENSORS, _DEEPEST = 20_000, 8
#: All that is looked at, as numbers in lists: some 10 ms.
_MOST_ITEMS = 50_000
_LISTS = (list, tuple, deque)


class SavedTensors:
    """The first saves of a script.

    Attributes:
        written_bytes: of the storages that were saved. needed_bytes: of the tensors in them.
    """

    def __init__(self) -> None:
        self.written_bytes = self.needed_bytes = 0
        self._saves = 0

    def note(self, saved: Any) -> None:
        """One save, of what `torch.save` was given."""
        if self._saves >= _LOOKED_AT:
            return
        self._saves += 1
        storages: dict[int, int] = {}
        needed: dict[int, dict[tuple[Any, ...], int]] = {}
        for tensor in (found.tensor for found in tensors_in(saved)):
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
            view = (tensor.storage_offset(), tuple(tensor.shape), tensor.dtype)
            needed.setdefault(storage._cdata, {})[view] = tensor.nbytes
        self.written_bytes += sum(storages.values())
        self.needed_bytes += sum(
            min(whole, sum(needed[key].values())) for key, whole in storages.items()
        )

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no tensor was saved."""
        if not self.written_bytes:
            return {}
        return {"saved_unneeded": 1 - self.needed_bytes / self.written_bytes}


@dataclass(frozen=True)
class Found:
    """A tensor in what is saved, under that name at the top; `state`: in what is known as the state
    of a module or an optimizer."""

    tensor: Any
    name: str = ""
    state: bool = False


def tensors_in(saved: Any) -> Iterator[Found]:
    """The tensors in dictionaries, lists and tuples; what other objects hold is theirs to know."""
    import torch

    waiting, found, left = [(Found(saved), 0)], 0, _MOST_ITEMS
    while waiting and found < _MOST_TENSORS:
        one, depth = waiting.pop()
        if isinstance(one.tensor, torch.Tensor):
            if one.tensor.layout == torch.strided and one.tensor.device.type != "meta":
                found += 1
                yield one
        elif depth < _DEEPEST:
            inside = _inside(one, left)
            left -= len(inside)
            waiting += [(each, depth + 1) for each in inside]


def _inside(one: Found, most: int) -> list[Found]:
    """What a container holds; nothing of one that holds more than so many."""
    held, state = one.tensor, one.state
    if type(held) in _LISTS and len(held) <= most:
        return [Found(value, one.name, state) for value in held]
    if isinstance(held, Mapping) and len(held) <= most:
        inner = state or _is_state(held)
        return [Found(value, one.name or str(key), inner) for key, value in list(held.items())]
    return []


def _is_state(held: Mapping[Any, Any]) -> bool:
    """Whether it is what a module's, or an optimizer's, `state_dict()` gives."""
    if type(held) is OrderedDict and hasattr(held, "_metadata"):
        return True
    return type(held) is dict and held.keys() >= {"state", "param_groups"}
