"""Panels with the training steps on them: throughput over the run, and how long steps take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.render.axes import BLUE, GREEN, PURPLE, SKY, VERMILLION, say
from perfdoctor.render.series import column
from perfdoctor.render.text import count_per_s, seconds
from perfdoctor.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WINDOWS, _LEAST_WINDOW = 40, 5
_BINS = 40
#: A p99 so many times the median is drawn on a logarithmic axis.
_LONG_TAIL = 8.0


def draw_throughput(ax: Axes, report: Report) -> None:
    """Samples per second over the run, in windows, with the spread of single steps."""
    rate = report.throughput.samples_per_s if report.throughput is not None else None
    ax.set_title(f"Throughput: {count_per_s(rate)}")
    step_s, samples = column(report, "step_s"), column(report, "samples")
    steps = report.steps
    if steps is None or step_s.size == 0 or step_s.size != samples.size:
        say(ax, "single steps are not in this report")
        return
    stride = max(1, -(-steps.count // step_s.size))  # long series are thinned evenly
    step = steps.warmup_discarded + 1 + stride * np.arange(step_s.size, dtype=np.float64)
    kept = np.isfinite(step_s) & np.isfinite(samples) & (step_s > 0)
    window = max(_LEAST_WINDOW, -(-int(kept.sum()) // _WINDOWS))
    if kept.sum() < 4 * window:
        rates = samples[kept] / step_s[kept]
        ax.plot(step[kept], rates, "o-", color=BLUE, markersize=4, label="single steps")
    else:
        _windows(ax, step[kept], samples[kept], step_s[kept], window)
        ax.lines[-1].set_label(f"mean over {window * stride:,} steps")
    if kept.sum() == 1:
        ax.set_xlim(step[kept][0] - 1, step[kept][0] + 1)
    ax.set_ylim(0, 1.2 * ax.dataLim.y1)  # room for the legend
    ax.legend(loc="upper right", ncols=2, borderaxespad=0.1, columnspacing=1.2, handlelength=1.6)
    ax.grid(axis="y")
    ax.locator_params(axis="x", nbins=6, integer=True)
    ax.set_xlabel("training step")
    ax.set_ylabel("samples per second")


def _windows(ax: Axes, step: Floats, samples: Floats, step_s: Floats, window: int) -> None:
    cuts = np.arange(window, step.size - window // 2, window)
    centres = [float(part.mean()) for part in np.split(step, cuts)]
    parts = list(zip(np.split(samples, cuts), np.split(step_s, cuts), strict=True))
    low, high = np.array([np.percentile(n / t, (5, 95)) for n, t in parts]).T
    ax.fill_between(centres, low, high, color=SKY, alpha=0.4, lw=0, label="steps, p5–p95")
    ax.plot(centres, [float(n.sum() / t.sum()) for n, t in parts], color=BLUE, lw=1.8)


def draw_step_times(ax: Axes, report: Report) -> None:
    """How often a step took how long; the tail is counted where it is not drawn."""
    ax.set_title("Step times")
    step_s = column(report, "step_s")
    step_s = step_s[np.isfinite(step_s) & (step_s > 0)]
    if report.steps is None or step_s.size == 0:
        say(ax, "single steps are not in this report")
        return
    time = report.steps.time
    if time.p99_s > _LONG_TAIL * time.p50_s:
        scale = _log_histogram(ax, step_s)
    else:
        scale = _histogram(ax, step_s, time.p99_s)
    ax.set_ylabel("steps")
    ax.locator_params(axis="y", nbins=5, integer=True)
    ax.grid(axis="y")
    ax.set_ylim(top=1.45 * ax.get_ylim()[1])  # room for the percentiles' names
    named = {"p50": time.p50_s, "p95": time.p95_s, "p99": time.p99_s}
    for row, (name, value_s) in enumerate(named.items()):
        _percentile(ax, row, f"{name} {seconds(value_s)}", value_s / scale)


def _log_histogram(ax: Axes, step_s: Floats) -> float:
    low, high = float(step_s.min()) * 0.95, float(step_s.max()) * 1.05
    ax.set_xscale("log")
    ax.hist(step_s, bins=np.geomspace(low, high, _BINS + 1).tolist(), color=SKY, ec="white", lw=0.4)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    factors = (1, 2, 5) if high / low < 100 else (1, 3) if high / low < 1000 else (1,)
    ticks = [t for d in decades for f in factors if low <= (t := f * 10.0**d) <= high]
    ax.set_xticks(ticks, [seconds(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("step time, logarithmic")
    return 1.0


def _histogram(ax: Axes, step_s: Floats, p99_s: float) -> float:
    """Linear, up to a little beyond the p99. Returns the unit that it is drawn in, in seconds."""
    middle = float(np.median(step_s))
    low = min(float(step_s.min()), 0.98 * middle)
    high = max(min(float(step_s.max()), 1.4 * p99_s), 1.05 * p99_s, 1.02 * middle)
    scale, unit = next(
        ((s, u) for s, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if high >= s), (1e-9, "ns")
    )
    beyond = int((step_s > high).sum())
    ax.hist(step_s / scale, _BINS, range=(low / scale, high / scale), color=SKY, ec="white", lw=0.4)
    ax.ticklabel_format(style="plain", useOffset=False)
    ax.locator_params(axis="x", nbins=6)
    tail = f"; {beyond} beyond, the longest {seconds(float(step_s.max()))}" if beyond else ""
    ax.set_xlabel(f"step time in {unit}{tail}")
    return scale


def _percentile(ax: Axes, row: int, text: str, x: float) -> None:
    """A line as high as its name; every name has a row of its own, so that none overlap."""
    height = 0.96 - 0.095 * row
    looks = (("-", VERMILLION), ("--", PURPLE), (":", GREEN))[row]
    ax.axvline(x, ymax=height, ls=looks[0], color=looks[1], lw=1.5)
    to_axes = ax.transData + ax.transAxes.inverted()
    right_half = to_axes.transform((x, 0.0))[0] > 0.6
    ax.annotate(
        text, (x, height), xycoords=("data", "axes fraction"), va="center", fontsize=8.5,
        xytext=(-5 if right_half else 5, 0), textcoords="offset points",
        ha="right" if right_half else "left", color="#333333",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
    )  # fmt: skip
