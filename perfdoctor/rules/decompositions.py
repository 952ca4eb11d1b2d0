"""PD407: an optimizer of the script's own decomposes matrices in every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, HotLine, at, hot_lines, line_evidence, without
from perfdoctor.rules.wording import percent
from perfdoctor.stages import OPTIMIZER

_DECOMPOSES = (
    r"linalg\.(?!norm|vector_norm|matrix_norm)|eigh?\b|\bsvd\b|cholesky|inverse|pinv|\bqr\b"
)
#: What goes where it is done 10, 20 or 100 times as rarely.
_RARELY = (0.9, 0.95, 0.99)


class DecomposesEachStep:
    """The optimizer decomposes or inverts matrices in every step.

    ## What it does
    Looks for lines of an observed script's optimizer that call eigenvalue, singular value or
    Cholesky decompositions or inverses, and at the function around them.

    ## Why it is slow
    A decomposition takes time with the cube of the matrix's size and uses few cores. The
    statistics that it is made of hardly change from one step to the next.

    ## Evidence and threshold
    The share of the training in these functions.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)

    ## What to change
    Update the statistics in each step, and what is decomposed only every 10 to 100 steps, as
    second-order optimizers are used (Shampoo, arXiv:1802.09568, section 7: every 20 to 100
    steps; K-FAC, arXiv:1503.05671: every 20).

    ## How the gain is predicted
    Amdahl's law over these functions, 10, 20 or 100 times as rarely.

    ## When not to
    In the first steps, where the statistics still change quickly.
    """

    code: ClassVar[str] = "PD407"
    name: ClassVar[str] = "decomposes-each-step"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "optimizer-decompositions"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if functions of the optimizer that decompose take a visible share."""
        lines = decomposing(facts)
        share = min(1.0, sum(line.share for line in lines))
        if share < facts.threshold("share"):
            return None
        return Finding(
            stage=OPTIMIZER,
            title=f"The optimizer decomposes matrices in every step: {percent(share)} of the "
            f"training{at(lines[0])}",
            advice="Keep the statistics up to date in each step, but decompose them only every 10 "
            "to 100 steps and use the last result in between.",
            change={"decompose_every": 20},
            snippet='if state["step"] % 20 == 1:\n'
            '    state["root"] = inverse_root(state["statistics"])\n'
            'update = state["root"] @ gradient',
            evidence=(
                beside(facts, "these functions", share, "share of training", "share"),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, *_RARELY),
            confidence=0.7,
            effort="lines",
            safety="semantics",
        )


def decomposing(facts: Facts) -> list[HotLine]:
    """The optimizer's lines in functions that decompose matrices."""
    found = hot_lines(facts, OPTIMIZER)
    functions = {n.function for n in found if n.calls(_DECOMPOSES)}
    return [line for line in found if line.function in functions]
