"""Numbers as words, and code to paste, for findings and verdicts."""

from __future__ import annotations

from typing import Any

from perfdoctor.rules.facts import Facts

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


def percent(share: float) -> str:
    """Such as "62 %"; one decimal below 10 %."""
    value = share * 100
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
    """Whether the training runs on a CUDA device. Raises `Missing`."""
    return facts.text("environment.device").startswith("cuda")


def _digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
