"""Counters that count something else than they are called, by what the whole file shows."""

from __future__ import annotations

import re

import numpy as np

from perfdoctor.readers.records import LONGEST_S, METRIC, TRAIN, Reading, Records, is_constant

#: So many lines at least, and so many of their differences.
_FEWEST, _MOST = 3, 0.9
_JUDGED = re.compile(r"(?i)(?:^|[:/_.])(?:val|valid|validation|test|eval|metrics|map)")

_TIMES = re.compile(r"(?<!per)_s(?:_mean)?$")


def recast(reading: Reading) -> Records:
    """The records, with epochs and samples called what they are."""
    records = _running_counts(_epochs_as_steps(reading))
    return _plain_bars(_bars_of_samples(_possible(records)))


def _possible(records: Records) -> Records:
    """Without times that nothing can have taken: a wrong clock, or a number that is none."""
    columns = dict(records.columns)
    for role in [r for r in columns if _TIMES.search(r) and not r.startswith(METRIC)]:
        beyond = columns[role] > LONGEST_S
        if beyond.any():
            columns[role] = np.where(beyond, np.nan, columns[role])
    return Records(records.line, columns)


def _running_counts(records: Records) -> Records:
    """ "updates: 19, total_updates: 75": a total that grows by what stands beside it counts the
    steps, and the other those of the interval."""
    if "step" not in records or "step_total" not in records:
        return records
    if is_constant(records.columns["step_total"]):  # it does not grow
        return records
    step, total = records.column("step"), records.column("step_total")
    rows = np.flatnonzero(np.isfinite(step) & np.isfinite(total))
    if rows.size < _FEWEST:
        return records
    grows = np.diff(total[rows])
    if not ((grows > 0) & (grows == step[rows[1:]])).mean() >= _MOST:
        return records
    columns = dict(records.columns)
    columns["step"] = np.where(np.isfinite(total), total, step)
    del columns["step_total"]
    return Records(records.line, columns)


def _plain_bars(records: Records) -> Records:
    """The bars of Keras before 2.0.9, which print no time per step, count samples or steps: only
    one that goes on by ones is known to count steps."""
    if "bar_plain_s" not in records:
        return records
    columns = dict(records.columns)
    elapsed = columns.pop("bar_plain_s")
    plain = np.isfinite(elapsed)
    step, total = records.column("step"), records.column("step_total")
    lengths = np.unique(total[plain & np.isfinite(total)])
    own = np.isin(total, lengths)
    one_by_one = (np.diff(step[own]) == 1).mean() > 0.5 if own.sum() > 1 else False
    role = "bar_elapsed_s" if one_by_one else "epoch_s"
    columns[role] = np.where(plain, elapsed, records.column(role))
    if not one_by_one:
        for counter in ("step", "step_total"):
            columns[counter] = np.where(own, np.nan, records.column(counter))
    return Records(records.line, columns)


def _epochs_as_steps(reading: Reading) -> Records:
    """Scalars that are validated at every step, and bars as long as there are epochs, count
    epochs."""
    records = reading.records
    if "step" not in records or "epoch" in records:
        return records
    epochs = reading.configuration.get("epochs")
    total = records.column("step_total")
    bar = "bar_elapsed_s" in records and epochs is not None and bool(
        (total[np.isfinite(total)] == epochs).all() and np.isfinite(total).any()
    )  # fmt: skip
    if not bar and not (reading.format == "tensorboard_events" and _validated(records)):
        return records
    columns = dict(records.columns)
    columns["epoch"] = columns.pop("step")
    if bar and "step_s" in columns:
        columns["epoch_s"] = columns.pop("step_s")
    return Records(records.line, columns)


#: No training step takes less than a fifth of a millisecond: a faster bar counts samples.
_FASTEST_STEPS_PER_S = 5000.0


def _bars_of_samples(records: Records) -> Records:
    """Bars over samples or nodes, whose rate is called "it/s" all the same."""
    if "bar_elapsed_s" not in records or "steps_per_s" not in records:
        return records
    training = (records.column("phase") == TRAIN) & np.isfinite(records.column("bar_elapsed_s"))
    rate = records.column("steps_per_s")
    rated = training & np.isfinite(rate)
    if not rated.any() or float(np.median(rate[rated])) < _FASTEST_STEPS_PER_S:
        return records
    columns = dict(records.columns)
    samples = records.column("samples_per_s")
    columns["samples_per_s"] = np.where(training & np.isnan(samples), rate, samples)
    for role in ("steps_per_s", "step_s", "step", "step_total", "bar_elapsed_s"):
        if role in columns:
            columns[role] = np.where(training, np.nan, columns[role])
    return Records(records.line, columns)


def _validated(records: Records) -> bool:
    """One by one, nearly each with a metric of validation."""
    step = records.column("step")
    known = step[np.isfinite(step)]
    judged = [r for r in records.columns if r.startswith(METRIC) and _JUDGED.search(r)]
    if known.size < 2 or float(np.median(np.diff(np.unique(known)))) != 1 or not judged:
        return False
    most = max(int(np.isfinite(records.column(r)).sum()) for r in judged)
    return most >= 0.8 * np.unique(known).size
