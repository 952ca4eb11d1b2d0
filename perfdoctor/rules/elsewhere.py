"""Trainings that run where nobody looks: in other threads and processes than the one observed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from perfdoctor.report import Diagnosis
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.judging import inconclusive
from perfdoctor.rules.observed import OUTSIDE, HotLine, hot_lines
from perfdoctor.rules.wording import count, percent

#: Steps of optimizers in threads that are not observed.
STEPS_ELSEWHERE = "configuration.steps_in_other_threads"
#: What waits for a thread, and what for another process; joining texts or paths is neither.
_FOR_THREADS = r"(?:^|\.)(?:\w*(?:Thread|Timer)\.join|_shutdown)\b"
_FOR_PROCESSES = (
    r"\w*Process(?:Context)?\.join\b|\bwait(?:pid|id|3|4)\b|\bPopen\b|\bcommunicate\b"
    r"|\bsubprocess\.|(?:^|\.)(?:check_call|check_output|getoutput|getstatusoutput)\b"
    r"|\bos\.(?:system|popen|spawn\w+)\b|\b(?:start_processes|init_process_group)\b|^(?:run|spawn)$"
)
#: What waits for anything; a tensor or a table has a `select` too.
_WAITS = (
    r"(?:^|\.)(?:sleep|acquire|wait|poll|recv)$|^input$|\bselect\.select$|Selector\.select$"
    r"|\b_?\w*Queue\.(?:get|join)\b"
)
_STDLIB = "stdlib"
_INSTEAD = {
    "thread": "train in the main thread",
    "process": "observe it there with `perfdoctor run`",
}
#: A wait that takes less of the run holds no training (our own choice, as for other lines).
_LEAST = 0.1


def waits(line: HotLine) -> bool:
    """Whether a line does nothing itself, but waits for a thread, a process or a time to pass."""
    return any(_calls(line, what) for what in (_FOR_THREADS, _FOR_PROCESSES, _WAITS))


def mostly_waits(lines: Sequence[HotLine]) -> bool:
    """Whether at least half of what these lines take is such waits; False of none."""
    idle = sum(line.share for line in lines if waits(line))
    return any(map(waits, lines)) and 2 * idle >= sum(line.share for line in lines)


def no_step_seen(facts: Facts) -> Diagnosis:
    """Why there is nothing to judge, and where the training may be."""
    return inconclusive(
        "No step of a training was seen in the main thread of this process: no optimizer made a "
        f"step there, and no gradients were computed.{_where(facts)}"
    )


def _where(facts: Facts) -> str:
    steps = int(facts.known(STEPS_ELSEWHERE) or 0)
    if steps:
        return (
            f" Other threads made {count(steps, 'step')}, and are not observed: train in the main "
            "thread, or put perfdoctor.TrainingMonitor into their loop."
        )
    for what, pattern in (("thread", _FOR_THREADS), ("process", _FOR_PROCESSES)):
        found = [line for line in hot_lines(facts, *OUTSIDE) if _calls(line, pattern)]
        share = sum(line.share for line in found)
        if share >= _LEAST:
            return (
                f" It waited for another {what} for {percent(share)} of the run, in "
                f"{found[0].words}: if that one trains, {_INSTEAD[what]}, or put "
                "perfdoctor.TrainingMonitor into its loop."
            )
    return ""


def _calls(line: HotLine, pattern: str) -> bool:
    """By what the script's line calls; of a line of Python's own library, the function it is in."""
    return bool(re.search(pattern, line.function if line.library == _STDLIB else line.library))
