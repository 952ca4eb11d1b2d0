"""PD232: several backward passes a step through one graph that is kept between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, line_evidence, stage_share, without
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import BACKWARD

_KEPT = "configuration.kept_graphs_per_step"


class GraphKeptForBackward:
    """Several backward passes a step go through the same graph again.

    ## What it does
    Counts the calls of `backward(retain_graph=True)` in a step of an observed script.

    ## Why it is slow
    `retain_graph` is there for a graph that is gone through again: what the losses share is
    differentiated once for each of them. Gradients add up, so one backward pass from the sum of
    the losses gives the same, and goes through each operation once.

    ## Evidence and threshold
    - `times` = 2 (source: with one call there is nothing to join)
    - `share` = 0.2 (source: xprof and TraceML call a stage high from 20 %)

    ## What to change
    `sum(losses).backward()` once, without `retain_graph`.

    ## How the gain is predicted
    Of n passes: none goes where the losses share nothing; likely each loss rests on all that the
    earlier ones rest on, as where a state is handed on, so that (n − 1) ÷ (n + 1) goes; at most all
    but one of them.

    ## When not to
    Where each loss's gradients are wanted by themselves, to balance or to project them.
    """

    code: ClassVar[str] = "PD232"
    name: ClassVar[str] = "graph-kept-for-backward"
    needs: ClassVar[tuple[str, ...]] = (_KEPT, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "kept-graphs"
    thresholds: ClassVar[Mapping[str, float]] = {"times": 2.0, "share": 0.20}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if graphs are kept several times a step and the backward pass takes its time."""
        times, share = facts.number(_KEPT), stage_share(facts, BACKWARD)
        if times < facts.threshold("times") or share < facts.threshold("share"):
            return None
        lines = hot_lines(facts, BACKWARD)
        return Finding(
            stage=BACKWARD,
            title=f"{grouped(times)} backward passes a step keep the graph, and go through it "
            f"again: {percent(share)} of the training{at(lines[0] if lines else None)}",
            advice="Add the losses up and call backward once, without retain_graph=True: the "
            "gradients are the same.",
            change={"backward": "once"},
            snippet="losses = []\n"
            "for part in parts:\n"
            "    losses.append(loss_of(part))\n"
            "sum(losses).backward()",
            evidence=(
                beside(facts, "backward(retain_graph=True) a step", times, "", "times"),
                Evidence(metric="backward", value=share, unit="share of training"),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, 0.0, (times - 1) / (times + 1), 1 - 1 / times),
            confidence=0.75,
            effort="lines",
            safety="numerics",
        )


def graphs_are_kept(facts: Facts) -> bool:
    """Whether operations were counted several times for that reason."""
    return (facts.known(_KEPT) or 0.0) >= 2
