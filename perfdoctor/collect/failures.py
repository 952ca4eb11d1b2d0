"""Turns what user code, PyTorch and the system raise into errors that name the way out."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any

import torch

from perfdoctor.collect.batches import tensors
from perfdoctor.collect.out_of_memory import OUT_OF_MEMORY, said
from perfdoctor.errors import PerfdoctorError, UserCodeError, first_line

_WORKER_DIED = re.compile(r"DataLoader worker \(pid")
_SHAPE_WORDS = re.compile(
    r"mat1 and mat2 shapes|size of tensor|shape|channels|dimension|expected input", re.IGNORECASE
)


class OutOfMemoryError(PerfdoctorError):
    """The batch does not fit; the caller looks for the largest that does."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"out of memory: {reason}", slug=OUT_OF_MEMORY)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host ran out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if not isinstance(error, RuntimeError) or worker_died(error):
        return False
    return said(str(error))


class in_user_code:  # noqa: N801 - reads as a statement; a class, since generators cost 1 µs
    """A context in which an exception is the user's: shown with their traceback, not with ours.

    Args:
        what: the part that runs, as the message names it.
        values: its tensors; their shapes are shown where shapes may be the cause.
    """

    def __init__(self, what: str, values: Any = None) -> None:
        self._what = what
        self._values = values

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        users = isinstance(error, (Exception, SystemExit))
        if error is None or isinstance(error, PerfdoctorError) or not users:
            return
        if is_out_of_memory(error):
            raise OutOfMemoryError(first_line(error)) from error
        if worker_died(error):
            raise worker_failure(error) from None
        raise UserCodeError(self._message(error), slug="user-code", cause=error) from error

    def _message(self, error: BaseException) -> str:
        message = f"the {self._what} failed: {first_line(error)}"
        shapes = [f"{tuple(t.shape)} {t.dtype}" for t in tensors(self._values)]
        if shapes and _SHAPE_WORDS.search(str(error)):
            message += f"; its tensors were {', '.join(shapes)}"
        return message


def batch_failure(failure: tuple[str, str, str]) -> PerfdoctorError:
    """The error for a batch whose making failed in the dataset or the collate function."""
    where, line, details = failure
    if line.startswith("UnreadableSampleError"):
        reason = line.partition(": ")[2]
        return PerfdoctorError(
            f"cannot read {reason}; mend or remove the file, or leave out --strict to skip it",
            slug="data-unreadable",
        )
    return UserCodeError(f"the {where} failed: {line}", slug="user-code", details=details)


def worker_died(error: BaseException) -> bool:
    """Whether a DataLoader worker was ended from outside."""
    return isinstance(error, RuntimeError) and bool(_WORKER_DIED.search(str(error)))


def worker_failure(error: BaseException) -> PerfdoctorError:
    """What a killed worker means for the user."""
    reason = first_line(error).partition(": ")[2].rstrip(". ")
    return PerfdoctorError(
        f"{reason}; the system may have run out of memory (or of /dev/shm): use fewer "
        "--num-workers, a smaller --batch-size or --prefetch-factor",
        slug="worker-killed",
    )
