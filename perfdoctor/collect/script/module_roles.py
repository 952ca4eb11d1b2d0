"""What the modules that a training calls are to it."""

from __future__ import annotations

import weakref
from typing import Any

from perfdoctor.collect.script.optimizers import Optimizers

#: What an outermost module is to the training.
TRAINED, FIXED, WITHOUT_PARAMETERS = "trained", "fixed", "without parameters"
METRIC = "metric"


class Modules:
    """What each outermost module is to the training, remembered while the optimizers stay."""

    def __init__(self, optimizers: Optimizers) -> None:
        self._optimizers = optimizers
        self._roles: dict[int, tuple[weakref.ref[Any], int, str]] = {}

    def role(self, module: Any) -> str:
        """TRAINED, FIXED, WITHOUT_PARAMETERS or METRIC."""
        version = self._optimizers.version
        found = self._roles.get(id(module))
        if found is not None and found[0]() is module and found[1] == version:
            return found[2]
        role = self._find(module)
        key = id(module)
        self._roles[key] = (
            weakref.ref(module, lambda _: self._roles.pop(key, None)),
            version,
            role,
        )
        return role

    def trained(self) -> list[Any]:
        """The outermost modules that an optimizer trains."""
        held = [(reference(), role) for reference, _, role in list(self._roles.values())]
        return [module for module, role in held if module is not None and role == TRAINED]

    def with_parameters(self) -> list[tuple[Any, bool]]:
        """The outermost modules that may have gradients, and whether an optimizer trains them."""
        held = [reference() for reference, _, _ in list(self._roles.values())]
        found = [(module, self.role(module)) for module in held if module is not None]
        return [(module, role == TRAINED) for module, role in found if role in (TRAINED, FIXED)]

    def _find(self, module: Any) -> str:
        if type(module).__module__.startswith("torchmetrics"):
            return METRIC
        parameters = list(module.parameters())
        if not parameters:
            return WITHOUT_PARAMETERS
        if not len(self._optimizers):  # hand-written updates, or an optimizer yet to come
            return TRAINED if any(p.requires_grad for p in parameters) else FIXED
        return TRAINED if self._optimizers.optimises_any(parameters) else FIXED
