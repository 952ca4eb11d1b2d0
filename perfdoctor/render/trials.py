"""The trials on the console: what was predicted and what came of it, and how to use it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perfdoctor.render import words
from perfdoctor.render.facts import Fact, code, fact_grid, heading
from perfdoctor.render.grid import cell, plain_table
from perfdoctor.render.setting_words import setting_name
from perfdoctor.render.text import (
    bytes_,
    clean,
    count_per_s,
    counted,
    number,
    seconds,
    share,
    speedup_interval,
)
from perfdoctor.report import (
    CurvePoint,
    Prediction,
    Report,
    Trial,
    Verification,
)

_INDENT = 4
#: Errors of predictions below this factor are said in percent.
_SAID_AS_SHARE = 1.5
_STYLES = {"verified": "bold green", "refuted": "red", "inconclusive": "yellow"}


def trials(report: Report) -> Iterator[RenderableType]:
    """The table, what it rests on, and the verified configuration; nothing without trials."""
    verification = report.verification
    if verification is None:
        return
    yield heading("What was tried here")
    if anything_tried(report, verification):
        yield trial_table(report, verification)
    else:
        yield Text(_nothing(verification))
    yield fact_grid([*_remarked(report, verification), *_facts(report, verification)])
    yield from _applied(verification, profile=report.source.kind == "bench")


def _nothing(verification: Verification) -> str:
    if verification.interrupted:
        return "Nothing: it was interrupted before the first trial."
    return "Nothing: none of the advice can be tried here."


def anything_tried(report: Report, verification: Verification) -> bool:
    """Whether there is a trial to show, also one of what could not be tried."""
    return bool(verification.ceilings) or any(one.verified for one in report.recommendations)


def trial_table(report: Report, verification: Verification) -> Table:
    """A row for each recommendation, in the report's order, then the ceilings and all together."""
    table = plain_table()
    table.add_column("change", overflow="fold", min_width=16)
    for name in ("predicted", "measured"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for one in report.recommendations:
        if one.verified is not None:
            label = Text.assemble((clean(one.rule), "cyan"), f" {clean(one.name)}")
            table.add_row(label, *_cells(one.predicted, one.verified))
        for choice in one.choices:
            if choice.verified is not None:
                label = Text(f"or {clean(choice.rule)} {clean(choice.name)}", "dim")
                table.add_row(label, *_cells(choice.predicted, choice.verified))
    for ceiling, trial in verification.ceilings.items():
        *cells, _ = _cells(None, trial)
        outcome = Text(words.outcome(trial, ceiling=True), "dim")
        table.add_row(Text(words.ceiling(ceiling), "dim"), *cells, outcome)
    if verification.together is not None:
        table.add_section()
        table.add_row(Text("all together", "bold"), *_cells(None, verification.together))
    return table


def _cells(guess: Prediction | None, trial: Trial) -> tuple[Text, Text, Text]:
    outcome = Text(words.outcome(trial), _STYLES.get(trial.outcome, "dim"))
    return cell(_predicted(guess)), cell(words.measured_gain(trial)), outcome


def _remarked(report: Report, verification: Verification) -> Iterator[Fact]:
    """What there is to say of each trial."""
    for one in report.recommendations:
        if one.verified is not None:
            yield clean(one.rule), _remarks(one.verified)
        for choice in one.choices:
            if choice.verified is not None:
                yield clean(choice.rule), _remarks(choice.verified)
    for name, trial in verification.ceilings.items():
        yield words.ceiling(name), _remarks(trial)
    if verification.together is not None:
        yield "together", _remarks(verification.together)


def _predicted(guess: Prediction | None) -> str | None:
    if guess is None:
        return None
    if guess.is_bound:
        return words.up_to(guess)
    return speedup_interval(guess.speedup, guess.low, guess.high)


def _remarks(trial: Trial) -> str | None:
    parts = [
        clean(trial.reason) if trial.reason else None,
        f"loss: {clean(trial.loss_parity)}" if trial.loss_parity else None,
        _compiling(trial),
        _memory(trial),
    ]
    lines = ["; ".join(part for part in parts if part), *map(curve_line, trial.curve)]
    lines += map(_other_line, trial.others)
    return "\n".join(line for line in lines if line) or None


def _other_line(trial: Trial) -> str:
    """Another value of the change: what it brings."""
    changed = ", ".join(f"{setting_name(key)} {clean(str(v))}" for key, v in trial.change.items())
    told = [words.verified(trial), clean(trial.reason) if trial.reason else None, _compiling(trial)]
    return f"{changed}: " + "; ".join(part for part in told if part)


def _compiling(trial: Trial) -> str | None:
    if trial.compile_s is None:
        return None
    taken = f"compiling takes {seconds(trial.compile_s)}"
    if trial.pays_back_steps is None:
        return taken
    return f"{taken}, worth it after {counted(trial.pays_back_steps, 'step')}"


def _memory(trial: Trial) -> str | None:
    """Only where it changes: by more than what equal trainings differ by."""
    before, after = trial.peak_bytes_before, trial.peak_bytes_after
    if not before or not after or abs(after / before - 1) < 0.1:
        return None
    return f"peak memory {bytes_(before)} → {bytes_(after)}"


def _facts(report: Report, verification: Verification) -> Iterator[Fact]:
    control = verification.control
    if control is not None and control.speedup is not None:
        gain = speedup_interval(control.speedup, control.low, control.high)
        yield "control", f"nothing changed, measured the same way: {gain}"
    yield "machine", _machine(verification)
    together = verification.together
    if together is not None and together.speedup and verification.alone_product is not None:
        product = number(round(verification.alone_product, 2))
        gain = speedup_interval(together.speedup, None, None)
        yield (
            "together",
            f"all of them bring {gain}, not {product}× as their gains multiplied"
            + _left_out(report, together),
        )
    if verification.scored and verification.error is not None:
        inside = f"{verification.within_interval} of {verification.scored}"
        off = _off_by(verification.error)
        yield "models", f"predictions were off by {off} (median); {inside} within their interval"
    ended = ", interrupted" if verification.interrupted else ""
    yield "time", f"{seconds(verification.spent_s)} of {seconds(verification.budget_s)}{ended}"


def _left_out(report: Report, together: Trial) -> str:
    """The verified changes that were not tried with the others."""
    good = [one for one in report.recommendations if one.verified]
    apart = [
        one.rule
        for one in good
        if one.verified
        and one.verified.outcome == "verified"
        and not one.verified.change.items() <= together.change.items()
    ]
    return f"; tried by itself only: {', '.join(apart)}" if apart else ""


def _off_by(error: float) -> str:
    """Of the speed-up that was measured, from the logarithm of both."""
    times = math.exp(error)
    return share(times - 1) if times < _SAID_AS_SHARE else f"a factor of {times:.2g}"


def _machine(verification: Verification) -> str | None:
    foreign, waited = verification.foreign_cpu_share, verification.core_wait_share
    parts = [] if foreign is None else [f"other programs used {share(foreign)} of its cores"]
    if waited is not None:
        parts.append(f"the training waited {share(waited)} of its time for one")
    return "; ".join(parts) or None


def _applied(verification: Verification, *, profile: bool) -> Iterator[RenderableType]:
    """`profile`: whether `bench` can run the training again."""
    if not verification.patch and not verification.profile:
        return
    yield heading("The verified configuration")
    if verification.patch:
        yield from _block(verification.patch, "python")
    if verification.environment:
        lines = "\n".join(f"export {k}={v}" for k, v in verification.environment.items())
        yield from _block(lines, "bash")
    if verification.profile and profile:
        yield Text(
            "In pyproject.toml, for `perfdoctor bench --profile verified`, with --verify again "
            "for what is next:",
            "dim",
        )
        yield from _block(verification.profile, "toml")


def _block(text: str, language: str) -> Iterator[RenderableType]:
    # Texts of their own would be joined, and lose that they must not be wrapped.
    yield Group(code(text, _INDENT, language), Text())


def curve_line(point: CurvePoint) -> str:
    """One batch size: its throughput and memory, or why there is neither."""
    if point.error is not None:
        return f"batch size {point.batch_size}: {clean(point.error)}"
    rate, peak = count_per_s(point.samples_per_s), bytes_(point.peak_bytes)
    return f"batch size {point.batch_size}: {rate}, peak {peak}"
