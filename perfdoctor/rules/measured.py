"""What several rules ask of a measured training: sources, counters, and evidence in short."""

from __future__ import annotations

from perfdoctor.report import Evidence
from perfdoctor.rules.facts import Facts
from perfdoctor.stages import BACKWARD, FORWARD, LOSS

#: Sources in which perfdoctor itself, or torch's profiler, looked at the training.
MEASURED = ("bench", "run", "monitor")
TRACED = (*MEASURED, "trace")
COMPUTING = (FORWARD, LOSS, BACKWARD)
#: A trace is read as a log of this format.
TRACE_FORMAT = "pytorch_chrome_trace"


def is_trace(facts: Facts) -> bool:
    """Whether a profiler's trace is what is known."""
    return facts.has("counters.kernel_count")


def computing_share(facts: Facts) -> float:
    """The part of the training that is forward, loss and backward; raises `Missing` if unknown."""
    stages = facts.get("stages")
    told = [facts.number(f"stages.{n}.share") for n in COMPUTING if n in stages]
    return min(1.0, sum(told))


def beside(facts: Facts, metric: str, value: float, unit: str, threshold: str) -> Evidence:
    """Evidence with the rule's threshold of that name."""
    return Evidence(metric=metric, value=value, unit=unit, threshold=facts.threshold(threshold))


def torch_version(facts: Facts) -> tuple[int, ...]:
    """Such as (2, 6); empty where it is not known."""
    text = str(facts.get("environment.torch")) if facts.has("environment.torch") else ""
    numbers = [part for part in text.split("+")[0].split(".")[:2] if part.isdigit()]
    return tuple(int(part) for part in numbers)
