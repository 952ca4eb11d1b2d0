"""PD515: validation that joins the model's whole outputs, batch by batch, for its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.frequency import VALIDATION_CAUSE
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, line_evidence, without
from perfdoctor.rules.validation_facts import OUTPUTS_GO, kept_outputs
from perfdoctor.rules.wording import percent

_VALIDATION = "validation"
_TRAINER = "/transformers/trainer"


class WholeOutputsKept:
    """Validation joins the model's whole outputs, batch by batch, for its metrics.

    ## What it does
    Looks for lines in the validation of an observed script that join the outputs of a batch to all
    of those before: transformers' `Trainer` does, for `compute_metrics`, and so does
    `outputs = torch.cat([outputs, new])` in a loop. With `Trainer`, also for the lines of
    `compute_metrics`, which go over all of it.

    ## Why it is slow
    Each batch copies everything that was kept before: the time is quadratic in their number. A
    language model gives as many numbers for each token as its vocabulary has, of which the metric
    uses one or a few; all of them go through the memory again for it.

    ## Evidence and threshold
    The joining lines' share of the training.
    - `share` = 0.05 (source: our least gain for a verdict is 5 %)

    ## What to change
    With `Trainer`, `preprocess_logits_for_metrics=`: it is given the logits and labels of each
    batch, and what it gives is kept instead (the class that was found, the rank or the probability
    of the right one); or `batch_eval_metrics=True`. In a loop of your own, keep in a list what the
    metric needs of a batch, and join once at the end.

    ## How the gain is predicted
    Of the lines that join and of `compute_metrics` together goes 93 %, 98 % at best; at least 80 %
    of the joining alone (`python benchmarks/kept_outputs.py`: 2 to 21 % are left).

    ## When not to
    Where a metric needs all numbers of all samples, such as the area under a curve of each class.
    """

    code: ClassVar[str] = "PD515"
    name: ClassVar[str] = "whole-outputs-kept"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = VALIDATION_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if outputs are joined for long."""
        joined, scored = kept_outputs(facts)
        share, after = (sum(line.share for line in lines) for lines in (joined, scored))
        if share < facts.threshold("share"):
            return None
        least, likely, most = OUTPUTS_GO
        whole = min(1.0, share + after)
        trainer = any(_TRAINER in line.file.replace("\\", "/") for line in joined)
        return Finding(
            stage=_VALIDATION,
            title=f"Keeping the model's whole outputs for the metrics takes {percent(whole)} of "
            f"the training{'' if trainer else at(joined[0])}",
            advice=_TO_TRAINER if trainer else _TO_A_LOOP,
            change={"kept_outputs": "reduced"},
            snippet=_WITH_TRAINER if trainer else _IN_A_LOOP,
            evidence=(
                beside(facts, "joining outputs", share, "share of training", "share"),
                Evidence(metric="metrics over all of them", value=after, unit="share of training"),
                *line_evidence([*joined[:1], *scored[:1]]),
            ),
            cause=self.cause,
            predicted=without(whole, least * share / whole, likely, most),
            confidence=0.8,
            effort="lines",
            safety="numerics",
        )


_TO_TRAINER = (
    "Give Trainer preprocess_logits_for_metrics: it reduces each batch's logits to what "
    "compute_metrics needs of them, and only that is kept and joined (now every batch copies all "
    "logits before it); or set batch_eval_metrics=True and add up batch by batch."
)
_WITH_TRAINER = """\
def preprocess_logits_for_metrics(logits, labels):
    return logits.argmax(-1)  # or the rank, the log-probability of the label
Trainer(..., preprocess_logits_for_metrics=preprocess_logits_for_metrics)"""
_TO_A_LOOP = (
    "Keep in a list what the metric needs of each batch, and join once after the loop: joined each "
    "time, every batch copies all outputs before it."
)
_IN_A_LOOP = """\
kept.append(outputs.argmax(-1))  # what the metric needs of this batch
predictions = torch.cat(kept)  # once, after the loop"""
