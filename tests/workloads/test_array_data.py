from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import Payload, load, one_batch, train_one_step
from safetensors.numpy import save_file

from perfdoctor.errors import PerfdoctorError
from perfdoctor.workload import UnreadableSampleError

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RNG.normal(size=shape).astype(np.float32)


def classes(count: int, of: int = 3) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(count) % of


@pytest.mark.parametrize(
    ("x", "model", "batch_shape"),
    [
        (floats(300, 10), "MLP", (256, 10)),
        (floats(40), "MLP", (40,)),
        (floats(70, 32, 4), "TCN", (64, 32, 4)),
        (floats(70, 4, 32), "TCN", (64, 4, 32)),
        (floats(6, 3, 20, 20), "SmallCNN", (6, 3, 20, 20)),
        (floats(6, 20, 20, 3), "SmallCNN", (6, 20, 20, 3)),
        (floats(6, 5, 2, 12, 12), "SmallCNN", (6, 5, 2, 12, 12)),
        (RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8), "SmallCNN", (32, 28, 28)),
    ],
)
def test_the_shape_decides_the_model(
    tmp_path: Path, x: np.ndarray[Any, Any], model: str, batch_shape: tuple[int, ...]
) -> None:
    np.savez(tmp_path / "d.npz", x=x, y=classes(len(x)))
    workload = load(tmp_path)
    assert type(workload.model).__name__ == model
    assert workload.name == f"{model} on arrays in {tmp_path}/"
    assert one_batch(workload)[0].shape == batch_shape
    train_one_step(workload)


def test_bytes_are_scaled_as_images_are(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.full((4, 3, 8, 8), 255, np.uint8))
    assert load(tmp_path).dataset[0][0].max() == 1


def test_one_array_without_targets_learns_the_mean_and_says_so(tmp_path: Path) -> None:
    x = floats(20, 16, 4)
    np.save(tmp_path / "d.npy", x)
    workload = load(tmp_path)
    assert float(workload.dataset[3][1]) == pytest.approx(float(x[3].mean()), abs=1e-6)
    assert "20 samples of shape (16, 4) in 1 file; no targets" in workload.notes[0]
    train_one_step(workload)


def test_a_large_npy_file_stays_on_the_disk_and_travels_to_workers_as_a_path(
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "d.npy", floats(2000, 64))
    dataset = load(tmp_path).dataset
    assert isinstance(dataset.blocks[0], np.memmap)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 10_000
    assert torch.equal(pickle.loads(pickled)[7][0], dataset[7][0])


def save_npz(path: Path, **arrays: Any) -> None:
    np.savez(path.with_suffix(".npz"), **arrays)


def save_pt(path: Path, **arrays: Any) -> None:
    torch.save({k: torch.from_numpy(v) for k, v in arrays.items()}, path.with_suffix(".pt"))


def save_safetensors(path: Path, **arrays: Any) -> None:
    save_file(arrays, path.with_suffix(".safetensors"))


@pytest.mark.parametrize("save", [save_npz, save_pt, save_safetensors])
@pytest.mark.parametrize(
    ("x_name", "y_name"), [("x", "y"), ("features", "labels"), ("X_train", "Y_train")]
)
def test_samples_and_targets_are_found_by_name(
    tmp_path: Path, save: Any, x_name: str, y_name: str
) -> None:
    save(tmp_path / "d", **{x_name: floats(20, 6), y_name: classes(20)})
    workload = load(tmp_path)
    assert [int(workload.dataset[i][1]) for i in range(4)] == [0, 1, 2, 0]
    assert "targets: 3 classes" in workload.notes[0]
    train_one_step(workload)


def test_held_out_arrays_in_the_file_are_left_alone(tmp_path: Path) -> None:
    arrays = {"x_train": floats(20, 6), "y_train": classes(20)}
    np.savez(tmp_path / "mnist.npz", x_test=floats(5, 6), y_test=classes(5), **arrays)
    assert len(load(tmp_path).dataset) == 20


@pytest.mark.parametrize(
    "held",
    [
        torch.zeros(12, 5),
        (torch.zeros(12, 5), torch.arange(12) % 2),
        [torch.zeros(5) for _ in range(12)],
        [(torch.zeros(5), i % 2) for i in range(12)],
    ],
)
def test_every_usual_layout_of_a_pt_file_is_understood(tmp_path: Path, held: Any) -> None:
    torch.save(held, tmp_path / "d.pt")
    workload = load(tmp_path)
    assert len(workload.dataset) == 12
    assert workload.dataset[0][0].shape == (5,)
    train_one_step(workload)


def test_float_targets_are_predicted_as_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=floats(20, 6), y=1e6 + floats(20, 2))
    workload = load(tmp_path)
    assert workload.dataset[0][1].shape == (2,)
    assert train_one_step(workload) < 10  # standardised, or the loss would be 1e12


def test_labels_that_do_not_start_at_zero_are_renumbered(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=floats(4, 6), y=np.array([-1, 1, 1, 7]))
    assert [int(y) for _, y in load(tmp_path).dataset] == [0, 1, 1, 2]


def test_targets_as_large_as_images_are_replaced_by_the_mean(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=floats(4, 3, 40, 40), y=floats(4, 3, 40, 40))
    workload = load(tmp_path)
    assert workload.dataset[0][1].shape == (1,)
    assert "no targets" in workload.notes[0]


@pytest.mark.parametrize(
    ("x", "y"),
    [("x", "y"), ("X_train", "y_train"), ("x1", "y1"), ("features", "labels"), ("a", "a_label")],
)
def test_npy_files_beside_each_other_are_joined(tmp_path: Path, x: str, y: str) -> None:
    np.save(tmp_path / f"{x}.npy", floats(12, 5))
    np.save(tmp_path / f"{y}.npy", classes(12))
    workload = load(tmp_path)
    assert [int(workload.dataset[i][1]) for i in range(3)] == [0, 1, 2]
    train_one_step(workload)


def test_a_glob_joins_folders_and_pairs_within_each(tmp_path: Path) -> None:
    for run in range(3):
        folder = tmp_path / f"data_simulation_{run}"
        folder.mkdir()
        np.save(folder / "x.npy", np.full((4, 8, 2), 10 * run, np.float32))
        np.save(folder / "y.npy", np.full(4, run))
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "x.npy", floats(50, 8, 2))
    workload = load(tmp_path / "data_simulation_*")
    assert [int(y) for _, y in workload.dataset] == [0] * 4 + [1] * 4 + [2] * 4
    assert [float(x[0, 0]) for x, _ in workload.dataset] == [0.0] * 4 + [10.0] * 4 + [20.0] * 4
    assert f"{tmp_path}/data_simulation_*, 3 folders)" in workload.notes[0]
    train_one_step(workload)


def test_many_files_of_one_shape_are_one_sample_each(tmp_path: Path) -> None:
    for i in range(16):
        np.save(tmp_path / f"{i:02d}.npy", np.full((8, 3), i, np.float32))
    workload = load(tmp_path)
    assert len(workload.dataset) == 16
    assert float(workload.dataset[5][0][0, 0]) == 5
    assert "16 files, each a sample of shape (8, 3)" in workload.notes[0]
    train_one_step(workload)


def test_few_files_are_blocks_of_samples(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.full((8, 3), i, np.float32))
    workload = load(tmp_path)
    assert len(workload.dataset) == 24
    assert [float(workload.dataset[i][0][0]) for i in (7, 8, 15, 16)] == [0, 1, 1, 2]


def test_a_target_for_the_whole_file_makes_it_one_sample(tmp_path: Path) -> None:
    for i in range(4):
        np.savez(tmp_path / f"{i}.npz", x=floats(8, 3), y=np.array(i % 2))
    workload = load(tmp_path)
    assert [int(y) for _, y in map(workload.dataset.__getitem__, range(4))] == [0, 1, 0, 1]
    train_one_step(workload)


def test_class_folders_label_files_of_one_sample(tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        for i in range(8):
            np.save(tmp_path / name / f"{i}.npy", floats(8, 3))
    workload = load(tmp_path)
    assert [int(workload.dataset[i][1]) for i in (7, 8)] == [0, 1]
    train_one_step(workload, workers=2)


def test_a_damaged_file_among_samples_is_met_when_it_is_read(tmp_path: Path) -> None:
    for i in range(20):
        np.save(tmp_path / f"{i:02d}.npy", floats(8, 3))
    (tmp_path / "03.npy").write_bytes(b"junk")
    np.save(tmp_path / "04.npy", floats(9, 3))
    dataset = load(tmp_path).dataset
    with pytest.raises(UnreadableSampleError, match=r"03\.npy: is not in the \.npy format"):
        dataset[3]
    with pytest.raises(UnreadableSampleError, match=r"has shape \(9, 3\), others have \(8, 3\)"):
        dataset[4]
    assert dataset[5][0].shape == (8, 3)


def test_damaged_blocks_are_skipped_with_their_reason(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=floats(5, 4), y=classes(5))
    (tmp_path / "b.npz").write_bytes(b"junk")
    np.savez(tmp_path / "c.npz", x=floats(5, 9), y=classes(5))
    np.savez(tmp_path / "d.npz", x=floats(5, 4), y=classes(3))
    np.savez(tmp_path / "e.npz", x=floats(5, 4), y=classes(5))
    dataset = load(tmp_path).dataset
    assert len(dataset) == 10
    skipped = {Path(path).name: reason for path, reason in dataset.skipped}
    assert set(skipped) == {"b.npz", "c.npz", "d.npz"}
    assert skipped["c.npz"].startswith("has samples of shape (9,)")
    assert skipped["d.npz"] == "has 5 samples but targets of shape (3,)"


def test_strict_refuses_a_damaged_block(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=floats(5, 4), y=classes(5))
    (tmp_path / "b.npz").write_bytes(b"junk")
    with pytest.raises(PerfdoctorError, match=r"cannot read .*b\.npz"):
        load(tmp_path, strict=True)


def test_arrays_that_cannot_be_told_apart_are_refused_with_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", alpha=floats(5, 4), beta=floats(5, 4))
    with pytest.raises(PerfdoctorError, match=r"no array in it is named x, .*it has alpha, beta"):
        load(tmp_path)


@pytest.mark.parametrize("values", [np.array(["a", "b"]), np.zeros((3, 2), np.complex64)])
def test_arrays_of_other_than_real_numbers_are_refused(
    tmp_path: Path, values: np.ndarray[Any, Any]
) -> None:
    np.save(tmp_path / "d.npy", values)
    with pytest.raises(PerfdoctorError, match="not real numbers"):
        load(tmp_path)


def test_a_row_of_integers_is_read_as_token_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", (np.arange(1000) % 50).astype(np.uint16))
    workload = load(tmp_path)
    x, y = workload.dataset[1]
    assert x[:3].tolist() == [28, 29, 30]
    assert y[:3].tolist() == [29, 30, 31]
    assert workload.model.head.out_features == 50
    train_one_step(workload)


def write_object_npy(path: Path, payload: Payload) -> Path:
    np.save(path / "d.npy", np.array([payload, None], dtype=object), allow_pickle=True)
    return path / "d.npy"


def write_object_npz(path: Path, payload: Payload) -> Path:
    objects = np.array([payload, None], dtype=object)
    np.savez(path / "d.npz", allow_pickle=True, x=objects, y=np.arange(2))
    return path / "d.npz"


def write_bare_pickle(path: Path, payload: Payload) -> Path:
    (path / "d.npy").write_bytes(pickle.dumps(payload))
    return path / "d.npy"


def write_pickled_pt(path: Path, payload: Payload) -> Path:
    torch.save({"x": torch.zeros(4, 3), "meta": payload}, path / "d.pt")
    return path / "d.pt"


def write_old_pth(path: Path, payload: Payload) -> Path:
    torch.save([payload], path / "d.pth", _use_new_zipfile_serialization=False)
    return path / "d.pth"


def unsafe_load(path: Path) -> None:
    if path.suffix in (".pt", ".pth"):
        torch.load(path, weights_only=False)
    else:
        held = np.load(path, allow_pickle=True)
        held["x"] if path.suffix == ".npz" else held


@pytest.mark.parametrize(
    "write",
    [write_object_npy, write_object_npz, write_bare_pickle, write_pickled_pt, write_old_pth],
)
def test_a_pickled_payload_is_refused_and_never_runs(tmp_path: Path, write: Any) -> None:
    marker, folder = tmp_path / "it ran", tmp_path / "data"
    folder.mkdir()
    path = write(folder, Payload(marker))
    with pytest.raises(PerfdoctorError) as caught:
        load(folder)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    unsafe_load(path)
    assert marker.exists(), "the payload is a dud, so this test proves nothing"


def test_safetensors_without_the_extra_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"x": floats(4, 3)}, tmp_path / "d.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(PerfdoctorError, match=r"pip install 'perfdoctor\[data\]'"):
        load(tmp_path)
