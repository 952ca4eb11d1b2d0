"""Why it got slower: what both sides really do, and what is diagnosed of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perfdoctor import schema
from perfdoctor.collect.options import Progress
from perfdoctor.compare.differences import Difference, find_differences, setting_differences
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate.lock_step_pairs import LockStepPairs
from perfdoctor.gate.sides import RunningSide
from perfdoctor.report import Report

#: A side is observed for so long, or less where little time is left, besides its start.
_OBSERVED_S, _LEAST_OBSERVED_S, _START_S = 5.0, 2.0, 8.0
_GRACE_S = 60.0
#: Lines of the loop that perfdoctor runs itself.
_OURS = ("sys:", "stepping.py:")


@dataclass(frozen=True)
class Why:
    """What both sides' reports tell."""

    differences: tuple[Difference, ...] = ()
    verdicts: tuple[str | None, str | None] = (None, None)
    summaries: tuple[str | None, str | None] = (None, None)
    notes: tuple[str, ...] = ()


def of_reports(reports: Sequence[Sequence[Report]], fewest: int = 1) -> Why:
    """From the reports of both sides; from fewer than `fewest` of a side only the settings."""
    before, after = reports
    if not before or not after:
        return Why()
    if min(len(before), len(after)) < fewest:
        old, new = ([r.configuration for r in side] for side in reports)
        return Why(tuple(setting_differences(old, new)))
    last = [side[-1].diagnosis for side in reports]
    return Why(
        find_differences(before, after),
        tuple(None if d is None else d.verdict for d in last),  # type: ignore[arg-type]
        tuple(None if d is None else d.summary for d in last),  # type: ignore[arg-type]
    )


def of_workload(
    source: LockStepPairs,
    sides: tuple[RunningSide, RunningSide],
    left_s: float,
    progress: Progress,
) -> Why:
    """The settings in effect; with `left_s` seconds to spend, both are observed as well."""
    settings = tuple(_settings(source))
    if left_s <= 0:
        return Why(settings)
    observed_s = min(_OBSERVED_S, left_s / 2 - _START_S)
    if observed_s < _LEAST_OBSERVED_S:
        return Why(
            settings,
            notes=("No time was left to find out why; `perfdoctor bench` on both sides tells.",),
        )
    progress("finding out why", 0, 0)
    reports = [_observed(side, source.workload, source.options, observed_s) for side in sides]
    if any(report is None for report in reports):
        return Why(settings, notes=("Observing both sides, to tell why, has failed.",))
    found = of_reports([[_of_steps(report)] for report in reports if report is not None])
    known = {(d.kind, d.name) for d in settings}
    rest = tuple(d for d in found.differences if (d.kind, d.name) not in known)
    return Why((*settings, *rest), found.verdicts, found.summaries)


def _of_steps(report: Report) -> Report:
    """Lines with their shares of the steps: so short a run is half made of its start."""
    whole = sum(spot.share for spot in report.hotspots if spot.stage and spot.process == "main")
    if not 0 < whole < 1:
        return report
    spots = (
        replace(spot, share=spot.share / whole) if spot.stage and spot.process == "main" else spot
        for spot in report.hotspots
    )
    return replace(report, hotspots=tuple(spots))


def _settings(source: LockStepPairs) -> list[Difference]:
    """What the training really used, as the processes tell."""
    if source.facts is None:
        return []
    old, new = ([facts.configuration] for facts in source.facts)
    return list(setting_differences(old, new))


def _observed(
    side: RunningSide, workload: Mapping[str, Any], options: Mapping[str, Any], observed_s: float
) -> Report | None:
    """The training as a script, observed: that names the lines that take the time."""
    path = side.checkout.scratch / "why.json"
    command = [
        side.python, "-m", "perfdoctor", "run", "--no-plots", "-q", "--json", str(path),
        "--output-dir", str(path.parent), "-m", "perfdoctor.gate.stepping",
        json.dumps(dict(workload)), json.dumps(dict(options)), str(observed_s),
    ]  # fmt: skip
    return report_of(command, side, path)


def report_of(command: Sequence[str], side: RunningSide, path: Path) -> Report | None:
    """The report that a command of ours writes; None where it fails."""
    try:
        subprocess.run(
            command, cwd=side.cwd, env={**os.environ, **side.environment}, check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=_OBSERVED_S + _GRACE_S,
        )  # fmt: skip
        return schema.from_json(path.read_bytes(), str(path))
    except (OSError, subprocess.SubprocessError, PerfdoctorError):
        return None


def telling(differences: Sequence[Difference], *, slower: bool) -> tuple[Difference, ...]:
    """All but what differs in any case: two revisions are two commits.

    Where it got slower, what shrank as a share of the whole did so because something else grew.
    """
    return tuple(
        d
        for d in differences
        if d.kind != "code"
        and not (d.kind == "hot_line" and d.name.startswith(_OURS))
        and not (slower and d.kind == "hot_line" and (d.after or 0.0) < (d.before or 0.0))
        and not (slower and d.kind == "advice" and d.after is None)
    )
