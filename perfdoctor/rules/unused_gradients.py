"""PD233: gradients are computed that no optimizer uses, or only at a learning rate of 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, stage_share, without
from perfdoctor.rules.wording import percent
from perfdoctor.stages import BACKWARD, OPTIMIZER

_UNUSED = "configuration.gradients_unused"
_ALONE = "configuration.gradients_unused_alone_of_backward"
_BESIDE = "configuration.gradients_unused_beside_of_backward"
_AT_RATE_0 = "configuration.gradients_at_rate_0"
_OPTIMIZER_AT_RATE_0 = "configuration.optimizer_at_rate_0"
_MODULE = "configuration.gradients_unused_module"
_CALLED = "configuration.gradients_unused_called_at"
#: Of their part of the backward pass, by their number: some operations lie between them and what is
#: trained and stay; of most nothing is left (our own choice).
_GOES = (0.3, 0.9, 1.0)
#: Of what was timed and is for them alone. More where the forward pass keeps nothing any more: it
#: takes about half as long as the backward pass (our own choice).
_ALONE_GOES = (0.9, 1.0, 1.2)
#: Of operations that what is trained rests on too: of a layer's two products with its gradient,
#: one is for its weight.
BESIDE_GOES = (0.3, 0.5, 0.7)
#: Of the optimizer's work, by the numbers that it no longer has: some of a step is the same for few
#: numbers as for many, and for each tensor (our own choice).
_OPTIMIZER_GOES = (0.6, 0.9, 1.0)
_FROZEN = (
    "model.encoder.requires_grad_(False)\n"
    "trained = [p for p in model.parameters() if p.requires_grad]\n"
    "optimizer = torch.optim.AdamW(trained, lr=lr)"
)


class GradientsNobodyUses:
    """Some of what runs is not trained, but gradients are computed for it in every step.

    ## What it does
    Looks, in an observed script, for parameters that get gradients and are in none of the
    optimizers: of the trained model, and of other modules that the training calls and that its
    backward passes lead to, as a teacher, a target network or a fixed network in the loss. And for
    parameters that an optimizer has only in groups whose learning rate is 0 at every look, while
    another group of it has one above 0: as an encoder that layer-wise rates are to freeze. That is
    no warm-up that begins with 0, no layers that are trained later, no rate that a schedule made 0,
    and no rate that is a tensor: its value is not asked for.

    ## Why it is slow
    What only an optimizer leaves out is not frozen, and `eval()` freezes nothing either: the
    backward pass goes through it, keeps what it needs of the forward pass in memory, and adds
    gradients to those of the steps before, which nobody ever clears. A learning rate of 0 freezes
    nothing either: the optimizer reads and writes these parameters and its state of them as well.

    ## Evidence and threshold
    The part of the backward passes that leads to these parameters alone, timed in the first steps
    (on a GPU by events), and the part of operations that others rest on too. Where that is not
    known, the part of the model's numbers with gradients that no optimizer updates. And the share
    of the backward pass. Or, against the same thresholds, the part of the main optimizer's numbers
    whose learning rate is 0, and its share. A backward pass that leads to nothing an optimizer has
    counts for nothing: its gradients may be copied to another model. Nor does a module count whose
    weights change and whose gradients are cleared.
    - `part` = 0.1 (source: our own choice; less brings next to nothing)
    - `share` = 0.2 (source: xprof and TraceML call a stage high from 20 %)

    ## What to change
    `teacher.requires_grad_(False)` for what stays as it is. Where nothing that is trained goes into
    it, calling it under `torch.no_grad()` does the same, and the forward pass keeps nothing for it.
    Instead of a learning rate of 0 the same, and the optimizer made without these parameters.

    ## How the gain is predicted
    Amdahl's law over what was timed: 90 % of what is for these parameters alone at least, likely
    all of it, and at most 1.2 times as much, since the forward pass keeps nothing any more; of
    operations that others rest on too 30 %, 50 % and 70 %, since one of a layer's two gradients
    stays. Where only numbers are known: 30 % of that part of the backward pass at least, 90 %
    likely, or all of the backward pass. Of the optimizer's steps 60 % of the part of its numbers
    whose learning rate is 0, likely 90 %, at most all of that part.

    ## When not to
    Where the script looks at these gradients itself, or an optimizer gets these parameters, or a
    learning rate above 0 for them, later. Where gradients are clipped by the norm of all of them,
    those that nobody uses count in it: without them less is clipped.
    """

    code: ClassVar[str] = "PD233"
    name: ClassVar[str] = "gradients-nobody-uses"
    needs: ClassVar[tuple[str, ...]] = (_UNUSED, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "unused-gradients"
    thresholds: ClassVar[Mapping[str, float]] = {"part": 0.10, "share": 0.20}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if much of what is differentiated, or of the optimizer's work, is for nothing."""
        backward, optimizer = _backward(facts), _optimizer(facts)
        if not backward.counts(facts) and not optimizer.counts(facts):
            return None
        timed = backward.timed
        return Finding(
            stage=BACKWARD if backward.likely >= optimizer.likely else OPTIMIZER,
            title=_title(facts, backward, optimizer),
            advice=_advice(facts, timed),
            change={"frozen": True},
            snippet=_snippet(facts, timed),
            evidence=(*_evidence(facts, backward), *_of_optimizer(facts, optimizer)),
            cause=self.cause,
            predicted=_predicted(backward, optimizer),
            confidence=0.8 if timed is None else 0.9,
            effort="lines",
        )


@dataclass(frozen=True)
class _Timed:
    """Parts of the backward passes: for these parameters alone, and beside others."""

    alone: float
    beside: float

    @property
    def likely(self) -> float:
        """How much of the backward passes is for nothing."""
        return self.of(1)

    @property
    def mostly_alone(self) -> bool:
        """Whether the more of that is for these parameters alone."""
        return self.alone >= self.beside * BESIDE_GOES[1]

    def of(self, which: int) -> float:
        """At least (0), likely (1) or at most (2) so much of them goes away."""
        return self.alone * _ALONE_GOES[which] + self.beside * BESIDE_GOES[which]


@dataclass(frozen=True)
class _Stage:
    """A stage's share of the training, and the part of it that is for nothing; `number`: of what
    it works on."""

    share: float
    number: float
    goes: tuple[float, float, float]
    timed: _Timed | None = None

    @property
    def part(self) -> float:
        """Of the stage, as far as it is known."""
        return self.number if self.timed is None else self.timed.likely

    @property
    def likely(self) -> float:
        """Of the training."""
        return self.share * self.goes[1]

    def counts(self, facts: Facts) -> bool:
        """Whether there is any, and enough of it."""
        large = self.share >= facts.threshold("share")
        return bool(self.number) and large and self.part >= facts.threshold("part")


def _backward(facts: Facts) -> _Stage:
    number = facts.number(_UNUSED) + (facts.known(_AT_RATE_0) or 0.0)
    share = stage_share(facts, BACKWARD)
    if not number:
        return _Stage(share, 0.0, (0.0, 0.0, 0.0))
    alone, beside_others = facts.known(_ALONE), facts.known(_BESIDE)
    if alone is None or beside_others is None:
        low, likely, high = _GOES
        return _Stage(share, number, (low * number, likely * number, high))
    timed = _Timed(alone, beside_others)
    return _Stage(share, number, (timed.of(0), timed.of(1), timed.of(2)), timed)


def _optimizer(facts: Facts) -> _Stage:
    number = facts.known(_OPTIMIZER_AT_RATE_0) or 0.0
    low, likely, high = _OPTIMIZER_GOES
    share = stage_share(facts, OPTIMIZER) if number else 0.0
    return _Stage(share, number, (low * number, likely * number, high * number))


def _predicted(backward: _Stage, optimizer: _Stage) -> Prediction:
    both = zip(backward.goes, optimizer.goes, strict=True)
    low, likely, high = (backward.share * b + optimizer.share * o for b, o in both)
    return without(1.0, low, likely, high)


def _title(facts: Facts, backward: _Stage, optimizer: _Stage) -> str:
    if not backward.counts(facts):
        return (
            f"{percent(optimizer.number)} of what the optimizer updates has a learning rate of 0: "
            f"its steps take {percent(optimizer.share)} of the training"
        )
    if backward.timed is None:
        lines = hot_lines(facts, BACKWARD)
        return (
            f"{percent(backward.number)} of what gets gradients {_why(facts, 'is', 'has')}: the "
            f"backward pass takes {percent(backward.share)} of the training"
            f"{at(lines[0] if lines else None)}"
        )
    called = f" – {facts.get(_CALLED)}" if facts.has(_CALLED) else ""
    return (
        f"{percent(backward.part)} of the backward pass is for gradients of {_for_whom(facts)}: "
        f"{percent(backward.likely)} of the training{called}"
    )


def _why(facts: Facts, be: str, have: str) -> str:
    """Why nothing comes of it: in no optimizer, or at a learning rate of 0 there."""
    if not facts.known(_AT_RATE_0):
        return f"{be} in no optimizer"
    at_rate_0 = f"{have} a learning rate of 0"
    return f"{be} in no optimizer or {at_rate_0}" if facts.number(_UNUSED) else at_rate_0


def _for_whom(facts: Facts) -> str:
    if not facts.known(_AT_RATE_0):
        return f"{_whose(facts)} that no optimizer uses"
    if facts.number(_UNUSED):
        return f"parameters that {_why(facts, 'are', 'have')}"
    return "parameters whose learning rate is 0"


def _whose(facts: Facts) -> str:
    return f"`{facts.get(_MODULE)}`" if facts.has(_MODULE) else "parameters"


def _what(facts: Facts) -> str:
    if not facts.has(_MODULE):
        return "what is not trained"
    called = f" that is called in {facts.get(_CALLED)}" if facts.has(_CALLED) else ""
    return f"the `{facts.get(_MODULE)}`{called}"


def _advice(facts: Facts, timed: _Timed | None) -> str:
    if facts.known(_AT_RATE_0) and not facts.number(_UNUSED):
        return (
            "Freeze these parameters with requires_grad_(False) and leave them out of the "
            "optimizer: at a learning rate of 0 their gradients are computed all the same, and "
            "each step of the optimizer goes through them."
        )
    if timed is not None and not timed.mostly_alone:
        return (
            f"Freeze {_what(facts)} with requires_grad_(False): gradients pass through it to what "
            "is trained as before, and those of its weights are no longer computed. Not with "
            "torch.no_grad(), under which nothing would pass."
        )
    if timed is not None:
        return (
            f"Freeze {_what(facts)} with requires_grad_(False), or put torch.no_grad() around its "
            "forward pass: the backward pass no longer goes through it, and its forward pass keeps "
            "nothing in memory for that."
        )
    return (
        "Freeze what is not trained with requires_grad_(False), before the optimizer is made: the "
        "backward pass ends where nothing is left to train."
    )


def _snippet(facts: Facts, timed: _Timed | None) -> str:
    if facts.known(_AT_RATE_0) and not facts.number(_UNUSED):
        return _FROZEN
    if timed is not None and not timed.mostly_alone:
        return (
            "judge.eval().requires_grad_(False)\nloss = criterion(judge(model(x)), judge(target))"
        )
    if timed is not None and facts.has(_MODULE):
        return (
            "teacher.eval().requires_grad_(False)\nwith torch.no_grad():\n    target = teacher(x)"
        )
    return _FROZEN


def _evidence(facts: Facts, backward: _Stage) -> tuple[Evidence, ...]:
    share = beside(facts, "backward", backward.share, "share of training", "share")
    timed = backward.timed
    if timed is None:
        return (*_numbers(facts, facts.threshold("part")), share)
    return (
        beside(facts, "for nothing, of the backward pass", timed.likely, "share", "part"),
        Evidence(metric="for these parameters alone", value=timed.alone, unit="share"),
        Evidence(metric="for these and others", value=timed.beside, unit="share"),
        *_numbers(facts, None),
        share,
    )


def _numbers(facts: Facts, threshold: float | None) -> tuple[Evidence, ...]:
    left_out, at_rate_0 = facts.number(_UNUSED), facts.known(_AT_RATE_0) or 0.0
    named = {
        "not updated, of what gets gradients": left_out,
        "at learning rate 0, of what gets gradients": at_rate_0,
    }
    return tuple(
        Evidence(metric=metric, value=value, unit="share", threshold=threshold)
        for metric, value in named.items()
        if value
    )


def _of_optimizer(facts: Facts, optimizer: _Stage) -> tuple[Evidence, ...]:
    if not optimizer.number:
        return ()
    part = beside(facts, "at learning rate 0, of the optimizer", optimizer.number, "share", "part")
    return part, beside(facts, "optimizer", optimizer.share, "share of training", "share")
