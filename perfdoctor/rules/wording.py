"""Numbers as words, and code to paste, for findings and verdicts."""

from __future__ import annotations

from typing import Any

from perfdoctor.rules.facts import Facts, Missing

#: Loader settings that a snippet repeats if the user has them, in the order of torch's signature.
_LOADER_KEYS = ("batch_size", "num_workers", "pin_memory", "prefetch_factor", "persistent_workers")

#: torch's own values where they need not be written.
_DEFAULTS = {"prefetch_factor": 2}


def seconds(value_s: float) -> str:
    """Two or three digits: "83 ms", "1.5 s", "40 µs"."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if value_s * factor >= 1:
            return f"{_digits(value_s * factor)} {unit}"
    return f"{_digits(value_s * 1e6)} µs"


def duration(value_s: float) -> str:
    """Of a whole run: "45 s", "12 min", "5 h 10 min"."""
    if value_s < 60:
        return seconds(value_s) if value_s > 0 else "0 s"
    hours, minutes = divmod(round(value_s / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{grouped(hours)} h {minutes} min" if minutes else f"{grouped(hours)} h"


def grouped(value: float) -> str:
    """A whole number with commas between thousands, as everywhere on the screen: "4,100"."""
    return f"{value:,.0f}"


def rate(value: float, unit: str) -> str:
    """A rate in its unit: "2052 samples/s", "0.125 steps/s", "19,670 samples/s"."""
    return f"{rate_number(value)} {unit}"


def rate_number(value: float) -> str:
    """The same without its unit."""
    if abs(value) >= 10_000:
        return grouped(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    """Such as "62 %"; one decimal below 10 %, and "<0.1 %" for what is left of that."""
    value = share * 100
    if 0 < abs(value) < 0.1:
        return "<0.1 %"
    return f"{value:.0f} %" if abs(value) >= 9.95 or value == 0 else f"{value:.1f} %"


def size(value_bytes: float) -> str:
    """Such as "1.5 GiB" and "300 MiB"."""
    gib = value_bytes / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{value_bytes / 2**20:.0f} MiB"


def count(number: int, noun: str) -> str:
    """Such as "1 worker" and "2 workers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def stage_words(stage: str) -> str:
    """From "data_loading" to "data loading"."""
    return stage.replace("_", " ")


def listed(words: list[str]) -> str:
    """Such as "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def loader_snippet(facts: Facts, **changes: Any) -> str:
    """The user's DataLoader call with `changes` made."""
    settings = {}
    for key in _LOADER_KEYS:
        path = f"configuration.{key}"
        value = changes.get(key, facts.get(path) if facts.has(path) else None)
        if key in changes or value not in (None, False, _DEFAULTS.get(key)):
            settings[key] = value
    if not settings.get("num_workers"):
        settings = {k: v for k, v in settings.items() if k in ("batch_size", "pin_memory")}
    lines = "".join(f"    {key}={value!r},\n" for key, value in settings.items())
    return f"loader = DataLoader(\n    dataset,\n{lines})  # and your other arguments"


def on_cuda(facts: Facts) -> bool:
    """Whether the training runs on a CUDA device. Raises `Missing`.

    A log that names no device but a GPU, or was joined with samples of one, is of a GPU run.
    """
    for path in ("environment.device", "configuration.device"):
        if isinstance(device := facts.get(path) if facts.has(path) else None, str):
            return device.lower().startswith(("cuda", "gpu"))
    if facts.has("environment.gpu.0") or facts.has("utilisation.gpu.mean"):
        return True
    raise Missing("environment.device")


def _digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
