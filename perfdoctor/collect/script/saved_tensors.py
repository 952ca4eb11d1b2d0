"""What of the bytes that `torch.save` writes belongs to no tensor that is saved.

A tensor is saved with the whole storage that it looks into: of `images[:16]`, all images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Saves that are looked into: the others save the same.
_LOOKED_AT = 3
#: Tensors of a save, and containers around them; optimizer states of large models have thousands.
_MOST_TENSORS, _DEEPEST = 20_000, 8


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
        for tensor in _tensors(saved):
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


def _tensors(saved: Any) -> Iterator[Any]:
    """The tensors in dictionaries, lists and tuples; what other objects hold is theirs to know."""
    import torch

    waiting, found = [(saved, 0)], 0
    while waiting and found < _MOST_TENSORS:
        one, depth = waiting.pop()
        if isinstance(one, torch.Tensor):
            if one.layout == torch.strided and one.device.type != "meta":
                found += 1
                yield one
        elif depth < _DEEPEST and type(one) in (list, tuple):
            waiting += [(value, depth + 1) for value in one]
        elif depth < _DEEPEST and isinstance(one, Mapping):
            waiting += [(value, depth + 1) for value in list(one.values())]
