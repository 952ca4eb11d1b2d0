"""Judging pairs as they come, for several criteria at once.

Each pair of processes (or block pair) gives one logarithm of new ÷ old for each quantity.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from perfdoctor.compare.checks import (
    IMPROVED,
    INCONCLUSIVE,
    PASS,
    REGRESSION,
    STATISTICS,
    Criterion,
    Judged,
)
from perfdoctor.compare.shifts import CONFIDENCE, MARGIN, Shift, direction
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
from perfdoctor.stages import in_order


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
    ended: bool = field(default=False, init=False)

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
                self._look(criterion)

    def end(self) -> None:
        """The time is over: a last look at what is still open."""
        self.ended = True
        for criterion in self.criteria:
            if criterion not in self.decided:
                self._look(criterion)

    def _look(self, criterion: Criterion) -> None:
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
        outcome = None if final else self._gate(criterion).look(differences, last=self.ended)
        if outcome is None:
            return replace(told, reason=self._open(told))
        if outcome == "fail":
            return replace(told, outcome=REGRESSION)
        return replace(told, outcome=IMPROVED if self._improved(criterion, differences) else PASS)

    def _gate(self, criterion: Criterion) -> Gate:
        different = self.level(SLOWER)
        return Gate(criterion.margin, criterion.part, different=different, looks=self.looks)

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
            seen=self._seen(criterion, differences),
        )

    def _seen(self, criterion: Criterion, differences: Floats) -> float | None:
        level = self._gate(criterion).level(differences.size, last=self.ended)
        smallest = smallest_seen(differences, different=level)
        return math.expm1(smallest) if smallest < 1 else None

    def _improved(self, criterion: Criterion, differences: Floats) -> bool:
        found = interval(differences, 2 * self.level(DIFFERENT) - 1)
        least = -math.log1p(criterion.margin) / 2
        return found is not None and found.high < 0 and found.centre < least

    def _missing(self, criterion: Criterion) -> str:
        if not self.pairs:
            return "nothing was measured"
        last = self.pairs[-1]
        keys = {*last.before, *last.after}
        if criterion.statistic == "p95" and f"{criterion.metric}:mean" in keys:
            return (
                "fewer steps were measured than a 95th percentile needs; a longer --max-seconds, "
                "or more --steps of a script, gives it"
            )
        sides = [name for name in ("before", "after") if criterion.key not in getattr(last, name)]
        where = "on neither side" if len(sides) == 2 else f"not measured {''.join(sides)}"
        known = sorted({key.split(":")[0] for key in (*last.before, *last.after)})
        return f"{criterion.name} was seen {where}; there are {', '.join(known)}"

    def _open(self, told: Judged) -> str:
        if told.pairs < self.looks[0]:
            return (
                f"only {told.pairs} of at least {self.looks[0]} pairs could be measured in time; "
                "a longer --max-seconds allows more"
            )
        if told.interval is not None and told.interval[0] > 0:
            return "it looks worse, but these pairs do not make that sure enough"
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
        return tuple(self._shift(key, margin) for key in self._keys())

    def _keys(self) -> list[str]:
        return ordered({key for pair in self.pairs for key in (*pair.before, *pair.after)})

    def _shift(self, key: str, margin: float) -> Shift:
        metric, statistic = key.split(":")
        unit = "bytes" if metric == "memory" else "s"
        before, after = self.typical(key, "before"), self.typical(key, "after")
        named = Shift(name=metric, statistic=statistic, unit=unit, before=before, after=after)
        found = interval(self.differences(key), CONFIDENCE)
        if found is None:
            known = before is not None and after is not None
            return replace(named, direction="unclear") if known else named
        return replace(
            named,
            ratio=math.exp(found.centre),
            ratio_ci=(math.exp(found.low), math.exp(found.high)),
            direction=direction(found.low, found.high, unit, margin),
        )


def ordered(keys: Iterable[str]) -> list[str]:
    """The step first, then the stages as they come in it, memory last."""
    found = set(keys)
    stages = in_order({key.split(":")[0] for key in found} - {"step", "memory"})
    order = ["step", *stages, "memory"]

    def place(key: str) -> tuple[int, int]:
        name, statistic = key.split(":")
        return order.index(name), STATISTICS.index(statistic)

    return sorted(found, key=place)


def _centre(differences: Floats, known: Estimate | None) -> float:
    return float(differences.mean()) if known is None else known.centre
