"""A form of text logs: how to recognise it, and what its names mean there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from perfdoctor.readers.roles import Hints


@dataclass(frozen=True)
class Form:
    """A form of log lines.

    Attributes:
        name: as in `--format`. title: what writes it. example: a line of it.
        signature: a pattern found in its lines; linear in their length.
        weight: above 0.5 for forms that tell times by themselves; the surest form wins.
        framework: what the training was written with, where the form tells.
        note: what the reader of a report must know of its numbers.
        samples: in what it counts as a step, where it counts single samples.
        single: it prints single steps of many, not means over those since the line before.
    """

    name: str
    title: str
    example: str
    signature: str
    weight: float = 0.8
    framework: str | None = None
    hints: Hints = field(default_factory=Hints)
    note: str | None = None
    samples: int | None = None
    single: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The signature, compiled when it is first looked for: there are a hundred forms."""
        return re.compile(self.signature)
