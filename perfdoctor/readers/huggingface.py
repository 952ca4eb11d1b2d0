"""The totals that the Hugging Face Trainer leaves: all_results.json, train_results.json."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from perfdoctor.readers.cells import as_text, line_count
from perfdoctor.readers.documents import (
    as_object,
    is_finite,
    load,
    small_object,
)
from perfdoctor.readers.records import Reading

FRAMEWORK = "transformers"
RUNTIME = "train_runtime"
#: How the Trainer rounds rates and times (trainer_utils.speed_metrics).
_ROUNDED = 0.5e-3
#: Precise enough to stand alone: rounding moves it by 0.1 % at most.
_EXACT_RATE = 0.5
#: Below it rounding moves it by more than 5 %.
_TOO_ROUNDED = 0.01
_RESULTS = re.compile(r"(?:^|[/\\])(?:all|train|eval|test|predict)_results\.json$")
_RESULT_KEYS = ("train_runtime", "eval_runtime", "train_samples_per_second", "test_runtime")


def rates(result: Mapping[str, Any]) -> dict[str, float]:
    """A dict of results as facts: wall_s, samples_per_s, steps_per_s, validation_s and its own."""
    facts = {name: float(value) for name, value in result.items() if is_finite(value)}
    named = {
        "wall_s": RUNTIME,
        "samples_per_s": "train_samples_per_second",
        "steps_per_s": "train_steps_per_second",
        "tokens_per_s": "train_tokens_per_second",
        "validation_s": "eval_runtime",
        "epochs": "epoch",
    }
    facts |= {fact: facts[key] for fact, key in named.items() if facts.get(key, 0) > 0}
    return facts


def step_s(samples_per_s: float, steps_per_s: float) -> float | None:
    """Seconds of a step from both rates, which are rounded to a thousandth; None: too rounded.

    0.11 steps/s may be off by half a percent. Where one whole number of samples in a step fits
    both rates, it and the samples/s tell the time more exactly.
    """
    if steps_per_s < _EXACT_RATE and samples_per_s > steps_per_s:
        low = (samples_per_s - _ROUNDED) / (steps_per_s + _ROUNDED)
        high = (samples_per_s + _ROUNDED) / max(steps_per_s - _ROUNDED, 1e-9)
        if math.floor(high) - math.ceil(low) == 0:
            return math.floor(high) / samples_per_s
    return 1 / steps_per_s if steps_per_s >= _TOO_ROUNDED else None


class HfAllResults:
    """all_results.json, train_results.json and eval_results.json: totals, no records."""

    name = "hf_all_results_json"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1."""
        found = small_object(head)
        if found is None or "log_history" in found or "_runtime" in found:
            return 0.0
        if not any(key in found for key in _RESULT_KEYS):
            return 0.0
        return 0.98 if _RESULTS.search(name) else 0.9

    def read(self, path: str, data: str | bytes) -> Reading:
        """Facts under their own names and under perfdoctor's."""
        text = as_text(data)
        facts = rates(as_object(path, load(path, text)))
        steps, samples = facts.get("steps_per_s"), facts.get("samples_per_s")
        time_s = None if steps is None else step_s(samples or 0.0, steps)
        if time_s is not None:
            facts["step_s"] = time_s
        configuration = {}
        if facts.get("train_samples", 0) > 0:
            configuration["train_samples"] = int(facts["train_samples"])
        return Reading(
            path=path, format=self.name, framework=FRAMEWORK, facts=facts,
            configuration=configuration, lines=line_count(text),
        )  # fmt: skip
