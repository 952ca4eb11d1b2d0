"""Files → Runs: which files belong together, and what to do with those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import files, formats
from perfdoctor.readers.asked import PATTERN, Asked
from perfdoctor.readers.assembly import assemble, log_file
from perfdoctor.readers.kinds import Format
from perfdoctor.readers.memory import give_back_memory, keep_memory
from perfdoctor.readers.records import Reading, Records, empty
from perfdoctor.readers.trainings import trainings
from perfdoctor.record import LogFile, Run, SkippedFile
from perfdoctor.report import Report

#: Columns of samples that are no use of anything.
_NO_SHARES = ("time", "memory_bytes", "gpu_memory_busy")
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
    templates: Sequence[str] = (),
    command: str | None = None,
) -> Gathered:
    """Everything that `given` names. Files of one folder are one run, files named singly one each.

    `templates` are those of the format in `own` that is called "pattern".

    Raises:
        PerfdoctorError: nothing of it can be read, or nothing in the way that was asked for.
    """
    keep_memory()
    asked = Asked(format_name, tuple(templates))
    missed: list[str] = []
    groups = [group for path in given for group in _groups(path)]
    pieces: list[tuple[str, list[_Piece]]] = []
    skipped: list[SkippedFile] = []
    first_error: PerfdoctorError | None = None
    fitting = 0
    for name, paths in groups:
        found: list[_Piece] = []
        single = len(paths) == 1
        for path in paths:
            try:
                reading = _read(path, progress, asked, own)
                if asked.missed(reading):
                    missed.append(path)
                if asked.gave_nothing(reading):
                    skipped.append(SkippedFile(path=path, reason=asked.reason()))
                elif single and len(parts := trainings(reading)) > 1:
                    pieces += _each(parts, _called(name), command, asked)
                else:
                    found.append(_piece(reading, _called(name), command, asked))
                fitting += asked.fits(reading)
            except PerfdoctorError as error:
                first_error = first_error or error
                skipped.append(SkippedFile(path=path, reason=_reason(path, error)))
        if found:
            pieces.append((name, found))
    if missed and not fitting:
        raise asked.failure(missed)
    if not pieces:
        raise first_error or PerfdoctorError("no logs given", slug="log-missing")
    return _runs(pieces, tuple(skipped))


@dataclass(frozen=True)
class _Piece:
    """A file that was read: the run it tells of, and the rest of the reading, without records."""

    reading: Reading
    run: Run | None


def _each(
    parts: Sequence[Reading], name: str, command: str | None, asked: Asked
) -> list[tuple[str, list[_Piece]]]:
    """Trainings that follow each other in one file are runs of their own."""
    named = [(f"{name}, training {i}", part) for i, part in enumerate(parts, start=1)]
    return [(own, [_piece(part, own, command, asked)]) for own, part in named]


def _piece(reading: Reading, name: str, command: str | None, asked: Asked) -> _Piece:
    """Records are let go as soon as the run is made of them: they take most of the memory."""
    give_back_memory()
    if reading.report is not None:
        return _Piece(reading, None)
    hardware_only = reading.hardware is not None and not len(reading.records) and not reading.facts
    try:
        run = assemble(reading, name, command)
    except PerfdoctorError:
        raise
    except Exception as error:  # what lines nobody foresaw make of it
        raise PerfdoctorError(
            f"{reading.path}: what its lines say, read as {reading.format}, does not fit together "
            f"({error or type(error).__name__}); --format takes another",
            slug="log-unreadable",
        ) from error
    if asked.missed(reading):
        run = replace(run, warnings=(*run.warnings, asked.warning(reading)))
    give_back_memory()
    return _Piece(replace(reading, records=empty()), None if hardware_only else run)


def _read(path: str, progress: Progress, asked: Asked, own: Sequence[Format]) -> Reading:
    size = Path(path).stat().st_size if path != files.STDIN and Path(path).is_file() else 0
    done = 0

    def count(read: int) -> None:
        nonlocal done
        done += read
        progress(f"reading {path}", float(done), float(size))

    progress(f"reading {path}", 0.0, float(size))
    reading = formats.read(path, count, asked.format_name, own)
    if asked.missed(reading) and asked.format_name is None and size > files.HEAD_BYTES:
        whole = formats.read(path, count, PATTERN, own)  # only its head was tried
        return whole if asked.fits(whole) else reading
    return reading


def _reason(path: str, error: PerfdoctorError) -> str:
    return str(error).removeprefix(f"{path}: ").removeprefix(f"{Path(path).name}: ")


def _groups(path: str) -> list[tuple[str, list[str]]]:
    """The runs that a path names: a folder with logs is one, one with only folders several."""
    if path == files.STDIN or not files.is_folder(path):
        return [(found, [found]) for found in files.expand([path])]
    inside = files.expand([path])
    direct = [found for found in inside if Path(found).parent == Path(path)]
    if direct or len({Path(found).relative_to(path).parts[0] for found in inside}) == 1:
        return [(path, inside)]
    names = dict.fromkeys(Path(found).relative_to(path).parts[0] for found in inside)
    return [group for name in names for group in _groups(str(Path(path) / name))]


def _runs(pieces: Sequence[tuple[str, list[_Piece]]], skipped: tuple[SkippedFile, ...]) -> Gathered:
    every = [piece for _, group in pieces for piece in group]
    hardware = [p.reading for p in every if p.run is None and p.reading.hardware is not None]
    reports = tuple(p.reading.report for p in every if p.reading.report is not None)
    runs = [run for _, group in pieces if (run := _one(group)) is not None]
    if not runs and not reports:  # hardware alone
        name, group = pieces[0]
        runs = [_sampled(group[0].reading, _called(name))]
        hardware = hardware[1:]
    joined = [_with_hardware(run, hardware, alone=len(runs) == 1) for run in runs]
    return Gathered(tuple(joined), reports, skipped)


def _sampled(reading: Reading, name: str) -> Run:
    """Hardware alone: the wall clock is that of the samples."""
    run = assemble(reading, name, None)
    assert reading.hardware is not None
    time = reading.hardware.column("time")
    time = time[np.isfinite(time)]
    if time.size < 2 or time.max() <= time.min():
        return run
    return replace(run, started_at=float(time.min()), wall_s=float(time.max() - time.min()))


def _one(pieces: Sequence[_Piece]) -> Run | None:
    """One run out of all files of it: the one that tells most leads, the others fill the gaps."""
    made = [(piece.run, piece.reading) for piece in pieces if piece.run is not None]
    if not made:
        return None
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
        warnings=(*run.warnings, *other.warnings),
        logs=(*run.logs, *other.logs),
    )


def _with_hardware(run: Run, hardware: Sequence[Reading], *, alone: bool) -> Run:
    """Samples of hardware use that were taken while the run went on."""
    for reading in hardware:
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
            if role not in _NO_SHARES and np.isfinite(values).any()
        }
        run = replace(run, utilisation={**run.utilisation, **use}, logs=logs)
        if note:
            run = replace(run, notes=(*run.notes, note))
    return run


def _during(run: Run, hardware: Records, path: str) -> tuple[Records | None, str]:
    """The samples within the run's time, or why there are none."""
    name = Path(path).name
    if "time" not in hardware:
        return hardware, f"{name} does not tell when its samples were taken: all of them count."
    if run.started_at is None or run.wall_s is None:
        log = Path(run.source.path or run.name).name
        return hardware, f"{log} has no dates to find its samples in {name} by: all of them count."
    time = hardware.column("time")
    inside = (time >= run.started_at) & (time <= run.started_at + run.wall_s)
    if not inside.any():
        return None, f"{name} was not recorded while this run went on; it is left out"
    return hardware.take(inside), ""
