"""Small real files for the tests of workloads, and one training step on what was made of them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from perfdoctor.workload import Workload
from perfdoctor.workloads import from_data_dir


def jpeg(side: int = 40, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 10, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, payload in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))


def write_images(folder: Path, count: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i}.jpg").write_bytes(jpeg(seed=i))


def load(folder: Path | str, **options: Any) -> Workload:
    return from_data_dir(str(folder), **options)()


def one_batch(workload: Workload, workers: int = 0) -> tuple[Tensor, Tensor]:
    loader = DataLoader(workload.dataset, batch_size=workload.batch_size or 1, num_workers=workers)
    x, y = next(iter(loader))
    return x, y


def train_one_step(workload: Workload, workers: int = 0) -> float:
    """Forward and backward on one batch; every parameter must have got a finite gradient."""
    assert workload.loss is not None
    x, y = one_batch(workload, workers)
    loss = workload.loss(workload.model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in workload.model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    return float(loss.detach())


class Payload:
    """Unpickling it makes a folder, which proves that code ran."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)
