"""The noise of a series that may hold changes: how well a mean over some of it is known.

It is measured on the series itself, as differences of neighbouring means over as many blocks
(batch means; Meketon & Schmeiser 1984 for overlapping ones). So it contains whatever correlation
the series has, and nearly nothing of its changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from perfdoctor.record import Floats

#: Noise is measured where there are at least so many batches; below it is extrapolated as an
#: AR(1) process, whose correlation between neighbouring blocks is taken to be at most this.
_FEWEST_BATCHES = 20
_STRONGEST_CORRELATION = 0.93
#: Of the differences that noise is measured from, the largest are left out: so many changes of
#: level are allowed for, and no more than this share.
_CHANGES_ALLOWED = 4
_LARGEST_TRIMMED = 0.2
#: No series of times is known better than this (relative): logs print three digits.
_LEAST_NOISE = 0.005
#: An outlier is held against the two values on each side.
_WINDOW = 5
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Noise:
    """`sd[k]` ÷ √k is the standard error of a mean over k blocks next to another; `df` its."""

    sd: Floats
    df: Floats


def long_run_sd(values: Floats) -> float:
    """Standard deviation of the mean of all `values`, correlation allowed for, times √n."""
    noise = measure_noise(clipped(values))
    return float(noise.sd[-1])


def clipped(z: Floats) -> Floats:
    """Isolated outliers pulled in to three robust deviations from the median around them."""
    if z.size < _WINDOW:
        return z
    padded = np.pad(z, _WINDOW // 2, mode="reflect")
    middle = np.median(sliding_window_view(padded, _WINDOW), axis=1)
    off = z - middle
    # 1.282 and 1.960 deviations of a normal distribution; the first is zero in a constant series
    fifth, twentieth = np.quantile(np.abs(off), (0.8, 0.95))
    limit = 3 * float(fifth / 1.282 if fifth > 0 else twentieth / 1.960)
    clipped: Floats = middle + np.clip(off, -limit, limit)
    return clipped


def measure_noise(z: Floats) -> Noise:
    """The noise for sides of 0, 1, 2, … blocks, measured on as wide batches as there are."""
    sides = z.size // 2 + 1
    variance, df = np.zeros(sides + 1), np.zeros(sides + 1)
    start, size, largest = 0, 1, _LEAST_NOISE**2
    while True:
        largest = max(largest, size * _half_variance(z, size, 1))
        variance[start:], df[start:] = largest, (1 - _LARGEST_TRIMMED) * z.size / size
        start = size + 1
        if z.size // (2 * size) < _FEWEST_BATCHES:
            break
        size *= 2
    wider = np.arange(start, sides + 1) / size
    variance[start:] *= np.minimum(_growth(z, size), wider**2)  # a random walk grows so
    return Noise(np.sqrt(variance), np.maximum(df, 3.0))


def _growth(z: Floats, size: int) -> float:
    """How many times the long-run variance of an AR(1) process exceeds what batches show.

    Differences of batches one and two apart vary as 1 − ρ and 1 − ρ²; so their ratio gives ρ.
    With few batches that is not well known, and the upper end counts.
    """
    one, two = _half_variance(z, size, 1), _half_variance(z, size, 2)
    if one <= 0:
        return 1.0
    rho = max(0.0, two / one - 1) + 2.0 / math.sqrt(z.size * size)
    rho = min(_STRONGEST_CORRELATION**size, rho)
    return (1 + rho) / (1 - rho) ** 2


def _half_variance(z: Floats, size: int, lag: int) -> float:
    """Half the variance of differences of means over `size` blocks, `lag` such means apart."""
    sums = np.concatenate(([0.0], np.cumsum(z)))
    means = (sums[size:] - sums[:-size]) / size
    apart = size * lag
    if means.size <= apart:
        return 0.0
    differences = means[apart:] - means[:-apart]
    squares = np.sort((differences - np.median(differences)) ** 2)
    dropped = min(int(_LARGEST_TRIMMED * squares.size), _CHANGES_ALLOWED * 2 * apart)
    kept = squares[: squares.size - dropped]
    return float(kept.mean()) / _trimmed_variance(kept.size / squares.size) / 2


def _trimmed_variance(kept: float) -> float:
    """Variance of the `kept` share of a standard normal that lies nearest to its middle."""
    if kept >= 1:
        return 1.0
    edge = _NORMAL.inv_cdf((1 + kept) / 2)
    return 1 - 2 * edge * _NORMAL.pdf(edge) / kept
