"""Whether there is room for what a script writes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from perfdoctor.collect.sandbox import room

GIB = 1 << 30


@pytest.fixture
def free(monkeypatch):
    """Sets what is left, on what kind of file system."""

    def given(left, kind="ext4", memory=100 * GIB):
        monkeypatch.setattr(room.shutil, "disk_usage", lambda _: SimpleNamespace(free=left))
        monkeypatch.setattr(room, "_file_system", lambda _: kind)
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=memory))

    return given


def test_a_place_with_little_room_is_told_of_beforehand(tmp_path, free):
    free(2 * GIB)
    assert room.little_room(tmp_path) is None
    free(GIB // 2)
    line = room.little_room(tmp_path)
    assert str(tmp_path.parent) in line and "512 MiB left" in line and "TMPDIR" in line


def test_a_place_in_memory_has_no_more_room_than_memory(tmp_path, free):
    free(9 * GIB, "tmpfs", memory=GIB // 2)
    assert "(in memory) has 512 MiB left" in room.little_room(tmp_path)


def test_what_the_observed_run_has_written_says_what_trials_need(tmp_path, free):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.pt").write_bytes(bytes(1 << 20))
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "model.pt")
    assert room.size_bytes(tmp_path) == pytest.approx(1 << 20, rel=0.1)
    free(21 << 18)  # 1 MiB in 60 s: three processes of 120 s
    assert room.too_little_room(tmp_path, 60.0, 120.0) is None
    free(4 << 20)
    line = room.too_little_room(tmp_path, 60.0, 120.0)
    assert "would write up to 6 MiB meanwhile" in line and "TMPDIR" in line


def test_the_kind_of_a_file_system_is_the_one_of_the_nearest_mount(tmp_path):
    found = room._file_system(tmp_path)
    assert found and found != room._file_system(room.Path("/proc/self"))
