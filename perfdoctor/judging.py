"""Judging pairs as they come, for several criteria at once.

Each pair of processes (or block pair) gives one logarithm of new ÷ old for each quantity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from perfdoctor.checks import IMPROVED, INCONCLUSIVE, PASS, REGRESSION, Criterion, Judged
from perfdoctor.record import Floats
from perfdoctor.sequential import (
    DIFFERENT,
    EQUIVALENT,
    LOOKS,
    SLOWER,
    Estimate,
    Gate,
    interval,
    smallest_seen,
)
from perfdoctor.shifts import CONFIDENCE, MARGIN, Shift
from perfdoctor.stages import in_order

#: Quantities that are measured in every pair, judged or not.
STEP_STATISTICS = ("p25", "p50", "p95", "mean")


@dataclass(frozen=True)
class PairValues:
    """One pair: key ("step:p25") → log(new ÷ old), and the values of both sides."""

    differences: Mapping[str, float]
    before: Mapping[str, float]
    after: Mapping[str, float]


@dataclass
class Jury:
    """Takes pairs until every criterion that may fail the check is decided.

    With several of them, each is asked at a stricter level (Bonferroni), so that the chance of any
    false alarm stays what it is for one. "Pass" needs no correction, since all must pass.
    """

    criteria: Sequence[Criterion]
    looks: tuple[int, ...] = LOOKS
    pairs: list[PairValues] = field(default_factory=list)
    decided: dict[Criterion, Judged] = field(default_factory=dict)

    def level(self, alone: float) -> float:
        """The confidence at one look that stands for `alone` if there were one criterion."""
        count = sum(criterion.fails for criterion in self.criteria)
        return 1 - (1 - alone) / max(1, count)

    @property
    def finished(self) -> bool:
        """Whether no further pair can change the outcome of the check."""
        if len(self.pairs) >= self.looks[-1]:
            return True
        open_ones = [c for c in self.criteria if c.fails and c not in self.decided]
        failed = any(j.outcome == REGRESSION and c.fails for c, j in self.decided.items())
        return failed or not open_ones

    @property
    def next_look(self) -> int | None:
        """After how many pairs there may be a decision."""
        return next((look for look in self.looks if look > len(self.pairs)), None)

    def add(self, pair: PairValues) -> None:
        """One pair more; what becomes clear now is decided for good."""
        self.pairs.append(pair)
        for criterion in self.criteria:
            if criterion not in self.decided and len(self.pairs) in self.looks:
                found = self._judge(criterion, final=False)
                if found.outcome != INCONCLUSIVE:
                    self.decided[criterion] = found

    def judged(self) -> tuple[Judged, ...]:
        """What came of each criterion, as far as is known now."""
        return tuple(self.decided.get(c) or self._judge(c, final=True) for c in self.criteria)

    def _judge(self, criterion: Criterion, *, final: bool) -> Judged:
        differences = self.differences(criterion.key)
        told = self._told(criterion, differences)
        if differences.size < len(self.pairs) or not self.pairs:
            return replace(told, reason=self._missing(criterion))
        gate = Gate(criterion.margin, different=self.level(SLOWER), looks=self.looks)
        outcome = None if final else gate.look(differences)
        if outcome is None:
            return replace(told, reason=self._open(told))
        if outcome == "fail":
            return replace(told, outcome=REGRESSION)
        return replace(told, outcome=IMPROVED if self._improved(criterion, differences) else PASS)

    def _told(self, criterion: Criterion, differences: Floats) -> Judged:
        """The numbers, with nothing decided."""
        level = 2 * EQUIVALENT - 1
        ends = interval(differences, level)
        return Judged(
            criterion=criterion,
            outcome=INCONCLUSIVE,
            before=self.typical(criterion.key, "before"),
            after=self.typical(criterion.key, "after"),
            change=math.expm1(_centre(differences, ends)) if differences.size else None,
            interval=None if ends is None else (math.expm1(ends.low), math.expm1(ends.high)),
            confidence=level,
            pairs=int(differences.size),
            seen=self._seen(differences),
        )

    def _seen(self, differences: Floats) -> float | None:
        smallest = smallest_seen(differences)
        return math.expm1(smallest) if smallest < 1 else None

    def _improved(self, criterion: Criterion, differences: Floats) -> bool:
        found = interval(differences, 2 * self.level(DIFFERENT) - 1)
        least = -math.log1p(criterion.margin) / 2
        return found is not None and found.high < 0 and found.centre < least

    def _missing(self, criterion: Criterion) -> str:
        if not self.pairs:
            return "nothing was measured"
        last = self.pairs[-1]
        sides = [name for name in ("before", "after") if criterion.key not in getattr(last, name)]
        where = "on neither side" if len(sides) == 2 else f"not measured {''.join(sides)}"
        known = sorted({key.split(":")[0] for key in (*last.before, *last.after)})
        return f"{criterion.name} was seen {where}; there are {', '.join(known)}"

    def _open(self, told: Judged) -> str:
        if told.pairs < self.looks[0]:
            return f"only {told.pairs} of at least {self.looks[0]} pairs could be measured in time"
        return "the pairs differ too much among themselves to tell"

    def differences(self, key: str) -> Floats:
        """One element for each pair that has it."""
        found = [p.differences[key] for p in self.pairs if key in p.differences]
        return np.array([d for d in found if math.isfinite(d)], dtype=np.float64)

    def typical(self, key: str, side: str) -> float | None:
        """The median over the pairs."""
        values = [v for p in self.pairs if (v := getattr(p, side).get(key)) is not None]
        return float(np.median(values)) if values else None

    def shifts(self, margin: float = MARGIN) -> tuple[Shift, ...]:
        """Every quantity that was measured, with the interval of its paired differences."""
        found = [self._shift(key, margin) for key in self._keys()]
        return tuple(shift for shift in found if shift is not None)

    def _keys(self) -> list[str]:
        seen = {key for pair in self.pairs for key in (*pair.before, *pair.after)}
        names = in_order({key.split(":")[0] for key in seen} - {"step", "memory"})
        order = ["step", *names, "memory"]
        return sorted(seen, key=lambda key: (order.index(key.split(":")[0]), key))

    def _shift(self, key: str, margin: float) -> Shift | None:
        metric, statistic = key.split(":")
        unit = "bytes" if metric == "memory" else "s"
        before, after = self.typical(key, "before"), self.typical(key, "after")
        named = Shift(name=metric, statistic=statistic, unit=unit, before=before, after=after)
        found = interval(self.differences(key), CONFIDENCE)
        if found is None:
            return named if before is None or after is None else None
        return replace(
            named,
            ratio=math.exp(found.centre),
            ratio_ci=(math.exp(found.low), math.exp(found.high)),
            direction=_direction(found.low, found.high, unit, margin),
        )


def _centre(differences: Floats, known: Estimate | None) -> float:
    return float(differences.mean()) if known is None else known.centre


def _direction(low: float, high: float, unit: str, margin: float) -> str:
    grew, shrank = ("more", "less") if unit == "bytes" else ("slower", "faster")
    if low > 0:
        return grew
    if high < 0:
        return shrank
    return "same" if max(-low, high) <= math.log1p(margin) else "unclear"
