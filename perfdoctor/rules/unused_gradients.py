"""PD233: gradients are computed that no optimizer uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, stage_share, without
from perfdoctor.rules.wording import percent
from perfdoctor.stages import BACKWARD

_UNUSED = "configuration.gradients_unused"
_ALONE = "configuration.gradients_unused_alone_of_backward"
_BESIDE = "configuration.gradients_unused_beside_of_backward"
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
_BESIDE_GOES = (0.3, 0.5, 0.7)


class GradientsNobodyUses:
    """Some of what runs is not trained, but gradients are computed for it in every step.

    ## What it does
    Looks, in an observed script, for parameters that get gradients and are in none of the
    optimizers: of the trained model, and of other modules that the training calls and that its
    backward passes lead to, as a teacher, a target network or a fixed network in the loss.

    ## Why it is slow
    What only an optimizer leaves out is not frozen, and `eval()` freezes nothing either: the
    backward pass goes through it, keeps what it needs of the forward pass in memory, and adds
    gradients to those of the steps before, which nobody ever clears.

    ## Evidence and threshold
    The part of the backward passes that leads to these parameters alone, timed in the first steps
    (on a GPU by events), and the part of operations that others rest on too. Where that is not
    known, the part of the model's numbers with gradients that no optimizer updates. And the share
    of the backward pass. A backward pass that leads to nothing an optimizer has counts for nothing:
    its gradients may be copied to another model. Nor does a module count whose weights change and
    whose gradients are cleared.
    - `part` = 0.1 (source: our own choice; less brings next to nothing)
    - `share` = 0.2 (source: xprof and TraceML call a stage high from 20 %)

    ## What to change
    `teacher.requires_grad_(False)` for what stays as it is. Where nothing that is trained goes into
    it, calling it under `torch.no_grad()` does the same, and the forward pass keeps nothing for it.

    ## How the gain is predicted
    Amdahl's law over what was timed: 90 % of what is for these parameters alone at least, likely
    all of it, and at most 1.2 times as much, since the forward pass keeps nothing any more; of
    operations that others rest on too 30 %, 50 % and 70 %, since one of a layer's two gradients
    stays. Where only numbers are known: 30 % of that part of the backward pass at least, 90 %
    likely, or all of the backward pass.

    ## When not to
    Where the script looks at these gradients itself, or an optimizer gets these parameters later.
    """

    code: ClassVar[str] = "PD233"
    name: ClassVar[str] = "gradients-nobody-uses"
    needs: ClassVar[tuple[str, ...]] = (_UNUSED, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "unused-gradients"
    thresholds: ClassVar[Mapping[str, float]] = {"part": 0.10, "share": 0.20}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if much of what is differentiated is never updated."""
        number, share = facts.number(_UNUSED), stage_share(facts, BACKWARD)
        if not number or share < facts.threshold("share"):
            return None
        timed = _timed(facts)
        part = number if timed is None else timed.likely
        if part < facts.threshold("part"):
            return None
        return Finding(
            stage=BACKWARD,
            title=_title(facts, number, share, timed),
            advice=_advice(facts, timed),
            change={"frozen": True},
            snippet=_snippet(facts, timed),
            evidence=_evidence(facts, number, share, timed),
            cause=self.cause,
            predicted=_predicted(number, share, timed),
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
        return self.alone >= self.beside * _BESIDE_GOES[1]

    def of(self, which: int) -> float:
        """At least (0), likely (1) or at most (2) so much of them goes away."""
        return self.alone * _ALONE_GOES[which] + self.beside * _BESIDE_GOES[which]


def _timed(facts: Facts) -> _Timed | None:
    alone, beside_others = facts.known(_ALONE), facts.known(_BESIDE)
    return None if alone is None or beside_others is None else _Timed(alone, beside_others)


def _predicted(number: float, share: float, timed: _Timed | None) -> Prediction:
    if timed is None:
        low, likely, high = _GOES
        return without(share, low * number, likely * number, high)
    return without(share, timed.of(0), timed.of(1), timed.of(2))


def _title(facts: Facts, number: float, share: float, timed: _Timed | None) -> str:
    if timed is None:
        lines = hot_lines(facts, BACKWARD)
        return (
            f"{percent(number)} of what gets gradients is in no optimizer: the backward pass "
            f"takes {percent(share)} of the training{at(lines[0] if lines else None)}"
        )
    called = f" – {facts.get(_CALLED)}" if facts.has(_CALLED) else ""
    return (
        f"{percent(timed.likely)} of the backward pass is for gradients of {_whose(facts)} that no "
        f"optimizer uses: {percent(timed.likely * share)} of the training{called}"
    )


def _whose(facts: Facts) -> str:
    return f"`{facts.get(_MODULE)}`" if facts.has(_MODULE) else "parameters"


def _what(facts: Facts) -> str:
    if not facts.has(_MODULE):
        return "what is not trained"
    called = f" that is called in {facts.get(_CALLED)}" if facts.has(_CALLED) else ""
    return f"the `{facts.get(_MODULE)}`{called}"


def _advice(facts: Facts, timed: _Timed | None) -> str:
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
    if timed is not None and not timed.mostly_alone:
        return (
            "judge.eval().requires_grad_(False)\nloss = criterion(judge(model(x)), judge(target))"
        )
    if timed is not None and facts.has(_MODULE):
        return (
            "teacher.eval().requires_grad_(False)\nwith torch.no_grad():\n    target = teacher(x)"
        )
    return (
        "model.encoder.requires_grad_(False)\n"
        "trained = [p for p in model.parameters() if p.requires_grad]\n"
        "optimizer = torch.optim.AdamW(trained, lr=lr)"
    )


def _evidence(
    facts: Facts, number: float, share: float, timed: _Timed | None
) -> tuple[Evidence, ...]:
    backward = beside(facts, "backward", share, "share of training", "share")
    if timed is None:
        return beside(
            facts, "not updated, of what gets gradients", number, "share", "part"
        ), backward
    return (
        beside(facts, "for nothing, of the backward pass", timed.likely, "share", "part"),
        Evidence(metric="for these parameters alone", value=timed.alone, unit="share"),
        Evidence(metric="for these and others", value=timed.beside, unit="share"),
        Evidence(metric="not updated, of what gets gradients", value=number, unit="share"),
        backward,
    )
