"""PD504: training went on after the best epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.enough import RECORDS
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import WHOLE_RUNS, whole_number
from perfdoctor.rules.whole_run import is_part
from perfdoctor.rules.wording import duration, grouped, percent
from perfdoctor.stages import OTHER

_ECONOMICS = "epochs.economics"
_AFTER = f"{_ECONOMICS}.after_best_share"


class TrainedPastBest:
    """A large part of the run came after its best epoch.

    ## What it does
    Looks for the epoch in which the metric was best, and at the time spent after it.

    ## Why it is slow
    Epochs that bring nothing cost as much as those that do.

    ## Evidence and threshold
    The share of the time of all epochs that came after the best one, and what early stopping
    would have saved of it. A script that was observed must have been seen to its end.
    - `after_best` = 0.3 (source: our own choice; a good schedule often has its best epoch a little
      before the end)

    ## What to change
    Early stopping: end the training when the metric has not improved for as many epochs as its
    patience says, and keep the best checkpoint.

    ## How the gain is predicted
    Not as a speed-up: the training does not get faster, it ends earlier. The time that is saved
    is counted from the run itself, the epochs of patience included.

    ## When not to
    Where the schedule of the learning rate is meant to run to its end, or a metric is so noisy
    that its best value is luck. Some models improve again after a long plateau.
    """

    code: ClassVar[str] = "PD504"
    name: ClassVar[str] = "trained-past-best"
    needs: ClassVar[tuple[str, ...]] = (_AFTER,)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "trained-past-best"
    thresholds: ClassVar[Mapping[str, float]] = {"after_best": 0.30}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS
    rests_on: ClassVar[tuple[str, ...]] = (RECORDS,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if much came after the best epoch and stopping would have saved some of it."""
        share, limit = facts.number(_AFTER), facts.threshold("after_best")
        if is_part(facts):
            return None
        saved_s = facts.known("epochs.economics.saved_s")
        if share <= limit or (saved_s is not None and saved_s <= 0):
            return None
        patience = whole_number(facts, "epochs.economics.patience")
        change = {} if patience is None else {"early_stopping_patience": patience}
        return Finding(
            stage=OTHER,
            title=f"{percent(share)} of the run came after the best epoch{_best(facts)}",
            advice=_advice(patience, saved_s),
            change=change,
            snippet=_snippet(patience),
            evidence=tuple(_evidence(facts, share, limit, saved_s)),
            cause=self.cause,
            confidence=0.6,
            effort="lines",
            safety="semantics",
            optional=True,
        )


def _best(facts: Facts) -> str:
    epoch = whole_number(facts, "epochs.economics.best_epoch", least=0)
    path = "epochs.economics.metric"
    metric = str(facts.get(path)) if facts.has(path) else ""
    if epoch is None:
        return ""
    return f" ({f'{metric}, ' if metric else ''}epoch {grouped(epoch)})"


def _advice(patience: int | None, saved_s: float | None) -> str:
    with_patience = "" if patience is None else f" with patience {grouped(patience)}"
    if saved_s is None:
        return f"Stop early{with_patience} and keep the best checkpoint."
    return f"Early stopping{with_patience} would have saved {duration(saved_s)}."


def _snippet(patience: int | None) -> str:
    epochs = "patience" if patience is None else str(patience)
    return (
        "if metric_is_best:\n"
        "    best_epoch = epoch\n"
        "    save_checkpoint(model)\n"
        f"elif epoch - best_epoch >= {epochs}:\n"
        "    break"
    )


def _evidence(facts: Facts, share: float, limit: float, saved_s: float | None) -> list[Evidence]:
    found = [Evidence(metric="after the best epoch", value=share, unit="share", threshold=limit)]
    after_s = facts.known("epochs.economics.after_best_s")
    if after_s is not None:
        found.append(Evidence(metric="after the best epoch", value=after_s, unit="s"))
    if saved_s is not None:
        found.append(Evidence(metric="saved by early stopping", value=saved_s, unit="s"))
    return found + _printed(facts)


def _printed(facts: Facts) -> list[Evidence]:
    """The line of the best epoch, where the script printed it while it was observed."""
    if not facts.has(f"{_ECONOMICS}.best_told"):
        return []
    line, metric = (facts.text(f"{_ECONOMICS}.{name}") for name in ("best_told", "metric"))
    best = facts.number(f"{_ECONOMICS}.best")
    return [Evidence(metric=metric, value=best, unit="", where=f'the printed line "{line}"')]
