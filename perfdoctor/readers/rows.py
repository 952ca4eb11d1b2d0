"""Which rows are training steps, in which order, and where the run began anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.loops import goes_on, of_another_loop
from perfdoctor.readers.records import TRAIN, Records
from perfdoctor.record import Bools, Floats

Indices = NDArray[np.int64]
#: What tells how long a training step takes.
STEP_TIMES = (
    "step_s", "step_s_mean", "steps_per_s", "unclear_s", "samples_per_s", "tokens_per_s",
    "train_s", "compute_s", "forward_s", "sample_s", "samples_per_s_mean",
    "tokens_per_s_mean",
)  # fmt: skip
#: More lines than this between a value and the counter, and they are no record together.
_NEAR = 60
#: A bar of another length than most is another loop; it counts as validation if it comes as often.
_FEWEST_BARS = 2
_FEWEST_WRITTEN = 3


def forward_fill(values: Floats) -> Floats:
    """Every NaN takes the last value before it."""
    place = np.where(np.isfinite(values), np.arange(values.size), -1)
    np.maximum.accumulate(place, out=place)
    filled: Floats = np.where(place >= 0, values[np.maximum(place, 0)], np.nan)
    return filled


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


def whole_epochs(records: Records) -> Floats:
    """The epoch of every row, carried on from the last row that names one; NaN before it.

    Fractions of epochs, as some trainers count, are cut off; 1.0 among them ends the first.
    """
    if "epoch" not in records:
        return np.full(len(records), np.nan)
    told = records.column("epoch")
    filled = forward_fill(told)
    whole: Floats = np.floor(filled)
    if (told > np.floor(told)).sum() <= 0.5 * np.isfinite(told).sum():
        return whole
    ended: Floats = np.maximum(np.ceil(filled) - 1, np.fmin(whole, 0.0))
    return ended


@dataclass(frozen=True)
class Steps:
    """The rows of training steps, each step once.

    Attributes:
        rows: indices into the records. epoch, step: as printed; NaN where not.
        position: the step's number over the whole run, growing; restarts repeat numbers.
        covers: training steps from the row before to this one (1 for the first of a stretch).
        stretch: number of the stretch without a restart. epoch_start: first row of its epoch.
        ranks: how many processes printed. counted: the log itself numbers its steps.
    """

    rows: Indices
    epoch: Floats
    step: Floats
    position: Floats
    covers: Floats
    stretch: NDArray[np.int64]
    epoch_start: Bools
    steps_per_epoch: int | None
    ranks: int
    counted: bool = True


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
    for role in columns:
        if role in STEP_TIMES and timely:
            continue
        if not (role in STEP_TIMES or role in ("data_loading_s", "batch_size", "elapsed_s")):
            continue
        rows = np.flatnonzero(known(records, role) & (records.column("phase") == TRAIN))
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


def same_stretch(stretch: NDArray[np.int64]) -> Bools:
    """Whether a row belongs to the stretch of the row before it."""
    found = np.zeros(stretch.size, dtype=np.bool_)
    found[1:] = np.diff(stretch) == 0
    return found


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
    loose = train & times & ~stepped & ~_summaries(records)
    yield _chosen(records, loose & ~_one_an_epoch(records, loose))


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
    return _ordered(records, _once(records, rows), ranks)


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
    if found.size > rows.size / 2:
        return rows, 1  # numbers of lines, or of something else that goes on
    return rows[rank == found[0]], int(found.size)


def _once(records: Records, rows: Indices) -> Indices:
    """Without rows that repeat the row before: two handlers wrote the same line."""
    if rows.size < 2:
        return rows
    same = np.ones(rows.size - 1, dtype=np.bool_)
    for role, column in records.columns.items():
        if role in ("time", "clock", "rank"):
            continue
        values = column[rows]
        if values.size and values.strides[0] == 0:
            continue
        a, b = values[:-1], values[1:]
        same &= (a == b) | (np.isnan(a) & np.isnan(b))
    stepped = np.isfinite(records.column("step")[rows[1:]])
    if "bar_elapsed_s" in records:
        return rows
    found: Indices = rows[np.append(True, ~(same & stepped))]
    return found


def _lengths_differ(records: Records, rows: Indices) -> bool:
    """Whether epochs have different numbers of steps: a run resumed on more devices, say."""
    total = records.column("step_total")[rows]
    known = total[np.isfinite(total)]
    return bool(known.size) and float(known.min()) != float(known.max())


def _over_own_epochs(covers: Floats, starts: Bools, total: Floats, step: Floats) -> Floats:
    """From the last line of an epoch to the first of the next lie what was left of that epoch."""
    found: Floats = covers.copy()
    first = np.flatnonzero(starts)
    first = first[first > 0]
    left = total[first - 1] - step[first - 1] + step[first]
    found[first] = np.where(np.isfinite(covers[first]) & (left > 0), left, covers[first])
    return found


def _ordered(records: Records, rows: Indices, ranks: int) -> Steps:
    epoch, step = whole_epochs(records)[rows], records.column("step")[rows]
    counted = bool(np.isfinite(step).any())
    if not counted:
        step = np.arange(1.0, rows.size + 1)
    rows, epoch, step = _without_echoes(rows, epoch, step)
    step = _mended(step, epoch)
    per_epoch = _steps_per_epoch(records, rows, epoch, step)
    position, stretch, starts = _positions(epoch, step, per_epoch)
    stretch = _unbroken(records, rows, stretch)
    covers = np.diff(position, prepend=np.nan)
    covers[~same_stretch(stretch)] = np.nan
    covers[covers <= 0] = np.nan
    if per_epoch is not None and _lengths_differ(records, rows):
        covers = _over_own_epochs(covers, starts, records.column("step_total")[rows], step)
        position = position[:1] + np.cumsum(np.nan_to_num(covers)) if position.size else position
    if "step_first" in records:
        named = step - records.column("step_first")[rows] + 1
        covers = np.where(named >= 1, named, covers)
    return Steps(
        rows=rows,
        epoch=epoch,
        step=step,
        position=position,
        covers=covers,
        stretch=stretch,
        epoch_start=starts,
        steps_per_epoch=per_epoch,
        ranks=ranks,
        counted=counted,
    )


#: A log with more restarts than this has some other counter.
_MOST_BREAKS = 50
#: Lines with a broken counter: so many at most.
_MOST_BROKEN = 0.05


def _mended(step: Floats, epoch: Floats) -> Floats:
    """A single counter that falls between two that are twice the usual apart lost a digit: no
    restart, and no step of its own number."""
    if step.size < 2 * _FEWEST_WRITTEN:
        return step
    apart = np.diff(step)
    if not (apart > 0).any():
        return step
    usual = float(np.median(apart[apart > 0]))
    fits = np.abs(step[2:] - step[:-2] - 2 * usual) < 0.5 * usual
    same_epoch = np.nan_to_num(epoch[2:]) == np.nan_to_num(epoch[:-2])
    broken = np.flatnonzero((apart[:-1] < 0) & fits & same_epoch)
    if not broken.size or broken.size > max(1, _MOST_BROKEN * step.size):
        return step
    found: Floats = step.copy()
    found[broken + 1] = step[broken] + usual
    return found


def _without_echoes(rows: Indices, epoch: Floats, step: Floats) -> tuple[Indices, Floats, Floats]:
    """Each (epoch, step) once within the neighbourhood: other ranks may write it again, late.

    A resumed run repeats steps too, but many in a row that go on growing.
    """
    if rows.size < 2:
        return rows, epoch, step
    key = np.nan_to_num(epoch) * 1e9 + step
    highest = np.maximum.accumulate(key)
    behind = key < highest
    repeats = np.append(False, key[1:] == key[:-1])
    seen = ~(behind | repeats)
    lone = behind & ~(np.append(behind[1:], False) & np.append(False, behind[:-1]))
    single = (behind & lone) | repeats
    if single.sum() > 0.2 * rows.size and not _resets(key):
        return rows[seen], epoch[seen], step[seen]
    if not repeats.any():
        return rows, epoch, step
    return rows[~repeats], epoch[~repeats], step[~repeats]


def _resets(key: Floats) -> bool:
    """Whether the counter goes back to where it began, as one that counts within epochs does."""
    drops = np.flatnonzero(np.diff(key) < 0)
    if not drops.size:
        return False
    low, high = float(key.min()), float(key.max())
    return bool(np.median(key[drops + 1]) < low + 0.2 * (high - low))


def _steps_per_epoch(records: Records, rows: Indices, epoch: Floats, step: Floats) -> int | None:
    """From the printed total where steps begin anew in each epoch, else from the highest step."""
    drops = np.flatnonzero(_resets_at(epoch, step))
    if not drops.size or not (_resets(step) or np.isfinite(epoch).any()):
        total = records.column("step_total")[rows] if "step_total" in records else np.empty(0)
        single = np.isfinite(epoch).any() and np.unique(epoch[np.isfinite(epoch)]).size == 1
        finite = total[np.isfinite(total)]
        if single and finite.size and "bar_elapsed_s" in records:
            return int(np.median(finite))
        return None
    total = records.column("step_total")[rows] if "step_total" in records else np.empty(0)
    finite = total[np.isfinite(total)]
    if finite.size and float(np.median(finite)) >= float(np.median(step[drops])) * 0.5:
        return max(1, int(np.median(finite)))
    tops = step[drops]
    gap = float(np.median(np.diff(step)[np.diff(step) > 0])) if (np.diff(step) > 0).any() else 1.0
    return max(1, int(np.max(tops) + (gap if float(step.min()) == 0 else 0)))


def _resets_at(epoch: Floats, step: Floats) -> Bools:
    """Where the counter goes back, or stands still while the epoch goes on."""
    found: Bools = (np.diff(step) < 0) | ((np.diff(step) == 0) & (np.diff(epoch) > 0))
    return found


def _positions(
    epoch: Floats, step: Floats, per_epoch: int | None
) -> tuple[Floats, NDArray[np.int64], Bools]:
    """Growing step numbers, stretches between restarts, and the first rows of epochs."""
    count = step.size
    if not count:
        return np.empty(0), np.empty(0, np.int64), np.empty(0, np.bool_)
    fell = np.append(False, _resets_at(epoch, step))
    if per_epoch is None:
        starts = np.append(True, np.diff(np.nan_to_num(epoch)) != 0)
        return step, _stretches(fell), starts
    numbered = np.isfinite(epoch)
    if numbered.all():
        number = epoch - epoch.min()
        back = np.append(False, (np.diff(epoch) < 0) | ((np.diff(epoch) == 0) & fell[1:]))
        starts = np.append(True, np.diff(epoch) != 0) | fell
    else:
        number = np.cumsum(fell).astype(np.float64)
        back = np.zeros(count, dtype=np.bool_)
        starts = np.append(True, fell[1:])
    position = number * per_epoch + step
    return position, _stretches(back), starts


def _unbroken(records: Records, rows: Indices, stretch: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without the restarts that were none: the log's own sum of seconds goes on over them."""
    breaks = np.flatnonzero(np.diff(stretch))
    if not 0 < breaks.size <= _MOST_BREAKS:
        return stretch
    kept = np.zeros(stretch.size, dtype=np.bool_)
    for i in breaks.tolist():
        kept[i + 1] = not goes_on(records, int(rows[i]), int(rows[i + 1]))
    return _stretches(kept)


def _stretches(breaks: Bools) -> NDArray[np.int64]:
    """Numbers that grow at each break; they take no memory where there is none."""
    if not breaks.any():
        single: NDArray[np.int64] = np.broadcast_to(np.int64(0), breaks.shape)
        return single
    return np.cumsum(breaks).astype(np.int64)
