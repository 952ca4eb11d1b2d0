"""Where the steady part of a logged run begins."""

from __future__ import annotations

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.stats import warmup_length

#: Compiling, tuning and filling caches take the first steps. What is slow for longer than so many
#: records, or than a tenth of the run, has changed and was not warming up.
_MOST_RECORDS, _MOST_SHARE = 50, 0.1
#: The first records are held against so many that follow: they are warm-up where they are slower
#: by a tenth and by more than three robust standard deviations.
_BESIDE, _SLOWER, _DEVIATIONS = 50, 0.10, 3.0
_FEWEST = 4


def logged_warmup(seconds: Floats) -> int:
    """How many records at the start are warm-up; `seconds` may hold NaN.

    Batches of five medians (`warmup_length`) do not see a first record that compiles, so that the
    first ones are looked at by themselves as well. What is faster at the start than later is no
    warm-up in a log, which may tell of a whole training and its slow-down.
    """
    known = np.flatnonzero(np.isfinite(seconds))
    values = seconds[known]
    most = min(_MOST_RECORDS, int(_MOST_SHARE * values.size))
    count = warmup_length(values)
    slower = 0 < count <= most and np.median(values[:count]) > np.median(values[count:])
    count = max(count if slower else 0, _slow_at_first(values))
    return int(known[count]) if 0 < count < known.size else 0


def _slow_at_first(values: Floats) -> int:
    """How many of the first records are slower than those that follow, one after the other."""
    most = max(1, min(_MOST_RECORDS, int(_MOST_SHARE * values.size)))
    if values.size < _FEWEST:
        return 0
    beside = values[most : most + _BESIDE]
    usual = float(np.median(beside))
    spread = 1.4826 * float(np.median(np.abs(beside - usual)))
    slow = values[:most] > usual + max(_SLOWER * usual, _DEVIATIONS * spread)
    return int(np.argmin(slow)) if not slow.all() else most
