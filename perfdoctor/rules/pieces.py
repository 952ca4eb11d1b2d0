"""Layers are called on one piece of the batch after the other (PD216)."""

from __future__ import annotations

from collections.abc import Sequence

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.at_once import goes_at_once
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import COMPUTING
from perfdoctor.rules.observed import HotLine, at, hot_lines, line_evidence, stage_share, without
from perfdoctor.rules.wording import grouped
from perfdoctor.stages import BACKWARD, FORWARD

_CALLS, _SAMPLES = "configuration.pieces_calls", "configuration.pieces_samples"
_OPERATIONS = "configuration.pieces_operations"
_LEFT, _BESIDE_LEFT = "configuration.pieces_left", "configuration.pieces_beside_left"
_FED_BACK = "configuration.fed_back"
#: Less of the training than this is not worth a change (our own choice).
_WORTH = 0.05
#: What these call knows an input only when it has given an output.
_IN_ORDER = r"\b(?:LSTM|GRU|RNN)Cell\b|\b(argmax|multinomial|topk|sample)\b"


def _goes_in_order(facts: Facts, lines: Sequence[HotLine]) -> bool:
    """Whether a piece is known only when something was made of the one before."""
    fed_back = facts.has(_FED_BACK) and facts.flag(_FED_BACK)
    return fed_back or any(line.calls(_IN_ORDER) for line in lines)


def piece_by_piece(facts: Facts, cause: str) -> Finding | None:
    """PD216 where layers are called many times a step, on a piece each that needs no other."""
    calls = facts.known(_CALLS)
    lines = hot_lines(facts, FORWARD)
    if not calls or _goes_in_order(facts, lines):
        return None
    whole = sum(stage_share(facts, stage) for stage in COMPUTING)
    share = whole * facts.number(_OPERATIONS)
    goes = goes_at_once(facts, "pieces")
    if share * goes[1] < _WORTH:
        return None
    samples = grouped(facts.number(_SAMPLES))
    each = f"a row of {samples}" if samples != "1" else "one"
    return Finding(
        stage=max((FORWARD, BACKWARD), key=lambda stage: stage_share(facts, stage)),
        title=f"A layer is called {grouped(calls)} times a step, on one piece after the other"
        f"{at(lines[0]) if lines else ''}",
        advice="Put the pieces (frames, samples, moments) together before the layers, where they "
        "are one batch of more samples, and take them apart afterwards: no piece here needs what "
        "was made of another. Batch normalisation then takes its statistics over all of them.",
        change={"compile": "default"},
        snippet="b, t = video.shape[:2]\n"
        "features = self.cnn(video.flatten(0, 1))  # all frames of all samples\n"
        "features = features.view(b, t, -1)",
        evidence=(
            Evidence(metric=f"calls of the layer, on {each} each", value=calls, unit=""),
            Evidence(metric="forward, loss and backward", value=whole, unit="share of training"),
            Evidence(
                metric="operations that are repeated so",
                value=facts.number(_OPERATIONS),
                unit="share",
            ),
            Evidence(metric="left of the layer at once", value=facts.number(_LEFT), unit="share"),
            Evidence(
                metric="left of an activation", value=facts.number(_BESIDE_LEFT), unit="share"
            ),
            *line_evidence(lines[:1], 1),
        ),
        cause=cause,
        predicted=without(share, *goes),
        confidence=0.8,
        effort="lines",
        safety="numerics",
    )
