"""Which errors say that memory ran out, and which only sound like it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perfdoctor.collect.arm_worker import described
from perfdoctor.collect.failures import is_out_of_memory, worker_failure
from perfdoctor.collect.out_of_memory import OUT_OF_MEMORY, ran_out, said
from perfdoctor.errors import PerfdoctorError

KILLED = "DataLoader worker (pid 71) is killed by signal: Killed. "


@pytest.mark.parametrize(
    "text",
    [
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: MPS backend out of memory (MPS allocated: 9 GB)",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to",
        "the script ended (exception: MemoryError) before the trial did",
        "OSError: [Errno 12] Cannot allocate memory",
        "RuntimeError: std::bad_alloc",
        f"RuntimeError: {KILLED}",
        "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It is possible",
    ],
)
def test_texts_that_say_it(text):
    assert said(text)


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: CUDA error: device-side assert triggered",
        "RuntimeError: DataLoader worker (pid 7) is killed by signal: Segmentation fault.",
        "RuntimeError: DataLoader worker (pid(s) 7) exited unexpectedly",
        "ValueError: memory must be pinned",
        "NotMemoryErrorable: x",
    ],
)
def test_texts_that_do_not(text):
    assert not said(text)


def test_errors_of_the_libraries_say_it():
    with pytest.raises(MemoryError) as caught:
        np.zeros(2**60, dtype=np.uint8)
    assert ran_out(caught.value)
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    assert ran_out(raised.value) and is_out_of_memory(raised.value)
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory"))


def test_an_arm_tells_it_by_its_slug_also_where_a_worker_was_killed():
    assert described(MemoryError())["slug"] == OUT_OF_MEMORY
    killed = RuntimeError(KILLED)
    assert not is_out_of_memory(killed)  # advice on workers is of more use there
    assert worker_failure(killed).slug == "worker-killed"
    assert described(worker_failure(killed))["slug"] == OUT_OF_MEMORY
    segfault = RuntimeError("DataLoader worker (pid 7) is killed by signal: Segmentation fault. ")
    assert described(worker_failure(segfault))["slug"] == "worker-killed"
    assert described(PerfdoctorError("no", slug="no"))["slug"] == "no"
