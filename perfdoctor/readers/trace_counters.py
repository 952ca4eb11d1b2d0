"""What a trace counts on the device besides its use: kernels, copies, kinds of work."""

from __future__ import annotations

import re

from perfdoctor.readers.trace_events import COPY, KERNEL, Events
from perfdoctor.readers.trace_stages import step_rows
from perfdoctor.record import Bools

_UPLOAD = re.compile(r"HtoD|Host ?-> ?Device|host to device", re.IGNORECASE)
_PAGEABLE = re.compile(r"pageable", re.IGNORECASE)
#: Names of ATen's CUDA kernels for one element at a time (aten/src/ATen/native/cuda/CUDALoops.cuh).
_POINTWISE = re.compile(r"elementwise_kernel|pointwise")
#: Its softmax (SoftMax.cu, PersistentSoftmax.cuh); the logarithm of it belongs to losses.
_SOFTMAX = re.compile(r"softmax", re.IGNORECASE)
_OF_LOSSES = re.compile(r"log_?softmax|nll|cross_?entropy", re.IGNORECASE)
#: Attention in one kernel: flash, memory-efficient and cuDNN's.
_FUSED_ATTENTION = re.compile(r"flash|fmha|efficient_attention|sdpa|attn_fwd", re.IGNORECASE)


def trace_counters(events: Events) -> dict[str, float]:
    """Totals over the trace: empty where it has no work on a device.

    `kernel_count`; `copies_to_device` and of these `pageable_copies` with `pageable_copy_s`;
    `pointwise_s`, `softmax_s` and `fused_attention_s` of kernels by their names; `trace_steps`.
    """
    kernels, copies = events.of(KERNEL), events.of(COPY)
    if not kernels.any() and not copies.any():
        return {}
    uploads = copies & events.named(_UPLOAD.search)
    pageable = uploads & events.named(_PAGEABLE.search)
    softmax = kernels & events.named(lambda name: _SOFTMAX.search(name) and not _of_loss(name))
    return {
        "trace_steps": float(len(step_rows(events)[1])),
        "kernel_count": float(kernels.sum()),
        "copies_to_device": float(uploads.sum()),
        "pageable_copies": float(pageable.sum()),
        "pageable_copy_s": _seconds(events, pageable),
        "pointwise_s": _seconds(events, kernels & events.named(_POINTWISE.search)),
        "softmax_s": _seconds(events, softmax),
        "fused_attention_s": _seconds(events, kernels & events.named(_FUSED_ATTENTION.search)),
    }


def _of_loss(name: str) -> bool:
    return bool(_OF_LOSSES.search(name))


def _seconds(events: Events, which: Bools) -> float:
    return float((events.stop_us - events.start_us)[which].sum()) * 1e-6
