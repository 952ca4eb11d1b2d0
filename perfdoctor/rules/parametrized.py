"""PD239: a parametrized weight is computed again each time that the forward pass reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, stage_share, without
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import BACKWARD, FORWARD

_TIMES = "configuration.parametrized_times"
_PARTS = {
    FORWARD: "configuration.parametrized_of_forward",
    BACKWARD: "configuration.parametrized_of_backward",
}
_WEIGHT, _BY = "configuration.parametrized_weight", "configuration.parametrized_by"
_READ_AT = "configuration.parametrized_read_at"
#: What is computed again in a backward pass rests on each time's own result.
_CHECKPOINTING = "configuration.gradient_checkpointing"
#: Of what was timed. More where what is around it, the calls of modules, goes too (our own choice).
_GOES = (0.8, 1.0, 1.1)


class ParametrizationRecomputed:
    """A parametrized weight is computed again each time that the forward pass reads it.

    ## What it does
    Counts, in a few steps of an observed script, how often each weight that is parametrized with
    `torch.nn.utils.parametrize` (`parametrizations.orthogonal`, `weight_norm`, one of your own) is
    computed before a backward pass, and times what gives the same as the time before.

    ## Why it is slow
    Such a weight is no tensor that is kept: each time that it is read it is computed from what is
    trained, for an orthogonal one by solving a linear system or by a matrix exponential. A cell
    called in a loop over time computes its recurrent matrix in each step of the sequence, and the
    backward pass goes through each of these computations.

    ## Evidence and threshold
    How often one weight is computed in a forward pass from unchanged parameters with the same
    result, and what all but the first time take: of the forward pass, and of the backward pass the
    operations that they made, both timed on the host. What gives another result each time does not
    count, as weights dropped at random, nor what keeps a state, as the power iteration of
    `spectral_norm` in training. On a GPU nothing is timed.
    - `times` = 2 (source: once it has to be computed)
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)

    ## What to change
    `with torch.nn.utils.parametrize.cached():` around the loop, or around the call of the model:
    within it each such weight is computed when it is first read, and kept until the block ends.

    ## How the gain is predicted
    Amdahl's law over forward and backward pass without what was timed: 80 % of it at least, likely
    all of it, and at most a tenth more, since the calls around it go too.

    ## When not to
    Where weights change within the block, or several backward passes follow whose graphs are not
    kept: then a block for each. With gradient checkpointing nothing is said: what it runs again
    would not find the kept weight.
    """

    code: ClassVar[str] = "PD239"
    name: ClassVar[str] = "parametrization-recomputed"
    needs: ClassVar[tuple[str, ...]] = (_TIMES, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "tiny-operations"  # PD216 may see the same as many operations
    thresholds: ClassVar[Mapping[str, float]] = {"times": 2.0, "share": 0.10}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if what is computed again takes a visible share."""
        times = facts.number(_TIMES)
        if times < facts.threshold("times") or _recomputes(facts):
            return None
        shares = {stage: _share(facts, stage) for stage in _PARTS}
        share = sum(shares.values())
        if share < facts.threshold("share"):
            return None
        return Finding(
            stage=max(shares, key=lambda stage: shares[stage]),
            title=f"{_weight(facts)} is computed {grouped(times)} times in each forward pass, with "
            f"the same result: {percent(share)} of the training{_text(facts, _READ_AT, ' – {}')}",
            advice="Put `with torch.nn.utils.parametrize.cached():` around what reads it"
            f"{_text(facts, _READ_AT, ' ({})')}: around the loop over time, or around the call of "
            "the model. Within it each parametrized weight is computed once, when it is first "
            "read.",
            change={"parametrizations": "cached"},
            snippet="from torch.nn.utils import parametrize\n"
            "\n"
            "with parametrize.cached():  # forward only; a block of its own for validation\n"
            "    output = model(inputs)\n"
            "loss = criterion(output, targets)",
            evidence=(
                beside(facts, "computed in a forward pass", times, "", "times"),
                beside(facts, "computing it again", share, "share of training", "share"),
                *_parts(facts),
            ),
            cause=self.cause,
            predicted=without(share, *_GOES),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


def _recomputes(facts: Facts) -> bool:
    return facts.has(_CHECKPOINTING) and facts.get(_CHECKPOINTING) is not False


def _share(facts: Facts, stage: str) -> float:
    return facts.number(_PARTS[stage]) * stage_share(facts, stage)


def _parts(facts: Facts) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(metric=f"of the {stage} pass", value=facts.number(path), unit="share")
        for stage, path in _PARTS.items()
    )


def _weight(facts: Facts) -> str:
    """Such as "`cell.rec.weight` (Orthogonal)"."""
    return _text(facts, _WEIGHT, "`{}`") + _text(facts, _BY, " ({})") or "A parametrized weight"


def _text(facts: Facts, path: str, words: str) -> str:
    return words.format(facts.get(path)) if facts.has(path) else ""
