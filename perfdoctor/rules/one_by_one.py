"""PD409: gradients of one output are asked for in several calls where one would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    beside_steps,
    hot_lines,
    line_evidence,
    stage_share,
    without,
)
from perfdoctor.rules.wording import grouped, on_cuda, percent
from perfdoctor.stages import ARCH_STEP, BACKWARD, LOSS

_SECONDS, _CALLS = "configuration.one_by_one_s", "configuration.one_by_one_calls"
_OUTPUTS, _CREATED = "configuration.one_by_one_outputs", "configuration.one_by_one_created"
_LEFT, _LEAST = "configuration.one_by_one_left", "configuration.one_by_one_least"
_AT, _IN = "configuration.one_by_one_at", "configuration.one_by_one_in"
#: The share of the training from which it is worth a word, see the docstring.
_WANTED = 0.10
#: Of what is likely to go, so much goes at least: edges of a graph do not all cost the same.
_SURELY = 0.7
#: How much of the backward pass goes with graphs that are made of gradients (`create_graph`), as
#: multiples of what goes of the calls themselves: differentiating the product with a weight takes
#: two more, one for the weight and one for what it is multiplied with.
_BEHIND = (0.0, 1.0, 2.0)
_OF_TRAINING = "share of training"
#: At most so much of the rest of the backward pass.
_OF_THE_REST = 0.8


class GradientsTakenOneByOne:
    """Gradients of one output are taken in several calls that all go through its graph.

    ## What it does
    Notes, in the first steps of an observed script, the calls of `torch.autograd.grad` on the very
    same outputs, each time for other inputs.

    ## Why it is slow
    Every call goes from the output down to its own inputs. What lies between is differentiated
    again each time, although one call gives the gradients of all inputs in one pass. With
    `create_graph` each call makes a graph of its own too, through which the backward pass goes.

    ## Evidence and threshold
    The time of these calls, and what one call would go through, by the edges of the graph: calls
    whose ways have nothing in common count for nothing. Rows of a Jacobian (the same inputs), other
    losses and higher derivatives (other outputs) are not counted.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)

    ## What to change
    `torch.autograd.grad(loss, [a, b, c])` gives a tuple with the gradient of each; `retain_graph`
    is then needed only if something else goes through the graph later.

    ## How the gain is predicted
    Of the time of the calls as much is left as one pass has edges, and no less than the longest
    call took: that is the upper end; the lower one is 70 % of what likely goes. With `create_graph`
    the backward pass likely loses as much again, between nothing and twice that.

    ## When not to
    Where all gradients at once do not fit into memory.
    """

    code: ClassVar[str] = "PD409"
    name: ClassVar[str] = "gradients-taken-one-by-one"
    needs: ClassVar[tuple[str, ...]] = (_SECONDS, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "gradients-one-by-one"
    thresholds: ClassVar[Mapping[str, float]] = {"share": _WANTED}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such calls take a visible share and one call would take less."""
        if facts.number(_SECONDS) <= 0:
            return None
        stage, share = _stage(facts), _share(facts)
        if share < facts.threshold("share") or facts.number(_LEFT) >= 1:
            return None
        calls = facts.number(_CALLS)
        return Finding(
            stage=stage,
            title=f"torch.autograd.grad goes {grouped(calls)} times a step through "
            f"{_graphs(facts)}: {percent(share)} of the training{_place(facts, ' – {}')}",
            advice=_advice(facts, stage),
            change={"gradients_in_one_call": True},
            snippet=_snippet(facts),
            evidence=(
                beside(
                    facts, "calls for one gradient after the other", share, _OF_TRAINING, "share"
                ),
                Evidence(metric="such calls a step", value=calls, unit=""),
                Evidence(
                    metric="left of them in one call", value=facts.number(_LEFT), unit="share"
                ),
                *line_evidence(_its_lines(facts), 1),
            ),
            cause=self.cause,
            predicted=_gain(facts, stage, share),
            confidence=0.75 if on_cuda(facts) else 0.9,
            effort="lines",
            safety="numerics",
        )


def of_the_architecture(facts: Facts) -> bool:
    """Whether it is the architecture step that asks for gradients one by one, and one call would
    take half of the time or less: before anyone does it more rarely."""
    told = (facts.known(_SECONDS) or 0.0) > 0 and (facts.known(_LEFT) or 1.0) <= 0.5
    return told and _stage(facts) == ARCH_STEP and _share(facts) >= _WANTED


def _its_lines(facts: Facts) -> list[HotLine]:
    at = facts.get(_AT) if facts.has(_AT) else None
    return [line for line in hot_lines(facts) if line.place == at]


def _stage(facts: Facts) -> str:
    """Where the calls are made: as their line tells."""
    lines = _its_lines(facts)
    return lines[0].stage if lines else BACKWARD


def _share(facts: Facts) -> float:
    """The calls' part of the training: no more than the stages they may be in."""
    step_s = facts.known("steps.time.mean_s") or facts.known("steps.time.p50_s")
    if not step_s:
        return 0.0
    part = facts.number(_SECONDS) / step_s * (1 - beside_steps(facts))
    stages = {ARCH_STEP, BACKWARD, LOSS, _stage(facts)}
    return min(part, sum(stage_share(facts, stage) for stage in stages))


def _gain(facts: Facts, stage: str, share: float) -> Prediction:
    goes = 1 - facts.number(_LEFT)
    most = max(goes, 1 - (facts.known(_LEAST) or 0.0))
    rest = stage_share(facts, BACKWARD)
    rest = _OF_THE_REST * max(0.0, rest - share if stage == BACKWARD else rest)
    behind = share * goes * (facts.known(_CREATED) or 0.0)
    low, likely, high = (min(rest, times * behind) / share for times in _BEHIND)
    return without(share, _SURELY * goes + low, goes + likely, most + high)


def _graphs(facts: Facts) -> str:
    outputs = round(facts.known(_OUTPUTS) or 1)
    if outputs <= 1:
        return "the same graph, each time for other tensors"
    return f"the graphs of {grouped(outputs)} outputs, each time for other tensors"


def _advice(facts: Facts, stage: str) -> str:
    outputs = max(1, round(facts.known(_OUTPUTS) or 1))
    all_of = "all tensors" if outputs <= 1 else "all tensors of an output"
    place, calls = _place(facts, " in {}"), grouped(facts.number(_CALLS))
    kept = "The search stays as it is." if stage == ARCH_STEP else "The gradients are the same."
    alike = ", where the grad_outputs are alike," if on_cuda(facts) else ""
    return (
        f"Ask for the gradients of {all_of} in one call{place}{alike}: it takes a list of tensors, "
        f"goes through the graph once and gives one gradient for each, so that {calls} calls a "
        f"step become {outputs}. {kept}"
    )


def _place(facts: Facts, words: str) -> str:
    """Such as "train.py:89 `Architect.step`"."""
    if not facts.has(_AT):
        return ""
    function = facts.get(_IN) if facts.has(_IN) else ""
    named = function and not function.startswith("<")
    return words.format(f"{facts.get(_AT)} `{function}`" if named else facts.get(_AT))


def _snippet(facts: Facts) -> str:
    if (facts.known(_CREATED) or 0.0) > 0:
        return "u_x, u_t = torch.autograd.grad(u, (x, t), torch.ones_like(u), create_graph=True)"
    return (
        "grads = torch.autograd.grad(loss, tensors)  # a list of all: one pass\n"
        "for tensor, grad in zip(tensors, grads):\n"
        "    ..."
    )
