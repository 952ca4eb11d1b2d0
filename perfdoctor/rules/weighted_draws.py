"""PD127: the weights of all there is are gone through, to draw as much as a batch by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.observed import RUNS, HotLine, hot_lines, line_evidence, without
from perfdoctor.rules.whole_draws import IN_THE_LOOP, batch_of, whole_draws
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING, OTHER

#: Drawing from a sum tree of NumPy's arrays, as in the snippet, and setting the weights of what was
#: drawn, of up to a million: at each time, and for each that is drawn (own measurement with NumPy
#: 2.4).
_TREE_S, _TREE_EACH_S = 200e-6, 0.3e-6
#: How much slower it may be on another machine (our own choice).
_SLOWER = 2.0
#: The lines must take so many times as long as a tree would: less is not worth another structure
#: (our own choice).
_TIMES = 2.0

_ADVICE = (
    "Keep the weights in a sum tree: to draw one, or to change its weight, takes as many steps as "
    "the tree has levels, 17 for 100,000. Where weights rarely change, keep np.cumsum(weights) and "
    "draw with np.searchsorted(sums, np.random.rand(k) * sums[-1], side='right'). Other numbers "
    "are drawn than before, by the same weights."
)
_SNIPPET = """\
class SumTree:  # weights at [size:], each node before them the sum of its two
    def __init__(self, n):
        self.size = 1 << (n - 1).bit_length()
        self.sums = np.zeros(2 * self.size)

    def set(self, index, weight):  # priority ** alpha; new samples, and those drawn last
        node = index + self.size
        self.sums[node] = weight
        while node[0] > 1:
            node = node // 2
            self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1]

    def draw(self, k):  # the share of one: tree.sums[tree.size + i] / tree.sums[1]
        node, mass = np.ones(k, dtype=np.int64), np.random.rand(k) * self.sums[1]
        while node[0] < self.size:
            left = self.sums[2 * node]
            right = (mass >= left) & (self.sums[2 * node + 1] > 0)
            node, mass = 2 * node + right, mass - left * right
        return node - self.size"""


class AllWeightsForFew:
    """A few are drawn by weights, and the weights of all are gone through for it each time.

    ## What it does
    Looks, by the source of hot lines that make batches, for draws by weights that take as much as a
    batch of all there is: `np.random.choice(n, k, p=p)`, `torch.multinomial(weights, k)`,
    `random.choices(items, weights, k=k)`; and for the lines of the same function that compute these
    weights for nothing else, `p = priorities**alpha`, `p /= p.sum()`.

    ## Why it is slow
    Each draw adds up all weights, of which a batch has changed since the last one. It takes longer
    the more a replay buffer holds, whatever the size of the batch.

    ## Evidence and threshold
    The share of the training in such lines, which take twice as long as a sum tree would at least.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    A sum tree, in which a draw and a changed weight take as many steps as it has levels; where
    weights rarely change, their cumulative sums kept, and `np.searchsorted`.

    ## How the gain is predicted
    Without the time of these lines, and with that of a sum tree in NumPy: 0.2 ms a step and 0.3 µs
    for each that is drawn (own measurement of trees of up to a million weights, their updates
    included). At least, only the draws go, and the tree takes twice as long; at most, all goes.

    ## When not to
    Where all weights change from draw to draw, as by an exponent that grows or with the age of each
    sample; where all there is fits into few thousand.
    """

    code: ClassVar[str] = "PD127"
    name: ClassVar[str] = "all-weights-for-few"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such lines take a visible share."""
        lines = weighted_draws(facts)
        share = _share(lines)
        if share < facts.threshold("share"):
            return None
        line = lines[0]
        loads = line.stage == DATA_LOADING
        return Finding(
            stage=line.stage,
            title=f"{line.place} {_does(line)}: {percent(share)} of the training",
            advice=_ADVICE,
            change={"draws": "by-sum-tree"},
            snippet=_SNIPPET,
            evidence=(
                Evidence(
                    metric="drawing by weights",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                *line_evidence(lines, 3),
            ),
            cause=self.cause if loads else IN_THE_LOOP,
            predicted=without(share, *_gone(facts, lines)),
            confidence=0.8,
            effort="lines",
            safety="semantics",
        )


def weighted_draws(facts: Facts, *stages: str) -> list[HotLine]:
    """The lines that draw so, or compute the weights for it, hottest first; none where a sum tree
    would take about as long."""
    lines = [line for line in hot_lines(facts, *(stages or (DATA_LOADING, OTHER))) if line.weighs]
    tree = _tree_share(facts, lines)
    return lines if tree is not None and _share(lines) >= _TIMES * tree else []


def draws_of_all(facts: Facts, *stages: str) -> list[HotLine]:
    """What PD126 and PD127 speak of."""
    return [*whole_draws(facts, *stages), *weighted_draws(facts, *stages)]


def _share(lines: Sequence[HotLine]) -> float:
    return min(1.0, sum(line.share for line in lines))


def _tree_share(facts: Facts, lines: Sequence[HotLine]) -> float | None:
    """What a sum tree in their place would take, as a share of the training."""
    step_s, batch = facts.known("steps.time.mean_s"), batch_of(facts)
    taken = [line.weighs_for or batch for line in lines]
    known = [one for one in taken if one]
    if not step_s or not known or len(known) < len(taken):
        return None
    return (_TREE_S + _TREE_EACH_S * max(known)) / step_s


def _gone(facts: Facts, lines: Sequence[HotLine]) -> tuple[float, float, float]:
    """Of the lines' time: at least, likely, at most."""
    share, tree = _share(lines), _tree_share(facts, lines) or 0.0
    draws = _share([line for line in lines if not line.prepares_weights])
    return max(0.0, draws - _SLOWER * tree) / share, max(0.0, 1 - tree / share), 1.0


def _does(line: HotLine) -> str:
    if line.prepares_weights:
        return f"computes the weights of all, of which `{line.weighs}` draws a few"
    return f"`{line.weighs}` goes through the weights of all to draw a few"
