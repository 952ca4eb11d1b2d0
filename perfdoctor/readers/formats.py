"""Which format a file is of, and reading it. The formats themselves are in format_table.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from perfdoctor import plugins
from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.files import Head, Held, Source, is_binary
from perfdoctor.readers.format_table import GENERIC, builtin
from perfdoctor.readers.kinds import Binary, Format, Progress, Score
from perfdoctor.readers.records import Reading

#: Less sure than this, a file is read as general text.
_UNSURE = 0.3


@dataclass(frozen=True)
class Detected:
    """The format taken, and why. `problems`: of readers from other packages."""

    format: Format
    reason: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Others:
    """Formats from other packages, and a line for each that failed to load."""

    formats: tuple[Format, ...]
    problems: tuple[str, ...]


def all_formats(own: Sequence[Format] = ()) -> tuple[Format, ...]:
    """The project's own formats, those of other packages, and the built-in ones."""
    return (*own, *_others(tuple(sys.path)).formats, *builtin())


@lru_cache(maxsize=4)
def _others(_path: tuple[str, ...]) -> _Others:
    """Looked for once, not for each file of a folder."""
    loaded = plugins.load(plugins.READERS)
    found: list[Format] = []
    problems = list(loaded.problems)
    for entry in loaded.objects:
        try:
            found.append(entry())
        except Exception as error:  # another package's code may raise anything
            problems.append(f"the reader {entry!r} of another package failed: {error}")
    return _Others(tuple(found), tuple(problems))


def named(name: str, own: Sequence[Format] = ()) -> Format:
    """The format of that name.

    Raises:
        PerfdoctorError: there is none.
    """
    for entry in all_formats(own):
        if entry.name == name:
            return entry
    raise PerfdoctorError(
        f"unknown format {name!r}; `perfdoctor formats` lists those there are",
        slug="format-unknown",
    )


def detect(head: Head, own: Sequence[Format] = ()) -> Detected:
    """The format that the head of a file is most sure to be of.

    Raises:
        PerfdoctorError: it is no text and none of the known binary formats.
    """
    others = _others(tuple(sys.path))
    problems = list(others.problems)
    best, score = _surest([entry for entry in (*own, *builtin()) if entry is not GENERIC], head)
    for entry in others.formats:
        try:
            theirs = entry.score(head)
        except Exception as error:  # another package's code may raise anything
            problems.append(f"the reader {entry.name!r} of another package failed: {error}")
            continue
        if theirs.value > score.value:
            best, score = entry, theirs
    if score.value >= _UNSURE:
        return Detected(best, score.reason, tuple(problems))
    if is_binary(head):
        raise _binary(head)
    reason = "no known form; read for counters, times, rates and time stamps"
    return Detected(GENERIC, reason, tuple(problems))


def _surest(formats: Sequence[Format], head: Head) -> tuple[Format, Score]:
    """The first of those with the highest score. One that cannot reach what is reached already is
    not asked: compiling its patterns takes longer than finding them."""
    scores: dict[int, Score] = {}
    reached = 0.0
    for i in sorted(range(len(formats)), key=lambda i: -_most(formats[i])):
        if _most(formats[i]) <= reached:
            break
        scores[i] = formats[i].score(head)
        reached = max(reached, scores[i].value)
    first = min(i for i, score in scores.items() if score.value == reached)
    return formats[first], scores[first]


def _most(entry: Format) -> float:
    return float(getattr(entry, "most", 1.0))


def _may_be_binary(entry: Format) -> bool:
    """Of formats from other packages nothing is known."""
    return isinstance(entry, Binary) or entry in _others(tuple(sys.path)).formats


def _binary(head: Head) -> PerfdoctorError:
    return PerfdoctorError(
        f"{head.name}: neither text nor a known binary format; `perfdoctor formats` lists "
        "what can be read",
        slug="log-binary",
    )


def read(
    path: str, progress: Progress, format_name: str | None = None, own: Sequence[Format] = ()
) -> Reading:
    """One file.

    Raises:
        PerfdoctorError: it cannot be read, or `format_name` does not exist.
    """
    return read_source(Source(path), progress, format_name, own)


def read_held(name: str, data: bytes) -> Reading:
    """A text that no file holds.

    Raises:
        PerfdoctorError: it cannot be read.
    """
    return read_source(Held(name, data), lambda read: None)


def read_source(
    source: Source, progress: Progress, format_name: str | None = None, own: Sequence[Format] = ()
) -> Reading:
    """What is opened, or held.

    Raises:
        PerfdoctorError: it cannot be read, or `format_name` does not exist.
    """
    head = source.head()
    if format_name is not None:
        taken = Detected(named(format_name, own), "as asked for")
        if is_binary(head) and not _may_be_binary(taken.format):
            raise _binary(head)
    else:
        taken = detect(head, own)
    try:
        reading = taken.format.read(source, head, progress)
    except PerfdoctorError:
        raise
    except Exception as error:  # what a damaged file makes of a reader is not foreseeable
        raise PerfdoctorError(
            f"{source.path}: reading it as {taken.format.name} failed: "
            f"{error or type(error).__name__}; --format takes another",
            slug="log-unreadable",
        ) from error
    notes = [*reading.notes, *taken.problems]
    if source.cut_off is not None:
        notes.append(f"The compressed file is cut off ({source.cut_off}): its beginning was read.")
    return replace(reading, reason=taken.reason, notes=tuple(notes))
