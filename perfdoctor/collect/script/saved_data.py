"""What of the bytes that `torch.save` writes is data: no state of a training, always the same.

What neither a module nor an optimizer holds, and what nobody has written to since the save before,
the next run makes or loads as this one did. A replay buffer changes, so it is none.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

from perfdoctor.collect.script.module_roles import Modules
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.saved_tensors import Found, tensors_in

#: Saves that are looked into: two are compared, or two pairs where a script writes two files.
_LOOKED_AT = 4
#: Names that are told of what is saved so.
_MOST_NAMES = 3


class SavedData:
    """The first saves of a script.

    Attributes:
        data_bytes: of data, as above. written_bytes: of all tensors. Both of the `compared` saves
            that others went before.
    """

    def __init__(self, modules: Modules, optimizers: Optimizers) -> None:
        self.data_bytes = self.written_bytes = self.compared = 0
        self._modules, self._optimizers = modules, optimizers
        self._saves = 0
        self._file: Any = None
        self._before: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._named: Counter[str] = Counter()

    def note(self, saved: Any, file: Any = None) -> None:
        """One save, of what `torch.save` was given."""
        if self._saves >= _LOOKED_AT:
            return
        self._saves += 1
        self._file = file
        found = list(tensors_in(saved))
        others = self._others(found)
        if self._saves > 1:
            self._compare(found, others)
        for one in others:
            self._before[id(one.tensor)] = (weakref.ref(one.tensor), _version(one.tensor))

    def _others(self, found: list[Found]) -> list[Found]:
        """Those that are no state of the training, nor look like a copy of it."""
        rest = [one for one in found if not one.state]
        if not rest:
            return []
        held = [one.tensor for one in tensors_in(self._held())]
        storages = {_storage(tensor) for tensor in held}
        shapes = {tuple(tensor.shape) for tensor in held}
        return [
            one
            for one in rest
            if _storage(one.tensor) not in storages and tuple(one.tensor.shape) not in shapes
        ]

    def _held(self) -> list[Any]:
        """What modules and optimizers hold."""
        modules = [module for module, _ in self._modules.with_parameters()]
        known = (one.reference() for one in self._optimizers.each())
        optimizers = [optimizer for optimizer in known if optimizer is not None]
        return [
            *([*module.parameters(), *module.buffers()] for module in modules),
            *([group["params"] for group in one.param_groups] for one in optimizers),
            *(list(one.state.values()) for one in optimizers),
        ]

    def _compare(self, found: list[Found], others: list[Found]) -> None:
        """With the saves before."""
        self.compared += 1
        self.written_bytes += sum({_storage(o.tensor): _whole(o.tensor) for o in found}.values())
        named: dict[int, Counter[str]] = {}
        for one in others:
            if self._is_same(one.tensor):
                named.setdefault(_storage(one.tensor), Counter())[one.name] += one.tensor.nbytes
        whole = {_storage(one.tensor): _whole(one.tensor) for one in others}
        self.data_bytes += sum(min(whole[key], views.total()) for key, views in named.items())
        for views in named.values():
            self._named.update(views)

    def _is_same(self, tensor: Any) -> bool:
        before = self._before.get(id(tensor))
        return before is not None and before[0]() is tensor and before[1] == _version(tensor)

    def settings(self) -> dict[str, Any]:
        """As configuration; empty where no two saves held tensors."""
        if not self.written_bytes:
            return {}
        each = max(self.written_bytes / self.compared, self._file_bytes())
        names = [name for name, _ in self._named.most_common(_MOST_NAMES) if name]
        found = {"saved_bytes": round(each), "saved_data": self.data_bytes / self.compared / each}
        return found | ({"saved_data_named": ", ".join(names)} if names else {})

    def _file_bytes(self) -> int:
        """The size of the last of these files, in which other objects may be; 0 where it is not
        known."""
        try:
            is_path = isinstance(self._file, str | os.PathLike)
            return Path(self._file).stat().st_size if is_path else 0
        except (OSError, ValueError):
            return 0


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)


def _whole(tensor: Any) -> int:
    return int(tensor.untyped_storage().nbytes())


def _version(tensor: Any) -> int:
    """How often it was written to; what was made in inference mode does not count that."""
    return -1 if tensor.is_inference() else int(tensor._version)
