"""PD238: a function of the forward pass or a loss is given, and gives, the same in every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import RUNS, HotLine, at, hot_lines, line_evidence, without
from perfdoctor.rules.wording import listed, on_cuda, percent
from perfdoctor.stages import ARCH_STEP, FORWARD, LOSS

_TRAINED, _VALIDATION = (FORWARD, LOSS, ARCH_STEP), "validation"
#: Of the time of its lines: what is computed once costs nothing any more.
_GOES = (0.9, 1.0, 1.0)
#: On a GPU the line that waits for it takes the time of others, too (our own choice).
_GOES_ON_GPU = (0.0, 0.5, 1.0)


class SameResultEachStep:
    """A function within the forward pass or the loss gives the same result in every step.

    ## What it does
    Notes, in a few steps of an observed script, what the functions that the model and its loss
    call are given and give back: one is told that is given the very same objects, unchanged, in
    each of these steps, draws nothing at random, reads nothing that is trained, and gives the same.

    ## Why it is slow
    Normalising the adjacency matrix of a graph that stays as it is, or building a mask, an encoding
    of positions, anchors, a window or a filterbank, costs as much as a layer, and brings nothing
    new after the first step.

    ## Evidence and threshold
    The share of the training of the lines in such functions, within forward, loss, the
    architecture step and validation.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)

    ## What to change
    Call the function once before the training and hand its result on, or keep it in a buffer of
    the module: `self.register_buffer("adjacency", normalised(edges), persistent=False)`.

    ## How the gain is predicted
    Without the time of its lines, 90 % of it at least, those in validation at most; on a GPU half
    of it, between nothing and all, since a line that waits there takes the time of others too.

    ## When not to
    Where what it is given changes later in the training: then keep its result until it does. Large
    results take memory for as long as they are kept.
    """

    code: ClassVar[str] = "PD238"
    name: ClassVar[str] = "same-result-each-step"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "same-result"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if lines in such functions take a visible share."""
        lines = [line for line in hot_lines(facts, *_TRAINED, _VALIDATION) if line.same_in]
        trained = sum(line.share for line in lines if line.stage in _TRAINED)
        share = sum(line.share for line in lines)
        if not trained or share < facts.threshold("share"):
            return None
        names = _names(lines)
        low, likely, high = _GOES_ON_GPU if on_cuda(facts) else _GOES
        gives = "gives" if len(names) == 1 else "give"
        return Finding(
            stage=next(line.stage for line in lines if line.stage in _TRAINED),
            title=f"{listed(names)} {gives} the same result in every step: {percent(share)} of the "
            f"training{at(lines[0])}",
            advice=f"Call {listed(names)} once, before the training or at first use, and keep the "
            "result (register_buffer, or hand it to the model). What goes in was the same and "
            "unchanged in each step that was looked at.",
            change={"same_result": "kept"},
            snippet=_snippet(names[0]),
            evidence=(
                Evidence(
                    metric=f"within {listed(names)}",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, low * trained / share, likely, high),
            confidence=0.6 if on_cuda(facts) else 0.85,
            effort="lines",
        )


def _names(lines: Sequence[HotLine], most: int = 3) -> list[str]:
    """The functions, the one with the largest share first."""
    shares: dict[str, float] = {}
    for line in lines:
        shares[line.same_in] = shares.get(line.same_in, 0.0) + line.share
    return sorted(shares, key=lambda name: -shares[name])[:most]


def _snippet(name: str) -> str:
    owner, _, last = name.rpartition(".")
    call = f"self.{last}" if owner else last
    return (
        "# once, in __init__ of the module (or before the loop)\n"
        f'self.register_buffer("kept", {call}(...), persistent=False)\n'
        "# and in forward, in place of the call\n"
        "kept = self.kept"
    )
