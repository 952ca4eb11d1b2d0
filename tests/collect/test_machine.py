"""Counters, clocks and limits of the machine, real on the CPU and simulated for a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest
import torch

from perfdoctor.collect import clocks, hardware, limits, memory
from perfdoctor.collect.clocks import CudaClock
from perfdoctor.collect.fitness import Waiting
from perfdoctor.collect.hardware import HardwareSampler

CPU = torch.device("cpu")


def test_a_sample_has_the_counters_of_the_host():
    sampler = HardwareSampler(CPU)
    sampler._previous = sampler._counters()
    sampler.sample()
    found = sampler.utilisation()
    assert {"cpu", "cpu_main", "cpu_workers", "cpu_foreign"} <= set(found)
    assert found["cpu"][0] >= 0
    assert 0 < sampler.host_used_share < 1
    assert found["ram"][0] == pytest.approx(100 * sampler.host_used_share)
    assert found["swap_bytes"][0] >= 0
    assert "gpu" not in found


def test_rates_are_differences_between_two_samples(monkeypatch):
    sampler = HardwareSampler(CPU)
    main = sampler._main.pid

    def at(time_s, busy_s, own):
        return hardware._Previous(time_s, busy_s, own, int(1e6 * time_s), None)

    sampler._previous = at(0.0, 0.0, {main: 0.0, -1: 0.0})
    monkeypatch.setattr(sampler, "_counters", lambda: at(2.0, 3.0, {main: 1.0, -1: 0.5}))
    sampler.sample()
    seen = {name: values[0] for name, values in sampler.columns.items()}
    assert seen["cpu_main"] == pytest.approx(50)
    assert seen["cpu_workers"] == pytest.approx(25)
    assert seen["cpu_foreign"] == pytest.approx(75)
    assert seen["disk_read_bytes_per_s"] == pytest.approx(1e6)


def test_a_counter_that_fails_ends_sampling_and_not_the_measurement(monkeypatch):
    sampler = HardwareSampler(CPU)
    monkeypatch.setattr(sampler._stop, "wait", lambda seconds: False)
    monkeypatch.setattr(sampler, "sample", lambda: 1 / 0)
    sampler._watch()
    assert sampler.problem == "hardware sampling stopped: division by zero"


def test_the_thread_ends_with_the_context():
    with HardwareSampler(CPU) as sampler:
        assert sampler._thread.is_alive()
    assert not sampler._thread.is_alive()


def test_gpu_counters_come_from_nvml_and_one_that_is_missing_is_left_out(monkeypatch):
    class Info:
        gpu, used, total = 61, 30, 120

    def unsupported(handle):
        raise pynvml.NVMLError(3)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda handle: Info)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: Info)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", unsupported)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetClockInfo", lambda handle, which: 1980)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperature", lambda handle, which: 66)
    assert hardware._gpu_sample(object()) == {
        "gpu": 61.0,
        "gpu_memory": 25.0,
        "gpu_clock_mhz": 1980.0,
        "gpu_temperature_c": 66.0,
    }


def test_the_highest_clock_of_the_device_is_told_where_its_driver_knows(monkeypatch):
    def unsupported(handle, which):
        raise pynvml.NVMLError(3)

    monkeypatch.setattr(hardware, "_open_gpu", lambda device: "GPU 1")
    sampler = HardwareSampler(torch.device("cuda:1"))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMaxClockInfo", lambda handle, which: 1410)
    assert sampler.counters() == {"gpu_clock_max_mhz": 1410.0}
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMaxClockInfo", unsupported)
    assert sampler.counters() == {}
    assert HardwareSampler(CPU).counters() == {}


def test_swap_that_fills_meanwhile_is_told_from_what_was_full_before(monkeypatch):
    full = iter([5 << 30, 5 << 30, 7 << 30, 6 << 30])
    monkeypatch.setattr(hardware, "swapped_bytes", lambda: next(full))
    sampler = HardwareSampler(CPU)
    sampler.begin()
    for _ in range(3):
        sampler.sample()
    sampler.begin()  # the next block of a comparison: the first one's beginning counts
    assert sampler.columns["swap_bytes"] == [5 << 30, 7 << 30, 6 << 30]
    assert sampler.counters() == {"swap_grown_bytes": float(2 << 30)}


def test_swap_in_use_is_read_from_the_system(tmp_path, monkeypatch):
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:  16 kB\nSwapCached: 1 kB\nSwapTotal: 900 kB\nSwapFree: 300 kB\n")
    assert hardware.swapped_bytes(table) == 600 * 1024
    monkeypatch.setattr(hardware.psutil, "swap_memory", lambda: SimpleNamespace(used=77))
    assert hardware.swapped_bytes(tmp_path / "none") == 77
    table.write_text("MemTotal: 16 kB\n")
    assert hardware.swapped_bytes(table) == 77


def test_cuda_times_are_unknown_until_the_device_has_passed_the_event(monkeypatch):
    class Event:
        passed = False

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            assert stream == "stream of cuda:1"

        def query(self):
            return Event.passed

        def elapsed_time(self, other):
            return 250.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    clock = CudaClock(torch.device("cuda:1"))
    start, end = clock.now(), clock.now()
    assert clock.seconds(start, end) is None
    Event.passed = True
    assert clock.seconds(start, end) == 0.25
    assert 0 <= clock.host_seconds(start, end) < 10


def test_the_cpu_is_timed_by_the_host():
    assert isinstance(clocks.clock_for(CPU), clocks.HostClock)


def test_peak_memory_starts_anew_for_each_phase():
    memory.reset_peak(CPU)
    before = memory.peak_bytes(CPU)
    block = torch.ones(64 << 20, dtype=torch.uint8)
    assert memory.peak_bytes(CPU) >= before + (32 << 20)
    assert block.numel() == 64 << 20
    assert 0 < memory.current_bytes(CPU) <= memory.total_bytes(CPU)


def test_the_matrix_product_peak_is_a_rate(monkeypatch):
    monkeypatch.setattr(limits, "timed", lambda device, work: 2.0)
    assert limits.matmul_peak(CPU, "fp32") == 2 * 32**3 / 2.0


def test_reading_is_not_measured_where_the_cache_cannot_be_emptied(monkeypatch):
    monkeypatch.delattr(limits.os, "posix_fadvise", raising=False)
    assert limits.sequential_read_peak() is None


def test_the_wait_for_a_core_is_a_share_of_the_time_with_something_to_do():
    waiting = Waiting()
    assert waiting.share is None
    waiting.add(None, 5.0)  # the system does not tell
    assert waiting.share is None
    waiting.add(1.0, 2.0)
    waiting.add(-9.0, 1.0)  # a thread has ended
    assert waiting.share == 0.25
