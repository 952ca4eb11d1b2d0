"""A workload from a folder of data: looks at what is in it and picks a reference model to suit."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, islice
from pathlib import Path

from perfdoctor.errors import PerfdoctorError
from perfdoctor.workload import Workload, WorkloadFactory
from perfdoctor.workloads.kinds import KINDS, DataFile, Found, Recognised, counted, words

#: A folder with more files is sampled by its first ones; listing them takes about two seconds.
MAX_FILES = 200_000
_SHOWN_EXTENSIONS = 5
_DOCUMENT = re.compile(r"(readme|licen[cs]e|notice|changelog|copying|requirements)", re.IGNORECASE)
_TRAINING = {"train", "training"}
_HELD_OUT = {"val", "valid", "validation", "dev", "test", "testing", "eval"}


@dataclass(frozen=True)
class _Place:
    """What a pattern matched, and how notes call it."""

    name: str
    roots: tuple[Path, ...]


def from_data_dir(
    pattern: str, *, batch_size_hint: int | None = None, strict: bool = False
) -> WorkloadFactory:
    """A factory from a folder, a file, or a glob whose matching folders are one dataset.

    The dataset is made now and shared; each call of the factory makes a fresh reference model.

    Args:
        pattern: the path or glob; `~` and `**` are understood.
        batch_size_hint: samples per batch in place of the kind's default.
        strict: an unreadable file is an error, where it has to be read at construction.

    Raises:
        PerfdoctorError: nothing matches, the folder is empty or holds no data that is recognised,
            or no file of it can be read.
    """
    place = _match(pattern)
    every = list(islice(chain.from_iterable(map(_files_below, place.roots)), MAX_FILES))
    kind = _choose_kind(every, place)
    mine, held_out = _training_part([f for f in every if _kind_of(f) == kind])
    mine.sort(key=lambda file: file.path)
    recognised = _recogniser(kind)(Found(where=place.name, files=tuple(mine), strict=strict))
    rest = [file for file in every if _kind_of(file) != kind]
    notes = recognised.notes + _notes(every, rest, held_out)

    def factory() -> Workload:
        return _workload(recognised, f"{kind} in {place.name}", notes, batch_size_hint)

    return factory


def _match(pattern: str) -> _Place:
    given = Path(pattern).expanduser()
    if given.is_dir():
        return _Place(f"{pattern.rstrip('/' + os.sep) or pattern}/", (given,))
    if given.is_file():
        return _Place(pattern, (given,))
    if not glob.has_magic(pattern):
        raise PerfdoctorError(f"{pattern} does not exist (cwd {Path.cwd()})", slug="data-missing")
    matches = [Path(p) for p in sorted(glob.glob(str(given), recursive=True))]  # noqa: PTH207
    folders = [path for path in matches if path.is_dir()]
    if not matches:
        raise PerfdoctorError(
            f"nothing matches {pattern!r} (cwd {Path.cwd()})", slug="data-missing"
        )
    roots = tuple(_outermost(folders) if folders else matches)
    return _Place(f"{pattern}, {counted(len(roots), 'folder' if folders else 'file')}", roots)


def _outermost(folders: Sequence[Path]) -> list[Path]:
    """Without the folders that lie in another one, whose files would be counted twice."""
    every = set(folders)
    return [folder for folder in folders if every.isdisjoint(folder.parents)]


def _files_below(root: Path) -> Iterator[DataFile]:
    if root.is_file():
        yield DataFile(root, (), root.stat().st_size)
        return
    seen = set()
    pending: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
    while pending:
        folder, names = pending.pop()
        real = os.path.realpath(folder)
        if real in seen:  # a link back to where we have been
            continue
        seen.add(real)
        for entry in _entries(folder):
            if entry.is_dir():
                pending.append((folder / entry.name, (*names, entry.name)))
            elif entry.is_file():
                yield DataFile(folder / entry.name, names, entry.stat().st_size)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; nothing where we may not look."""
    try:
        with os.scandir(folder) as entries:
            visible = [e for e in entries if not e.name.startswith((".", "__pycache__"))]
    except OSError:
        return []
    return sorted(visible, key=lambda entry: entry.name)


_BY_EXTENSION = {ext: name for name, kind in KINDS.items() for ext in kind.extensions}


def _kind_of(file: DataFile) -> str | None:
    if _DOCUMENT.match(file.path.name):
        return None
    return _BY_EXTENSION.get(file.path.suffix.lower())


def _choose_kind(files: Sequence[DataFile], place: _Place) -> str:
    """The kind with the most files; of two with as many, the one with more bytes."""
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for file in files:
        if (kind := _kind_of(file)) is not None:
            count[kind] += 1
            size[kind] += file.size_bytes
    if count:
        return max(count, key=lambda kind: (count[kind], size[kind]))
    if not files:
        raise PerfdoctorError(f"{place.name} holds no files", slug="data-empty")
    known = ", ".join(f"{name} ({' '.join(k.extensions)})" for name, k in KINDS.items())
    raise PerfdoctorError(
        f"no data recognised in {place.name}: found {_tally(files)}; known are {known}; for other "
        "data write a workload in Python and pass --workload FILE.py",
        slug="data-not-recognised",
    )


def _training_part(files: list[DataFile]) -> tuple[list[DataFile], list[DataFile]]:
    """The files to train on, and those that names like `val` or `test` set apart from `train`."""
    held_out = [file for file in files if _split_words(file) & _HELD_OUT]
    training = any(_split_words(file) & _TRAINING for file in files)
    if not training or len(held_out) == len(files):
        return files, []
    apart = set(held_out)
    return [file for file in files if file not in apart], held_out


def _split_words(file: DataFile) -> set[str]:
    """The words of the file's name, and the names of its folders."""
    return {*words(file.path.stem), *(name.lower() for name in file.folders)}


def _recogniser(kind: str) -> Callable[[Found], Recognised]:
    module, _, function = KINDS[kind].recogniser.partition(":")
    found: Callable[[Found], Recognised] = getattr(import_module(module), function)
    return found


def _notes(
    every: Sequence[DataFile], rest: Sequence[DataFile], held_out: Sequence[DataFile]
) -> tuple[str, ...]:
    notes = []
    if held_out:
        names = counted(len(held_out), "file")
        notes.append(f"Left out as held-out data: {names} named val, test or alike.")
    if rest:
        notes.append(f"Left out as another kind of file: {_tally(rest)}.")
    if len(every) == MAX_FILES:
        notes.append(f"Only the first {MAX_FILES} files were looked at.")
    return tuple(notes)


def _tally(files: Sequence[DataFile]) -> str:
    """For example "3 .md files, 1 .py file"."""
    count = Counter(file.path.suffix.lower() for file in files).most_common()
    shown = [
        counted(n, f"{suffix or 'extensionless'} file") for suffix, n in count[:_SHOWN_EXTENSIONS]
    ]
    others = sum(n for _, n in count[_SHOWN_EXTENSIONS:])
    return ", ".join([*shown, f"{others} others"] if others else shown)


def _workload(
    recognised: Recognised, what: str, notes: tuple[str, ...], batch_size_hint: int | None
) -> Workload:
    reference = recognised.reference
    model = reference.make()
    batch_size = batch_size_hint or reference.batch_size
    return Workload(
        model=model,
        dataset=recognised.dataset,
        loss=reference.loss,
        batch_size=min(batch_size, recognised.samples or batch_size),
        name=f"{type(model).__name__} on {what}",
        notes=(*notes, reference.note(model)),
    )
