"""Which rows are training steps, and which of several loops they are of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from perfdoctor.readers.clock_units import with_parts_in_seconds
from perfdoctor.readers.loops import (
    of_another_loop,
    with_validation,
    with_validation_bars,
    without_copies,
    without_other_bars,
)
from perfdoctor.readers.moments import with_time
from perfdoctor.readers.recast import recast
from perfdoctor.readers.records import METRIC, TRAIN, Reading, Records, is_constant
from perfdoctor.readers.steps import Indices, Steps, ordered
from perfdoctor.record import Bools, Floats

#: What tells how long a training step takes.
STEP_TIMES = (
    "step_s", "step_s_mean", "steps_per_s", "unclear_s", "samples_per_s", "tokens_per_s",
    "train_s", "compute_s", "forward_s", "sample_s", "samples_per_s_mean",
    "tokens_per_s_mean", "steps_per_s_mean",
)  # fmt: skip
#: More lines than this between a value and the counter, and they are no record together.
_NEAR = 60
#: Times that are of the steps come about as often as the lines that count these.
_FEWER = 0.7
#: Fewer lines that tell the time of a step do not make a bar beside them doubtful.
_FEWEST_WRITTEN = 3


def prepared(reading: Reading) -> Records:
    """The records of a reading with counters and moments put right, without copies, and with what
    tells of a step on the line that counts it."""
    told = with_validation_bars(with_validation(recast(_of_training(reading))))
    told = with_parts_in_seconds(with_time(told))
    return joined(without_copies(without_other_bars(told)))


#: What counts or times a training; a metric of one of these words does as well.
_SIGNS = (
    "step", "epoch", "env_steps", "episode", "step_s", "step_s_mean", "epoch_s", "train_s",
    "data_loading_s", "forward_s", "backward_s", "samples_per_s", "samples_per_s_mean",
    "steps_per_s", "batch_size", "bar_elapsed_s",
)  # fmt: skip
_JUDGES = ("loss", "acc", "lr", "learning", "grad", "ppl", "perplexity", "cost", "nll", "reward")
#: Of a server, or of a benchmark of one: time to the first token, time per output token.
_SERVES = ("status_code", "request", "http", "ttft", "tpot")
#: Fewer times than the diagnosis needs: any program prints some seconds that it took. Those of
#: steps are alike, within a factor of two, those of what an installer does are not.
_FEWEST_NAMELESS, _ALIKE = 10, 0.69
_NAMELESS = ("unclear_s", "unclear_s_mean")
_ANYBODYS = (*_NAMELESS, "tokens_per_s", "tokens_per_s_mean")


def _of_training(reading: Reading) -> Reading:
    """Times and rates beside a server's own words, and times without a name that are few or not
    alike, where nothing counts steps or prints a loss, are of no training."""
    records = reading.records
    metrics = [role for role in records.columns if role.startswith(METRIC)]
    serves = any(word in role for role in metrics for word in _SERVES)
    judged = any(word in role for role in metrics for word in _JUDGES)
    odd = not _many_alike(records.column("unclear_s"))
    train = ~(records.column("phase") > TRAIN)
    if judged or not (serves or odd) or any((known(records, r) & train).any() for r in _SIGNS):
        return reading
    left_out = _ANYBODYS if serves else _NAMELESS
    columns = {r: c for r, c in records.columns.items() if r not in left_out}
    return replace(reading, records=Records(records.line, columns))


def _many_alike(times: Floats) -> bool:
    """Whether there are so many times, most of them about as long as each other."""
    times = times[times > 0]
    if times.size < _FEWEST_NAMELESS:
        return False
    apart = np.abs(np.log(times / np.median(times)))
    return float((apart < _ALIKE).mean()) > 0.5


def known(records: Records, role: str) -> Bools:
    """Where a role has a value."""
    if role not in records:
        return np.zeros(len(records), dtype=np.bool_)
    found: Bools = np.isfinite(records.columns[role])
    return found


def timed(records: Records) -> Bools:
    """Rows that tell a time or a rate of a step."""
    found = np.zeros(len(records), dtype=np.bool_)
    for role in STEP_TIMES:
        found |= known(records, role)
    return found


def joined(records: Records) -> Records:
    """Values that stand on lines of their own go to the line that counts the step.

    Some logs spread a record over several lines. Lines before the first counted step belong to
    the step that follows, lines after it to the one before.
    """
    stepped = np.flatnonzero(known(records, "step") & (records.column("phase") == TRAIN))
    if not stepped.size:
        return records
    columns = dict(records.columns)
    moved = np.zeros(len(records), dtype=np.bool_)
    timely = timed(records)[stepped].mean() > 0.5
    train = records.column("phase") == TRAIN
    for role in columns:
        if role in STEP_TIMES and timely:
            continue
        if role not in (*STEP_TIMES, "data_loading_s", "batch_size", "elapsed_s"):
            continue
        rows = np.flatnonzero(known(records, role) & train)
        alone = not known(records, "step")[rows].any() and not known(records, "epoch")[rows].any()
        if not alone or rows.size < 0.7 * stepped.size or rows.size > 1.5 * stepped.size + 1:
            continue
        place = np.searchsorted(stepped, rows, side="right") - (0 if rows[0] < stepped[0] else 1)
        inside = (place >= 0) & (place < stepped.size)
        apart = records.line[rows[inside]] - records.line[stepped[place[inside]]]
        if not inside.any() or float(np.median(np.abs(apart))) > _NEAR:
            continue
        values = np.array(columns[role])
        values[rows] = np.nan
        values[stepped[place[inside]]] = columns[role][rows[inside]]
        columns[role] = values
        moved[rows] = True
    return Records(records.line, columns) if moved.any() else records


def training_steps(records: Records) -> Iterator[Steps]:
    """The rows that may be the training steps, the likeliest first."""
    train = records.column("phase") == TRAIN if "phase" in records else np.ones(
        len(records), dtype=np.bool_
    )  # fmt: skip
    stepped = known(records, "step")
    usable = train & stepped & _counts_steps(records)
    if "bar_elapsed_s" in records:
        usable &= _of_the_training_bar(records, usable)
    usable &= ~of_another_loop(records, usable)
    times = timed(records)
    written = usable & _told(records)
    if "bar_elapsed_s" in records and written.sum() >= _FEWEST_WRITTEN:
        yield _chosen(records, written)
    if (usable & times).sum() >= max(min(3, usable.sum()), 0.2 * usable.sum()):
        yield _chosen(records, usable & times)
    yield _chosen(records, usable)
    loose = train & times & ~stepped & ~_summaries(records) & ~_of_something_else(records, stepped)
    named = loose & known(records, "step_s")
    if 1 == named.sum() < loose.sum():  # a single record, a value on each line
        yield _chosen(records, named)
    yield _chosen(records, loose & ~_one_an_epoch(records, loose))


def _of_something_else(records: Records, stepped: Bools) -> Bools:
    """Nameless times on lines of their own, fewer than the lines that count the steps and tell no
    time: of a text that was generated, a test, a file that was saved."""
    own = known(records, "unclear_s") & ~stepped
    others = [r for r in STEP_TIMES if r not in ("unclear_s", "unclear_s_mean")]
    own &= ~np.any([known(records, role) for role in others], axis=0)
    few = own.sum() < stepped.sum() * _FEWER and bool(stepped.sum() >= _FEWEST_WRITTEN)
    found: Bools = own & few
    return found


def _one_an_epoch(records: Records, loose: Bools) -> Bools:
    """Times without a name or counter that come as often as epochs do are theirs."""
    epochs = np.unique(records.column("epoch")[known(records, "epoch")]).size
    unclear = known(records, "unclear_s") & loose
    found: Bools = unclear & (epochs > 1) & (unclear.sum() <= 1.2 * epochs)
    return found


def _told(records: Records) -> Bools:
    """Lines that tell the time of a step themselves; a bar may be of anything."""
    found = known(records, "step_s") | known(records, "steps_per_s")
    return found & ~known(records, "bar_elapsed_s")


def _chosen(records: Records, usable: Bools) -> Steps:
    rows, ranks = _one_rank(records, np.flatnonzero(usable))
    rows = _telling(records, _once(records, rows))
    return ordered(records, rows, records.whole_epochs[rows], ranks)


def _counts_steps(records: Records) -> Bools:
    """Not the lines that tell a total beside the number of a step: "saved at step 500"."""
    roles = [r for r in (*STEP_TIMES, "elapsed_s", "bar_elapsed_s", "time") if r in records]
    found = np.zeros(len(records), dtype=np.bool_)
    for role in roles:
        found |= known(records, role)
    return found


def _summaries(records: Records) -> Bools:
    """Rows about whole epochs or episodes."""
    epochs = (known(records, "epoch") & ~known(records, "step")) | known(records, "episode")
    plain = (known(records, "unclear_s") | known(records, "train_s")) & ~known(records, "step_s")
    also_steps = known(records, "step_s") & (records.column("step_s") > 0)
    return (epochs & plain) | (known(records, "epoch_s") & ~also_steps)


def _of_the_training_bar(records: Records, usable: Bools) -> Bools:
    """Rows of bars as long as the bars that took most time."""
    rows = np.flatnonzero(usable & known(records, "bar_elapsed_s"))
    found = np.ones(len(records), dtype=np.bool_)
    if not rows.size:
        return found
    elapsed, totals = records.column("bar_elapsed_s")[rows], records.column("step_total")[rows]
    totals = np.where(np.isfinite(totals), totals, -1.0)
    ends = np.append((np.diff(elapsed) < 0) | (np.diff(totals) != 0), True)
    lengths = np.where(totals >= 0, totals, _final_counts(records.column("step")[rows], ends))
    different, which = np.unique(lengths, return_inverse=True)
    spent = np.bincount(which[ends], weights=elapsed[ends], minlength=different.size)
    most = different[np.flatnonzero(spent == spent.max())[-1]]
    found[rows] = lengths == most
    return found


def _final_counts(step: Floats, ends: Bools) -> Floats:
    """Where each row's bar ends: a bar without a total is as long as that."""
    last = np.flatnonzero(ends)
    counts: Floats = step[last[np.searchsorted(last, np.arange(step.size))]]
    return counts


def _one_rank(records: Records, rows: Indices) -> tuple[Indices, int]:
    """The rows of the first rank, and how many ranks there are."""
    if "rank" not in records:
        return rows, 1
    rank = records.column("rank")[rows]
    named = np.isfinite(rank)
    if not rows.size or named.sum() < 0.5 * rows.size:
        return rows, 1
    found = np.unique(rank[named])
    if found.size == 1:
        return rows, 1  # some lines of the one process do not say which it is
    if found.size > rows.size / 2:
        return rows, 1  # numbers of lines, or of something else that goes on
    return rows[rank == found[0]], int(found.size)


def _telling(records: Records, rows: Indices) -> Indices:
    """Of several rows in a row that count the same step, the first that tells of its time, if the
    first of all tells nothing."""
    if rows.size < 2 or "bar_elapsed_s" in records:
        return rows
    step, epoch = records.at("step", rows), records.at("epoch", rows)
    same = (step[1:] == step[:-1]) & ~(np.abs(np.diff(epoch)) > 0)
    if not same.any():
        return rows
    tells = timed(records)[rows]
    mute = np.append(same, False) & ~tells & np.append(tells[1:], False)
    kept: Indices = rows[~mute]
    return kept


def _once(records: Records, rows: Indices) -> Indices:
    """Without rows that repeat the row before: two handlers wrote the same line."""
    if rows.size < 2 or "bar_elapsed_s" in records:
        return rows
    same = np.ones(rows.size - 1, dtype=np.bool_)
    for role, column in records.columns.items():
        if role in ("time", "clock", "rank") or is_constant(column):
            continue
        values = records.at(role, rows)
        a, b = values[:-1], values[1:]
        same &= (a == b) | (np.isnan(a) & np.isnan(b))
        if not same.any():
            return rows
    stepped = np.isfinite(records.at("step", rows)[1:])
    found: Indices = rows[np.append(True, ~(same & stepped))]
    return found
