"""Observed scripts on a GPU for the rules' cases, as `perfdoctor run` makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from run_bases import PARTS_S, script

from perfdoctor.record import Environment, Gpu
from perfdoctor.report import MemoryUse, Report, Usage

A100 = Gpu(name="NVIDIA A100", memory_bytes=40 * 2**30, capability="8.0")
#: 50 ms of computing a step at 12 TFLOP/s, by the multiplications of its forward passes.
MULTIPLIED = 10**11


def on_gpu(
    *, parts_s: Mapping[str, float] = PARTS_S, full: float = 0.3, busy: float = 97.0, **used: Any
) -> Report:
    """A script in float32 from a DataLoader with workers that keep up."""
    settings = {
        "device": "cuda:0",
        "precision": "fp32",
        "pin_memory": True,
        "matmul_precision": "highest",
        "cudnn_benchmark": True,
        "compile": "default",
        "multiplied_in_products": MULTIPLIED,
        "multiplied_in_convolutions": 0,
        "multiplied_in_recurrent_layers": 0,
    }
    seen = script(parts_s=parts_s, workers=2, batch_s=0.02, **(settings | used))
    percent = Usage(mean=busy, p50=busy, p95=99.0, count=60)
    return replace(
        seen,
        environment=Environment(device="cuda:0", cuda="12.4", gpu=(A100,), cores_usable=16),
        memory=MemoryUse(peak_bytes=int(full * A100.memory_bytes), peak_share=full),
        utilisation={**seen.utilisation, "gpu": percent},
    )


def copying(copies_s: float, **used: Any) -> Report:
    """The same with copies of so many seconds a step, beside 49 ms of the rest."""
    return on_gpu(parts_s={**PARTS_S, "h2d_copy": copies_s}, **used)


def products_on_gpu() -> Report:
    """Matrix products in full float32."""
    return on_gpu()


def convolutions_on_gpu() -> Report:
    """Convolutions in bfloat16 with channels first."""
    return on_gpu(
        precision="bf16",
        channels_last=False,
        multiplied_in_products=MULTIPLIED // 50,
        multiplied_in_convolutions=MULTIPLIED,
    )


def little_on_gpu() -> Report:
    """A few small products."""
    return on_gpu(multiplied_in_products=10**8)


def pageable_on_gpu() -> Report:
    """Two fifths of the training are copies from pageable memory."""
    return copying(0.034, pin_memory=False, h2d_pinned=False, non_blocking=False)


def pinned_on_gpu() -> Report:
    """As many from pinned memory, which the host waits for."""
    return copying(0.034, h2d_pinned=True, non_blocking=False)


def mostly_copies_on_gpu() -> Report:
    """Three quarters are copies, from pinned memory and not waited for."""
    return copying(0.150, h2d_pinned=True, non_blocking=True)


GPU_RUNS: dict[str, Callable[[], Report]] = {
    make.__name__: make
    for make in (
        products_on_gpu,
        convolutions_on_gpu,
        little_on_gpu,
        pageable_on_gpu,
        pinned_on_gpu,
        mostly_copies_on_gpu,
    )
}
