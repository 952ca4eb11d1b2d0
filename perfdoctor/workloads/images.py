"""Image files, in class folders or flat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from perfdoctor.workload import UnreadableSampleError
from perfdoctor.workloads.kinds import (
    Found,
    Recognised,
    class_labels,
    none_readable,
    reason_of,
    unreadable,
)
from perfdoctor.workloads.reference import Task, reference_for

IMAGE_SIDE = 128
#: Labels of images that lie in no class folders.
PLACEHOLDER_CLASSES = 10
#: How many images may be unreadable at the start before the data as a whole counts as such.
_PROBED = 64

# The usual statistics of ImageNet.
_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class ImageFiles(Dataset[tuple[Tensor, Tensor]]):
    """Decodes one file a sample: RGB, 128 × 128, normalised; the label as int64.

    `__getitem__` raises `UnreadableSampleError` for a file that cannot be decoded.
    """

    def __init__(self, paths: Sequence[Path], labels: Sequence[int]) -> None:
        self.paths = tuple(map(str, paths))
        self.labels = tuple(labels)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path = self.paths[index]
        try:
            with Path(path).open("rb") as file:
                image = decode(file)
        except Exception as error:  # Pillow's decoders raise anything on damaged files
            raise UnreadableSampleError(path, reason_of(error)) from error
        return image, torch.tensor(self.labels[index])


def decode(file: IO[bytes]) -> Tensor:
    """An image file as a normalised float tensor (3, 128, 128). Raises whatever Pillow raises."""
    with Image.open(file) as image:
        small = image.convert("RGB").resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    return pixels.to(torch.float32).div_(255).sub_(_MEAN).div_(_STD)


def recognise(found: Found) -> Recognised:
    """A dataset of images and a small CNN.

    Raises:
        PerfdoctorError: none of the first files can be decoded; with `strict`, if one cannot.
    """
    count = len(found.files)
    labelled = class_labels(found.files)
    if labelled is None:
        classes, labels = PLACEHOLDER_CLASSES, [i % PLACEHOLDER_CLASSES for i in range(count)]
        how = (
            "; there are no class folders, so labels are placeholders, which does not change "
            "the speed"
        )
    else:
        classes, labels = len(labelled[1]), labelled[0]
        how = f" in {classes} class folders"
    notes = (f"Recognised {count} images{how} ({found.where}).",)
    dataset = ImageFiles([file.path for file in found.files], labels)
    _check_first(dataset, strict=found.strict)
    reference = reference_for((3, IMAGE_SIDE, IMAGE_SIDE), Task(classes, classify=True))
    return Recognised(dataset=dataset, samples=count, reference=reference, notes=notes)


def _check_first(dataset: ImageFiles, *, strict: bool) -> None:
    """Finds out now, not in a worker later, that the files are no images at all."""
    failed = []
    for index in range(min(_PROBED, len(dataset))):
        try:
            dataset[index]
        except UnreadableSampleError as error:
            if strict:
                raise unreadable(Path(error.path), error.reason) from None
            failed.append((error.path, error.reason))
        else:
            return
    raise none_readable(failed)
