"""The kinds of data that are recognised in a folder: the table, and what a kind gets and gives.

To add a kind: a file with `recognise(found: Found) -> Recognised`, and a line in `KINDS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from perfdoctor.errors import PerfdoctorError, first_line

if TYPE_CHECKING:
    from perfdoctor.workloads.reference import Reference

T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """Attributes: recogniser: "module:function"; extensions: lower case; help: one line."""

    recogniser: str
    extensions: tuple[str, ...]
    help: str


KINDS = {
    "images": Kind(
        "perfdoctor.workloads.images:recognise",
        (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
        "image files, in class folders or flat",
    ),
    "arrays": Kind(
        "perfdoctor.workloads.arrays:recognise",
        (".npy", ".npz", ".pt", ".pth", ".safetensors"),
        "NumPy, PyTorch or safetensors arrays of samples, or one file a sample",
    ),
    "tables": Kind(
        "perfdoctor.workloads.tables:recognise",
        (".csv", ".tsv", ".parquet"),
        "tables with a label or target column",
    ),
    "tokens": Kind(
        "perfdoctor.workloads.tokens:recognise",
        (".txt", ".bin"),
        "text, or uint16 token ids as nanoGPT writes them",
    ),
    "shards": Kind(
        "perfdoctor.workloads.shards:recognise",
        (".tar",),
        "tar shards in the WebDataset layout",
    ),
}


@dataclass(frozen=True)
class DataFile:
    """A file, and the names of the folders between it and the folder that was searched."""

    path: Path
    folders: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a kind gets: its files, sorted. `where` is how notes and messages call the place."""

    where: str
    files: tuple[DataFile, ...]
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a kind gives. `samples` is None where only reading everything would tell."""

    dataset: Any
    samples: int | None
    reference: Reference
    notes: tuple[str, ...]


def class_labels(files: Sequence[DataFile]) -> tuple[list[int], list[str]] | None:
    """A label for each file and the class names, from the folders that the files lie in.

    The class is the first folder in which the files differ, as in torchvision's ImageFolder.
    None where there are fewer than two, or some file lies beside them.
    """
    depth = _common_depth([file.folders for file in files])
    if any(len(file.folders) <= depth for file in files):
        return None
    names = sorted({file.folders[depth] for file in files})
    if len(names) < 2:
        return None
    index = {name: label for label, name in enumerate(names)}
    return [index[file.folders[depth]] for file in files], names


def _common_depth(folders: Sequence[tuple[str, ...]]) -> int:
    depth = 0
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        depth += 1
    return depth


def read_each(
    files: Sequence[DataFile], read: Callable[[Path], T], *, strict: bool
) -> tuple[list[tuple[DataFile, T]], list[tuple[str, str]]]:
    """Reads files that must be read at construction: what was read, and (path, reason) skipped.

    Raises:
        PerfdoctorError: a file is unreadable and `strict`, or none is readable.
    """
    done: list[tuple[DataFile, T]] = []
    skipped: list[tuple[str, str]] = []
    for file in files:
        try:
            done.append((file, read(file.path)))
        except PerfdoctorError:
            raise
        except Exception as error:  # parsers of damaged files raise anything
            if strict:
                raise unreadable(file.path, reason_of(error)) from None
            skipped.append((str(file.path), reason_of(error)))
    if not done:
        raise none_readable(skipped)
    return done, skipped


def unreadable(path: Path, reason: str) -> PerfdoctorError:
    """The error for one file that cannot be read where the user asked for `--strict`."""
    return PerfdoctorError(f"cannot read {path}: {reason}", slug="data-unreadable")


def none_readable(skipped: Sequence[tuple[str, str]]) -> PerfdoctorError:
    """The error for data of which no file can be read; names the first."""
    path, reason = skipped[0]
    only = "it is the only data file" if len(skipped) == 1 else f"nor any of {len(skipped)} files"
    return PerfdoctorError(f"cannot read {path}: {reason} ({only})", slug="data-unreadable")


def reason_of(error: BaseException) -> str:
    """Why a file cannot be read, on one line."""
    if type(error) is ValueError and str(error):
        return str(error).splitlines()[0]
    return first_line(error)


def words(name: str) -> list[str]:
    """The words and numbers in the name of a file or an array: `X_train2` → x, train, 2."""
    return re.findall(r"[^\W\d_]+|\d+", name.lower())


def counted(count: int, noun: str) -> str:
    """For example "1 file", "3 files"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def missing_extra(package: str, what: str) -> PerfdoctorError:
    """The error for data that needs a package of the extra `data`."""
    return PerfdoctorError(
        f"{what} needs {package}, which is not installed: pip install 'perfdoctor[data]'",
        slug="extra-missing",
    )
