"""Sentences about two sides: what a quantity did, and what else differs."""

from __future__ import annotations

import math
from typing import Any

from perfdoctor.compare.differences import IN_WORKER, Difference
from perfdoctor.compare.shifts import Shift, Sides
from perfdoctor.render import setting_words
from perfdoctor.render.text import clean, counted, number, quantity, share
from perfdoctor.report import Interval

#: A larger ratio says no more than that nothing is known.
_MOST = 1_000
_NAMES = {
    "device": "device",
    "cpu": "CPU",
    "gpu": "GPU",
    "cores_usable": "usable cores",
    "memory_bytes": "host memory",
    "cgroup": "limits of the container",
    "host": "host",
    "python": "Python",
    "torch": "PyTorch",
    "cuda": "CUDA",
    "platform": "operating system",
    "git": "commit",
    "num_workers": "loader workers",
    "optimizer_foreach": "optimizer foreach",
    "optimizer_fused": "fused optimizer",
}
_KINDS = {
    "configuration": "in the effective configuration",
    "machine": "another machine",
    "software": "other software",
    "code": "other code",
}
_DIRECTIONS = {"same": "same within {margin}", "unclear": "cannot tell"}


def name(shift: Shift) -> str:
    """A quantity: "step p50", "data_loading p50", "peak memory", "samples/s"."""
    called = {"throughput": shift.unit, "memory": "peak memory", "run": "whole run"}
    if shift.name in called:
        return called[shift.name]
    return f"{clean(shift.name)} {shift.statistic}"


def value(shift: Shift, amount: float | None) -> str | None:
    """It with its unit; a rate without, since its name tells."""
    if amount is None:
        return None
    return number(amount) if shift.unit.endswith("/s") else quantity(amount, shift.unit)


def relative_change(ratio: float) -> str:
    """A ratio as a change: "+5.1 %", "−4.0 %", "+120 %"; three digits from fourfold on: "4.2×"."""
    if not math.isfinite(ratio):
        return "not measured"
    if ratio > _MOST:
        return f">{_MOST:,}×"
    if ratio >= 4:
        return f"{number(ratio)}×"
    percent = (ratio - 1) * 100
    digits = 0 if abs(percent) >= 99.95 else 1
    return f"{percent:+.{digits}f} %".replace("-0.0 %", "+0.0 %")


def interval(ends: Interval | None) -> str:
    """Both ends of the interval of a ratio: "+1.2 … +7.9 %"."""
    if ends is None:
        return ""
    low, high = (relative_change(end) for end in ends)
    if low.endswith(" %") and high.endswith(" %"):
        low = low.removesuffix(" %")
    return f"{low} … {high}"


def direction(shift: Shift, margin: float) -> str:
    """What it did: "slower", "same within 5 %", "cannot tell"."""
    if shift.direction is None:
        only = "after" if shift.before is None else "before"
        return f"only {only}"
    text = _DIRECTIONS.get(shift.direction, shift.direction)
    return text.format(margin=f"{100 * margin:g} %")


def difference(found: Difference) -> str:
    """One line: "loader workers 4 → 0 in the effective configuration"."""
    match found.kind:
        case "verdict" | "bottleneck":
            return f"{found.kind} {_value(found, found.before)} → {_value(found, found.after)}"
        case "hot_line":
            return _hot_line(found)
        case "advice":
            new = found.before is None
            told = f"{clean(found.name)}: {clean(found.after if new else found.before)}"
            return f"new fault {told}" if new else f"no longer: {told}"
    called = _NAMES.get(found.name) or setting_words.setting_name(found.name)
    sides = f"{_value(found, found.before)} → {_value(found, found.after)}"
    return f"{called} {sides} {_suffix(found)}".rstrip()


def _suffix(found: Difference) -> str:
    told = _KINDS.get(found.kind, "")
    return told if found.kind == "configuration" else f"({told})" if told else ""


def _hot_line(found: Difference) -> str:
    line = clean(found.name)
    whole = "the workers' time" if found.name.endswith(IN_WORKER) else "the run"
    stage = f" in {clean(found.stage)}" if found.stage else ""
    if found.before is None:
        return f"hot line appeared: {line}{stage}, {share(found.after)} of {whole}"
    if found.after is None:
        return f"hot line went away: {line}{stage}, it was {share(found.before)} of {whole}"
    return f"hot line {line}{stage}: {share(found.before)} → {share(found.after)} of {whole}"


def _value(found: Difference, side: Any) -> str:
    if isinstance(side, tuple):
        return " or ".join(_value(found, one) for one in side)
    if side is None:
        return "none"
    if isinstance(side, bool):
        return "on" if side else "off"
    if found.name.endswith("_bytes"):
        return quantity(side, "bytes")
    if isinstance(side, int | float):
        return number(side)
    return setting_words.option(side)


def basis(sides: Sides) -> list[str]:
    """What the intervals rest on, in sentences; none where there is no interval."""
    if all(shift.ratio is None for shift in sides.shifts):
        return []
    count = f"{counted(len(sides.before.reports), 'run')} before, {len(sides.after.reports)} after"
    level = share(sides.confidence)
    drift = (
        "for what two runs of the same code differ by on a machine as busy as this was"
        if sides.busy
        else "for a drift of 9.5 %, as one machine showed within an hour"
    )
    if not sides.between_runs:
        return [
            f"{count}: how much runs of the same code differ here is not known. The {level} "
            f"intervals allow {drift}; a smaller change cannot be told. More runs a side, taking "
            "turns, tell more; `perfdoctor check` measures like that."
        ]
    if not sides.took_turns:
        return [
            f"{count}. They did not take turns, so that the {level} intervals also allow {drift}; "
            "`perfdoctor check` measures in turns."
        ]
    return [f"{count}, which took turns; {level} intervals from the spread between runs."]


def summary(sides: Sides) -> str:
    """The whole in one line."""
    step = main_shift(sides)
    if step is None or step.ratio is None or step.direction is None:
        return "The two sides have no time in common that could be compared."
    told = f"{name(step)} {value(step, step.before)} → {value(step, step.after)}"
    ends = f" ({relative_change(step.ratio)}; {interval(step.ratio_ci)})"
    outcome = direction(step, sides.margin)
    return f"{outcome[0].upper()}{outcome[1:]}: {told}{ends}"


def main_shift(sides: Sides) -> Shift | None:
    """What the total is judged by: throughput where the batch changed, else the step or epoch."""
    batch = any(d.name == "batch_size" for d in sides.differences)
    order = ("throughput", "step", "epoch", "run")
    if not batch:
        order = ("step", "throughput", "epoch", "run")
    known = [s for s in sides.shifts if s.ratio is not None]
    return next((s for n in order for s in known if s.name == n), None)
