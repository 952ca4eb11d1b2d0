from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import load, train_one_step

from perfdoctor.errors import PerfdoctorError
from perfdoctor.workload import UnreadableSampleError


def write_ids(path: Path, count: int, modulo: int = 60) -> None:
    (np.arange(count) % modulo).astype("<u2").tofile(path)


def test_text_is_read_as_bytes_and_the_target_is_shifted_by_one(tmp_path: Path) -> None:
    text = "".join(chr(97 + i % 26) for i in range(1000))
    (tmp_path / "book.txt").write_text(text)
    workload = load(tmp_path)
    x, y = workload.dataset[1]
    assert bytes(x.tolist()) == text[128:256].encode()
    assert bytes(y.tolist()) == text[129:257].encode()
    assert len(workload.dataset) == 7
    assert "1000 tokens in 1 text file read as bytes" in workload.notes[0]
    assert train_one_step(workload) == pytest.approx(np.log(256), rel=0.1)


def test_bin_files_are_uint16_ids_and_the_note_says_so(tmp_path: Path) -> None:
    write_ids(tmp_path / "train.bin", 2000)
    workload = load(tmp_path)
    assert workload.dataset[0][0][:3].tolist() == [0, 1, 2]
    assert "little-endian uint16 token ids, as nanoGPT writes them" in workload.notes[0]
    assert workload.model.head.out_features == 60
    train_one_step(workload)


def test_a_large_vocabulary_is_folded_and_the_note_says_so(tmp_path: Path) -> None:
    np.array([50256, 3, 5000] * 200, "<u2").tofile(tmp_path / "train.bin")
    workload = load(tmp_path)
    assert workload.dataset[0][0][:3].tolist() == [50256 % 2048, 3, 5000 % 2048]
    assert "Token ids up to 50256 are folded into 2048." in workload.notes
    train_one_step(workload)


def test_a_nanogpt_folder_trains_on_train_bin_alone(tmp_path: Path) -> None:
    write_ids(tmp_path / "train.bin", 1290)
    write_ids(tmp_path / "val.bin", 500)
    (tmp_path / "input.txt").write_text("a" * 5000)
    workload = load(tmp_path)
    assert len(workload.dataset) == 10
    assert "Left out as held-out data: 1 file named val, test or alike." in workload.notes
    assert "Left out 1 .txt file beside the .bin files." in workload.notes


def test_files_shorter_than_a_window_are_filled_up_with_zeros(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hi!")
    (tmp_path / "b.txt").write_text("b" * 300)
    workload = load(tmp_path)
    x, y = workload.dataset[0]
    assert x[:5].tolist() == [*b"hi!", 0, 0]
    assert y[:4].tolist() == [*b"i!", 0, 0]
    assert int(workload.dataset[2][0][0]) == ord("b")
    assert workload.batch_size == 3
    train_one_step(workload, workers=2)


def test_files_without_tokens_are_skipped_with_their_reason(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.bin", 400)
    (tmp_path / "b.bin").write_bytes(b"odd")
    (tmp_path / "c.bin").write_bytes(b"")
    reasons = [reason for _, reason in load(tmp_path).dataset.skipped]
    assert "has 3 bytes, an odd number" in reasons[0]
    assert reasons[1] == "has fewer than two tokens"
    with pytest.raises(PerfdoctorError, match=r"b\.bin"):
        load(tmp_path, strict=True)


def test_a_file_that_shrank_is_an_unreadable_sample(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.bin", 4000)
    dataset = load(tmp_path).dataset
    write_ids(tmp_path / "a.bin", 10)
    with pytest.raises(UnreadableSampleError, match=r"a\.bin"):
        dataset[20]


def test_the_model_cannot_see_the_next_token(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefgh" * 50)
    workload = load(tmp_path)
    ids = workload.dataset[0][0][None]
    changed = ids.clone()
    changed[0, 64] = 7
    with torch.no_grad():
        before, after = workload.model(ids)[0], workload.model(changed)[0]
    assert torch.allclose(before[:64], after[:64], atol=1e-5)
    assert not torch.allclose(before[64:], after[64:], atol=1e-5)
