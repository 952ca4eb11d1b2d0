"""Files → Runs: which files belong together, and what to do with those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import files, formats
from perfdoctor.readers.assembly import assemble, log_file
from perfdoctor.readers.kinds import Format
from perfdoctor.readers.records import Reading, Records
from perfdoctor.record import LogFile, Run, SkippedFile
from perfdoctor.report import Report

#: What is being read, how many bytes of it, and of how many.
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class Gathered:
    """The runs that were found, reports of earlier runs, and the files that could not be read."""

    runs: tuple[Run, ...]
    reports: tuple[Report, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()


def gather(
    given: Sequence[str],
    progress: Progress,
    *,
    format_name: str | None = None,
    own: Sequence[Format] = (),
    command: str | None = None,
) -> Gathered:
    """Everything that `given` names. Files of one folder are one run, files named singly one each.

    Raises:
        PerfdoctorError: nothing of it can be read.
    """
    groups = [group for path in given for group in _groups(path)]
    readings: list[tuple[str, list[Reading]]] = []
    skipped: list[SkippedFile] = []
    first_error: PerfdoctorError | None = None
    for name, paths in groups:
        found: list[Reading] = []
        for path in paths:
            try:
                found.append(_read(path, progress, format_name, own))
            except PerfdoctorError as error:
                first_error = first_error or error
                skipped.append(SkippedFile(path=path, reason=_reason(path, error)))
        if found:
            readings.append((name, found))
    if not readings:
        raise first_error or PerfdoctorError("no logs given", slug="log-missing")
    return _runs(readings, tuple(skipped), command)


def _read(path: str, progress: Progress, format_name: str | None, own: Sequence[Format]) -> Reading:
    size = Path(path).stat().st_size if path != files.STDIN and Path(path).is_file() else 0
    done = 0

    def count(read: int) -> None:
        nonlocal done
        done += read
        progress(f"reading {path}", float(done), float(size))

    progress(f"reading {path}", 0.0, float(size))
    return formats.read(path, count, format_name, own)


def _reason(path: str, error: PerfdoctorError) -> str:
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{Path(path).name}: ")


def _groups(path: str) -> list[tuple[str, list[str]]]:
    """The runs that a path names: a folder with logs is one, one with only folders several."""
    if path == files.STDIN or not Path(path).is_dir():
        return [(found, [found]) for found in files.expand([path])]
    inside = files.expand([path])
    direct = [found for found in inside if Path(found).parent == Path(path)]
    if direct or len({Path(found).relative_to(path).parts[0] for found in inside}) == 1:
        return [(path, inside)]
    names = dict.fromkeys(Path(found).relative_to(path).parts[0] for found in inside)
    return [group for name in names for group in _groups(str(Path(path) / name))]


def _runs(
    readings: Sequence[tuple[str, list[Reading]]],
    skipped: tuple[SkippedFile, ...],
    command: str | None,
) -> Gathered:
    hardware = [
        (name, reading)
        for name, group in readings
        for reading in group
        if reading.hardware is not None and not len(reading.records)
    ]
    reports = tuple(r.report for _, group in readings for r in group if r.report is not None)
    runs = []
    for name, group in readings:
        training = [r for r in group if r.report is None and not _only_hardware(r)]
        if training:
            runs.append(_one(name, training, command))
    if not runs and not reports:
        name, group = readings[0]
        runs = [_one(name, [r for r in group if r.report is None], command)]
        hardware = []
    joined = [_with_hardware(run, hardware, alone=len(runs) == 1) for run in runs]
    return Gathered(tuple(joined), reports, skipped)


def _only_hardware(reading: Reading) -> bool:
    return reading.hardware is not None and not len(reading.records) and not reading.facts


def _one(name: str, readings: Sequence[Reading], command: str | None) -> Run:
    """One run out of all files of it: the one that tells most leads, the others fill the gaps."""
    made = [(assemble(reading, _called(name), command), reading) for reading in readings]
    made.sort(key=lambda pair: -_worth(pair[0]))
    run = made[0][0]
    for other, reading in made[1:]:
        run = _filled(run, other)
        said = tuple(f"{Path(reading.path).name}: {note}" for note in reading.notes)
        run = replace(run, notes=(*run.notes, *said))
    return run


def _called(name: str) -> str:
    return "standard input" if name == files.STDIN else Path(name).name or name


def _worth(run: Run) -> float:
    """How much a run tells: the times of steps before rates, these before epochs."""
    steps = int(np.isfinite(run.step_s).sum())
    if steps > 1:
        return 3e12 + steps + (1e11 if len(run.stages) > 1 else 0)
    rates = max((int(np.isfinite(v).sum()) for v in run.rates.values()), default=0)
    if rates > 1:
        return 2e12 + rates
    epochs = 0 if run.epochs is None else int(np.isfinite(run.epochs.time_s).sum())
    return 1e12 + epochs if epochs else float(steps + rates + len(run.utilisation))


def _filled(run: Run, other: Run) -> Run:
    """`run` with what only the other file of the same run tells."""
    epochs = run.epochs
    if other.epochs is not None:
        if epochs is None:
            epochs = other.epochs
        elif not epochs.metrics and np.array_equal(epochs.number, other.epochs.number):
            epochs = replace(epochs, metrics=other.epochs.metrics)
    return replace(
        run,
        epochs=epochs,
        configuration={**other.configuration, **run.configuration},
        utilisation={**other.utilisation, **run.utilisation},
        memory=run.memory if run.memory.training_peak_bytes is not None else other.memory,
        wall_s=run.wall_s if run.wall_s is not None else other.wall_s,
        spans=run.spans or other.spans,
        started_at=run.started_at if run.started_at is not None else other.started_at,
        logs=(*run.logs, *other.logs),
    )


def _with_hardware(run: Run, hardware: Sequence[tuple[str, Reading]], *, alone: bool) -> Run:
    """Samples of hardware use that were taken while the run went on."""
    for _, reading in hardware:
        assert reading.hardware is not None
        samples, note = _during(run, reading.hardware, reading.path)
        if samples is None and not alone:
            continue
        logs: tuple[LogFile, ...] = (*run.logs, log_file(reading))
        if samples is None:
            run = replace(run, warnings=(*run.warnings, note), logs=logs)
            continue
        use = {
            role: values[np.isfinite(values)]
            for role, values in samples.columns.items()
            if role != "time" and np.isfinite(values).any()
        }
        run = replace(run, utilisation={**run.utilisation, **use}, logs=logs)
        if note:
            run = replace(run, notes=(*run.notes, note))
    return run


def _during(run: Run, hardware: Records, path: str) -> tuple[Records | None, str]:
    """The samples within the run's time, or why there are none."""
    name = Path(path).name
    if "time" not in hardware or run.started_at is None or run.wall_s is None:
        return hardware, f"{name} has no times to compare with the log's: all its samples count."
    time = hardware.column("time")
    inside = (time >= run.started_at) & (time <= run.started_at + run.wall_s)
    if not inside.any():
        return None, f"{name} was not recorded while this run went on; it is left out"
    return hardware.take(inside), ""
