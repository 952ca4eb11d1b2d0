"""PD248: layers compute rows that nobody uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import COMPUTING, beside, computing_share
from perfdoctor.rules.observed import RUNS, hot_lines, line_evidence, without
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import FORWARD

_GOES_S, _ROWS = "configuration.unused_rows_s", "configuration.unused_rows"
_PART, _IGNORED = "configuration.unused_rows_part", "configuration.unused_rows_ignored"
#: Of what was measured by itself, what goes at least and at most (our own choice): beside the rest
#: of a step it lies in other caches, and choosing rows takes time too.
_GOES = (0.6, 1.0, 1.3)
#: No step goes away whole.
_MOST = 0.95


class RowsNobodyUses:
    """Layers compute rows that nobody uses.

    ## What it does
    Looks, in the graph of a step of an observed script, for rows that are left out after they were
    computed: positions whose targets are to be ignored or whose loss is multiplied by zero, all but
    the last position, the rows of a transformed table that a batch does not look at. From there on
    down it follows what works on each row by itself and serves nothing else, and on a CPU it
    measures after the training how long that takes with all rows and with those that are used.

    ## Why it is slow
    A head for a large vocabulary, its softmax and the gradients of both are often the most
    expensive part of a model. In masked language modelling 15 % of the positions are compared with
    the truth; where a sequence is to give one answer, one of its positions.

    ## Evidence and threshold
    The time by which a step gets shorter, as a part of the training, and the rows that are unused.
    - `share` = 0.05 (source: our own choice; less is not worth a change)
    - `unused` = 0.25 (source: our own choice; choosing rows takes time too)

    ## What to change
    Choose first, compute then: `self.head(hidden[chosen])` instead of `self.head(hidden)[chosen]`.

    ## How the gain is predicted
    Layers, softmaxes and operations on single numbers are timed with tensors of these sizes, with
    all rows and with those that are used, forward and backward; the difference goes, 60 % of it at
    least and 130 % at most.

    ## When not to
    Where something outside of the graph looks at the other rows, as an accuracy of all positions.
    """

    code: ClassVar[str] = "PD248"
    name: ClassVar[str] = "rows-nobody-uses"
    needs: ClassVar[tuple[str, ...]] = (_GOES_S, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "rows-nobody-uses"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05, "unused": 0.25}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if steps get visibly shorter where only what is used is computed."""
        share = _share(facts)
        if share < facts.threshold("share"):
            return None
        part = facts.number(_PART)
        if part < facts.threshold("unused"):
            return None
        rows, ignored = facts.number(_ROWS), facts.flag(_IGNORED)
        lines = hot_lines(facts, FORWARD)
        return Finding(
            stage=FORWARD,
            title=f"{percent(part)} of {grouped(rows)} rows are computed and then "
            f"{'ignored by the loss' if ignored else 'left out'}: {percent(share)} of the training",
            advice="Choose the rows that are used before the layers that work on each row by "
            "itself, not after them: "
            + (
                "give the head, and the loss, only positions whose target counts."
                if ignored
                else "the others need no result."
            ),
            change={"rows": "chosen first"},
            snippet=_snippet(ignored=ignored),
            evidence=(
                beside(facts, "time that goes", share, "share of training", "share"),
                beside(facts, "rows that nobody uses", part, "share", "unused"),
                Evidence(metric="time of these a step", value=facts.number(_GOES_S), unit="s"),
                *line_evidence(lines[:1]),
            ),
            cause=self.cause,
            predicted=without(share, *_GOES),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


def _share(facts: Facts) -> float:
    """The part of the training that goes."""
    seconds = facts.number(_GOES_S)
    step_s = sum(facts.known(f"stages.{stage}.p50_s") or 0.0 for stage in COMPUTING)
    part = min(_MOST, seconds / step_s) if step_s else 0.0
    return part * computing_share(facts)


def _snippet(*, ignored: bool) -> str:
    if ignored:
        return (
            "counts = targets != -100\n"
            "loss = F.cross_entropy(self.head(hidden[counts]), targets[counts])"
        )
    return "self.head(hidden[:, -1])  # instead of self.head(hidden)[:, -1]"
