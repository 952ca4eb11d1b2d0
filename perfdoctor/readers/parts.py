"""Runs with other settings, one after the other in one file: which settings hold, and for what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from perfdoctor.readers.records import Reading, Records
from perfdoctor.readers.steps import Steps

#: A run that goes on longer than was planned has these changed, and is the same run.
_LENGTHS = ("epochs", "max_steps", "log_interval")
#: Where one of these differs, the times of steps are not of the same thing.
WORK = ("batch_size", "gradient_accumulation", "world_size")


@dataclass(frozen=True)
class Parts:
    """What holds for the run: its settings, the first line of the file that is of it, and what to
    tell the user."""

    configuration: Mapping[str, Any]
    first_line: int = 0
    warning: str | None = None


def parts_of(reading: Reading, records: Records, steps: Steps, *, comparable: bool) -> Parts:
    """Between restarts, by the settings that are printed before each start. `comparable`: the log
    tells rates, which are of the same thing whatever a step holds."""
    begins = (np.flatnonzero(np.diff(steps.stretch) != 0) + 1).tolist()
    if not begins:
        return Parts(reading.configuration)
    if not reading.settings:
        return Parts(reading.configuration, warning=_lengths_differ(records, steps, begins))
    line = records.line[steps.rows]
    starts = [(int(line[i - 1]), int(line[i])) for i in begins]
    told = list(_settings(reading, starts))
    differing = {
        name: values
        for name in dict.fromkeys(name for _, settings in told for name in settings)
        if len(values := _values(name, told)) > 1
    }
    changed = [name for name in differing if name not in _LENGTHS]
    if not changed:
        return Parts(told[-1][1], warning=_lengths_differ(records, steps, begins))
    said = "; ".join(f"{name} {', then '.join(map(str, differing[name]))}" for name in changed)
    work = [name for name in changed if name in WORK]
    if work and not comparable:
        first_line = _last_alike(told, work)
        return Parts(
            told[-1][1],
            first_line,
            f"Runs with other settings follow each other in the file ({said}): the numbers are of "
            f"the last, from line {first_line:,} on.",
        )
    settings = {name: value for name, value in told[-1][1].items() if name not in changed}
    return Parts(
        settings,
        warning=f"The settings change where the run starts again ({said}): its times are of all "
        "of them, and no advice is built on these settings.",
    )


def _settings(
    reading: Reading, starts: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first line of each part and what holds in it; what it does not print goes on to hold."""
    settings = dict(reading.configuration)
    for line, told in reading.settings:
        if line < starts[0][0]:
            settings.update(told)
    yield 0, settings
    for before, first in starts:
        printed = [(line, told) for line, told in reading.settings if before < line <= first]
        settings = dict(settings)
        for _, told in printed:
            settings.update(told)
        yield min([line for line, _ in printed] + [first]), settings


def _values(name: str, told: Sequence[tuple[int, dict[str, Any]]]) -> list[Any]:
    """The values one after the other, where they change."""
    found: list[Any] = []
    for _, settings in told:
        if name in settings and (not found or found[-1] != settings[name]):
            found.append(settings[name])
    return found


def _last_alike(told: Sequence[tuple[int, dict[str, Any]]], names: Sequence[str]) -> int:
    """The first line of the last parts that agree in the settings of these names."""
    last = [told[-1][1].get(name) for name in names]
    first_line = told[-1][0]
    for line, settings in reversed(told):
        if [settings.get(name) for name in names] != last:
            break
        first_line = line
    return first_line


def _lengths_differ(records: Records, steps: Steps, begins: Sequence[int]) -> str | None:
    """Where the training begins from its first step, with epochs of another length."""
    total = records.column("step_total")[steps.rows]
    lengths: list[int] = []
    edges = [0, *begins, steps.rows.size]
    for begin, end in pairwise(edges):
        known = total[begin:end][np.isfinite(total[begin:end])]
        if known.size and (not lengths or lengths[-1] != int(np.median(known))):
            lengths.append(int(np.median(known)))
    if len(lengths) < 2 or all(steps.step[i] > steps.step[0] for i in begins):
        return None
    said = ", then ".join(f"{length:,}" for length in lengths[:5])
    return (
        f"The file seems to hold different trainings one after the other (of {said} steps): the "
        "times of their steps are taken together. Split it to have each by itself."
    )
