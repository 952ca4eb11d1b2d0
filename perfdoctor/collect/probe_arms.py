"""The two ways that a probe compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Work = Callable[[], Any]


@dataclass(frozen=True)
class Arms:
    """The two ways of one probe; `scale` turns the ratio of times into the speed-up."""

    now: Work
    changed: Work
    affects: tuple[str, ...]
    scale: float = 1.0
    details: dict[str, float] | None = None
