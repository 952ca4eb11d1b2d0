"""Training steps in their order: each once, numbered over the run, and where it began anew."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.loops import goes_on
from perfdoctor.readers.records import Records, is_constant
from perfdoctor.record import Bools, Floats

Indices = NDArray[np.int64]
#: Of fewer steps a counter that is broken once cannot be told.
_FEWEST = 6
#: A log with more restarts than this has some other counter.
_MOST_BREAKS = 50
#: Lines that come late, by less than lines are apart: so many at most.
_MOST_LATE = 0.2
#: Lines with a broken counter: so many at most.
_MOST_BROKEN = 0.05


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

    @cached_property
    def goes_on(self) -> Bools:
        """Whether a row belongs to the stretch of the row before it."""
        return same_stretch(self.stretch)

    @cached_property
    def fresh(self) -> Bools:
        """Whether it is the first of its stretch or epoch."""
        found: Bools = self.epoch_start | ~self.goes_on
        return found


def same_stretch(stretch: NDArray[np.int64]) -> Bools:
    """Whether a row belongs to the stretch of the row before it."""
    found = np.zeros(stretch.size, dtype=np.bool_)
    if stretch.size > 1 and stretch.strides[0] == 0:
        found[1:] = True
        return found
    found[1:] = np.diff(stretch) == 0
    return found


def ordered(records: Records, rows: Indices, epoch: Floats, ranks: int) -> Steps:
    """Those of `rows` that are steps of their own, in order. `epoch`: of each of `rows`, NaN where
    it is not known; `ranks`: how many processes printed."""
    step = records.at("step", rows)
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
        covers = _over_own_epochs(covers, starts, records.at("step_total", rows), step)
        position = position[:1] + np.cumsum(np.nan_to_num(covers)) if position.size else position
    if "step_first" in records:
        named = step - records.at("step_first", rows) + 1
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


def _lengths_differ(records: Records, rows: Indices) -> bool:
    """Whether epochs have different numbers of steps: a run resumed on more devices, say."""
    total = records.at("step_total", rows)
    if is_constant(total):
        return False
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


def _mended(step: Floats, epoch: Floats) -> Floats:
    """A single counter that falls between two that are twice the usual apart lost a digit: no
    restart, and no step of its own number."""
    if step.size < _FEWEST:
        return step
    apart = np.diff(step)
    falls = np.flatnonzero(apart[:-1] < 0)
    if not falls.size or not (apart > 0).any():
        return step
    usual = float(np.median(apart[apart > 0]))
    fits = np.abs(step[falls + 2] - step[falls] - 2 * usual) < 0.5 * usual
    same_epoch = np.nan_to_num(epoch[falls + 2]) == np.nan_to_num(epoch[falls])
    broken = falls[fits & same_epoch]
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
    if (np.diff(key) > 0).all():
        return rows, epoch, step
    highest = np.maximum.accumulate(key)
    behind = key < highest
    repeats = np.append(False, key[1:] == key[:-1])
    seen = ~(behind | repeats)
    grows = np.diff(step)
    usual = float(np.median(grows[grows > 0])) if (grows > 0).any() else 0.0
    late = behind & (highest - key < usual)  # two counters, or lines that are out of order
    if late.any() and late.sum() <= _MOST_LATE * rows.size:
        kept = ~late
        return _without_echoes(rows[kept], epoch[kept], step[kept])
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
    total = records.at("step_total", rows) if "step_total" in records else np.empty(0)
    finite = total[:1] if is_constant(total) else total[np.isfinite(total)]
    tops = step[drops]
    if finite.size and (whole := float(np.median(finite))) >= float(np.median(tops)) * 0.5:
        return max(1, int(whole))
    apart = np.diff(step)
    gap = float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0
    return max(1, int(np.max(tops) + (gap if float(step.min()) == 0 else 0)))


def _resets_at(epoch: Floats, step: Floats) -> Bools:
    """Where the counter goes back, or stands still while the epoch goes on."""
    apart = np.diff(step)
    found: Bools = (apart < 0) | ((apart == 0) & (np.diff(epoch) > 0))
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
