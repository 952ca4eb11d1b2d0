"""The whole dataflow on one page: measure, summarise, diagnose."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from perfdoctor.collect.bench import measure
from perfdoctor.collect.options import BenchOptions, Progress
from perfdoctor.collect.rounds import Case, Outcome, measure_rounds
from perfdoctor.compare import Row, block_rates, compare_rows
from perfdoctor.record import Source
from perfdoctor.report import Report
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings
from perfdoctor.summarise import summarise
from perfdoctor.workload import WorkloadFactory


@dataclass(frozen=True)
class BenchRequest:
    """What `bench` is asked for.

    Attributes:
        workloads: label → factory; more than one is a comparison.
        options: the settings all configurations share.
        axes: option name → the values to compare, each with more than one.
    """

    workloads: Mapping[str, WorkloadFactory]
    options: BenchOptions
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    command: str | None = None

    def cases(self) -> list[tuple[dict[str, Any], Case]]:
        """Every combination, with what distinguishes it."""
        found = []
        for name, factory in self.workloads.items():
            named: dict[str, Any] = {"workload": name} if len(self.workloads) > 1 else {}
            for values in itertools.product(*self.axes.values()):
                chosen = dict(zip(self.axes, values, strict=True))
                label = " ".join([*named.values(), *(f"{k}={v}" for k, v in chosen.items())])
                case = Case(label, factory, replace(self.options, **chosen))
                found.append((named | chosen, case))
        return found


def bench(request: BenchRequest, settings: Settings, progress: Progress) -> Report:
    """Measures one training, or compares several configurations and reports on the best.

    Raises:
        PerfdoctorError: bad input, or user code that fails.
        KeyboardInterrupt: Ctrl-C before anything was measured.
    """
    source = Source(kind="bench", command=request.command)
    cases = request.cases()
    if len(cases) == 1:
        case = cases[0][1]
        return diagnose(summarise(measure(case.factory, case.options, source, progress)), settings)
    outcomes = measure_rounds([case for _, case in cases], source, progress)
    rows = [_row(varied, outcome) for (varied, _), outcome in zip(cases, outcomes, strict=True)]
    comparison = compare_rows(rows)
    fastest = max(comparison.best, key=lambda i: comparison.rows[i].relative or 0.0)
    report = rows[fastest].report
    assert report is not None
    note = f"The fastest of {len(rows)} configurations: {rows[fastest].label}."
    report = replace(report, notes=(*report.notes, note), comparison=comparison)
    return diagnose(report, settings)


def _row(varied: dict[str, Any], outcome: Outcome) -> Row:
    run = outcome.run
    if run is None or run.block is None:
        return Row(outcome.case.label, varied, None, None, outcome.error)
    rates = block_rates(run.step_s, run.samples, run.block)
    return Row(outcome.case.label, varied, summarise(run), rates)
