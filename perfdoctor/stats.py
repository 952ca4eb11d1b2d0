"""Percentiles, distribution-free intervals, warm-up and trend. All series are in seconds."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Iterable

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.report import Interval, Stat

CONFIDENCE = 0.95
#: Above this many samples the binomial distribution is taken as normal.
_EXACT_BINOMIAL_LIMIT = 5_000
#: Half of a run cannot be warm-up; MSER is only defined on the first half (White 1997).
_WARMUP_LIMIT = 0.5
_WARMUP_BATCH = 5
#: As many as an interval of a median takes.
_FEWEST_PARTS = 6


def describe(values: Floats) -> Stat | None:
    """The series in numbers; None if it has no finite element."""
    finite = np.isfinite(values)
    x = values if finite.all() else values[finite]
    if x.size == 0:
        return None
    ordered = np.sort(x)
    p50, p95, p99 = (_percentile(ordered, q) for q in (0.5, 0.95, 0.99))
    n_eff = effective_size(x, p50)
    intervals = [_ordered_interval(ordered, q, n_eff) for q in (0.5, 0.95, 0.99)]
    return Stat(
        count=int(x.size),
        total_s=float(x.sum()),
        mean_s=float(x.mean()),
        std_s=float(x.std(ddof=1)) if x.size > 1 else 0.0,
        min_s=float(ordered[0]),
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        max_s=float(ordered[-1]),
        p50_ci=intervals[0],
        p95_ci=intervals[1],
        p99_ci=intervals[2],
    )


def _percentile(ordered: Floats, q: float) -> float:
    """Between the two nearest elements, as numpy's default; it would sort them once more."""
    place = q * (ordered.size - 1)
    low = int(place)
    below, above = float(ordered[low]), float(ordered[min(low + 1, ordered.size - 1)])
    return min(above, below + (above - below) * (place - low))


def quantile_interval(
    values: Floats, q: float, *, confidence: float = CONFIDENCE, n_eff: float | None = None
) -> Interval | None:
    """Distribution-free interval of the `q` quantile from order statistics.

    The number of samples below a quantile is binomial, so two order statistics enclose it with
    at least the wanted confidence (David & Nagaraja, Order Statistics, section 7.1). With
    `n_eff` below the number of values (correlated samples) the ranks are those of that many
    independent ones. None where no pair of ranks reaches the confidence: 6 samples for a median,
    72 for a p95, 368 for a p99 at 95 %.
    """
    return _ordered_interval(np.sort(values), q, n_eff, confidence)


def _ordered_interval(
    ordered: Floats, q: float, n_eff: float | None, confidence: float = CONFIDENCE
) -> Interval | None:
    n = ordered.size
    effective = int(min(n, n_eff if n_eff is not None else n))
    ranks = _interval_ranks(effective, q, (1 - confidence) / 2)
    if ranks is None:
        return None
    low = max(0, math.floor((ranks[0] - 1) * n / effective))
    high = min(n - 1, math.ceil(ranks[1] * n / effective) - 1)
    return float(ordered[low]), float(ordered[high])


@functools.lru_cache(maxsize=256)
def _interval_ranks(n: int, q: float, tail: float) -> tuple[int, int] | None:
    """1-based ranks (low, high) with P(below low) and P(above high) at most `tail` each."""
    if n < 1:
        return None
    cdf = _normal_cdf(n, q) if n > _EXACT_BINOMIAL_LIMIT else _binomial_cdf(n, q).__getitem__
    counts = range(n + 1)
    low = bisect.bisect_right(counts, tail, key=cdf)  # P(B <= low - 1) <= tail
    high = bisect.bisect_left(counts, 1 - tail, key=cdf) + 1  # P(B <= high - 1) >= 1 - tail
    return (low, high) if low >= 1 and high <= n else None


def _normal_cdf(n: int, q: float) -> Callable[[int], float]:
    spread = math.sqrt(2 * n * q * (1 - q))
    return lambda k: 0.5 * (1 + math.erf((k + 0.5 - n * q) / spread))


def _binomial_cdf(n: int, q: float) -> Floats:
    k = np.arange(n + 1, dtype=np.float64)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(k[1:]))))
    log_choose = log_factorial[-1] - log_factorial - log_factorial[::-1]
    cdf: Floats = np.cumsum(np.exp(log_choose + k * math.log(q) + (n - k) * math.log1p(-q)))
    return cdf


def ratio_of_sums_interval(
    work: Floats, time: Floats, parts: int, *, confidence: float = CONFIDENCE
) -> Interval | None:
    """Interval of `work.sum() / time.sum()`, around it; None for fewer than six elements.

    Jackknife over up to `parts` equal parts of the series, on a logarithmic scale (Efron & Gong,
    A leisurely look at the bootstrap, the jackknife, and cross-validation, 1983), with Student's
    t for the number of parts. Neighbouring elements are correlated, parts much less.
    """
    n = min(parts, work.size)
    if n < _FEWEST_PARTS:
        return None
    cuts = np.linspace(0, work.size, n + 1).astype(np.int64)[:-1]
    done, spent = np.add.reduceat(work, cuts), np.add.reduceat(time, cuts)
    rate = float(done.sum() / spent.sum())
    without = np.log((done.sum() - done) / (spent.sum() - spent))
    error = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    factor = math.exp(student_t(n - 1, (1 + confidence) / 2) * error)
    return rate / factor, rate * factor


@functools.lru_cache(maxsize=256)
def student_t(freedom: int, level: float) -> float:
    """One-sided quantile of Student's t: P(T <= it) is `level`, 0.5 <= level < 1.

    By bisection of the distribution function, which is a finite sum for whole degrees of freedom
    (Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1.0
    while _student_cdf(high, freedom) < level:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_cdf(middle, freedom) < level else (low, middle)
    return high


def _student_cdf(t: float, freedom: int) -> float:
    angle = math.atan(t / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range((freedom - odd) // 2):
        total += term
        term *= square * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    within = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return (1 + within) / 2


def effective_size(values: Floats, median: float | None = None) -> float:
    """How many independent samples a correlated series is worth, for its median.

    n (1 − ρ) / (1 + ρ) with ρ the lag-one autocorrelation of "above the median" (the AR(1)
    formula; Wilks, Statistical Methods in the Atmospheric Sciences, section 5.2.4). Negative ρ
    counts as none, which errs on the wide side.
    """
    n = values.size
    if n < 3:
        return float(n)
    above = values > (np.median(values) if median is None else median)
    share = float(above.mean())
    power = n * share * (1 - share)
    if power == 0:
        return float(n)
    both = int(np.count_nonzero(above[1:] & above[:-1]))
    ends = int(above[0]) + int(above[-1])
    # the sum of (a − share)(b − share) over neighbours a, b that are 0 or 1
    together = both - share * (2 * n * share - ends) + (n - 1) * share**2
    rho = min(0.99, max(0.0, together / power))
    return n * (1 - rho) / (1 + rho)


def relative_half_width(interval: Interval | None, centre: float) -> float:
    """Half the interval's width as a share of `centre`; infinite where there is none."""
    if interval is None or centre <= 0:
        return math.inf
    return (interval[1] - interval[0]) / 2 / centre


def by_turns(values: Floats, length: int) -> Floats:
    """Means over each turn of `length` steps; a last, partial turn is left out."""
    whole = values.size // length
    turns: Floats = values[: whole * length].reshape(whole, length).mean(axis=1)
    return turns


def median_half_width(values: Floats, turn_lengths: Iterable[int] = ()) -> float:
    """Half the 95 % interval of the median as a share of it; infinite where there is none.

    W workers deliver in turns, so a loop that waits for them alternates between long and short
    steps, and the median of these lies in the gap. That is a pattern and not noise: the mean over
    one turn is steady. So the narrowest of the intervals over `turn_lengths` and over single
    steps counts.
    """
    widths = []
    for length in {1, *turn_lengths}:
        turns = by_turns(values, length)
        if turns.size:
            interval = quantile_interval(turns, 0.5, n_eff=effective_size(turns))
            widths.append(relative_half_width(interval, float(np.median(turns))))
    return min(widths, default=math.inf)


def warmup_length(values: Floats) -> int:
    """How many samples at the start belong to warming up.

    MSER-5 (White, An effective truncation heuristic for bias reduction in simulation output,
    1997): the cut that minimises the marginal standard error of what remains, over batches of
    five; batch medians in place of means, so that one stall does not decide. A cut is only made
    where the part cut off lies outside the spread of the rest, or stationary series would lose
    samples to chance; and where MSER would cut as much as it may, the series never settles,
    which is a trend and not a warm-up.
    """
    batches = values.size // _WARMUP_BATCH
    if batches < 4:
        return 0
    z = _middles_of_five(values[: batches * _WARMUP_BATCH])
    last = int(batches * _WARMUP_LIMIT)
    cut = int(np.argmin(_marginal_errors(z)[: last + 1]))
    if cut in (0, last) or _alike(float(np.median(z[:cut])), z[cut:]):
        return 0
    return cut * _WARMUP_BATCH


def _middles_of_five(values: Floats) -> Floats:
    """The median of every five; `np.median` of short rows takes ten times as long."""
    a, b, c, d, e = values.reshape(-1, _WARMUP_BATCH).T
    low = np.maximum(np.minimum(a, b), np.minimum(c, d))
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    # two of the five are no more than both of these, and two no less
    middles: Floats = np.maximum(np.minimum(low, high), np.minimum(np.maximum(low, high), e))
    return middles


def _marginal_errors(z: Floats) -> Floats:
    """Variance of z[d:] ÷ its size for every d at once, from sums taken from the end."""
    centred = (z - np.median(z))[::-1]
    size = np.arange(1, z.size + 1)
    means = np.cumsum(centred) / size
    squares = np.cumsum(centred**2) / size
    errors: Floats = (np.maximum(squares - means**2, 0.0) / size)[::-1]
    return errors


def _alike(value: float, others: Floats) -> bool:
    """Within three robust standard deviations (1.4826 × the median absolute deviation)."""
    centre = float(np.median(others))
    spread = 1.4826 * float(np.median(np.abs(others - centre)))
    return abs(value - centre) <= 3 * spread


def kendall_p(values: Floats) -> float:
    """Two-sided p of the Mann–Kendall test for a monotone trend (normal approximation)."""
    n = values.size
    if n < 4:
        return 1.0
    signs = np.sign(values[None, :] - values[:, None])
    s = float(np.triu(signs, 1).sum())
    sd = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    z = max(0.0, abs(s) - 1) / sd
    return math.erfc(z / math.sqrt(2))


def ratio_interval(log_ratios: Floats) -> tuple[float, Interval | None]:
    """Median ratio of interleaved pairs and its interval (None below six pairs)."""
    interval = quantile_interval(log_ratios, 0.5)
    ends = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
    return math.exp(float(np.median(log_ratios))), ends


def amdahl(share: float, factor: float) -> float:
    """Speed-up of the whole when a part of `share` gets `factor` times as fast (Amdahl 1967)."""
    return 1 / (1 - share + share / factor)
