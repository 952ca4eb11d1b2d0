"""PD236: a backward pass goes through a model whose gradients are then thrown away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, hot_lines, line_evidence, stage_share, without
from perfdoctor.rules.wording import percent
from perfdoctor.stages import BACKWARD

_THROWN = "configuration.thrown_away_of_backward"
_MODULE = "configuration.thrown_away_module"
_MADE, _USED = "configuration.thrown_away_made_at", "configuration.thrown_away_used_at"
#: Of what was timed. More where the other model's first layer needs no gradient of its input any
#: more, and the forward pass keeps nothing (our own choice).
_GOES = (0.9, 1.0, 1.2)


class GradientsThrownAway:
    """A backward pass goes through a model only for gradients that are cleared unused.

    ## What it does
    Looks, in an observed script with several optimizers, for backward passes through one model and
    on through another that made its input, after which only the first one's optimizer steps, and
    the other's gradients are cleared before its own optimizer does.

    ## Why it is slow
    The usual place is a GAN: the discriminator's loss rests on what the generator made, so its
    backward pass runs through the whole generator unless that output is detached. Those gradients
    are of no use to the discriminator, and the generator's own step begins by clearing them.

    ## Evidence and threshold
    The part of all backward passes that goes there, timed in the first steps from where the
    backward pass leaves the one model to its end, on a GPU by events: the median from one step of
    that model's optimizer to the next. A model that a gradient passes on the way to another one
    (the discriminator in the generator's step, the critic in the actor's) is no such part.
    - `part` = 0.1 (source: our own choice; less brings next to nothing)
    - `share` = 0.2 (source: xprof and TraceML call a stage high from 20 %)

    ## What to change
    `fake.detach()` where the output goes into the other model; or make it under `torch.no_grad()`
    where it is used for nothing else, which saves the memory of its graph too.

    ## How the gain is predicted
    Amdahl's law over what was timed: 90 % of it at least, likely all of it, and at most 1.2 times
    as much, since the other model's first layer needs no gradient of its input any more and the
    forward pass keeps nothing for the backward pass.

    ## When not to
    Where the script reads these gradients itself before they are cleared.
    """

    code: ClassVar[str] = "PD236"
    name: ClassVar[str] = "gradients-thrown-away"
    needs: ClassVar[tuple[str, ...]] = (_THROWN, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "gradients-thrown-away"
    thresholds: ClassVar[Mapping[str, float]] = {"part": 0.10, "share": 0.20}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if much of the backward pass is for gradients that are thrown away."""
        part, share = facts.number(_THROWN), stage_share(facts, BACKWARD)
        if part < facts.threshold("part") or share < facts.threshold("share"):
            return None
        return Finding(
            stage=BACKWARD,
            title=f"{percent(part)} of the backward pass goes through {_model(facts)} for "
            f"gradients that are cleared unused: {percent(part * share)} of the training"
            f"{_place(facts, _MADE, ' – {}')}",
            advice=_advice(facts),
            change={"detached": True},
            snippet="fake = generator(noise).detach()  # in the discriminator's step only\n"
            "loss = criterion(discriminator(real), discriminator(fake))\n"
            "loss.backward()",
            evidence=(
                beside(facts, "thrown away, of the backward pass", part, "share", "part"),
                beside(facts, "backward", share, "share of training", "share"),
                *_lines(facts),
            ),
            cause=self.cause,
            predicted=without(share * part, *_GOES),
            confidence=0.9,
            effort="lines",
        )


def _advice(facts: Facts) -> str:
    used, made = _place(facts, _USED, " ({})"), _place(facts, _MADE, " in {}")
    return (
        f"Where only the other model is updated{used}, pass it `.detach()` of what "
        f"{_model(facts)} made{made}, or make that under torch.no_grad(): the gradients that are "
        "used stay the same."
    )


def _model(facts: Facts) -> str:
    return f"`{facts.get(_MODULE)}`" if facts.has(_MODULE) else "the model before it"


def _place(facts: Facts, path: str, words: str) -> str:
    return words.format(facts.get(path)) if facts.has(path) else ""


def _lines(facts: Facts) -> tuple[Evidence, ...]:
    return line_evidence(hot_lines(facts, BACKWARD), 1)
