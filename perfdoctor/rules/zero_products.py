"""PD250: dense products with a matrix that is nearly all zeros."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import COMPUTING, beside, computing_share
from perfdoctor.rules.observed import RUNS, hot_lines, line_evidence, without
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import FORWARD

_GOES_S, _MAKING_S = "configuration.zero_products_goes_s", "configuration.zero_products_making_s"
_ROWS, _INNER = "configuration.zero_products_rows", "configuration.zero_products_inner"
_ZEROS, _CHOOSE = "configuration.zero_products_zeros", "configuration.zero_products_choose"
#: Of what was measured by itself, what goes at least and at most (our own choice, as PD248 has it):
#: beside the rest of a step it lies in other caches.
_LEAST, _MOST_GOES = 0.6, 1.3
#: No step goes away whole.
_MOST = 0.95


class ZerosMultiplied:
    """Dense matrix products with a constant that is nearly all zeros.

    ## What it does
    Looks, in the graph of a step of an observed script, for matrix products with something that
    wants no gradient and is nearly all zeros: the dense adjacency matrix of a graph, one-hot
    vectors, counts of words. On a CPU it measures after the training how long products of these
    sizes take, and how long without the zeros.

    ## Why it is slow
    A dense product multiplies every zero, forward and backward. In a graph of 4,000 nodes with ten
    neighbours each, 399 of 400 multiplications are with zero. A product with one-hot vectors does
    all of the work of a linear layer to look up one row of its weight.

    ## Evidence and threshold
    The time by which a step gets shorter, as a part of the training.
    - `share` = 0.05 (source: our own choice; less is not worth a change)

    ## What to change
    An adjacency matrix: make it sparse once (`to_sparse()`) and multiply with `torch.sparse.mm`, or
    gather and add over a list of edges (`index_add_`, torch_geometric). One-hot vectors: an
    `nn.Embedding`, or `weight[index]`. Counts of words: `nn.EmbeddingBag`, or sparse batches.

    ## How the gain is predicted
    Products of these sizes are timed with as many numbers that are not zero, dense and sparse (or
    looked up), forward and backward; the difference goes, 60 % of it at least and 130 % at most.
    Of one-hot vectors the time of making them likely goes too. Of a matrix that may be another in
    every step, which is where it is not square, the time of making it sparse is left at worst.

    ## When not to
    Where the numbers are not known to stay zero, as in a matrix that is learned; on a GPU where a
    dense product of this size is faster.
    """

    code: ClassVar[str] = "PD250"
    name: ClassVar[str] = "zeros-multiplied"
    needs: ClassVar[tuple[str, ...]] = (_GOES_S, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "zeros-multiplied"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if steps get visibly shorter without the zeros."""
        if facts.number(_GOES_S) <= 0:
            return None
        least_s, likely_s = _goes(facts)
        share = _share(facts, likely_s)
        if share < facts.threshold("share"):
            return None
        choose = facts.flag(_CHOOSE)
        rows, inner = facts.number(_ROWS), facts.number(_INNER)
        filled = max(1, round(inner * (1 - facts.number(_ZEROS))))
        return Finding(
            stage=FORWARD,
            title=f"All of a matrix of {grouped(rows)} × {grouped(inner)} is multiplied, of which "
            f"{'one number' if filled == 1 else grouped(filled) + ' numbers'} in each row "
            f"{'is' if filled == 1 else 'are'} not zero: {percent(share)} of the training",
            advice=_LOOK_UP if choose else _SPARSE,
            change={"product": "looked up" if choose else "sparse"},
            snippet=_EMBEDDING if choose else _SPARSE_MM,
            evidence=(
                beside(facts, "time that goes", share, "share of training", "share"),
                Evidence(metric="zeros", value=facts.number(_ZEROS), unit="share"),
                Evidence(metric="of these products, a step", value=likely_s, unit="s"),
                *line_evidence(hot_lines(facts, FORWARD)[:1]),
            ),
            cause=self.cause,
            predicted=without(share, _LEAST * least_s / likely_s, 1.0, _MOST_GOES),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


def _goes(facts: Facts) -> tuple[float, float]:
    """Seconds a step that go at worst, and likely."""
    goes_s, making_s = facts.number(_GOES_S), facts.number(_MAKING_S)
    if facts.flag(_CHOOSE):
        return goes_s, goes_s + making_s
    stays = facts.number(_ROWS) == facts.number(_INNER)
    return (goes_s if stays else max(0.0, goes_s - making_s)), goes_s


def _share(facts: Facts, seconds: float) -> float:
    """These of a step, as a part of the training."""
    step_s = sum(facts.known(f"stages.{stage}.p50_s") or 0.0 for stage in COMPUTING)
    return (min(_MOST, seconds / step_s) if step_s else 0.0) * computing_share(facts)


_LOOK_UP = (
    "Look the rows up by their number, without one-hot vectors: nn.Embedding(n, width) is the same "
    "layer, or index a weight that you have."
)
_EMBEDDING = """\
self.table = nn.Embedding(n, width)  # was nn.Linear(n, width, bias=False)
hidden = self.table(index)  # instead of self.linear(one_hot(index, n).float())"""
_SPARSE = (
    "Make it sparse, once if it stays the same, and multiply with torch.sparse.mm; or gather and "
    "add over the list of what is not zero (index_add_, nn.EmbeddingBag)."
)
_SPARSE_MM = """\
adjacency = adjacency.to_sparse()  # once, before the training
hidden = torch.sparse.mm(adjacency, features)  # instead of adjacency @ features"""
