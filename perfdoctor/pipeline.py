"""The whole dataflow on one page: measure, summarise, diagnose."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdoctor.errors import PerfdoctorError, tell
from perfdoctor.record import Run, SkippedFile, Source
from perfdoctor.report import Report, Verification
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings
from perfdoctor.summarise import summarise

if TYPE_CHECKING:  # collecting imports torch, which analysing a log must not wait for
    from perfdoctor.collect.options import BenchOptions, Progress
    from perfdoctor.collect.rounds import Case, Outcome
    from perfdoctor.collect.script.ranks import Meeting
    from perfdoctor.compare.runs import Row
    from perfdoctor.compare.shifts import Sides
    from perfdoctor.ending import Ending
    from perfdoctor.whatif import Asked, WhatIf
    from perfdoctor.workload import WorkloadFactory


@dataclass(frozen=True)
class VerifyRequest:
    """How the advice is to be tried.

    Attributes:
        workload: as `ArmSpec` describes it. budget_s: for all trials together.
        tell: shows a line before anything is tried.
    """

    workload: Mapping[str, Any]
    budget_s: float
    tell: Callable[[str], None]


@dataclass(frozen=True)
class BenchRequest:
    """What `bench` is asked for.

    Attributes:
        workloads: label → factory; more than one is a comparison.
        options: the settings all configurations share.
        axes: option name → the values to compare, each with more than one.
        verify: try the advice afterwards; for a single configuration.
    """

    workloads: Mapping[str, WorkloadFactory]
    options: BenchOptions
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    command: str | None = None
    verify: VerifyRequest | None = None

    def cases(self) -> list[tuple[dict[str, Any], Case]]:
        """Every combination, with what distinguishes it."""
        from perfdoctor.collect.rounds import Case

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
    from perfdoctor.collect.bench import measure
    from perfdoctor.collect.rounds import measure_rounds
    from perfdoctor.compare.runs import compare_rows

    source = Source(kind="bench", command=request.command)
    cases = request.cases()
    if len(cases) == 1:
        case = cases[0][1]
        run = measure(case.factory, case.options, source, progress)
        diagnosed = diagnose(summarise(run), settings)
        return _verified(diagnosed, case.options, request.verify, progress)
    outcomes = measure_rounds([case for _, case in cases], source, progress)
    rows = [_row(varied, outcome) for (varied, _), outcome in zip(cases, outcomes, strict=True)]
    comparison = compare_rows(rows)
    fastest = max(comparison.best, key=lambda i: comparison.rows[i].relative or 0.0)
    report = rows[fastest].report
    assert report is not None
    note = f"The fastest of {len(rows)} configurations: {rows[fastest].label}."
    report = replace(report, notes=(*report.notes, note), comparison=comparison)
    return diagnose(report, settings)


def _verified(
    report: Report, options: BenchOptions, request: VerifyRequest | None, progress: Progress
) -> Report:
    """The report with its advice tried, if that was asked for and nobody pressed Ctrl-C."""
    interrupted = report.sampling is not None and report.sampling.stop == "interrupted"
    if request is None or interrupted:
        return report
    try:
        return _tried(report, options, request, progress)
    except KeyboardInterrupt:  # what was measured is worth a report
        return replace(report, verification=Verification.interrupted_before(request.budget_s))


def _tried(
    report: Report, options: BenchOptions, request: VerifyRequest, progress: Progress
) -> Report:
    from perfdoctor.collect import guarded_worker, memory
    from perfdoctor.collect.arm import ArmSpec
    from perfdoctor.collect.sandbox import scratch_folder
    from perfdoctor.experiments.verify import verify

    memory.release()  # the trials' processes need it
    with scratch_folder() as scratch:
        spec = ArmSpec(
            workload=request.workload,
            options=asdict(options),
            process=guarded_worker.__name__,
            environment={guarded_worker.SCRATCH: str(scratch)},
        )
        guarded = guarded_worker.is_allowed(scratch)
        return verify(report, spec, request.budget_s, progress, request.tell, guarded=guarded)


def _row(varied: dict[str, Any], outcome: Outcome) -> Row:
    from perfdoctor.compare.runs import Row, block_rates

    run = outcome.run
    if run is None or run.block is None:
        return Row(outcome.case.label, varied, None, None, outcome.error)
    rates = block_rates(run.step_s, run.samples, run.block)
    return Row(outcome.case.label, varied, summarise(run), rates)


def what_if(path: Path, asked: Asked) -> WhatIf:
    """What the training of this report would do with other settings.

    Raises:
        PerfdoctorError: it cannot be read, or its loader was not measured; or impossible values.
    """
    from perfdoctor.rules.loader_facts import measured_job
    from perfdoctor.schema import read_report
    from perfdoctor.whatif import answer

    return answer(measured_job(read_report(path), str(path)), asked)


def conclude(run: Run, settings: Settings) -> Report:
    """The report of what was recorded, with its diagnosis."""
    return diagnose(summarise(run), settings)


def conclude_ranks(
    meeting: Meeting, run: Run | None, ending: Ending, settings: Settings
) -> Report | None:
    """The report of all ranks, if it is this one that makes it.

    Raises:
        OSError: the folder in which they meet cannot be written.
    """
    from perfdoctor import ranks

    rank = meeting.place.rank
    part = ranks.RankPart(rank=rank, ending=ending, ended_at=time.time())
    if run is not None:
        part = ranks.part_of_run(rank, run, summarise(run), time.time())
    failed = ranks.failed(ending)
    first = failed and ending.how not in ("signal", "interrupted")
    found = meeting.hand_in(ranks.to_bytes(part), failed=failed, first=first)
    if found is None:
        return None
    absent = dict.fromkeys(found.died, ranks.DIED) | dict.fromkeys(found.running, ranks.STILL_RUNS)
    absent |= dict.fromkeys(found.absent, ranks.NEVER_BEGAN)
    parts = [known for data in found.parts.values() if (known := ranks.from_bytes(data))]
    merged = ranks.merge(parts, meeting.place.world, absent)
    if merged is None:
        tell("no rank imported torch: there is nothing to report")
        return None
    return diagnose(merged, settings)


def hand_in_partial(meeting: Meeting, run: Run) -> None:
    """What a rank has seen so far, in case that it dies."""
    from perfdoctor import ranks

    part = ranks.part_of_run(meeting.place.rank, run, summarise(run), time.time())
    meeting.hand_in_partial(ranks.to_bytes(part))


@dataclass(frozen=True)
class AnalyzeRequest:
    """What `analyze` is asked for.

    Attributes:
        paths: files, folders, patterns of names, or "-".
        format_name: read every file as this format. templates: the user's own lines.
    """

    paths: Sequence[str]
    format_name: str | None = None
    templates: Sequence[str] = ()
    command: str | None = None


def analyze(request: AnalyzeRequest, settings: Settings, progress: Progress) -> Report:
    """Reads what earlier runs left behind; several runs are compared, and the best one diagnosed.

    Raises:
        PerfdoctorError: nothing of it can be read.
    """
    reports, skipped = read_reports(request, settings, progress)
    return _with_skipped(_compared(reports), skipped)


def read_reports(
    request: AnalyzeRequest, settings: Settings, progress: Progress
) -> tuple[list[Report], tuple[SkippedFile, ...]]:
    """A report of each run that `request` names, and the files that could not be read.

    Raises:
        PerfdoctorError: nothing of it can be read.
    """
    from perfdoctor.readers import gathering, templates

    own = [templates.parse(name, given) for name, given in settings.formats.items()]
    if request.templates:
        own.insert(0, templates.parse("pattern", tuple(request.templates)))
    found = gathering.gather(
        request.paths,
        progress,
        format_name=request.format_name,
        own=own,
        templates=request.templates,
        command=request.command,
    )
    progress("summarising", 0.0, 0.0)
    reports = [diagnose(summarise(run), settings) for run in found.runs] + list(found.reports)
    return _told_apart(reports), found.skipped


def compare(
    before: AnalyzeRequest,
    after: AnalyzeRequest,
    labels: tuple[str, str],
    margin: float,
    settings: Settings,
    progress: Progress,
) -> Sides:
    """What changed from the runs or reports of one side to those of the other.

    Raises:
        PerfdoctorError: nothing of a side can be read, or it tells of no time.
    """
    from perfdoctor.compare.shifts import compare_sides

    sides = [read_reports(side, settings, progress) for side in (before, after)]
    found = compare_sides(sides[0][0], sides[1][0], labels, margin)
    for label, of in zip(labels, ("before", "after"), strict=True):
        if all(getattr(shift, of) is None for shift in found.shifts):
            raise PerfdoctorError(
                f"nothing in {label} tells how long anything took: it is no perfdoctor report, and "
                "no log with times that is understood",
                slug="no-times",
            )
    skipped = [file for _, files in sides for file in files]
    lost = [f"{file.path} is left out: {file.reason.rstrip('.')}." for file in skipped]
    return replace(found, notes=(*lost, *found.notes))


def _compared(reports: Sequence[Report]) -> Report:
    """The best of several reports, with the comparison of all."""
    if len(reports) == 1:
        return reports[0]
    from perfdoctor.compare.runs import compare_logs

    comparison = compare_logs(reports)
    labels = [row.label for row in comparison.rows]
    first = labels[comparison.best[0]] if comparison.best else labels[0]
    report = next(report for report in reports if report.name == first)
    note = f"The best of {len(reports)} runs: {first}."
    return replace(report, notes=(*report.notes, note), comparison=comparison)


def _told_apart(reports: Sequence[Report]) -> list[Report]:
    """Runs of one name are called by their paths."""
    names = [report.name for report in reports]
    found = []
    for i, report in enumerate(reports):
        if names.count(report.name) > 1:
            name = report.source.path or report.name
            report = replace(report, name=name if names[:i].count(name) == 0 else f"{name} #{i}")
        found.append(report)
    return found


def _with_skipped(report: Report, skipped: Sequence[SkippedFile]) -> Report:
    return replace(report, skipped=(*report.skipped, *skipped))
