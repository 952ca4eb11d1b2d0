"""Runs the rules over a report. One that fails or cannot decide never stops the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perfdoctor.errors import first_line
from perfdoctor.report import Abstained, Report
from perfdoctor.rules import Rule, catalogue
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.ranking import MIN_SPEEDUP, Found, recommend, worthwhile
from perfdoctor.rules.verdict import verdict
from perfdoctor.schema import to_dict
from perfdoctor.settings import Settings

#: Rules of this family say that the measurement itself cannot be trusted; then nothing that rests
#: on it is trusted as much.
_UNTRUSTED = "PD9"
_TRUST_LEFT = 0.7
_MIN_SPEEDUP_SETTING = "min_speedup"


@dataclass
class Outcome:
    """What the rules said: findings, abstentions, and a line for each rule that failed."""

    found: list[Found] = field(default_factory=list)
    abstained: list[Abstained] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def diagnose(report: Report, settings: Settings, rules: Sequence[Rule] | None = None) -> Report:
    """The report with diagnosis, recommendations and abstentions in place of any it had.

    `rules` replaces the built-in and third-party ones.
    """
    known = catalogue.load() if rules is None else catalogue.Catalogue(tuple(rules))
    facts = Facts(to_dict(report))
    enabled = [r for r in known.rules if not settings.disable & {r.code, r.name}]
    outcome = judge(enabled, facts, settings.thresholds)
    min_speedup = settings.thresholds.get(_MIN_SPEEDUP_SETTING, MIN_SPEEDUP)
    trust = _trust(outcome.found)
    found = [_trusted(f, trust) for f in worthwhile(outcome.found, min_speedup)]
    diagnosis = verdict(facts, [f.finding for f in found])
    notes = [*known.problems, *_misspelt(settings, known.rules), *outcome.warnings]
    return replace(
        report,
        diagnosis=replace(diagnosis, confidence=diagnosis.confidence * trust),
        recommendations=recommend(found),
        abstained=tuple(outcome.abstained),
        warnings=report.warnings + tuple(n for n in notes if n not in report.warnings),
    )


def judge(rules: Iterable[Rule], facts: Facts, overrides: Mapping[str, float]) -> Outcome:
    """Asks every rule; `overrides` are thresholds like `PD102.exposed_share`."""
    outcome = Outcome()
    for rule in rules:
        try:
            _ask(rule, facts.with_thresholds(_thresholds(rule, overrides)), outcome)
        except Missing as missing:
            outcome.abstained.append(Abstained(rule=rule.code, missing=missing.path))
        except Exception as error:  # a rule may come from anyone
            name = f"rule {rule.code} {rule.name}"
            outcome.warnings.append(f"{name} failed and was left out: {first_line(error)}")
    return outcome


def _ask(rule: Rule, facts: Facts, outcome: Outcome) -> None:
    for path in rule.needs:
        if not facts.has(path):
            raise Missing(path)
    finding = rule.evaluate(facts)
    if finding is not None:
        outcome.found.append(Found(rule, finding))


def _thresholds(rule: Rule, overrides: Mapping[str, float]) -> dict[str, float]:
    chosen = dict(rule.thresholds)
    for name in chosen:
        for owner in (rule.name, rule.code):
            chosen[name] = overrides.get(f"{owner}.{name}", chosen[name])
    return chosen


def _misspelt(settings: Settings, rules: Iterable[Rule]) -> Iterator[str]:
    """A warning for each setting that names nothing; a typing error would go unnoticed."""
    owners = {owner: rule for rule in rules for owner in (rule.code, rule.name)}
    known = {f"{owner}.{name}" for owner, rule in owners.items() for name in rule.thresholds}
    place = f"{settings.path}: " if settings.path else ""
    for name in sorted(set(settings.thresholds) - known - {_MIN_SPEEDUP_SETTING}):
        yield f"{place}no rule has a threshold {name!r}; it changes nothing"
    for name in sorted(settings.disable - set(owners)):
        yield f"{place}no rule {name!r} to disable; it changes nothing"


def _trust(found: Iterable[Found]) -> float:
    return _TRUST_LEFT if any(f.rule.code.startswith(_UNTRUSTED) for f in found) else 1.0


def _trusted(found: Found, trust: float) -> Found:
    if found.rule.code.startswith(_UNTRUSTED):
        return found
    finding = found.finding
    return replace(found, finding=replace(finding, confidence=finding.confidence * trust))
