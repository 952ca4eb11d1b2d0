"""What a trace counts on the device, from its file to the advice."""

from __future__ import annotations

from pathlib import Path

import pytest
from trace_files import GPU, MAIN, call, kernel, ran, steps, trace

from perfdoctor.pipeline import AnalyzeRequest, analyze
from perfdoctor.readers.trace import read
from perfdoctor.settings import Settings

POINTWISE = "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>"
SOFTMAX = "void (anonymous namespace)::softmax_warp_forward<float, float, float, 8, false, true>"
LOSS = "void cunn_SoftMaxForward<4, float, float, float, LogSoftMaxForwardEpilogue> log_softmax"
FLASH = "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128>>"


def facts(*events: dict) -> dict[str, float]:
    return read("t.json", trace(*steps(2), *events)).facts


def copy(name: str, start_us: float, stop_us: float) -> dict:
    return ran(name, start_us, stop_us, "gpu_memcpy", GPU, correlation=0)


def test_kernels_are_told_apart_by_their_names() -> None:
    found = facts(
        kernel(POINTWISE, 0, 10), kernel(SOFTMAX, 10, 15), kernel(LOSS, 15, 35),
        kernel(FLASH, 35, 38), kernel("ampere_sgemm_128x64_nn", 40, 90),
    )  # fmt: skip
    assert found["kernel_count"] == 5
    assert found["pointwise_s"] == pytest.approx(10e-6)
    assert found["softmax_s"] == pytest.approx(5e-6)
    assert found["fused_attention_s"] == pytest.approx(3e-6)
    assert found["trace_steps"] == 2


def test_copies_to_the_device_and_those_from_pageable_memory() -> None:
    found = facts(
        kernel("k", 0, 5),
        copy("Memcpy HtoD (Pageable -> Device)", 5, 25),
        copy("Memcpy HtoD (Pinned -> Device)", 30, 35),
        copy("Memcpy DtoH (Device -> Pageable)", 40, 45),
    )
    assert (found["copies_to_device"], found["pageable_copies"]) == (2, 1)
    assert found["pageable_copy_s"] == pytest.approx(20e-6)


def test_a_trace_of_the_cpu_counts_nothing_of_a_device() -> None:
    assert "kernel_count" not in facts(call("cudaGetDeviceCount", 0, 1))


def test_a_trace_becomes_advice(tmp_path: Path) -> None:
    """A step in which the CPU copies from pageable memory, waits, and the GPU has little to do."""
    events = []
    for number in range(12):
        begin = number * 1000.0
        events += [
            ran(f"ProfilerStep#{number}", begin, begin + 1000, "user_annotation", MAIN),
            copy("Memcpy HtoD (Pageable -> Device)", begin, begin + 200),
            kernel("ampere_sgemm_128x64_nn", begin + 200, begin + 300),
            call("cudaStreamSynchronize", begin + 300, begin + 900),
        ]
    path = tmp_path / "t.json"
    path.write_bytes(trace(*events, deviceProperties=[{"name": "NVIDIA A100"}]))
    report = analyze(AnalyzeRequest(paths=[str(path)]), Settings(), lambda *_: None)
    titles = {r.rule: r.title for r in report.recommendations}
    assert titles["PD201"] == "1 copies a step are from pageable memory: 20 % of the time"
    assert titles["PD221"] == "The CPU waits for the GPU 1 time a step, 60 % of the time"
    assert not report.warnings
