"""Workloads that need nothing from the user: real JPEG files in the cache, and a small search."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfdoctor.errors import PerfdoctorError, first_line
from perfdoctor.workload import Workload, WorkloadFactory
from perfdoctor.workloads.folder import from_data_dir

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray
    from PIL.Image import Image

#: Called with a label, how many are done, and how many there are.
Progress = Callable[[str, int, int], None]

DEMOS: dict[str, str] = {
    "images": "320 generated JPEG pictures in four classes and a small CNN",
    "darts": "a small second-order DARTS search on images in memory",
}

IMAGES = 320
CLASSES = ("discs", "frames", "stripes", "triangles")
#: Part of the folder's name: another number wherever the images are made differently.
_VERSION = 1
_LONG_SIDE_PX = (300, 640)
_JPEG_QUALITY = 86


def demo(name: str, on_progress: Progress | None = None) -> WorkloadFactory:
    """A factory for one of `DEMOS`. The images are made once and kept in the user's cache.

    Raises:
        PerfdoctorError: no demo of this name, or the cache cannot be written.
    """
    if name == "images":
        return _images(on_progress)
    if name == "darts":
        from perfdoctor.workloads.darts import workload

        return workload
    raise PerfdoctorError(
        f"no demo named {name!r}; there are {', '.join(DEMOS)}", slug="demo-unknown"
    )


def cache_dir() -> Path:
    """`$PERFDOCTOR_CACHE_DIR`, else the folder where this system keeps a user's caches."""
    if own := os.environ.get("PERFDOCTOR_CACHE_DIR"):
        return Path(own).expanduser()
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    base = os.environ.get(variable)
    return (Path(base) if base else Path.home() / ".cache") / "perfdoctor"


def _images(on_progress: Progress | None) -> WorkloadFactory:
    folder = demo_images(cache_dir(), on_progress)
    make = from_data_dir(str(folder))
    workers = 1 if _usable_cores() > 1 else 0

    def factory() -> Workload:
        made = make()
        note = f"The demo loads with {workers} DataLoader worker{'s' if workers != 1 else ''}."
        return replace(
            made,
            loader_options={"num_workers": workers},
            name=f"{type(made.model).__name__} on the demo images",
            notes=(*made.notes, note),
        )

    return factory


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def demo_images(cache: Path, on_progress: Progress | None = None) -> Path:
    """The folder of demo images in `cache`; made now if it is not there.

    The images are written to a folder beside it that is then renamed, so that a run that was
    interrupted, or runs at the same time, cannot leave half a data set.

    Raises:
        PerfdoctorError: `cache` cannot be written.
    """
    folder = cache / f"demo-images-{_VERSION}"
    if _is_complete(folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(cache) as temporary:
            _write_images(temporary, on_progress)
            _publish(temporary, folder)
    except OSError as error:
        raise PerfdoctorError(
            f"cannot write the demo images to {cache}: {first_line(error)}; "
            "set PERFDOCTOR_CACHE_DIR to a folder that you can write",
            slug="cache-unwritable",
        ) from None
    return folder


def _is_complete(folder: Path) -> bool:
    return sum(1 for _ in folder.glob("*/*.jpg")) == IMAGES


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    temporary = Path(tempfile.mkdtemp(prefix=".demo-images-", dir=parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    """Renames; where another run was first and its images are whole, they stay."""
    try:
        temporary.rename(folder)
    except OSError:
        if _is_complete(folder):
            return
        shutil.rmtree(folder)
        temporary.rename(folder)


def _write_images(folder: Path, on_progress: Progress | None) -> None:
    import numpy as np

    grain = np.random.default_rng(0).normal(0, 5, (_LONG_SIDE_PX[1] * 2,) * 2).astype(np.float32)
    for name in CLASSES:
        (folder / name).mkdir()
    for index in range(IMAGES):
        name = CLASSES[index % len(CLASSES)]
        image = draw(index, name, grain)
        image.save(folder / name / f"{index:04d}.jpg", quality=_JPEG_QUALITY)
        if on_progress is not None:
            on_progress("writing demo images", index + 1, IMAGES)


def draw(seed: int, name: str, grain: NDArray[Any]) -> Image:
    """One picture: smooth colours, a few shapes of the class `name`, and a sensor's grain."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    long = int(rng.integers(*_LONG_SIDE_PX))
    sides = [long, int(long * rng.uniform(0.67, 1))]
    width, height = sides if rng.random() < 0.5 else reversed(sides)
    image = _smooth(rng, width, height)
    _shapes(image, rng, name)
    top, left = rng.integers(0, len(grain) - max(width, height), size=2)
    speckle = grain[top : top + height, left : left + width, None] * rng.uniform(0.5, 1.2)
    pixels = np.asarray(image, dtype=np.float32) + speckle
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _smooth(rng: Generator, width: int, height: int) -> Image:
    """Three octaves of noise, each twice as fine and half as strong as the one before."""
    import numpy as np
    from PIL import Image

    coarse = Image.fromarray(rng.integers(30, 226, (4, 4, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    for cells, weight in ((12, 0.3), (40, 0.15)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        fine = noise.resize((width, height), Image.Resampling.BICUBIC)
        image = Image.blend(image, fine, weight)
    return image


def _shapes(image: Image, rng: Generator, name: str) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 9))):
        size = int(rng.uniform(0.1, 0.4) * min(image.size))
        x, y = int(rng.integers(0, image.width)), int(rng.integers(0, image.height))
        red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
        box, colour = (x - size, y - size, x + size, y + size), (red, green, blue)
        if name == "discs":
            pen.ellipse(box, fill=colour)
        elif name == "frames":
            pen.rectangle(box, outline=colour, width=max(3, size // 5))
        elif name == "stripes":
            pen.line((x, 0, x + size, image.height), fill=colour, width=max(3, size // 4))
        else:
            pen.polygon(((x, y - size), (x - size, y + size), (x + size, y + size)), fill=colour)
