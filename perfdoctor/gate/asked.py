"""What a check is asked for, whatever the other side of the comparison is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perfdoctor.compare.checks import Criterion

#: The budget of a check. Where it would not hold the fewest pairs of long steps, it is extended.
MAX_SECONDS = 85.0
SCRIPT_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is run: one of a workload, a script or a command.

    Attributes:
        workload, options: as `ArmSpec` takes them.
        script: a script and its arguments; `steps` of it are observed.
        command: a line for the shell, which writes a perfdoctor report to `report`.
    """

    workload: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    script: tuple[str, ...] = ()
    steps: int = SCRIPT_STEPS
    command: str | None = None
    report: str | None = None

    @property
    def name(self) -> str:
        """For people."""
        if self.command is not None:
            return self.command
        if self.script:
            return " ".join(self.script)
        return " ".join(str(v) for v in (self.workload or {}).values() if isinstance(v, str))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A check.

    `max_seconds` None: `MAX_SECONDS`, or longer where steps are long.
    """

    measured: Measured
    criteria: tuple[Criterion, ...]
    max_seconds: float | None = None
    seed: int = 0
    explain: bool = True
    command: str | None = None
