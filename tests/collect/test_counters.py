"""Totals that torch and Python tell of themselves."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from perfdoctor.collect import pauses
from perfdoctor.collect.counters import (
    allocator_counters,
    compiler_counters,
    disk_counters,
    processor_counters,
    torch_counters,
)
from perfdoctor.collect.pauses import CollectionWatch


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock is a second after the one before."""
    seconds = iter(range(1, 1000))
    monkeypatch.setattr(pauses.time, "perf_counter", lambda: float(next(seconds)))


def test_pauses_are_counted_between_start_and_stop_only(clock):
    watch = CollectionWatch()
    assert watch.counters() == {}
    watch.start()
    watch.start()
    gc.collect(0)
    gc.collect(2)
    watch.stop()
    gc.collect(2)
    watch.stop()
    found = watch.counters()
    assert found["gc_pause_s"] == 2.0
    assert (found["gc_full_pause_s"], found["gc_full_collections"]) == (1.0, 1.0)
    assert found["gc_longest_s"] == 1.0
    assert found["gc_watched_s"] >= 5.0
    assert watch._noted not in gc.callbacks


def test_a_watch_that_goes_on_tells_what_it_saw_so_far(clock):
    watch = CollectionWatch()
    watch.start()
    gc.collect()
    assert watch.counters()["gc_full_collections"] == 1.0
    watch.stop()


def test_the_halves_of_reading_from_the_disk():
    rates = {"disk_read_bytes_per_s": np.array([8.0] * 4 + [2.0] * 4)}
    assert disk_counters(rates) == {"disk_early_bytes_per_s": 8.0, "disk_late_bytes_per_s": 2.0}
    assert disk_counters({"disk_read_bytes_per_s": np.array([8.0] * 7)}) == {}
    assert disk_counters({}) == {}


def test_the_halves_of_the_processor_that_the_training_had():
    seen = {"cpu_main": np.array([80.0] * 4 + [30.0] * 4), "cpu_workers": np.full(8, 10.0)}
    found = processor_counters(seen)
    assert found == {"own_cpu_early_percent": 90.0, "own_cpu_late_percent": 40.0}
    assert processor_counters({name: values[:7] for name, values in seen.items()}) == {}
    assert processor_counters({}) == {}


def test_what_is_not_there_is_not_counted():
    assert allocator_counters(torch.device("cpu")) == {}
    torch._dynamo.utils.counters.clear()
    assert compiler_counters() == {}


@pytest.mark.slow
def test_graphs_breaks_and_recompiles_of_the_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch._dynamo.utils.clear_compilation_metrics()

    def steps(x, times):
        for _ in range(times):
            x = x + 1
        print("", end="")
        return x * 2

    compiled = torch.compile(steps, backend="eager")
    for times in (1, 2, 3):
        compiled(torch.ones(2), times)
    found = torch_counters(torch.device("cpu"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert found["graph_breaks"] >= 1
    assert found["recompiles"] >= 1
    assert 0 < found["recompile_s"] < found["compile_s"]
