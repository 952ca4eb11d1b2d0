"""Reads array files without ever unpickling code, and finds the samples and targets in them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perfdoctor.workloads.kinds import missing_extra, words

Array = NDArray[Any] | Tensor

X_NAMES = ("x", "data", "features", "inputs", "images", "input", "image", "feature", "signals")
Y_NAMES = ("y", "label", "labels", "target", "targets", "output", "outputs", "classes")
_HELD_OUT = {"val", "valid", "validation", "dev", "test", "eval"}


@dataclass(frozen=True)
class Arrays:
    """What one file holds: samples, or one sample, and its targets if it names any."""

    x: Array
    y: NDArray[Any] | None = None


def read_arrays(path: Path) -> Arrays:
    """The samples in a file, and the targets where the file names them.

    A `.npy` file is mapped, not read. Pickled objects are refused unopened: `allow_pickle=False`
    for NumPy, `weights_only=True` for PyTorch.

    Raises:
        PerfdoctorError: safetensors is not installed.
        Exception: anything else that a damaged or foreign file makes the readers raise.
    """
    arrays = _READERS[path.suffix.lower()](path)
    x = arrays.x
    if x.is_complex() if isinstance(x, Tensor) else x.dtype.kind not in "biuf":
        raise ValueError(f"holds values of type {x.dtype}, not real numbers")
    return arrays


def as_sample(x: Array) -> Tensor:
    """A sample as float32; bytes as fractions of 255, as images are stored."""
    tensor = x if isinstance(x, Tensor) else torch.from_numpy(np.array(x, order="C"))
    scaled = tensor.to(torch.float32)
    return scaled / 255 if tensor.dtype == torch.uint8 else scaled


def named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of `names` with a word from `wanted`, in the order of `wanted`."""
    return next((n for word in wanted for n in names if word in words(n)), None)


def _read_npy(path: Path) -> Arrays:
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError("is not in the .npy format; pickled Python objects are never loaded")
    return Arrays(np.load(path, mmap_mode="r", allow_pickle=False))


def _read_npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return _pick(file.files, file.__getitem__)


def _read_torch(path: Path) -> Arrays:
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            "not a file of plain tensors; pickled Python objects are never loaded, since that "
            "could run code: save a tensor or a dict of tensors"
        ) from None
    if isinstance(held, Tensor):
        return Arrays(held)
    if isinstance(held, Mapping):
        tensors = {str(k): v for k, v in held.items() if isinstance(v, Tensor)}
        return _pick(list(tensors), tensors.__getitem__)
    if isinstance(held, tuple | list) and held:
        return _from_list(held)
    raise ValueError(f"holds a {type(held).__name__}, not a tensor or a dict of tensors")


def _from_list(held: Sequence[Any]) -> Arrays:
    """Samples and targets, a list of samples, or a list of (sample, target)."""
    if all(isinstance(part, Tensor) for part in held):
        return (
            Arrays(held[0], as_numpy(held[1])) if len(held) == 2 else Arrays(torch.stack([*held]))
        )
    if all(isinstance(part, tuple | list) and len(part) == 2 for part in held):
        targets = torch.stack([torch.as_tensor(y) for _, y in held])
        return Arrays(torch.stack([torch.as_tensor(x) for x, _ in held]), as_numpy(targets))
    raise ValueError("holds a list, but neither of tensors nor of (sample, target) pairs")


def _read_safetensors(path: Path) -> Arrays:
    try:
        from safetensors import safe_open
    except ImportError:
        raise missing_extra("safetensors", str(path)) from None
    with safe_open(path, framework="pt") as file:
        return _pick(list(file.keys()), file.get_tensor)


_READERS: dict[str, Callable[[Path], Arrays]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".safetensors": _read_safetensors,
}


def _pick(names: Sequence[str], get: Callable[[str], Array]) -> Arrays:
    """Samples and targets by name; a single array is the samples whatever its name."""
    training = [n for n in names if not _HELD_OUT.intersection(words(n))] or list(names)
    y = named(training, Y_NAMES)
    others = [n for n in training if n != y]
    x = named(others, X_NAMES) or (others[0] if len(others) == 1 else None)
    if x is None:
        raise ValueError(
            f"no array in it is named {', '.join(X_NAMES[:5])} or alike; it has "
            f"{', '.join(sorted(names)[:5]) or 'none'}"
        )
    return Arrays(get(x), None if y is None else as_numpy(get(y)))


def as_numpy(y: Array) -> NDArray[Any]:
    """Targets as a NumPy array; types that NumPy lacks, such as bfloat16, as float32."""
    if not isinstance(y, Tensor):
        return np.asarray(y)
    plain = y.float() if y.is_floating_point() else y
    array: NDArray[Any] = plain.numpy()
    return array


def is_image(x: Array) -> bool:
    """Bytes in two dimensions a sample are grey images, as in MNIST; other numbers sequences."""
    return x.dtype in (torch.uint8, np.dtype("uint8"))
