"""What goes wrong is told in the user's terms."""

from __future__ import annotations

import os
import signal

import pytest
import torch
import toys

from perfdoctor.collect import memory_search
from perfdoctor.collect.bench import measure
from perfdoctor.collect.failures import in_user_code, is_out_of_memory
from perfdoctor.collect.options import BenchOptions, no_progress
from perfdoctor.errors import PerfdoctorError, UserCodeError
from perfdoctor.record import Source

BENCH = Source(kind="bench")


class TooLarge(toys.Classifier):
    """Asks for more memory than there is from a batch of `limit` on."""

    limit = 11

    def forward(self, x):
        if len(x) > self.limit:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return super().forward(x)


def test_the_largest_batch_that_fits_is_reported():
    options = BenchOptions(device="cpu", batch_size=64, max_seconds=1)
    with pytest.raises(PerfdoctorError, match="largest seen to fit is 11: use --batch-size 11"):
        measure(lambda: toys.workload(model=TooLarge()), options, BENCH)


def test_a_model_too_large_for_one_sample_says_so():
    class Never(TooLarge):
        limit = 0

    with pytest.raises(PerfdoctorError, match="not even a batch of one fits"):
        measure(lambda: toys.workload(model=Never()), BenchOptions(device="cpu"), BENCH)


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_the_search_tries_no_size_twice(monkeypatch):
    tried = []

    def fits(factory, options, size, progress):
        tried.append(size)
        return size <= 37

    monkeypatch.setattr(memory_search, "_fits", fits)
    found = memory_search._search(toys.workload, BenchOptions(), 256, no_progress)
    assert found == 36
    assert len(tried) == len(set(tried))


@pytest.mark.filterwarnings("ignore")
def test_a_worker_killed_by_the_system_is_one_line_with_a_way_out():
    class Deadly(toys.Points):
        def __getitem__(self, index):
            os.kill(os.getpid(), signal.SIGKILL)

    options = BenchOptions(device="cpu", num_workers=1)
    with pytest.raises(
        PerfdoctorError, match=r"DataLoader worker \(pid.*fewer --num-workers"
    ) as caught:
        measure(lambda: toys.workload(dataset=Deadly()), options, BENCH)
    assert caught.value.slug == "worker-killed"
    assert not isinstance(caught.value, UserCodeError)


def test_interrupts_pass_through():
    with pytest.raises(KeyboardInterrupt), in_user_code("forward"):
        raise KeyboardInterrupt
