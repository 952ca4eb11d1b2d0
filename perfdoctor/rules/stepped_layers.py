"""A recurrent layer that takes whole sequences is called for one moment after the other (PD216)."""

from __future__ import annotations

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import COMPUTING
from perfdoctor.rules.observed import (
    at,
    beside_steps,
    faster,
    hot_lines,
    line_evidence,
    stage_share,
    without,
)
from perfdoctor.rules.wording import grouped
from perfdoctor.stages import BACKWARD, FORWARD

_LAYERS, _MOMENTS = "configuration.stepped_layers", "configuration.stepped_moments"
_NOW_S, _LEFT = "configuration.stepped_s", "configuration.stepped_left"
_BESIDE_LEFT = "configuration.stepped_beside_left"
_OPERATIONS = "configuration.stepped_operations"
_STEP_S = "steps.time.mean_s"
#: Less of the training than this is not worth a change (our own choice).
_WORTH = 0.05
#: Where nothing could be timed: from nothing to four times as fast, as of any tiny operations.
_UNTIMED = (1.0, 1.6, 4.0)
#: Of what goes of the layer when it is timed by itself (our own choice): beside the rest of a step
#: it lies in other caches.
_LEAST = 0.8
#: What a layer takes that knows its inputs only when it has given an output.
_DRAWS = r"\b(argmax|multinomial|topk|sample)\b"
#: Lines that call such a layer, or a cell.
_CALLS = r"(?:LSTM|GRU|RNN)\.forward"
_CELL, _CALLS_CELL = "configuration.stepped_cell", r"(?:LSTM|GRU|RNN)Cell\.forward"


def moment_by_moment(facts: Facts, cause: str) -> Finding | None:
    """PD216 where torch's layer for whole sequences is called many times a step, for one moment
    each, although all inputs were known."""
    if not facts.known(_LAYERS) or any(n.calls(_DRAWS) for n in hot_lines(facts, FORWARD)):
        return None
    whole = sum(stage_share(facts, stage) for stage in COMPUTING)
    predicted = _gain(facts, whole)
    if predicted.speedup < 1 / (1 - _WORTH):
        return None
    moments = grouped(facts.number(_MOMENTS))
    cell = facts.text(_CELL) if facts.has(_CELL) else None
    calls = _CALLS if cell is None else _CALLS_CELL
    lines = [line for line in hot_lines(facts, FORWARD) if line.calls(calls)]
    if cell is not None and not lines:  # one of the user's own making may be no such layer
        return None
    layer = "the layer" if cell is None else f"nn.{cell}, which has the weights of nn.{cell}Cell,"
    return Finding(
        stage=max((FORWARD, BACKWARD), key=lambda stage: stage_share(facts, stage)),
        title=f"A recurrent {'layer' if cell is None else 'cell'} is called {moments} times a "
        f"step, for one moment each"
        f"{at(lines[0]) if lines else ''}",
        advice=f"Give {layer} the whole sequence in one call, which also gives what it was at "
        f"every moment; what follows, the loss too, then works on all {moments} at once. This "
        "needs inputs that are known beforehand, as while training on given sequences "
        "(teacher forcing); no input here comes from an output.",
        change={"compile": "default"},
        snippet=("" if cell is None else f"self.rnn = nn.{cell}(inputs, hidden)  # in __init__\n")
        + "outputs, state = self.rnn(x)  # moments × batch × features, no loop\n"
        "loss = loss_fn(self.head(outputs), targets)  # all moments at once",
        evidence=(
            Evidence(
                metric="calls of a layer for one moment", value=facts.number(_MOMENTS), unit=""
            ),
            Evidence(metric="forward, loss and backward", value=whole, unit="share of training"),
            *_timed(facts, whole),
            *line_evidence(lines, 1),
        ),
        cause=cause,
        predicted=predicted,
        confidence=0.8,
        effort="lines",
        safety="numerics",
    )


def _timed(facts: Facts, whole: float) -> tuple[Evidence, ...]:
    if not facts.has(_NOW_S):
        return ()
    left, share = facts.number(_LEFT), _of_layer(facts, whole)
    return (
        Evidence(metric="the layer, moment by moment", value=share, unit="share of training"),
        Evidence(metric="left of it in one call", value=left, unit="share"),
    )


def _of_layer(facts: Facts, whole: float) -> float:
    """The layer's part of the training, as timed by itself; a cell's many operations take longer
    among others, as much as its lines do of the forward. No more than what is computed."""
    part = facts.number(_NOW_S) / max(1e-12, facts.number(_STEP_S)) * (1 - beside_steps(facts))
    if facts.has(_CELL):
        lines = hot_lines(facts, FORWARD)
        own = sum(line.share for line in lines if line.calls(_CALLS_CELL))
        part = max(part, whole * own / max(1e-12, sum(line.share for line in lines)))
    return min(whole, part)


def _gain(facts: Facts, whole: float) -> Prediction:
    """The layer becomes as fast as it was timed in one call; of what is done beside it for each
    moment nothing goes at least, what was timed likely, and at most all but one of so many."""
    if not facts.has(_NOW_S):
        return faster(whole, *_UNTIMED)
    layer = _of_layer(facts, whole)
    beside = (whole - layer) * facts.number(_OPERATIONS)
    goes = layer * (1 - facts.number(_LEFT))
    low = _LEAST * goes
    likely = goes + beside * (1 - facts.number(_BESIDE_LEFT))
    high = goes + beside * (1 - 1 / facts.number(_MOMENTS))
    return without(whole, low / whole, likely / whole, high / whole)
