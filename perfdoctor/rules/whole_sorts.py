"""PD244: all there is is sorted, to take the first few of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.observed import RUNS, HotLine, hot_lines, line_evidence, without
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING, LOSS, OTHER

#: What is left out of the time of such a line: at least, likely, at most (own measurement, see the
#: rule's docstring).
_GOES = (0.40, 0.75, 0.97)
#: What else speaks of such lines: PD110, PD212.
_CAUSES = {DATA_LOADING: LOADER_CAUSE, LOSS: "slow-loss"}
_FEW = {
    "sort": "torch.topk (of NumPy np.partition)",
    "argsort": "torch.topk (of NumPy np.argpartition)",
    "msort": "torch.topk",
    "sorted": "heapq.nsmallest",
}
_SNIPPET = {
    "sorted": "first = heapq.nsmallest(k, items, key=key)  # for sorted(items, key=key)[:k]",
}
_TOPK = (
    "values, indices = x.topk(k, dim=-1, largest=False)  # in place of x.sort(-1), of which "
    "[..., :k] is used\n"
    "first = np.argpartition(a, k)[:k]  # NumPy; in no order"
)


class WholeSortForFew:
    """All there is is sorted, and only the first few of it are used.

    ## What it does
    Looks, by the source of hot lines, for `sort`, `argsort` and `sorted` of which nothing but the
    first or the last few (`[..., :k]`) are used.

    ## Why it is slow
    Sorting puts everything in order, in each step. Finding the few takes one pass over it. The ball
    query of PointNet++, as many projects have copied it, sorts all points for each centre to keep
    16 or 32.

    ## Evidence and threshold
    The share of the training in such lines.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    `torch.topk(k, largest=False)` for the smallest, `np.partition` and `np.argpartition` in NumPy,
    `heapq.nsmallest` for Python's lists.

    ## How the gain is predicted
    The training without 40 %, 75 % or 97 % of these lines. Own measurement on two cores, of 16 to
    128 among 256 to 500,000: `topk` leaves out 72 to 98 % of the time of `sort` and `argsort`,
    `argpartition` 39 to 89 %, `heapq.nsmallest` 50 to 94 %.

    ## When not to
    Where k is nearly all there is. Among equal values others may be chosen than before.
    """

    code: ClassVar[str] = "PD244"
    name: ClassVar[str] = "sorted-for-few"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "sorted-for-few"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such lines take a visible share."""
        lines = whole_sorts(facts)
        share = min(1.0, sum(line.share for line in lines))
        if share < facts.threshold("share"):
            return None
        line = lines[0]
        return Finding(
            stage=line.stage or OTHER,
            title=f"{line.place} `{line.library}` sorts everything to take the first few: "
            f"{percent(share)} of the training",
            advice=f"Find the few with {_FEW[line.sorts]}, which puts nothing else in order.",
            change={"sorts": "few"},
            snippet=_SNIPPET.get(line.sorts, _TOPK),
            evidence=(
                Evidence(
                    metric="sorting",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                *line_evidence(lines),
            ),
            cause=_CAUSES.get(line.stage, self.cause),
            predicted=without(share, *_GOES),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


def whole_sorts(facts: Facts, *stages: str) -> list[HotLine]:
    """The lines that sort so, hottest first."""
    return [line for line in hot_lines(facts, *stages) if line.sorts in _FEW]
