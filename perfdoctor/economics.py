"""What the epochs brought for their time: the best one, what came after it, early stopping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perfdoctor.metrics import Judge, choose
from perfdoctor.record import EpochSeries, Floats
from perfdoctor.report import Economics

#: Early stopping waits a tenth of the epochs, within what is usual: Keras' and Lightning's
#: examples wait 3, training recipes for long schedules 15.
_PATIENCE_SHARE, _LEAST_PATIENCE, _MOST_PATIENCE = 0.1, 3, 15
#: As good as the best: what is missing is this part of the whole improvement.
_AS_GOOD = 0.001
_TARGETS = ("target_accuracy", "target_metric", "target")


def epoch_seconds(epochs: EpochSeries) -> Floats:
    """Seconds of each epoch: as the log tells, else from one epoch's end to the next."""
    if np.isfinite(epochs.time_s).any() or epochs.at_s is None:
        return epochs.time_s
    between = np.diff(epochs.at_s, prepend=np.nan)
    return np.where(between > 0, between, np.nan)


def economics(epochs: EpochSeries, configuration: Mapping[str, Any]) -> Economics | None:
    """None where no metric judges the epochs, or it never changed."""
    judge = choose(epochs.metrics)
    if judge is None:
        return None
    value = epochs.metrics[judge.name]
    told = np.flatnonzero(np.isfinite(value))
    worth = -value[told] if judge.lower_is_better else value[told]
    best = int(told[np.argmax(worth)])
    number = epochs.number
    spent_s = epoch_seconds(epochs)
    patience = _patience(number[told], worth)
    target = _target(configuration, judge)
    reached = _reached(worth, target if target is None or not judge.lower_is_better else -target)
    return Economics(
        metric=judge.name,
        lower_is_better=judge.lower_is_better,
        best=float(value[best]),
        best_epoch=float(number[best]),
        after_best_s=_sum(spent_s[best + 1 :], spent_s),
        after_best_share=_share(spent_s[best + 1 :], spent_s),
        patience=patience,
        saved_s=_sum(spent_s[number > number[best] + patience], spent_s),
        target_epoch=None if reached is None else float(number[told[reached]]),
        target=target,
        best_told=(epochs.told[best] or None) if epochs.told else None,
    )


def _patience(number: Floats, worth: Floats) -> int:
    """In epochs; no shorter than the longest wait for an improvement up to the best epoch."""
    usual = _PATIENCE_SHARE * (float(number[-1] - number[0]) + 1)
    record = np.maximum.accumulate(worth)
    better = np.flatnonzero(np.diff(record, prepend=-np.inf) > 0)
    waits = np.diff(number[better])
    longest = float(waits.max()) if waits.size else 0.0
    return int(np.ceil(max(longest, _LEAST_PATIENCE, min(usual, _MOST_PATIENCE))))


def _target(configuration: Mapping[str, Any], judge: Judge) -> float | None:
    for name in _TARGETS:
        value = configuration.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return None if judge.lower_is_better and "accuracy" in name else float(value)
    return None


def _reached(worth: Floats, target: float | None) -> int | None:
    """Where a target was first reached; without one, what is as good as the best."""
    best = float(worth.max())
    least = best - _AS_GOOD * (best - float(worth[0])) if target is None else target
    enough = worth >= least
    return int(np.argmax(enough)) if enough.any() else None


def _sum(part: Floats, whole: Floats) -> float | None:
    return float(np.nansum(part)) if np.isfinite(whole).any() else None


def _share(part: Floats, whole: Floats) -> float | None:
    total = float(np.nansum(whole))
    return float(np.nansum(part)) / total if total > 0 else None
