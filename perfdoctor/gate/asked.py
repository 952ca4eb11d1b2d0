"""What a check is asked for, whatever the other side of the comparison is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perfdoctor.compare.checks import Criterion

#: So long may an answer of a side take (importing and compiling, twenty steps), a whole process of
#: a script or a command, and either where the user sets a budget that is not half as long.
_ANSWER_S, _PROCESS_S, _LEAST_PATIENCE_S = 600.0, 3600.0, 120.0
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

    @property
    def patience_s(self) -> float:
        """After so long without an answer a side hangs; a longer budget allows longer."""
        return self._patience(_ANSWER_S)

    @property
    def process_s(self) -> float:
        """The same of a process that is not asked anything, but runs to its end."""
        return self._patience(_PROCESS_S)

    def _patience(self, usual_s: float) -> float:
        if self.max_seconds is None:
            return usual_s
        return max(_LEAST_PATIENCE_S, 2 * self.max_seconds)
