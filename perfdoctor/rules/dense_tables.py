"""PD408: large embedding tables of which each update goes through all rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.judging import BOTTLENECK_SHARE
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, stage_share, without
from perfdoctor.rules.wording import on_cuda, percent
from perfdoctor.stages import BACKWARD, OPTIMIZER

_HOME, _NAME = "configuration.optimizer_home", "configuration.optimizer"
_PART, _TOUCHED = "configuration.embedding_part", "configuration.embedding_rows_touched"
_ALIKE = "configuration.embedding_sparse_alike"
#: What an update with sparse gradients takes for a table, whatever its size: 0.15 to 0.8 ms with
#: 512 rows touched (torch 2.13, two cores).
_LEFT_S = 0.0005
#: Of the update's time for rows that no batch touched, what goes.
_GOES = (0.7, 1.0)
#: The part of the time for zeros: they may be of memory that is at hand, or more than they were.
_ZEROS = (0.0, 1.0, 1.3)
#: torch's optimizers that go through all rows; and those that need not.
_SPARSE_TOO = ("SGD", "Adagrad")
_DENSE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "SGD")


class DenseEmbeddingUpdates:
    """Each step updates all rows of large embedding tables, of which a batch touches few.

    ## What it does
    Looks, in an observed script on a CPU, into the gradients of `nn.Embedding` and
    `nn.EmbeddingBag`: how much of all that is trained lies in such tables, and of how many of their
    rows the gradient is not zero. Tables that are an output layer too are not counted.

    ## Why it is slow
    Without `sparse=True` the gradient of a table is as large as the table, filled with zeros but
    for the rows of the batch; and Adam reads and writes all of its weights and moments for them.

    ## Evidence and threshold
    The optimizer's share, the part of its numbers that lies in tables, and the part of their rows
    with a gradient.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)
    - `part` = 0.5 (source: our own choice; below, most of the update is for something else)
    - `touched` = 0.2 (source: our own choice; a sparse update of a row takes several times as long
      as a dense one)

    ## What to change
    `sparse=True` for the tables and `torch.optim.SparseAdam` for their weights, the usual
    optimizer for the rest. SGD and Adagrad take sparse gradients themselves; Adam, AdamW, `fused`,
    weight decay and `clip_grad_norm_` do not.

    ## How the gain is predicted
    Amdahl's law over the update: what it takes for rows without a gradient goes, at least 70 % of
    it, but for half a millisecond a table; and of the backward pass the time that filling zeros of
    the tables' sizes took when it was measured after the training.

    ## When not to
    With SparseAdam the moments of rows rest while no batch touches them, and nothing decays them:
    results differ slightly. Sparse gradients cannot be shared by NCCL.
    """

    code: ClassVar[str] = "PD408"
    name: ClassVar[str] = "dense-embedding-updates"
    needs: ClassVar[tuple[str, ...]] = (_HOME, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "optimizer-kernels"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "part": 0.50, "touched": 0.20}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the update is large and mostly of rows that were not touched."""
        share = stage_share(facts, OPTIMIZER)
        if on_cuda(facts) or not _goes_through_all(facts) or share < facts.threshold("share"):
            return None
        part = facts.number(_PART)
        if part < facts.threshold("part"):
            return None
        touched = facts.number(_TOUCHED)
        if touched > facts.threshold("touched"):
            return None
        name, alike = facts.text(_NAME), facts.has(_ALIKE) and facts.flag(_ALIKE)
        lines = hot_lines(facts, OPTIMIZER)
        where = at(lines[0] if lines else None)
        return Finding(
            stage=OPTIMIZER,
            title=f"{name} updates every row of the embedding tables, of which a batch touches "
            f"{percent(touched)}: {percent(share)} of the training{where}",
            advice=_advice(name, alike=alike),
            change={"embedding_sparse": True},
            snippet=_snippet(name, alike=alike),
            evidence=(
                beside(facts, "weight update", share, "share of training", "share"),
                beside(facts, "of what is updated, in such tables", part, "share", "part"),
                beside(facts, "rows of them with a gradient", touched, "share", "touched"),
            ),
            cause=self.cause,
            predicted=_gain(facts, share, part * (1 - touched)),
            confidence=0.85,
            effort="lines",
            safety="numerics" if alike else "semantics",
            optional=share < BOTTLENECK_SHARE,
        )


def _goes_through_all(facts: Facts) -> bool:
    return facts.text(_HOME) == "torch" and facts.text(_NAME) in _DENSE


def _gain(facts: Facts, share: float, untouched: float) -> Prediction:
    """As parts of the update and of the backward pass together."""
    left = _part_of(facts, OPTIMIZER, _LEFT_S * facts.number("configuration.embedding_tables"))
    backward = stage_share(facts, BACKWARD)
    zeros = backward * _part_of(facts, BACKWARD, facts.known("configuration.embedding_fill_s"))
    least, most = (share * max(0.0, goes * untouched - left) for goes in _GOES)
    of_zeros = (min(backward, zeros * part) for part in _ZEROS)
    whole = share + backward
    gone = (a + b for a, b in zip((least, most, most), of_zeros, strict=True))
    return without(whole, *(part / whole for part in gone))


def _part_of(facts: Facts, stage: str, seconds: float | None) -> float:
    """Seconds in each step as a part of a stage's; 0 where either is not known."""
    whole = facts.known(f"stages.{stage}.p50_s")
    return min(1.0, (seconds or 0.0) / whole) if whole else 0.0


def _advice(name: str, *, alike: bool) -> str:
    if alike:
        return (
            f"Make the tables with sparse=True: {name} then updates only the rows of the batch, "
            "with the same result."
        )
    refusing = "Momentum" if name in _SPARSE_TOO else name
    return (
        "Make the tables with sparse=True and give their weights to torch.optim.SparseAdam, all "
        f"others to {name} as now: a step then goes through the rows of the batch only. "
        f"{refusing}, weight decay and clip_grad_norm_ are not for sparse gradients, and what the "
        "optimizer keeps of a row rests while no batch has it."
    )


def _snippet(name: str, *, alike: bool) -> str:
    if alike:
        return "table = nn.Embedding(rows, width, sparse=True)"
    return (
        "table = nn.Embedding(rows, width, sparse=True)\n"
        "...\n"
        "tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]\n"
        "rest = [p for p in model.parameters() if all(p is not t for t in tables)]\n"
        f"optimizers = [torch.optim.{name}(rest, lr=lr), torch.optim.SparseAdam(tables, lr=lr)]"
    )
