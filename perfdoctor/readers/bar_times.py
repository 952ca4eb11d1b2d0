"""What progress bars show against what they print, and differences of sums."""

from __future__ import annotations

import numpy as np

from perfdoctor.readers.means import are_means_of_their_bar
from perfdoctor.readers.records import Records
from perfdoctor.readers.row_values import column, differences, grain_of, over_rows
from perfdoctor.readers.steps import Steps
from perfdoctor.record import Bools, Floats

#: Rates of a bar that add up to so much more than its own time tell of a slow beginning only.
_OUTLAST = 1.25
#: A gap over so much of a bar that is printed at each of its steps.
_CUT_OUT = 0.5
#: Bars print whole seconds: over so many the printed rates can be held against them.
_SHORTEST_S = 5.0
#: Over 50 grains a difference is known to 2 %; what differs by more is not the same.
MANY_GRAINS, _APART = 100.0, 0.03
#: What one grain of a printed sum may be of a difference before several rows are taken together,
#: and how many grains these should hold.
VERY_COARSE, GRAINS = 0.15, 20.0


def is_a_cutout(steps: Steps, total: Floats, whole: Bools) -> bool:
    """Whether of a bar that has come to its end only its first steps are there, and its last: the
    rates that it printed in between, which tell of most of them, were cut out."""
    if whole.sum() != 1 or not (total == total[0]).all():
        return False
    apart = float(np.nanmax(steps.covers)) if np.isfinite(steps.covers).any() else 0.0
    return apart > _CUT_OUT * float(total[0]) and bool(np.nanmin(steps.covers) == 1)


def per_step(
    values: Floats, steps: Steps, found: Floats | None = None, grains: float = GRAINS
) -> Floats:
    """Differences of a sum over the steps between; over several rows where it is printed so
    coarsely that from one row to the next it moves by a few grains only. `found`: these
    differences, where they are known; half of `grains` are in those of several rows."""
    found = differences(values, steps) if found is None else found
    apart = float(np.nanmedian(found)) if np.isfinite(found).any() else 0.0
    grain = grain_of(values)
    if grain <= VERY_COARSE * apart or grain == 0:
        return found / steps.covers
    rows = int(np.ceil(grains / 2 * grain / max(apart, grain / 4)))
    if rows < 2 or rows > found.size // 3:
        return found / steps.covers
    return over_rows(found, rows) / over_rows(steps.covers, rows)


def outlast_their_bar(records: Records, steps: Steps, step_s: Floats) -> bool:
    """Whether the times that a bar prints add up to more than has passed on it: they are means
    since it began, or still full of its slow first steps."""
    elapsed = column(records, steps, "bar_elapsed_s")
    if elapsed is None:
        return False
    apart, told = on_the_bar(elapsed, steps), step_s * steps.covers
    known = np.isfinite(apart) & np.isfinite(told)
    passed_s = float(apart[known].sum())
    if known.sum() < 2 or passed_s < _SHORTEST_S:
        return False
    return float(told[known].sum()) > _OUTLAST * passed_s


def hides_pauses(records: Records, steps: Steps, step_s: Floats) -> bool:
    """Whether a bar prints means since it began, which are not what a step takes."""
    elapsed = column(records, steps, "bar_elapsed_s")
    if elapsed is None or not are_means_of_their_bar(elapsed, steps, step_s):
        return False
    single = per_step(elapsed, steps, on_the_bar(elapsed, steps), MANY_GRAINS)
    if not (single > 0).any():
        return False
    return abs(float(np.log(np.nanmedian(single) / np.nanmedian(step_s)))) > _APART


def on_the_bar(elapsed: Floats, steps: Steps) -> Floats:
    """Seconds since the row before; over epochs only where no bar begins anew with them."""
    apart = differences(elapsed, steps)
    over = np.diff(elapsed, prepend=-np.inf)[steps.epoch_start]
    if not (over > 0).all():
        apart[steps.epoch_start] = np.nan
    return apart
