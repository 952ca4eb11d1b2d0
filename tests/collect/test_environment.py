"""The machine as the process may use it."""

from __future__ import annotations

import pytest
import torch

from perfdoctor.collect import environment


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A cgroup folder to write into."""
    monkeypatch.setattr(environment, "_CGROUP", tmp_path)
    monkeypatch.setattr(environment, "_own_cgroup", lambda: tmp_path / "own")
    return tmp_path


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_the_cpu_quota_is_read_from_either_version(cgroup, files, quota):
    for name, text in files.items():
        (cgroup / name).parent.mkdir(exist_ok=True)
        (cgroup / name).write_text(text + "\n")
    assert environment.cpu_quota() == quota
    assert quota is None or environment.usable_cores() <= quota


def test_the_memory_limit_of_a_container_counts(cgroup):
    (cgroup / "memory.max").write_text(str(64 << 20))
    assert environment.usable_memory_bytes() == 64 << 20


def test_throttled_periods_are_read(cgroup):
    (cgroup / "cpu.stat").write_text("usage_usec 5\nnr_periods 10\nnr_throttled 4\n")
    assert environment.throttled_share() == (4, 10)


def test_without_a_quota_there_is_no_throttling(cgroup):
    (cgroup / "cpu.stat").write_text("usage_usec 5\n")
    assert environment.throttled_share() is None


def test_the_host_is_named_by_a_hash_only():
    described = environment.describe_environment(torch.device("cpu"))
    import platform

    assert platform.node() not in str(described.hostname_hash)
    assert described.cores_usable >= 0.1
    assert described.torch == torch.__version__
