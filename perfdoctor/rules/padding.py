"""PD235: much of what a model computes on is padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside, computing_share
from perfdoctor.rules.observed import RUNS, stage_share, without
from perfdoctor.rules.wording import percent
from perfdoctor.stages import FORWARD

_TOKENS = "configuration.tokens_of_positions"
_LONGEST = "configuration.longest_of_positions"
_PER_POSITION = "configuration.arithmetic_per_position"
_DATASET = "configuration.dataset"
#: Data sets that are not the script's own, or none.
_OF_OTHERS = frozenset(("", "Dataset", "TensorDataset", "Subset", "ConcatDataset", "list", "tuple"))
#: Of the time for padding that padding per batch takes away, what goes at least: calls stay as many
#: (our own choice).
_GOES = 0.6
#: And of the time for all padding, with samples of like length in one batch: some padding stays
#: (our own choice).
_GROUPED = (0.3, 0.8, 1.0)


class MostlyPadding:
    """Much of what the model computes on is padding.

    ## What it does
    Looks, in an observed script, at masks, lengths and token numbers that the model is called with:
    how many positions hold tokens, and how long the longest row of each batch is.

    ## Why it is slow
    Layers compute on every position, and attention on every pair of them, whether or not a mask
    takes the result away again. Rows that are padded to a fixed length, or beside one long row,
    cost as much as if they were full.

    ## Evidence and threshold
    The share of forward, loss and backward, as much of it as is done for each position (by the
    shapes of a step's operations) and as much of that as is padding.
    - `share` = 0.2 (source: xprof and TraceML call a stage high from 20 %)
    - `cut` = 0.1 (source: our own choice; positions that no row of a batch needs)
    - `padding` = 0.5 (source: Krell et al. 2021 pack rows where half of the positions are padding;
      for batches that are cut to their longest row already)

    ## What to change
    Pad in the collate function, to the longest sample of the batch; and let a sampler put samples
    of like length into one batch, or pack several into one row.

    ## How the gain is predicted
    Time goes with the positions. At least 60 % of what padding per batch alone leaves out; likely
    80 % of all padding goes with samples of like length in a batch (30 % at least where batches are
    cut already); at most all of it. Validation is padded alike, but for the lower end.

    ## When not to
    Where a compiler or an accelerator wants few shapes: then pad to the next of a few lengths.
    """

    code: ClassVar[str] = "PD235"
    name: ClassVar[str] = "mostly-padding"
    needs: ClassVar[tuple[str, ...]] = (_TOKENS, _LONGEST, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "padding"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.20, "cut": 0.10, "padding": 0.50}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if computing on padding takes its time, and batches can be cut or grouped."""
        padding, cut = 1 - facts.number(_TOKENS), 1 - facts.number(_LONGEST)
        most, fixed = computing_share(facts) * padding, cut >= facts.threshold("cut")
        if most < facts.threshold("share"):
            return None
        if not fixed and padding < facts.threshold("padding"):
            return None
        share = most * facts.number(_PER_POSITION)
        if share < facts.threshold("share"):
            return None
        beyond = f", {percent(cut)} beyond the longest row of the batch" if fixed else ""
        return Finding(
            stage=FORWARD,
            title=f"{percent(padding)} of what the model computes on is padding{beyond}",
            advice=_advice(fixed, facts),
            change={"padding": "longest" if fixed else "grouped"},
            snippet=_FIXED if fixed else _GROUPING,
            evidence=(
                Evidence(metric="padding", value=padding, unit="share of positions"),
                Evidence(metric="beyond the longest row", value=cut, unit="share of positions"),
                beside(facts, "computing on padding", share, "share of training", "share"),
            ),
            cause=self.cause,
            predicted=_predicted(facts, padding, cut if fixed else 0.0),
            confidence=0.75,
            effort="lines",
            safety="numerics",
        )


def _predicted(facts: Facts, padding: float, cut: float) -> Prediction:
    computing, part = computing_share(facts), facts.number(_PER_POSITION)
    whole = min(1.0, computing + stage_share(facts, "validation"))
    least, likely, most = (part * padding * goes for goes in _GROUPED)
    least = part * cut * _GOES if cut else least
    return without(whole, least * computing / whole, likely, most)


def _advice(fixed: bool, facts: Facts) -> str:
    group = (
        "put samples of like length into one batch (length grouping of the Trainer, a bucketing "
        "sampler), or pack several into one row"
    )
    if not fixed:
        return f"Batches are as long as their longest sample: {group}."
    return (
        "Pad to the longest sample of the batch and not to a fixed length: in the collate "
        f"function, not where {_maker(facts)}. Then {group}."
    )


def _maker(facts: Facts) -> str:
    name = str(facts.get(_DATASET)) if facts.has(_DATASET) else ""
    return "samples are made" if name in _OF_OTHERS else f"`{name}` makes its samples"


_FIXED = """\
enc = tokenizer(text, truncation=True)  # without padding="max_length"
collate = DataCollatorWithPadding(tokenizer)  # or pad_sequence(samples, batch_first=True)
args = TrainingArguments(..., group_by_length=True)  # or a sampler that sorts by length"""
_GROUPING = """\
args = TrainingArguments(..., group_by_length=True)
# or, in a batch sampler: cut a shuffled order into chunks, sort each chunk by length
chunk.sort(key=lambda i: lengths[i])"""
