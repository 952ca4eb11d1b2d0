"""Judges the advice of one report against a case's truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cases import Case


@dataclass(frozen=True)
class Advice:
    """What was advised, and whether it would have helped.

    Attributes:
        rules: the rules of all recommendations in their order, optional ones left out.
        accepted: the first of them is an accepted fix; None where the truth does not tell, or
            where nothing needs to be mended.
        harmful: the rules whose advice the truth calls wrong here.
        predicted: speed-up of the first recommendation, its low and its high end.
        measured: speed-up of the mended twin.
    """

    rules: tuple[str, ...]
    accepted: bool | None
    harmful: tuple[str, ...]
    predicted: tuple[float, float, float] | None
    measured: float | None

    @property
    def error(self) -> float | None:
        """Predicted ÷ measured − 1; None unless the first recommendation is an accepted fix."""
        if not self.accepted or self.predicted is None or self.measured is None:
            return None
        return self.predicted[0] / self.measured - 1

    @property
    def within(self) -> bool:
        """Whether the predicted interval holds the measured speed-up."""
        return (
            self.predicted is not None
            and self.measured is not None
            and self.predicted[1] <= self.measured <= self.predicted[2]
        )


def judge(case: Case, report: dict[str, Any]) -> Advice:
    """The advice of `report`, in the light of the case's `accepted_rules` and `harmful_rules`."""
    given = [one for one in report.get("recommendations") or [] if not one.get("optional")]
    rules = tuple(str(one["rule"]) for one in given)
    wanted = case.truth.get("accepted_rules")
    accepted = rules[0] in wanted if wanted and rules else (False if wanted else None)
    foretold = (given[0].get("predicted") or None) if given else None
    return Advice(
        rules=rules,
        accepted=accepted,
        harmful=tuple(rule for rule in rules if rule in case.truth.get("harmful_rules", [])),
        predicted=None
        if foretold is None
        else (foretold["speedup"], foretold["low"], foretold["high"]),
        measured=measured_speedup(case, rules[0] if rules else None),
    )


def measured_speedup(case: Case, rule: str | None = None) -> float | None:
    """What the mended twin brings, that of the rule where it has its own; waiting for a core taken
    off where that is known."""
    of_rules = case.truth.get("speedup_of") or {}
    speedup = of_rules.get(rule) or case.truth.get("speedup") or {}
    value = speedup.get("idle_estimate") or speedup.get("wall_median")
    return None if value is None or case.truth["bottleneck"] == "none" else float(value)


def summary(all_advice: Sequence[Advice]) -> list[str]:
    """The score card's lines about advice and predictions."""
    told = [one.accepted for one in all_advice if one.accepted is not None]
    errors = sorted(abs(one.error) for one in all_advice if one.error is not None)
    lines = [
        f"first recommendation an accepted fix: {sum(told)} of {len(told)}",
        f"harmful advice: {sum(len(one.harmful) for one in all_advice)}",
    ]
    if errors:
        within = sum(one.within for one in all_advice if one.error is not None)
        near = sum(error <= 0.25 for error in errors)
        lines += [
            f"error of predicted speed-ups: median {statistics.median(errors):.0%}, "
            f"worst {errors[-1]:.0%}; {near} of {len(errors)} within 25 %; "
            f"{within} intervals hold what was measured",
        ]
    return lines


def shown(advice: Advice) -> tuple[str, str, str]:
    """Cells: whether the first advice is right, predicted with its interval, measured."""
    mark = {None: "-", True: "[green]right[/]", False: "[bold red]WRONG[/]"}[advice.accepted]
    if advice.harmful:
        mark += f" [bold red]harmful: {', '.join(advice.harmful)}[/]"
    predicted = "-"
    if advice.predicted is not None and not any(map(math.isnan, advice.predicted)):
        value, low, high = advice.predicted
        predicted = f"{value:.2f} ({low:.2f}–{high:.2f})"
    return mark, predicted, "-" if advice.measured is None else f"{advice.measured:.2f}"
