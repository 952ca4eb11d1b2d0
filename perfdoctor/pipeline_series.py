"""Measured times drawn again, the same for every configuration, and cut into other batch sizes."""

from __future__ import annotations

import math

import numpy as np

from perfdoctor.record import Floats

#: The random numbers are common to all configurations (common random numbers: Law, Simulation
#: Modeling and Analysis, section 11.2), so that these differ by what they are and not by chance.
_SEED = 20_210_517
#: Longest run of neighbours that is drawn together; a queue (workers × prefetch_factor) is rarely
#: longer, and how batches within it follow each other decides whether it runs empty.
_LONGEST_BLOCK = 64
#: At least so many blocks, or the drawn series would all be alike.
_FEWEST_BLOCKS = 4
#: Neighbours taken together where the error of a mean is estimated, as many as there are parts.
_PARTS = 20
#: Half the width of a 95 % interval, in standard errors.
_95_PERCENT = 1.96


def drawn(measured: Floats, rows: int, length: int) -> Floats:
    """`rows` series of `length` elements, made of `measured`: first as it is, over and over.

    The others are circular block bootstraps (Politis & Romano, 1992): runs of neighbours from
    anywhere, so that slow batches that come together still do. Each has the measured mean, since
    that is known better than a short series can tell.
    """
    n = measured.size
    block = max(1, min(_LONGEST_BLOCK, n // _FEWEST_BLOCKS))
    count = math.ceil(length / block)
    # one stream for each row, so that a longer series begins like a shorter one
    starts = [np.random.default_rng((_SEED, row)).integers(0, n, count) for row in range(rows)]
    places = (np.array(starts)[:, :, None] + np.arange(block)) % n
    found: Floats = measured[places].reshape(rows, -1)[:, :length]
    found[0] = np.resize(measured, length)
    return _with_mean(found, float(measured.mean()))


def rebatched(batches: Floats, ratio: float, sample_spread: float = 0.0) -> Floats:
    """Times of batches `ratio` times as large, one series a row, from those of these batches.

    Samples follow each other as they did, so slow stretches stay slow. A smaller batch varies
    more: `sample_spread` is the standard deviation of the samples' mean over one measured batch
    ÷ the mean, and is what is added.
    """
    if ratio == 1.0:
        return batches
    rows, length = batches.shape
    edges = np.arange(math.floor(length / ratio + 1e-9) + 1) * ratio
    total = np.concatenate((np.zeros((rows, 1)), np.cumsum(batches, axis=1)), axis=1)
    places = np.arange(length + 1, dtype=np.float64)
    cut = np.array([np.diff(np.interp(edges, places, row)) for row in total])
    if ratio < 1 and sample_spread > 0:
        added = sample_spread * math.sqrt(1 / ratio - 1)
        streams = [np.random.default_rng((_SEED, 1, row)) for row in range(rows)]
        cut *= np.array([s.lognormal(-(added**2) / 2, added, cut.shape[1]) for s in streams])
    return _with_mean(cut, float(batches.mean()) * ratio)


def mean_error(measured: Floats) -> float:
    """Half the 95 % interval of the mean ÷ the mean; neighbours, which are alike, count once.

    From the means of up to twenty parts (batch means: Law, section 9.5.3).
    """
    parts = min(_PARTS, measured.size)
    if parts < 2 or measured.mean() <= 0:
        return 0.0
    means = np.array([part.mean() for part in np.array_split(measured, parts)])
    return _95_PERCENT * float(means.std(ddof=1) / math.sqrt(parts) / measured.mean())


def _with_mean(series: Floats, mean: float) -> Floats:
    own = series.mean(axis=1, keepdims=True)
    scaled: Floats = series * np.divide(mean, own, out=np.ones_like(own), where=own > 0)
    return scaled
