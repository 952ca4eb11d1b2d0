"""Facts: a report's JSON, read by dotted path. What is absent or null was not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perfdoctor.record import Floats

#: Kinds of source in which all that is known is what a file says.
LOG_KINDS = ("log", "trace")


class Missing(Exception):  # noqa: N818 - not an error: the rule abstains
    """A fact that was asked for and not measured; or why what was measured does not do."""

    def __init__(self, path: str, reason: str | None = None) -> None:
        super().__init__(path)
        self.path, self.reason = path, reason


@dataclass(frozen=True)
class Facts:
    """One report for one rule. A path is keys joined by dots; an index picks from a list.

    Attributes:
        report: `perfdoctor.schema.to_dict(report)`.
        thresholds: those of the rule that asks, settings applied.
        memo: what was worked out of the report and need not be again; all rules share it.
    """

    report: Mapping[str, Any] = field(repr=False)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def has(self, path: str) -> bool:
        """Whether `path` was measured."""
        return self._find(path) is not None

    def get(self, path: str) -> Any:
        """The value as it is. Raises `Missing`."""
        value = self._find(path)
        if value is None:
            raise Missing(path)
        return value

    def number(self, path: str) -> float:
        """A number. Raises `Missing`; `TypeError` where it is something else."""
        value = self.get(path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(path, value, "a number")
        return float(value)

    def known(self, path: str) -> float | None:
        """The number, or None where there is none or something else."""
        value = self._find(path)
        usable = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if usable else None

    def text(self, path: str) -> str:
        """A string. Raises `Missing`; `TypeError` where it is something else."""
        value = self.get(path)
        if not isinstance(value, str):
            raise self._wrong(path, value, "a text")
        return value

    def flag(self, path: str) -> bool:
        """True or False. Raises `Missing`; `TypeError` where it is something else."""
        value = self.get(path)
        if not isinstance(value, bool):
            raise self._wrong(path, value, "true or false")
        return value

    def series(self, name: str) -> Floats:
        """A column of `series`, one element a step (or batch); NaN where it did not run.

        Raises `Missing` if there is no such column or nothing in it.
        """
        values = np.array(self.get(f"series.{name}"), dtype=np.float64)
        if not np.isfinite(values).any():
            raise Missing(f"series.{name}")
        return values

    def threshold(self, name: str) -> float:
        """A threshold of the rule that asks. Raises `KeyError` if it declares no such one."""
        return self.thresholds[name]

    def with_thresholds(self, thresholds: Mapping[str, float]) -> Facts:
        """The same facts for another rule."""
        return replace(self, thresholds=thresholds)

    @property
    def from_log(self) -> bool:
        """Whether a log or a trace is all that is known: nothing was measured by perfdoctor."""
        return self._find("source.kind") in LOG_KINDS

    def _wrong(self, path: str, value: Any, wanted: str) -> Exception:
        """Scripts print settings of any type, so in a log an odd one is as good as none."""
        if self.from_log and path.startswith("configuration."):
            return Missing(path)
        return TypeError(f"{path} is {value!r}, not {wanted}")

    def _find(self, path: str) -> Any:
        value: Any = self.report
        for key in path.split("."):
            if isinstance(value, Mapping):
                value = value.get(key)
            elif isinstance(value, list | tuple) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                return None
        # JSON has no NaN: a stored report says null, and so must one that was never stored
        return None if isinstance(value, float) and not math.isfinite(value) else value
