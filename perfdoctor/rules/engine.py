"""Runs the rules over a report. One that fails or cannot decide never stops the others."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from perfdoctor.errors import first_line
from perfdoctor.report import Abstained, Diagnosis, Finding, Recommendation, Report
from perfdoctor.rules import Rule, catalogue
from perfdoctor.rules.consistency import consistent
from perfdoctor.rules.enough import require
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.groups import group_of
from perfdoctor.rules.judging import WORTHWHILE, inconclusive
from perfdoctor.rules.logs import BENCH, RUN
from perfdoctor.rules.named_causes import under_their_causes
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.ranking import MIN_SPEEDUP, Found, below, numbered, recommend, worthwhile
from perfdoctor.rules.together import together
from perfdoctor.rules.verdict import verdict
from perfdoctor.rules.whole_run import (
    finding_of_whole_run,
    of_whole_run,
    share_of_training,
    together_of_whole_run,
)
from perfdoctor.schema import to_dict
from perfdoctor.settings import Settings

#: Rules of this family say that the measurement itself cannot be trusted; then nothing that rests
#: on it is trusted as much.
_UNTRUSTED = "PD9"
_TRUST_LEFT = 0.7
#: Verdicts that name no part of the training.
_UNTOLD = ("inconclusive", "healthy")
_MIN_SPEEDUP_SETTING = "min_speedup"
#: What takes a model and its data to measure, and what only the script itself can tell.
_BY_BENCH = ("loader", "probes", "limits", "series.loader", "inference", "alone")
_NOT_MEASURABLE = ("epochs.economics",)


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
    found = consistent(facts, found)
    share = share_of_training(facts)
    diagnosis = judged_verdict(facts, [finding_of_whole_run(f.finding, share) for f in found])
    if diagnosis.verdict == "healthy":
        found = [_headroom(f) for f in found]
    found = under_their_causes([_unnoticed(f, share, diagnosis) for f in found])
    notes = [*known.problems, *_misspelt(settings, known.rules), *outcome.warnings]
    recommendations = tuple(_with_reason(r, known.rules) for r in recommend(found))
    whole = numbered(of_whole_run(r, share) for r in recommendations)
    return replace(
        report,
        diagnosis=replace(diagnosis, confidence=diagnosis.confidence * trust),
        recommendations=whole,
        together=together_of_whole_run(together(facts, recommendations), whole, share),
        abstained=tuple(outcome.abstained),
        warnings=report.warnings + tuple(n for n in notes if n not in report.warnings),
    )


def _headroom(found: Found) -> Found:
    """What a healthy training could still gain is an option, also where nobody knows how much.

    A danger to it stays a fault, and so does what spoils its measurement.
    """
    if found.finding.danger != "none" or found.rule.code.startswith(_UNTRUSTED):
        return found
    return replace(found, finding=replace(found.finding, optional=True))


def _unnoticed(found: Found, share: float, diagnosis: Diagnosis) -> Found:
    """What the whole run would hardly notice, and is not about what holds it up, is an option."""
    one = finding_of_whole_run(found.finding, share)
    bound = diagnosis.verdict not in _UNTOLD and group_of(one.stage) == group_of(
        diagnosis.bottleneck
    )
    if one.predicted is None or bound or not below(one, WORTHWHILE):
        return found
    return replace(found, finding=replace(found.finding, optional=True))


def _with_reason(recommendation: Recommendation, rules: Iterable[Rule]) -> Recommendation:
    """One whose gain is not predicted says why: as its rule's own text has it."""
    if recommendation.predicted is not None:
        return recommendation
    rule = next(rule for rule in rules if rule.code == recommendation.rule)
    return replace(recommendation, unpredicted=catalogue.why_unpredicted(rule))


def judged_verdict(facts: Facts, findings: Sequence[Finding]) -> Diagnosis:
    """The verdict; inconclusive where the report lacks what a verdict cannot do without."""
    try:
        return verdict(facts, findings)
    except Missing as missing:
        return inconclusive(
            "The report does not tell enough for a verdict: it lacks "
            f"{missing.path.replace('_', ' ').replace('.', ', ')}."
        )


def judge(rules: Iterable[Rule], facts: Facts, overrides: Mapping[str, float]) -> Outcome:
    """Asks every rule; `overrides` are thresholds like `PD102.exposed_share`."""
    outcome = Outcome()
    for rule in rules:
        if not _concerned(rule, facts):
            continue
        try:
            _ask(rule, facts.with_thresholds(_thresholds(rule, overrides)), outcome)
        except Missing as missing:
            how = how_to_measure(facts, missing.path)
            outcome.abstained.append(
                Abstained(
                    rule=rule.code, missing=missing.path, measure_with=how, reason=missing.reason
                )
            )
        except Exception as error:  # a rule may come from anyone
            name = f"rule {rule.code} {rule.name}"
            outcome.warnings.append(f"{name} failed and was left out: {first_line(error)}")
    return outcome


def _concerned(rule: Rule, facts: Facts) -> bool:
    """Whether the rule is about this kind of source; one that names none is about all."""
    sources = getattr(rule, "sources", ())
    return not sources or not facts.has("source.kind") or facts.get("source.kind") in sources


def how_to_measure(facts: Facts, path: str) -> str | None:
    """The command that would provide what a log lacks; None for what no command can."""
    if not facts.from_log or path.startswith(_NOT_MEASURABLE):
        return None
    return BENCH if path.startswith(_BY_BENCH) else RUN


def _ask(rule: Rule, facts: Facts, outcome: Outcome) -> None:
    for path in rule.needs:
        if not facts.has(path):
            raise Missing(path)
    require(facts, getattr(rule, "rests_on", ()))
    finding = rule.evaluate(facts)
    if finding is None:
        return
    if finding.predicted is not None and is_run(facts):
        facts.get("steps")  # where nothing trained, nothing can be gained
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
    known.add(_MIN_SPEEDUP_SETTING)
    place = f"{settings.path}: " if settings.path else ""
    for name in sorted(set(settings.thresholds) - known):
        yield f"{place}no rule has a threshold {name!r}; it changes nothing{_like(name, known)}"
    for name in sorted(settings.disable - set(owners)):
        yield f"{place}no rule {name!r} to disable; it changes nothing{_like(name, owners)}"


def _like(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _trust(found: Iterable[Found]) -> float:
    return _TRUST_LEFT if any(f.rule.code.startswith(_UNTRUSTED) for f in found) else 1.0


def _trusted(found: Found, trust: float) -> Found:
    if found.rule.code.startswith(_UNTRUSTED):
        return found
    finding = found.finding
    return replace(found, finding=replace(finding, confidence=finding.confidence * trust))
