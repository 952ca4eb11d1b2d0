"""The verdict and the ranked recommendations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from perfdoctor.ending import BY_ITSELF
from perfdoctor.render import log_words, words
from perfdoctor.render.facts import code, heading
from perfdoctor.render.text import clean, quantity, share
from perfdoctor.report import Choice, Diagnosis, Evidence, Recommendation, Report

_COLOURS = {"healthy": "green", "inconclusive": "yellow"}
_OUTCOME_STYLES = {"verified": "bold green", "refuted": "bold red"}
_INDENT = 4
_GAIN = (
    "Gains are samples per second after ÷ before, of the {whole}. Predicted: from a model, "
    "with its interval. Verified: measured both ways here."
)
_WHOLE, _CUT_SHORT = (
    "whole training",
    "training without its start-up, as the script did not come to its own end",
)
_BOUNDS = " Up to: only an upper bound is known."


def verdict(report: Report, diagnosis: Diagnosis) -> RenderableType:
    """The verdict as a badge, its sentence and how sure it is."""
    colour = _COLOURS.get(diagnosis.verdict, "red")
    badge = Text(f" {clean(diagnosis.verdict).upper()} ", f"bold white on {colour}")
    first = Text.assemble(badge, "  ", _bottleneck(report, diagnosis))
    return Panel(Group(first, Text(clean(diagnosis.summary))), border_style=colour)


def _bottleneck(report: Report, diagnosis: Diagnosis) -> str:
    confidence = f"confidence {share(diagnosis.confidence)}"
    if diagnosis.bottleneck == "none":
        return confidence if diagnosis.confidence > 0 else ""
    name = log_words.stage(report, diagnosis.bottleneck)
    logged = log_words.from_log(report) and diagnosis.bottleneck not in report.stages
    whole = "the run" if logged or diagnosis.of == "run" else "the step"
    return f"{name} {share(diagnosis.share)} of {whole} · {confidence}"


def recommendations(report: Report) -> Iterator[RenderableType]:
    """What to change, best first; then what is only headroom."""
    urgent = [r for r in report.recommendations if not r.optional]
    optional = [r for r in report.recommendations if r.optional]
    yield heading("What to change")
    if not urgent:
        yield Text(words.nothing(report))
    yield from _listed(report, urgent)
    if report.together is not None:
        yield Padding(Text(words.together(report.together), "bold"), (1, 0, 0, 0))
    if optional:
        yield heading("Headroom (optional)")
        yield from _listed(report, optional)
    if any(r.predicted or r.verified for r in report.recommendations):
        bounds = [
            r.predicted for r in report.recommendations if r.predicted and r.predicted.is_bound
        ]
        gain = _GAIN.format(whole=_CUT_SHORT if _was_cut_short(report) else _WHOLE)
        yield Padding(Text(gain + (_BOUNDS if bounds else ""), "dim"), (1, 0, 0, 0))


def _was_cut_short(report: Report) -> bool:
    """Whether a script was observed that would have gone on, for nobody knows how long."""
    ended = report.ending is None or report.ending.how in BY_ITSELF
    return report.source.kind == "run" and not ended


def _listed(report: Report, ranked: Sequence[Recommendation]) -> Iterator[RenderableType]:
    for index, recommendation in enumerate(ranked):
        if index:
            yield Text()
        yield _recommendation(report, recommendation)


def _recommendation(report: Report, recommendation: Recommendation) -> RenderableType:
    body: list[RenderableType] = [Text(clean(recommendation.title), "bold")]
    if words.is_change(recommendation):
        body += [_gain(recommendation), Text(_price(recommendation))]
    body += [_evidence(report, recommendation.evidence), Text(clean(recommendation.advice))]
    snippet = []
    if recommendation.snippet.strip():
        snippet = [Text(), code(recommendation.snippet, 2 * _INDENT)]
    choices = [_choice(choice) for choice in recommendation.choices]
    after = [_indented(Text(), *choices)] if choices else []
    first = Text.assemble(
        (f"{recommendation.rank:>2}. ", "bold"),
        (clean(recommendation.rule), "bold cyan"),
        (f" {clean(recommendation.name)}", "cyan"),
    )
    return Group(first, _indented(*body), *snippet, *after)


def _indented(*parts: RenderableType) -> RenderableType:
    return Padding(Group(*parts), (0, 0, 0, _INDENT))


def _gain(recommendation: Recommendation) -> Text:
    guess, trial = recommendation.predicted, recommendation.verified
    predicted = (words.predicted(guess), "dim" if guess is None else "green")
    if guess is None and recommendation.unpredicted:
        predicted = (f"{predicted[0]}: {clean(recommendation.unpredicted)}", "dim")
    if trial is None:
        return Text.assemble(predicted)
    verified = (words.verified(trial), _OUTCOME_STYLES.get(trial.outcome, "yellow"))
    parity = "" if trial.loss_parity is None else f" · loss: {clean(trial.loss_parity)}"
    return Text.assemble(verified, " · ", predicted, parity)


def _price(recommendation: Recommendation) -> str:
    effort = words.EFFORT.get(recommendation.effort, clean(recommendation.effort))
    safety = words.SAFETY.get(recommendation.safety, clean(recommendation.safety))
    return f"effort: {effort} · safety: {safety}"


def _evidence(report: Report, evidence: Sequence[Evidence]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(overflow="fold")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for item in evidence:
        value = quantity(item.value, item.unit)
        grid.add_row(
            Text(clean(item.metric), "cyan"), Text(value), Text(_beside(report, item), "dim")
        )
    return grid


def _beside(report: Report, item: Evidence) -> str:
    threshold = item.threshold
    parts = [
        None if threshold is None else f"threshold {quantity(threshold, item.unit)}",
        None if item.where is None else f"in {log_words.place(report, item.where)}",
    ]
    return ", ".join(part for part in parts if part)


def _choice(choice: Choice) -> Text:
    return Text.assemble(
        ("or ", "bold"),
        (clean(choice.rule), "bold cyan"),
        (f" {clean(choice.name)}", "cyan"),
        f", {words.predicted(choice.predicted)}. {clean(choice.advice)}",
    )
