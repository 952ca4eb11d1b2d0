from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import Payload, jpeg, load, npy, one_batch, train_one_step, write_tar
from torch.utils.data import DataLoader, default_collate

from perfdoctor.errors import PerfdoctorError
from perfdoctor.workload import UnreadableSampleError


def image_members(count: int, first: int = 0) -> dict[str, bytes]:
    members = {}
    for i in range(first, first + count):
        members[f"{i:06d}.jpg"] = jpeg(seed=i)
        members[f"{i:06d}.cls"] = str(i % 3).encode()
    return members


def test_images_and_labels_of_one_key_are_one_sample(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", image_members(5))
    workload = load(tmp_path)
    samples = list(workload.dataset)
    assert [int(y) for _, y in samples] == [0, 1, 2, 0, 1]
    assert samples[0][0].shape == (3, 128, 128)
    assert workload.batch_size == 5
    assert f"Recognised 1 tar shard of .jpg images ({tmp_path}/)." in workload.notes
    train_one_step(workload)


def test_a_label_in_json_or_text_is_found(tmp_path: Path) -> None:
    members = {
        "a.png": jpeg(),
        "a.json": json.dumps({"caption": "a cat", "label": 4}).encode(),
        "b.png": jpeg(),
        "b.txt": b"2\n",
    }
    write_tar(tmp_path / "a.tar", members)
    assert [int(y) for _, y in load(tmp_path).dataset] == [4, 2]


def test_arrays_in_shards_get_the_model_of_their_shape(tmp_path: Path) -> None:
    members = {}
    for i in range(6):
        members[f"run/{i}.x.npy"] = npy(np.full((32, 4), i, np.float32))
        members[f"run/{i}.cls"] = str(i % 2).encode()
    write_tar(tmp_path / "a.tar", members)
    workload = load(tmp_path)
    assert type(workload.model).__name__ == "TCN"
    assert [float(x[0, 0]) for x, _ in workload.dataset] == [0, 1, 2, 3, 4, 5]
    train_one_step(workload)


def test_text_in_shards_is_read_as_bytes(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {f"{i}.txt": b"hello world " * 30 for i in range(4)})
    workload = load(tmp_path)
    assert type(workload.model).__name__ == "TinyGPT"
    train_one_step(workload)


def test_two_workers_share_the_shards_and_read_every_sample_once(tmp_path: Path) -> None:
    for shard in range(3):
        write_tar(tmp_path / f"{shard}.tar", image_members(4, first=4 * shard))
    dataset = load(tmp_path).dataset
    dataset.decode = file_sizes
    loader = DataLoader(dataset, batch_size=1, num_workers=2)
    expected = sorted(len(jpeg(seed=i)) for i in range(12))
    assert sorted(int(size) for size, _ in loader) == expected


def file_sizes(payloads: dict[str, bytes]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(len(payloads["jpg"])), torch.tensor(0)


def test_a_damaged_member_is_yielded_as_an_error_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", image_members(4) | {"000001.jpg": b"junk"})
    samples = list(load(tmp_path).dataset)
    assert [isinstance(s, UnreadableSampleError) for s in samples] == [False, True, False, False]
    assert samples[1].path == f"{tmp_path}/a.tar:000001"


def test_a_batch_can_be_collated_once_the_errors_are_taken_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", image_members(4) | {"000001.jpg": b"junk"})
    dataset = load(tmp_path).dataset
    loader = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=collate_readable)
    assert next(iter(loader))[0].shape == (3, 3, 128, 128)


def collate_readable(samples: list[object]) -> object:
    return default_collate([s for s in samples if not isinstance(s, UnreadableSampleError)])


@pytest.mark.parametrize("damage", ["cut within a member", "header overwritten", "no tar at all"])
def test_a_broken_shard_is_reported_and_the_next_is_read(tmp_path: Path, damage: str) -> None:
    write_tar(tmp_path / "a.tar", image_members(3))
    write_tar(tmp_path / "b.tar", image_members(3))
    whole = (tmp_path / "a.tar").read_bytes()
    third = whole.index(b"000002.jpg")
    broken = {
        "cut within a member": whole[: third + 700],
        "header overwritten": whole[:third] + b"\xff" * 512 + whole[third + 512 :],
        "no tar at all": b"junk" * 1000,
    }
    (tmp_path / "a.tar").write_bytes(broken[damage])
    samples = list(load(tmp_path).dataset)
    errors = [s for s in samples if isinstance(s, UnreadableSampleError)]
    assert [error.path for error in errors] == [f"{tmp_path}/a.tar"]
    # The sample right before the damage may lack members, so it goes with it.
    readable_of_a = 0 if damage == "no tar at all" else 1
    assert len(samples) - len(errors) == readable_of_a + 3


def test_strict_refuses_a_broken_shard(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", image_members(3))
    (tmp_path / "b.tar").write_bytes(b"junk" * 1000)
    with pytest.raises(PerfdoctorError, match=r"b\.tar"):
        load(tmp_path, strict=True)


def test_shards_without_anything_to_learn_from_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.pyd": b"", "a.flac": b""})
    with pytest.raises(PerfdoctorError, match=r"holds only \.flac, \.pyd, but no image"):
        load(tmp_path)


def test_an_empty_shard_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {})
    with pytest.raises(PerfdoctorError, match="holds no members"):
        load(tmp_path)


def test_a_pickled_array_in_a_shard_is_refused_and_never_runs(tmp_path: Path) -> None:
    marker, folder = tmp_path / "it ran", tmp_path / "data"
    folder.mkdir()
    evil = npy(np.array([Payload(marker), None], dtype=object))
    write_tar(folder / "a.tar", {"0.npy": npy(np.zeros((8, 2))), "1.npy": evil})
    samples = list(load(folder).dataset)
    assert isinstance(samples[1], UnreadableSampleError)
    write_tar(folder / "a.tar", {"1.npy": evil, "2.npy": pickle.dumps(Payload(marker))})
    with pytest.raises(PerfdoctorError):
        load(folder)
    assert not marker.exists()


def test_labels_beyond_the_classes_seen_at_the_start_are_folded(tmp_path: Path) -> None:
    members = {f"{i}.npy": npy(np.zeros(4, np.float32)) for i in range(200)}
    for i in range(200):
        members[f"{i}.cls"] = b"1" if i < 150 else b"9"
    ordered = dict(sorted(members.items(), key=lambda item: int(item[0].split(".")[0])))
    write_tar(tmp_path / "a.tar", ordered)
    workload = load(tmp_path)
    assert {int(y) for _, y in workload.dataset} == {1}  # 9 % 2
    assert workload.batch_size == 256
    assert one_batch(workload)[0].shape == (200, 4)


def test_samples_survive_the_way_to_a_spawned_worker(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", image_members(2))
    dataset = pickle.loads(pickle.dumps(load(tmp_path).dataset))
    assert len(list(dataset)) == 2
