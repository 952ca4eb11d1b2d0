"""Sentences about what a log tells: when it ran, its trend, stalls, epochs and its end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from perfdoctor.record import Hotspot, LogFile, UnreadLine
from perfdoctor.render import words
from perfdoctor.render.text import (
    clean,
    counted,
    in_unit,
    known,
    number,
    seconds,
    seconds_interval,
    share,
    shorten,
)
from perfdoctor.report import (
    Economics,
    Epochs,
    Forecast,
    Report,
    Stalls,
    Stat,
    Wall,
)

LOG_KINDS = {"log", "trace"}
#: What a log calls nothing of its own, as people call it.
_PARTS = {
    "train": "training",
    "start_up": "start-up",
    "other": "rest of the step",
    "data_loading": "waiting for data",
    "h2d_copy": "copies to the device",
    "arch_step": "architecture step",
    "checkpoint": "checkpoints",
    "shut_down": "after the last step",
}
#: Parts of a run that are no stages of a step.
_NO_STAGES = ("start_up", "shut_down")
#: Parts of a training that are worth knowing of; a log that times none of one is told to.
_WORTH_KNOWING = ("data_loading", "validation", "checkpoint")
_REASON_LENGTH, _PATH_LENGTH, _UNREAD_LENGTH = 110, 60, 90
_FULL_PATH_LENGTH = 240


def from_log(report: Report) -> bool:
    """Whether the report is of a log or trace, not of something measured here."""
    return report.source.kind in LOG_KINDS


def benchmarked(report: Report) -> bool:
    """Whether perfdoctor ran the training itself, and each stage alone."""
    return report.source.kind == "bench"


def timed(report: Report) -> bool:
    """Whether anything in the log tells the time."""
    wall = report.wall is not None and report.wall.total_s > 0
    epochs = report.epochs is not None and report.epochs.time is not None
    rates = report.throughput is not None and any(
        known(rate)
        for rate in (
            report.throughput.samples_per_s,
            report.throughput.steps_per_s,
            report.throughput.tokens_per_s,
        )
    )
    return wall or epochs or rates or report.steps is not None


def part(name: str) -> str:
    """A part of the wall clock or of a step, as it is shown."""
    return _PARTS.get(name) or path(name)


def stage(report: Report, name: str) -> str:
    """A stage as it is shown: what is left over is only in a log the rest of the step."""
    return part(name) if from_log(report) or name in _NO_STAGES else clean(name)


def file(log: LogFile) -> str:
    """What was read of a file, and why as that format."""
    reason = shorten(clean(log.reason), _REASON_LENGTH)
    because = f" ({reason})" if reason else ""
    records = counted(log.records, "record") if log.records else "no record of training"
    full = shorten(clean(log.path), _FULL_PATH_LENGTH)
    return f"{full}: {path(log.format)}{because} · {records} in {counted(log.lines, 'line')}"


def path(name: str) -> str:
    """A path, or another name from a log: its middle left out where it is long."""
    return shorten(clean(name), _PATH_LENGTH)


def place(report: Report, where: str) -> str:
    """FILE or FILE:LINE without the folder, which stands above, where that says which file."""
    names = {log.path: _base(log.path) for log in report.logs}
    for full, base in names.items():
        rest = where[len(full) :]
        if where.startswith(full) and rest[:1] in ("", ":"):
            unique = list(names.values()).count(base) == 1
            return f"{path(base if unique else full)}{clean(rest)}"
    return path(where)


def _base(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] or name


def unread_line(report: Report, found: UnreadLine) -> str:
    """A line that could not be read: where it is and how it begins."""
    shown = clean(found.text).strip()
    cut = f"{shown[:_UNREAD_LENGTH]}…" if len(shown) > _UNREAD_LENGTH else shown
    return f"{place(report, found.path)}:{found.line}: {cut}"


def ran(wall: Wall | None) -> str | None:
    """From when to when, and for how long."""
    if wall is None or not known(wall.total_s) or wall.total_s <= 0:
        return None
    took = seconds(wall.total_s)
    if wall.started_at is None:
        return f"for {took}; the log has no dates"
    try:
        began = datetime.fromisoformat(wall.started_at.replace("Z", "+00:00"))
        ended = began + timedelta(seconds=wall.total_s)
    except (ValueError, OverflowError):
        return f"from {shorten(clean(wall.started_at), _PATH_LENGTH)}, for {took}"
    return f"{began:%Y-%m-%d %H:%M:%S} to {ended:%Y-%m-%d %H:%M:%S} ({took})"


def untimed_parts(report: Report) -> list[str]:
    """The parts worth knowing of which the log says nothing."""
    seen = {part.name for part in report.wall.parts} if report.wall is not None else set()
    seen |= set(report.stages)
    if report.epochs is not None and report.epochs.validation is not None:
        seen.add("validation")
    return [part(name) for name in _WORTH_KNOWING if name not in seen]


def percentiles(stat: Stat) -> str:
    """p50, p95 and p99, each with its interval where there is one."""
    named = (
        ("p50", stat.p50_s, stat.p50_ci),
        ("p95", stat.p95_s, stat.p95_ci),
        ("p99", stat.p99_s, stat.p99_ci),
    )
    shown = [
        f"{name} {seconds(value)}" + (f" ({seconds_interval(ends)})" if ends else "")
        for name, value, ends in named
    ]
    note = "; in brackets: 95 % intervals" if any(ends for *_, ends in named) else ""
    return " · ".join(shown) + note


def stalls(found: Stalls) -> str:
    """How often, how long, and what they cost."""
    each = seconds(found.excess_s)
    cost = f"{counted(found.count, 'slow step')}, {share(found.share)} of the time of all steps"
    if found.at_epoch_start:
        return f"at the start of an epoch, {each}: {cost}"
    if found.period_steps is not None:
        return f"every {counted(found.period_steps, 'step')}, {each}: {cost}"
    return f"now and then, {each} more than a usual step: {cost}"


def epochs(found: Epochs) -> Iterator[str]:
    """How many, how long, and how much of each is validation."""
    parts = [f"{found.count:,} seen"]
    if found.steps_per_epoch is not None:
        parts.append(f"{counted(found.steps_per_epoch, 'step')} each")
    if found.time is None:
        yield " · ".join([*parts, "the log does not tell how long they take"])
        return
    yield " · ".join([*parts, _each(found.time)])
    if found.validation is not None:
        each = f"validation takes {seconds(found.validation.p50_s)} each (p50)"
        yield f"{each}{_beside_epochs(found.validation, found.time, found.count)}"


def _beside_epochs(validation: Stat, time: Stat, count: int) -> str:
    """Its share of an epoch where each has one; not every epoch need be validated."""
    if validation.count != count:
        return f", {validation.count:,} times"
    return f", {share(validation.p50_s / time.p50_s)} of an epoch" if time.p50_s > 0 else ""


def _each(time: Stat) -> str:
    if time.count == 1:
        return f"it took {seconds(time.p50_s)}"
    return f"{seconds(time.p50_s)} each (p50), slowest {seconds(time.max_s)}"


def economics(found: Economics) -> Iterator[str]:
    """The best epoch, and what came after it."""
    yield best(found)
    after = []
    if found.after_best_share == 0:
        yield "no later epoch was better: more of them might be"
    elif found.after_best_share is not None:
        of_run = f"{share(found.after_best_share)} of the time of all epochs"
        took = f" ({seconds(found.after_best_s)})" if found.after_best_s is not None else ""
        after.append(f"{of_run}{took} came after it")
    if found.saved_s is not None and found.patience is not None and found.saved_s > 0:
        epochs = counted(found.patience, "epoch")
        after.append(
            f"early stopping with a patience of {epochs} would have saved {seconds(found.saved_s)}"
        )
    if after:
        yield "; ".join(after)
    if found.target_epoch is not None and found.target_epoch != found.best_epoch:
        yield f"within 0.1 % of the best from epoch {number(found.target_epoch)}"


def best(found: Economics) -> str:
    """The best value and its epoch: "val_acc1 76.13 in epoch 62"."""
    return f"{path(found.metric)} {found.best:.4g} in epoch {number(found.best_epoch)}"


def forecast(found: Forecast) -> str:
    """The time left, with its interval."""
    left = f"{counted(found.steps_left, clean(found.unit))} left: {seconds(found.left_s)}"
    interval = f"95 % interval {seconds_interval((found.low_s, found.high_s))}"
    alone = "; of training alone, without validation" if found.training_only else ""
    return f"{left} ({interval}{alone})"


def hotspot(found: Hotspot) -> str:
    """A place in the code and its share of the run: "31 % collate (data.py:12)"."""
    line = f":{found.line}" if found.line > 0 else ""
    place = f" ({path(found.file)}{line})" if found.file else ""
    return f"{share(found.share)} {path(found.function)}{place}"


def restarts(report: Report) -> str | None:
    """How often the training was started again."""
    count = len(report.restarts)
    return f"{counted(count, 'time')}: steps repeat in the log" if count else None


def measured(report: Report) -> str | None:
    """How many records, over which steps, tell the time."""
    if report.steps is None:
        return None
    count = f"{counted(report.steps.count, 'record')} with a step time"
    steps = [step for step in report.series.get("step", ()) if step is not None]
    over = f", steps {number(min(steps))} to {number(max(steps))}" if len(steps) > 1 else ""
    return f"{count}{over}; {words.precision(report.steps)}"


def now(report: Report) -> str:
    """How far a log that still grows has come, on one line."""
    steps = [step for step in report.series.get("step", ()) if step is not None]
    parts = [f"step {number(max(steps))}"] if steps else []
    if report.epochs is not None and report.epochs.count:
        parts.append(counted(report.epochs.count, "epoch"))
    parts += _speed(report)
    if report.forecast is not None:
        parts.append(forecast(report.forecast))
    if not timed(report):
        parts.append("no timing information yet")
    return f"{clean(report.name)}: {' · '.join(parts)}"


def _speed(report: Report) -> Iterator[str]:
    if report.steps is not None:
        yield f"a step takes {seconds(report.steps.time.p50_s)} (p50)"
    throughput = report.throughput
    if throughput is None:
        return
    if throughput.samples_per_s is not None:
        yield in_unit(throughput.samples_per_s, "samples/s")
    elif throughput.tokens_per_s is not None:
        yield in_unit(throughput.tokens_per_s, "tokens/s")
