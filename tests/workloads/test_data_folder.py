from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import load, train_one_step, write_images

from perfdoctor.errors import PerfdoctorError
from perfdoctor.workloads import KINDS, folder, from_data_dir


def save_array(path: Path, count: int = 4) -> None:
    np.savez(path, x=np.zeros((count, 3), np.float32), y=np.arange(count) % 2)


def test_the_factory_gives_a_fresh_model_each_time_and_shares_the_data(tmp_path: Path) -> None:
    write_images(tmp_path)
    factory = from_data_dir(str(tmp_path))
    first, second = factory(), factory()
    assert first.model is not second.model
    assert first.dataset is second.dataset


def test_the_batch_is_no_larger_than_the_data_and_the_hint_goes_first(tmp_path: Path) -> None:
    write_images(tmp_path, 5)
    assert load(tmp_path).batch_size == 5
    assert load(tmp_path, batch_size_hint=2).batch_size == 2
    assert load(tmp_path, batch_size_hint=99).batch_size == 5


def test_notes_name_the_model_and_what_was_left_out(tmp_path: Path) -> None:
    write_images(tmp_path / "a")
    write_images(tmp_path / "b")
    for name in ("meta.csv", "split.csv", "notes.md", "README.txt"):
        (tmp_path / name).write_text("x,y\n1,2\n")
    notes = load(tmp_path).notes
    left_out = "Left out as another kind of file: 2 .csv files, 1 .txt file, 1 .md file."
    assert sorted(left_out.replace(".", "")) == sorted(notes[1].replace(".", ""))
    assert "Reference model: a small CNN (0.16 M parameters), 2 classes." in notes


def test_the_kind_with_most_files_wins(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    save_array(tmp_path / "d.npz", 100_000)
    assert load(tmp_path).name == f"SmallCNN on images in {tmp_path}/"


def test_of_two_kinds_with_as_many_files_the_larger_wins(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    save_array(tmp_path / "d.npz", 100_000)
    assert load(tmp_path).name == f"MLP on arrays in {tmp_path}/"


def test_a_readme_is_no_training_text(tmp_path: Path) -> None:
    save_array(tmp_path / "d.npz")
    for name in ("README.txt", "LICENSE.txt", "requirements.txt"):
        (tmp_path / name).write_text("hello " * 100_000)
    assert "arrays" in str(load(tmp_path).name)


def test_hidden_files_and_folders_are_not_data(tmp_path: Path) -> None:
    save_array(tmp_path / "d.npz")
    write_images(tmp_path / ".thumbnails", 9)
    (tmp_path / ".cache.jpg").write_bytes(b"")
    workload = load(tmp_path)
    assert "arrays" in str(workload.name)
    assert len(workload.notes) == 2


def test_held_out_folders_are_left_out_beside_a_training_folder(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        write_images(tmp_path / split / "cat", count)
        write_images(tmp_path / split / "dog", count)
    workload = load(tmp_path)
    assert len(workload.dataset) == 6
    assert workload.model.head.out_features == 2
    assert "Left out as held-out data: 4 files named val, test or alike." in workload.notes


def test_a_folder_named_test_alone_is_data_like_any_other(tmp_path: Path) -> None:
    write_images(tmp_path / "test", 3)
    assert len(load(tmp_path).dataset) == 3


def test_a_single_file_is_a_data_set_too(tmp_path: Path) -> None:
    save_array(tmp_path / "d.npz")
    save_array(tmp_path / "e.npz")
    workload = load(tmp_path / "d.npz")
    assert len(workload.dataset) == 4
    train_one_step(workload)


def test_a_glob_of_files_takes_those_files(tmp_path: Path) -> None:
    for name in ("sim_1.npz", "sim_2.npz", "other.npz"):
        save_array(tmp_path / name)
    assert len(load(tmp_path / "sim_*.npz").dataset) == 8


def test_a_glob_over_nested_folders_counts_no_file_twice(tmp_path: Path) -> None:
    write_images(tmp_path / "run" / "inner", 3)
    assert len(load(f"{tmp_path}/**").dataset) == 3


def test_a_folder_whose_name_looks_like_a_glob_is_taken_literally(tmp_path: Path) -> None:
    write_images(tmp_path / "data[1]", 2)
    assert len(load(tmp_path / "data[1]").dataset) == 2


def test_a_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "pictures", 2)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(load("~/pictures").dataset) == 2


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_back_up_does_not_loop(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 2)
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert len(load(tmp_path).dataset) == 2


def test_looking_stops_at_the_limit_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, 5)
    monkeypatch.setattr(folder, "MAX_FILES", 3)
    workload = load(tmp_path)
    assert len(workload.dataset) == 3
    assert "Only the first 3 files were looked at." in workload.notes


@pytest.mark.parametrize(
    ("files", "pattern", "message"),
    [
        ((), "missing", "missing does not exist"),
        ((), "missing_*", r"nothing matches .*missing_\*"),
        ((), ".", "holds no files"),
        (("a.py", "b.py", "c.md"), ".", "found 2 .py files, 1 .md file; known are images "),
        ((".hidden.jpg",), ".", "holds no files"),
    ],
)
def test_bad_input_is_refused_on_one_line(
    tmp_path: Path, files: tuple[str, ...], pattern: str, message: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("x")
    with pytest.raises(PerfdoctorError, match=message) as caught:
        load(tmp_path / pattern)
    assert "\n" not in str(caught.value)


def test_every_kind_in_the_table_has_its_own_extensions_and_a_recogniser() -> None:
    every = [extension for kind in KINDS.values() for extension in kind.extensions]
    assert len(every) == len(set(every))
    for kind in KINDS:
        assert callable(folder._recogniser(kind))


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, perfdoctor.workloads; "
        "print({'torch', 'pandas', 'numpy', 'PIL'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"
