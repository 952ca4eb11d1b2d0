from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data_files import jpeg, load, train_one_step, write_images
from PIL import Image

from perfdoctor.errors import PerfdoctorError
from perfdoctor.workload import UnreadableSampleError


def test_class_folders_become_labels(tmp_path: Path) -> None:
    write_images(tmp_path / "cat", 3)
    write_images(tmp_path / "dog", 2)
    workload = load(tmp_path)
    assert [int(workload.dataset[i][1]) for i in range(5)] == [0, 0, 0, 1, 1]
    assert workload.model.head.out_features == 2
    assert f"Recognised 5 images in 2 class folders ({tmp_path}/)." in workload.notes
    assert train_one_step(workload) > 0


def test_a_folder_around_the_class_folders_is_no_class(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "cat")
    write_images(tmp_path / "images" / "dog")
    assert load(tmp_path).model.head.out_features == 2


def test_a_flat_folder_gets_placeholder_labels_and_says_so(tmp_path: Path) -> None:
    write_images(tmp_path, 12)
    workload = load(tmp_path)
    assert [int(workload.dataset[i][1]) for i in range(12)] == [*range(10), 0, 1]
    assert "labels are placeholders" in workload.notes[0]
    train_one_step(workload)


def test_images_of_every_mode_and_size_come_out_alike(tmp_path: Path) -> None:
    for mode, name in (("L", "a.png"), ("RGBA", "b.webp"), ("P", "c.gif"), ("RGB", "D.JPG")):
        Image.new(mode, (30, 50)).save(tmp_path / name)
    workload = load(tmp_path)
    assert len(workload.dataset) == 4
    for image, _ in workload.dataset:
        assert image.shape == (3, 128, 128)
        assert image.dtype == torch.float32


def test_pixels_are_normalised_as_torchvision_documents_it(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (255, 0, 0)).save(tmp_path / "red.png")
    pixel = load(tmp_path).dataset[0][0][:, 5, 5]
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert pixel.tolist() == pytest.approx(expected, abs=1e-4)


def test_two_workers_load_the_same_batch(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 6)
    write_images(tmp_path / "b", 6)
    train_one_step(load(tmp_path), workers=2)


@pytest.mark.parametrize("damage", [b"", b"not an image", jpeg()[:400]])
def test_a_damaged_image_raises_unreadable_sample_with_its_path(
    tmp_path: Path, damage: bytes
) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "9.jpg").write_bytes(damage)
    dataset = load(tmp_path).dataset
    with pytest.raises(UnreadableSampleError) as caught:
        dataset[3]
    assert caught.value.path == str(tmp_path / "9.jpg")
    assert caught.value.reason
    assert dataset[2][0].shape == (3, 128, 128)


def test_a_damaged_first_image_does_not_condemn_the_rest(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "0.jpg").write_bytes(b"junk")
    assert len(load(tmp_path).dataset) == 3


def test_strict_refuses_a_damaged_first_image(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "0.jpg").write_bytes(b"junk")
    with pytest.raises(PerfdoctorError, match=r"cannot read .*0\.jpg"):
        load(tmp_path, strict=True)


def test_a_folder_of_nothing_but_damaged_images_is_refused(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(b"junk")
    with pytest.raises(PerfdoctorError, match=r"cannot read .*0\.jpg.*nor any of 3 files"):
        load(tmp_path)
