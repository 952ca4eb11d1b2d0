"""PD501 to PD503: work beside the training that is done more often than it has to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.compiling_time import beside_compiling
from perfdoctor.rules.enough import RECORDS
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import WHOLE_RUNS, Part, part_of_run, validation_part, whole_number
from perfdoctor.rules.observed import is_run, left_over, less_often
from perfdoctor.rules.run_gains import factor_for, rarer
from perfdoctor.rules.run_reporting import (
    after_training,
    factors,
    logging_in_run,
    often_in_all,
    told,
    with_line,
)
from perfdoctor.rules.run_validation import shared_line, validation_code
from perfdoctor.rules.validation_facts import goes_unchanged
from perfdoctor.rules.whole_run import is_whole, share_of_training
from perfdoctor.rules.wording import duration, grouped, percent
from perfdoctor.stages import STAGES

CHECKPOINT_CAUSE = "checkpoints"
#: Of the bytes of checkpoints, those that belong to no tensor in them (PD510).
SAVED_UNNEEDED = "configuration.saved_unneeded"
#: And those of data, which is the same in each of them (PD513).
SAVED_DATA = "configuration.saved_data"
#: Where they are so many, leaving them out changes nothing and saves about as much as saving more
#: rarely.
_MOSTLY_UNNEEDED = 0.5
#: The same of validation whose calls can be mended (PD511, PD512, PD514, PD515).
_MOSTLY_GOES = 0.5
VALIDATION_CAUSE = "validation"
_FACTORS = (2, 5, 10)
#: Stalls are of what is done about as often as they come (our own choice).
_AS_OFTEN = 1.5


class ValidationTooFrequent:
    """Validation takes a large part of the run.

    ## What it does
    Looks at the part of the whole run that validation takes.

    ## Why it is slow
    While the model is validated it does not learn. Early in a training the result hardly helps to
    decide anything, and it changes little from one epoch to the next.

    ## Evidence and threshold
    The time of all validations beside the wall clock of the run, or beside the time of the epochs.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high: what is left after the change should be no bottleneck)
    - `headroom_share` = 0.062 (source: halving it then saves the 3 % that can be told from noise;
      between this and the other it is shown as an option)

    ## What to change
    Validate half, a fifth or a tenth as often, whichever first brings the share down to the
    threshold. Or validate on a part of the samples, in `torch.inference_mode()` and with a larger
    batch, for which there is room without gradients.

    ## How the gain is predicted
    Amdahl's law over the wall clock: the same validation, less often. Its ends take the share as
    a quarter smaller and larger.

    ## When not to
    Where early stopping or the choice of the best checkpoint needs every one of them; validate
    densely again near the end.
    """

    code: ClassVar[str] = "PD501"
    name: ClassVar[str] = "validation-too-frequent"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "validate-less"
    cause: ClassVar[str] = VALIDATION_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "headroom_share": 0.062}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS
    rests_on: ClassVar[tuple[str, ...]] = (RECORDS,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if validation takes too large a share of the run."""
        observed, limit = is_run(facts), facts.threshold("share")
        part = told(facts, "validation") if observed else validation_part(facts)
        if observed and part is not None:
            part = beside_compiling(facts, part)
        if part is None or (observed and (not facts.has("steps") or after_training(facts, part))):
            return None
        if part.share <= facts.threshold("headroom_share"):
            return None
        fault = part.share > limit
        count = often_in_all(facts, part) if observed else None
        factor = factor_for(part.share, limit, _FACTORS, count)
        saved = part.seconds * (1 - left_over(factor, count))
        of_run = part.share * share_of_training(facts) if observed else part.share
        run = "run" if not observed or is_whole(facts) else "training"
        rare = (
            f"one validation in {factor}"
            if part.count >= 2 * factor
            else f"1/{factor} of the samples"
        )
        finding = Finding(
            stage="validation",
            title=f"Validation takes {percent(of_run)} of the {run}" + _times(part, about=observed),
            advice=f"Validate every {_nth(factor)} time{_interval(facts, part, factor)}, or on a "
            f"part of the samples: {rare} "
            f"saves {duration(saved)}, {percent(saved / part.seconds * of_run)} of the {run}."
            + (shared_line(facts) if observed else _WITHOUT_GRADIENTS),
            change={"validate_every_times": factor},
            snippet=validation_code(
                facts, factor, _every(facts, part) if observed else 1, part.count
            ),
            evidence=_evidence("validation", part, limit, "training" if observed else "run"),
            cause=self.cause,
            predicted=less_often(part.share, factor, count)
            if observed
            else rarer(part.share, factor),
            confidence=0.7,
            effort="lines",
            safety="semantics",
            optional=not fault,
            behind=goes_unchanged(facts) >= _MOSTLY_GOES,
        )
        return with_line(facts, finding, "validation") if observed else finding


class CheckpointTooFrequent:
    """Saving checkpoints takes a visible part of the run.

    ## What it does
    Looks at the part of the run in which checkpoints are saved, and at stalls that come about as
    often as checkpoints.

    ## Why it is slow
    `torch.save` copies every tensor to the host and writes the file while the training waits;
    optimizer states make it several times as large as the model.

    ## Evidence and threshold
    The time of saving beside the wall clock of the run, or the share of the steps' time that goes
    into regular stalls, whichever is larger.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Save half, a fifth or a tenth as often. Or save in another thread
    (`torch.distributed.checkpoint.async_save`), to a local disk, and only what is needed.

    ## How the gain is predicted
    Amdahl's law over the wall clock: the same checkpoints, less often. Its ends take the share as
    a quarter smaller and larger.

    ## When not to
    On machines that may be taken away at any time: a checkpoint costs less than the work that is
    lost between two of them.
    """

    code: ClassVar[str] = "PD502"
    name: ClassVar[str] = "checkpoint-too-frequent"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "checkpoint-less"
    cause: ClassVar[str] = CHECKPOINT_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS
    rests_on: ClassVar[tuple[str, ...]] = (RECORDS,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if saving, or the stalls that it explains, take too large a share."""
        observed, limit = is_run(facts), facts.threshold("share")
        part = told(facts, "checkpoint") if observed else part_of_run(facts, "checkpoint")
        if part is None:
            return None
        share = part.share
        if stalls_are_of(facts, part):
            share = max(share, min(1.0, facts.known("stalls.share") or 0.0))
        if share <= limit:
            return None
        count = often_in_all(facts, part) if observed else None
        allowed = factors(facts, "checkpoint") if observed else _FACTORS
        factor = factor_for(share, limit, allowed, count)
        finding = Finding(
            stage="checkpoint",
            title=f"Saving checkpoints takes {percent(share)} of the run{_times(part)}",
            advice=f"Save every {_nth(factor)} time, or in the background "
            "(torch.distributed.checkpoint.async_save), so that training goes on meanwhile.",
            change={"checkpoint_every_times": factor},
            snippet=f"if step % ({factor} * save_every) == 0:\n    save_checkpoint(model)",
            evidence=_evidence("checkpoints", part, limit),
            cause=self.cause,
            predicted=less_often(share, factor, count) if observed else rarer(share, factor),
            confidence=0.7,
            effort="lines",
            behind=_left_out(facts) >= _MOSTLY_UNNEEDED,
        )
        return with_line(facts, finding, "checkpoint") if observed else finding


class LoggingTooFrequent:
    """Logging, metrics or figures take a visible part of the run.

    ## What it does
    Looks at the part of the run that logging, computing metrics and drawing figures take.

    ## Why it is slow
    Each logged number waits until the GPU has computed it (`.item()`, `print`), which empties its
    queue. Metrics over whole epochs and figures are made by the CPU while the GPU stands still.

    ## Evidence and threshold
    Their time beside the wall clock of the run.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Log, compute metrics and draw half, a fifth or a tenth as often; keep sums on the GPU and call
    `.item()` when they are shown. Histograms and norms of all weights and gradients are needed in
    few steps (`wandb.watch` makes them once in 1,000).

    ## How the gain is predicted
    Amdahl's law over the wall clock: the same work, less often. Its ends take the share as a
    quarter smaller and larger.

    ## When not to
    While a training is being debugged.
    """

    code: ClassVar[str] = "PD503"
    name: ClassVar[str] = "logging-too-frequent"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "log-less"
    cause: ClassVar[str] = "logging"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS
    rests_on: ClassVar[tuple[str, ...]] = (RECORDS,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if these together take too large a share of the run."""
        if is_run(facts):
            return logging_in_run(facts, self.cause)
        part, limit = part_of_run(facts, *_REPORTING), facts.threshold("share")
        if part.share <= limit:
            return None
        factor = factor_for(part.share, limit, _FACTORS)
        every, change = _log_interval(facts, factor)
        return Finding(
            stage=part.name if part.name in STAGES else "logging",
            title=f"Logging and metrics take {percent(part.share)} of the run{_times(part)}",
            advice=f"Do them every {every}, and keep running sums on the GPU: .item() and print "
            "make it finish first.",
            change=change,
            snippet="if step % log_interval == 0:\n    print(step, running_loss.item())",
            evidence=_evidence(part.name, part, limit),
            cause=self.cause,
            predicted=rarer(part.share, factor),
            confidence=0.6,
            effort="lines",
        )


#: Of an observed script it is not known whether it does so already.
_WITHOUT_GRADIENTS = (
    " Without gradients (torch.inference_mode()) there is room for a larger batch too."
)
_REPORTING = ("logging", "metrics", "visualisation", "visualization", "plotting")


def _interval(facts: Facts, part: Part, factor: int) -> str:
    """Such as " (every 20 epochs instead of every 10)", where both numbers are known."""
    every = _every(facts, part)
    if every is None:
        return ""
    now = "every one" if every == 1 else f"every {grouped(every)}"
    return f" (every {grouped(every * factor)} epochs instead of {now})"


def _every(facts: Facts, part: Part) -> int | None:
    """Epochs from one validation to the next; None where that is not known."""
    every = whole_number(facts, "configuration.validation_interval")
    epochs = whole_number(facts, "epochs.count")
    if every is None and epochs is not None and 1 < part.count <= epochs:
        every = round(epochs / part.count)
    return every


def _left_out(facts: Facts) -> float:
    """The part of the bytes of checkpoints that need not be in them."""
    return sum(facts.known(path) or 0.0 for path in (SAVED_UNNEEDED, SAVED_DATA))


def stalls_are_of(facts: Facts, part: Part) -> bool:
    """Whether regular stalls come about as often as this part of the run.

    A log that does not tell how often it was done tells how long it took in all.
    """
    period, count = facts.known("stalls.period_steps"), facts.known("stalls.count")
    if period is None or not count or count < 2:
        return False
    stalled_s = count * (facts.known("stalls.excess_s") or 0.0)
    counted = part.count > 1
    ratio = part.count / count if counted or stalled_s <= 0 else part.seconds / stalled_s
    return 1 / _AS_OFTEN <= ratio <= _AS_OFTEN


def _times(part: Part, *, about: bool = False) -> str:
    """`about` where what ran after the last step was counted by its time."""
    often = f", {'about ' * about}{grouped(part.count)} times" if part.count > 1 else ""
    return f" ({duration(part.seconds)}{often})"


def _nth(factor: int) -> str:
    return f"{factor}{'nd' if factor == 2 else 'th'}"


def _log_interval(facts: Facts, factor: int) -> tuple[str, dict[str, Any]]:
    now = whole_number(facts, "configuration.log_interval")
    if now is None:
        return f"{_nth(factor)} time", {"log_every_times": factor}
    steps = now * factor
    return f"{grouped(steps)} steps instead of {grouped(now)}", {"log_interval": steps}


def _evidence(name: str, part: Part, limit: float, whole: str = "run") -> tuple[Evidence, ...]:
    """How often only where it is known: a part that was counted once may be a sum."""
    found = (
        Evidence(metric=f"{name}, of the {whole}", value=part.share, unit="share", threshold=limit),
        Evidence(metric=f"{name}, in all", value=part.seconds, unit="s"),
    )
    if part.count < 2:
        return found
    return (*found, Evidence(metric="times", value=part.count, unit=""))
