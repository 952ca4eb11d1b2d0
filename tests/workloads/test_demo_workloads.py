from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from data_files import train_one_step
from PIL import Image
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader

from perfdoctor.errors import PerfdoctorError
from perfdoctor.workloads import DEMOS, darts, demo, from_spec
from perfdoctor.workloads.demos import IMAGES, cache_dir, demo_images


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's images, made once for this file."""
    folder = tmp_path_factory.mktemp("cache")
    demo_images(folder)
    return folder


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Makes the demo of 8 images, for tests that write them anew."""
    monkeypatch.setattr("perfdoctor.workloads.demos.IMAGES", 8)
    return 8


def test_the_demo_images_are_varied_jpeg_files_of_a_photographs_size(cache: Path) -> None:
    files = sorted(cache.glob("demo-images-*/*/*.jpg"))
    assert len(files) == IMAGES == 320
    assert len({file.parent.name for file in files}) == 4
    sizes = sorted(file.stat().st_size for file in files)
    assert sizes[0] > 10_000
    assert 15_000 < sizes[len(sizes) // 2] < 80_000
    sides = {side for file in files[::20] for side in Image.open(file).size}
    assert min(sides) >= 200
    assert max(sides) <= 640
    assert len(sides) > 10


def test_the_images_demo_trains_a_small_cnn(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFDOCTOR_CACHE_DIR", str(cache))
    monkeypatch.setattr("perfdoctor.workloads.demos._usable_cores", lambda: 2)
    workload = demo("images")()
    assert workload.name == "SmallCNN on the demo images"
    assert workload.batch_size == 32
    assert workload.loader_options == {"num_workers": 1}
    assert "The demo loads with 1 DataLoader worker." in workload.notes
    assert "Recognised 320 images in 4 class folders" in workload.notes[0]
    train_one_step(workload)


def test_on_one_core_the_demo_loads_without_workers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFDOCTOR_CACHE_DIR", str(cache))
    monkeypatch.setattr("perfdoctor.workloads.demos._usable_cores", lambda: 1)
    assert demo("images")().loader_options == {"num_workers": 0}


def test_the_images_are_made_once_and_progress_is_told(tmp_path: Path, few: int) -> None:
    told: list[tuple[str, int, int]] = []
    folder = demo_images(tmp_path / "new" / "cache", lambda *step: told.append(step))
    assert told == [("writing demo images", i + 1, few) for i in range(few)]
    made = {file: file.stat().st_mtime_ns for file in folder.rglob("*.jpg")}
    assert demo_images(tmp_path / "new" / "cache", lambda *step: told.append(step)) == folder
    assert len(told) == few
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.jpg")} == made


def test_the_same_images_are_made_everywhere(tmp_path: Path, few: int) -> None:
    one, two = demo_images(tmp_path / "one"), demo_images(tmp_path / "two")
    for file in one.rglob("*.jpg"):
        assert file.read_bytes() == (two / file.relative_to(one)).read_bytes()


def test_an_interrupted_run_leaves_nothing_and_the_next_makes_them_whole(
    tmp_path: Path, few: int
) -> None:
    def interrupt(label: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo_images(tmp_path, interrupt)
    assert list(tmp_path.iterdir()) == []
    assert len(list(demo_images(tmp_path).rglob("*.jpg"))) == few


def test_images_that_somebody_deleted_are_made_again(tmp_path: Path, few: int) -> None:
    folder = demo_images(tmp_path)
    next(folder.rglob("*.jpg")).unlink()
    assert len(list(demo_images(tmp_path).rglob("*.jpg"))) == few


def test_of_two_runs_at_the_same_time_the_first_ones_images_stay(tmp_path: Path, few: int) -> None:
    inner: list[Path] = []

    def run_another(label: str, done: int, total: int) -> None:
        if done == 4:
            inner.append(demo_images(tmp_path))
            (inner[0] / "of the first").touch()

    assert demo_images(tmp_path, run_another) == inner[0]
    assert (inner[0] / "of the first").exists()
    assert list(tmp_path.iterdir()) == inner


def test_a_cache_that_cannot_be_written_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PerfdoctorError, match=r"cannot write .*set PERFDOCTOR_CACHE_DIR"):
        demo_images(tmp_path / "file" / "cache")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("perfdoctor.workloads.demos._write_images", full)
    with pytest.raises(PerfdoctorError, match="No space left on device"):
        demo_images(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"PERFDOCTOR_CACHE_DIR": "/own"}, Path("/own")),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, Path("/xdg/perfdoctor")),
        ("linux", {}, Path.home() / ".cache" / "perfdoctor"),
        ("win32", {"LOCALAPPDATA": "/local"}, Path("/local/perfdoctor")),
    ],
)
def test_the_cache_lies_where_the_system_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: Path
) -> None:
    for name in ("PERFDOCTOR_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_dir() == expected


def test_an_unknown_demo_is_refused_with_those_there_are() -> None:
    with pytest.raises(PerfdoctorError, match="no demo named 'cats'; there are images, darts"):
        demo("cats")
    assert list(DEMOS) == ["images", "darts"]


def test_the_darts_demo_is_a_second_order_search_that_trains() -> None:
    workload = demo("darts")()
    loader = DataLoader(workload.dataset, workload.batch_size)
    x, y = next(iter(loader))
    F.cross_entropy(workload.model(x), y).backward()
    alphas = workload.arch_parameters[0]  # type: ignore[index]
    assert alphas is workload.model.alphas
    assert alphas.grad.abs().min() > 0
    assert workload.arch_order == 2
    assert workload.val_dataset is not None
    assert not torch.equal(workload.val_dataset[0][0], workload.dataset[0][0])


def test_the_mixture_follows_the_alphas() -> None:
    mixed = darts.MixedOp(4).eval()
    x = torch.randn(2, 4, 8, 8)
    weights = torch.zeros(len(darts.CANDIDATES))
    weights[0] = 1.0
    assert torch.allclose(mixed(x, weights), x)
    assert len(mixed.candidates) == len(darts.CANDIDATES)


def test_the_search_learns_its_synthetic_images() -> None:
    torch.manual_seed(0)
    workload = darts.workload()
    parameters = [p for p in workload.model.parameters() if p is not workload.model.alphas]
    optimizer = darts.weight_optimizer(parameters)
    losses = []
    for step in range(15):
        x, y = workload.dataset[32 * step : 32 * (step + 1)]
        loss = F.cross_entropy(workload.model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_search_can_be_named_as_a_workload() -> None:
    assert from_spec("perfdoctor.workloads.darts:workload")().arch_order == 2
