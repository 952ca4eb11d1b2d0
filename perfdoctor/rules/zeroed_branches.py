"""PD246: branches are computed whose results are multiplied by zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import COMPUTING, beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, line_evidence, stage_share, without
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import FORWARD

_PART, _BRANCHES = "configuration.zeroed_part", "configuration.zeroed_branches"
_ZEROS, _LEFT = "configuration.zeroed_of_branches", "configuration.zeroed_left"
#: Of what went where it was tried, and of the zeros where it was not: smaller batches use a machine
#: less well, and choosing rows takes time too (our own choice).
_TRIED, _UNTRIED = (0.6, 1.0), (0.2, 0.6)


class ZeroedBranches:
    """Branches are computed whose results are multiplied by zero.

    ## What it does
    Looks, in the graph of a step of an observed script, for three or more branches side by side
    that are added up after each was multiplied by a factor for each sample, or chosen by a
    condition, and adds up the arithmetic of what belongs to one branch alone, as far as its factor
    is zero.

    ## Why it is slow
    Where every expert of a mixture sees every sample, and all but one or two get the weight zero,
    or a search computes all candidates of an edge and multiplies those that were not drawn by zero,
    most of the work forward and backward ends in zeros, gradients included.

    ## Evidence and threshold
    The part of a step's multiplications that is in such branches, times the share of forward, loss
    and backward, times what goes of it.
    - `share` = 0.05 (source: our own choice; less is not worth a change)

    ## What to change
    Give each expert the rows that were sent to it, and add its results up where they belong
    (`index_add`); of candidates run those that were drawn.

    ## How the gain is predicted
    Amdahl's law with that share, which takes time to go by multiplications. On a CPU a layer like
    the largest of the branches is timed after the training, as they are and with the samples of
    each alone: that much goes, 60 % of it at least; at most all that is for zeros, since branches
    are deeper than what is timed. Elsewhere 60 % of what is for zeros goes, 20 % at least.

    ## When not to
    On a GPU with few rows, where a loop over experts with a part of the rows each starts as many
    operations as before; and where shapes have to stay the same for a compiler.
    """

    code: ClassVar[str] = "PD246"
    name: ClassVar[str] = "zeroed-branches"
    needs: ClassVar[tuple[str, ...]] = (_PART, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "zeroed-branches"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if much of the computing is for zeros."""
        part = facts.number(_PART)
        computing = part * sum(stage_share(facts, stage) for stage in COMPUTING)
        low, likely, high = _goes(facts) if part else (0.0, 0.0, 0.0)
        share = computing * likely
        if share < facts.threshold("share"):
            return None
        lines = hot_lines(facts, FORWARD)
        return Finding(
            stage=FORWARD,
            title=f"{percent(facts.number(_ZEROS))} of what "
            f"{grouped(facts.number(_BRANCHES))} branches side by side compute is multiplied by "
            f"zero{at(lines[0]) if lines else ''}",
            advice="Compute only what is used: give each expert the rows that were sent to it, and "
            "of several candidates run those that were drawn. The rest ends in zeros, and so do "
            "its gradients.",
            change={"zeroed_branches": "left out"},
            snippet="for i, expert in enumerate(self.experts):\n"
            "    rows = (chosen == i).nonzero().flatten()\n"
            "    if len(rows):\n"
            "        out = out.index_add(0, rows, gate[rows, i, None] * expert(x[rows]))",
            evidence=(
                beside(facts, "time that goes", share, "share of training", "share"),
                Evidence(metric="branches, of a step's multiplications", value=part, unit="share"),
                *line_evidence(lines[:2]),
            ),
            cause=self.cause,
            predicted=without(share, low / likely, 1.0, high / likely),
            confidence=0.8,
            effort="lines",
            safety="numerics",
        )


def _goes(facts: Facts) -> tuple[float, float, float]:
    """What goes of the time of the branches: at least, likely and at most."""
    zeros, left = facts.number(_ZEROS), facts.known(_LEFT)
    if left is None:
        low, likely = _UNTRIED
        return low * zeros, likely * zeros, zeros
    least, likely = (part * (1 - left) for part in _TRIED)
    return least, likely, max(likely, zeros)
