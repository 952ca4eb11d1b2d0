"""Labelled lines: the header's facts and the numbers below the stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from perfdoctor.render import setting_words, words
from perfdoctor.render.text import (
    bytes_,
    change,
    clean,
    clean_block,
    count_per_s,
    quantity,
    seconds,
    share,
)
from perfdoctor.report import Interval, Loader, MemoryUse, Report, Stat, Throughput, Trend

#: Counters of what is not there on every machine or in every training.
_MAY_BE_NONE = frozenset(
    ("cpu_workers", "cpu_foreign", "cpu_throttled", "disk_read_bytes_per_s", "swap_bytes")
)
#: Growth over all steps is told from this part of the peak on: with less nothing comes of it (our
#: own choice).
_GROWTH_TOLD = 0.02
#: A label and its line; a line of None is left out.
Fact = tuple[str, str | None]


def heading(title: str) -> RenderableType:
    """The line above a section."""
    return Padding(Rule(Text(title, "bold"), align="left", style="cyan"), (1, 0, 0, 0))


def fact_grid(facts: Iterable[Fact], label_style: str = "cyan") -> Table:
    """Labels on the left, lines on the right, wrapped within their column."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, line in facts:
        if line is not None:
            grid.add_row(Text(label, label_style), Text(line))
    return grid


def code(text: str, indent: int, language: str = "python") -> Text:
    """To be copied: a line longer than the terminal is wide is left to the terminal to wrap."""
    plain = clean_block(text)
    lines = Syntax(plain, language, theme="ansi_dark", background_color="default").highlight(plain)
    indented = [Text(" " * indent).append_text(line) for line in lines.split()]
    return Text("\n", no_wrap=True, overflow="ignore").join(indented)


def surroundings(report: Report) -> list[Fact]:
    """What the training ran on, and with which settings."""
    environment = report.environment
    return [
        ("device", words.device(environment)),
        ("machine", words.machine(environment)),
        ("software", words.software(environment)),
        ("settings", setting_words.configuration(report.configuration) or None),
    ]


def noted(report: Report) -> list[Fact]:
    """The report's notes: only the first carries the label."""
    return [("note" if not i else "", clean(note)) for i, note in enumerate(report.notes)]


def numbers(report: Report) -> Iterator[Fact]:
    """The rates, capacities and limits that were measured."""
    if report.throughput is not None:
        yield "throughput", rates(report.throughput)
        yield "trend", _trend(report.throughput.trend)
    if report.loader is not None:
        yield "loader", _loader(report.loader)
    if report.inference is not None:
        yield "inference", f"one sample takes {_percentiles(report.inference)}"
    yield "memory", memory_line(report)
    yield "utilisation", utilisation(report)
    for index, limit in enumerate(report.limits.values()):
        yield "" if index else "limits", words.limit(limit)


def rates(throughput: Throughput, each: str = "record") -> str | None:
    """The rates that are known, in their units."""
    parts = []
    if throughput.samples_per_s is not None:
        interval = _interval(throughput.samples_per_s_ci)
        parts.append(count_per_s(throughput.samples_per_s) + interval)
    if throughput.steps_per_s is not None:
        parts.append(count_per_s(throughput.steps_per_s, "steps"))
    if throughput.tokens_per_s is not None:
        parts.append(count_per_s(throughput.tokens_per_s, "tokens"))
    medians = _medians(throughput, each)
    return " · ".join([*parts, *medians]) or None


def _medians(throughput: Throughput, each: str) -> Iterator[str]:
    """The median record (or step), which stalls do not move."""
    if throughput.median_samples_per_s is not None:
        yield f"median {each} {count_per_s(throughput.median_samples_per_s)}"
    if throughput.median_tokens_per_s is not None:
        yield f"median {each} {count_per_s(throughput.median_tokens_per_s, 'tokens')}"


def utilisation(report: Report) -> str | None:
    """The means of the hardware counters; of what need not be there, those that counted any."""
    told = {n: use for n, use in report.utilisation.items() if use.mean or n not in _MAY_BE_NONE}
    used = [words.usage(name, value) for name, value in told.items()]
    return f"{' · '.join(used)} (mean)" if used else None


def _interval(ends: Interval | None) -> str:
    if ends is None:
        return ""
    low, high = (count_per_s(end).removesuffix(" samples/s") for end in ends)
    return f" (95 % interval {low}–{high})"


def _trend(trend: Trend | None) -> str | None:
    """None for a steady run: nothing to say."""
    if trend is None or trend.shape == "steady":
        return None
    ends = f"{quantity(trend.first, trend.unit)} at the start, "
    ends += f"{quantity(trend.last, trend.unit)} at the end"
    return f"{ends} ({change(trend.change)}, {clean(trend.shape)})"


def _loader(loader: Loader) -> str:
    one = f"a batch takes one worker {seconds(loader.batch.p50_s)} (p50)"
    if loader.capacity_samples_per_s is None:
        return one
    return f"{count_per_s(loader.capacity_samples_per_s)} with nothing else running; {one}"


def _percentiles(stat: Stat) -> str:
    named = (("p50", stat.p50_s), ("p95", stat.p95_s), ("p99", stat.p99_s))
    return " · ".join(f"{name} {seconds(value)}" for name, value in named)


def memory_line(report: Report) -> str | None:
    """Peaks, and growth where there is some."""
    memory = report.memory
    parts = []
    if memory.peak_bytes is not None:
        parts.append(f"peak {bytes_(memory.peak_bytes)}{_of_total(memory)}")
    if memory.inference_peak_bytes is not None:
        parts.append(f"inference {bytes_(memory.inference_peak_bytes)}")
    if memory.workers_peak_bytes is not None:
        parts.append(f"workers {bytes_(memory.workers_peak_bytes)}")
    if _grows(report):
        parts.append(f"grows by {bytes_(memory.trend_bytes_per_step)} a step")
    return " · ".join(parts) or None


def _grows(report: Report) -> bool:
    """Whether it comes to something over the steps that were seen."""
    step_bytes, peak_bytes = report.memory.trend_bytes_per_step, report.memory.peak_bytes
    if step_bytes is None or step_bytes <= 0 or report.steps is None:
        return False
    return step_bytes * report.steps.count >= _GROWTH_TOLD * (peak_bytes or 0)


def _of_total(memory: MemoryUse) -> str:
    if memory.peak_share is None or memory.total_bytes is None:
        return ""
    return f" ({share(memory.peak_share)} of {bytes_(memory.total_bytes)})"
