"""The steps of a trace and the stages in them, as the CPU's threads and the device show them."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from perfdoctor import stages
from perfdoctor.readers.trace_events import (
    ANNOTATION,
    COPY,
    KERNEL,
    ON_DEVICE,
    OPERATOR,
    PYTHON,
    RUNTIME,
    Events,
)
from perfdoctor.readers.trace_intervals import Layer, Spans, owned, union
from perfdoctor.record import Bools, Floats

COMMUNICATION = "communication"
_STEP = re.compile(r"ProfilerStep\s?#(\d{1,15})$")
_HOST_TO_DEVICE = re.compile(r"HtoD|Host ?-> ?Device|host to device", re.IGNORECASE)
_COMMUNICATION_KERNEL = re.compile(r"nccl|rccl|oneccl", re.IGNORECASE)
#: In the order in which a moment is given away. What is inside validation is validation; else the
#: innermost comes first: optimizers run forward and backward as a closure, and a checkpointed
#: forward runs again inside backward.
_ORDER = (
    "validation", "checkpoint", stages.DATA_LOADING, stages.H2D_COPY, COMMUNICATION,
    stages.BACKWARD, stages.LOSS, stages.FORWARD, stages.OPTIMIZER,
)  # fmt: skip
#: What PyTorch itself names: torch/utils/data/dataloader.py, torch/optim/optimizer.py and
#: torch/csrc/autograd/engine.cpp.
_FROM_TORCH = (
    (stages.DATA_LOADING, re.compile(r"enumerate\(DataLoader\)#")),
    (stages.BACKWARD, re.compile(r"autograd::engine::evaluate_function")),
    (stages.OPTIMIZER, re.compile(r"Optimizer\.[a-z_]{1,30}#")),
)
#: Words in names that people, and Lightning's profiler, give to parts of a step.
_ONLY_DATA = re.compile(r"[^A-Za-z]{0,20}(?:data|fetch)[^A-Za-z]{0,20}", re.IGNORECASE)
_WORDS = tuple(
    (stage, re.compile(rf"(?:^|[^a-z])(?:{words})(?:$|[^a-z])", re.IGNORECASE))
    for stage, words in (
        ("validation", "validation|validate|validating|evaluate|evaluation|val_step|eval_step"),
        ("checkpoint", "save_checkpoint|checkpoint_save|checkpointing"),
        (stages.H2D_COPY, "h2d|to_device|batch_to_device|host_to_device"),
        (
            stages.DATA_LOADING,
            "data_?load(?:ing|er)?|load_?(?:data|batch)|(?:get|fetch|next)_?(?:data|batch)"
            "|data_?(?:time|fetch|wait)|(?:train_)?dataloader_next",
        ),
        (stages.BACKWARD, "backward|bwd"),
        (stages.LOSS, "loss|criterion"),
        (stages.FORWARD, "forward|fwd"),
        (stages.OPTIMIZER, "optimizer|optim|optimizer_step|optim_step|zero_grad"),
    )
)
#: Python functions by name, and where that is not enough by the file they are in.
_PYTHON = re.compile(r"([^()]{1,300})\((\d{1,9})\): (.{1,200})")
_FUNCTIONS = {
    "validate": "validation", "evaluate": "validation", "validation": "validation",
    "save_checkpoint": "checkpoint", "backward": stages.BACKWARD, "forward": stages.FORWARD,
    "zero_grad": stages.OPTIMIZER,
}  # fmt: skip
_IN_FILES = (
    ("torch/utils/data/dataloader.py", "__next__", stages.DATA_LOADING),
    ("torch/serialization.py", "save", "checkpoint"),
    ("torch/nn/modules/loss.py", "forward", stages.LOSS),
)


def cpu_stage(name: str, kind: int) -> str | None:
    """The stage that a span of this name and kind on the CPU belongs to."""
    for stage, pattern in _FROM_TORCH:
        if pattern.match(name):
            return stage
    if kind == ANNOTATION:
        return _stage_in_words(name[:300])
    place = python_place(name) if kind == PYTHON else None
    return None if place is None else _function_stage(*place)


def _stage_in_words(name: str) -> str | None:
    if _ONLY_DATA.fullmatch(name):
        return stages.DATA_LOADING
    return next((stage for stage, words in _WORDS if words.search(name)), None)


def python_place(name: str) -> tuple[str, int, str] | None:
    """File, line and function of "train.py(25): forward"."""
    match = _PYTHON.fullmatch(name)
    return None if match is None else (match[1], int(match[2]), match[3])


def _function_stage(file: str, line: int, function: str) -> str | None:
    for path, name, stage in _IN_FILES:
        if function == name and file.endswith(path):
            return stage
    if function == "step" and "torch/optim/" in file:
        return stages.OPTIMIZER
    return _FUNCTIONS.get(function)


def device_stage(name: str) -> str | None:
    """The stage of a kernel or copy, where its name tells."""
    if _COMMUNICATION_KERNEL.search(name[:100]):
        return COMMUNICATION
    return stages.H2D_COPY if _HOST_TO_DEVICE.search(name[:100]) else None


def step_rows(events: Events) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Numbers of the steps and their events, in order of time.

    `ProfilerStep#n` stands on the thread that calls profiler.step(), and again on the device as
    the time from the step's first kernel to its last, which says something else.
    """
    devices = np.unique(events.thread[events.of(*ON_DEVICE)])
    steps = events.named(_STEP.match) & ~np.isin(events.thread, devices)
    rows = np.flatnonzero(steps)
    if rows.size == 0:
        return np.empty(0, np.int64), rows
    threads, counts = np.unique(events.thread[rows], return_counts=True)
    rows = rows[events.thread[rows] == threads[np.argmax(counts)]]
    rows = rows[np.argsort(events.start_us[rows], kind="stable")]
    named = {index: _STEP.match(name) for index, name in enumerate(events.names)}
    numbers = np.array([int(match[1]) for row in rows if (match := named[events.name[row]])])
    _, first = np.unique(numbers, return_index=True)
    first.sort()
    return numbers[first], rows[first]


def spans_of(events: Events, which: Bools) -> Spans:
    """The time in which at least one of the events runs."""
    return union(events.start_us[which], events.stop_us[which])


def stage_seconds(events: Events, windows: Spans) -> dict[str, Floats]:
    """Seconds of each stage that the trace shows, in each window; they do not overlap.

    The CPU's spans count as they are. A copy to the device counts while the CPU is in the call,
    and while it runs with no kernel beside it; communication while no other kernel runs.
    """
    found = owned(_layers(events), windows)
    return {stage: value * 1e-6 for stage, value in found.items() if value.any()}


def _layers(events: Events) -> list[Layer]:
    by_stage = _cpu_spans(events)
    kernels, copies = events.of(KERNEL), events.of(COPY)
    talks = kernels & events.named(_COMMUNICATION_KERNEL.search)
    uploads = copies & events.named(_HOST_TO_DEVICE.search)
    ids = np.unique(events.correlation[uploads])
    calls = events.of(RUNTIME) & np.isin(events.correlation, ids[ids != 0])
    by_stage[stages.H2D_COPY] += [
        Layer(stages.H2D_COPY, spans_of(events, calls)),
        Layer(stages.H2D_COPY, spans_of(events, uploads), outside=spans_of(events, kernels)),
    ]
    computes = spans_of(events, kernels & ~talks)
    by_stage[COMMUNICATION].append(Layer(COMMUNICATION, spans_of(events, talks), computes))
    return [layer for stage in _ORDER for layer in by_stage[stage]]


def _cpu_spans(events: Events) -> dict[str, list[Layer]]:
    on_cpu = np.flatnonzero(events.of(ANNOTATION, OPERATOR, PYTHON))
    kinds = events.kind[on_cpu].astype(np.int64)
    pairs, which = np.unique(events.name[on_cpu] * np.int64(16) + kinds, return_inverse=True)
    ranks = {stage: rank for rank, stage in enumerate(_ORDER)}
    named = [cpu_stage(events.names[pair // 16], int(pair % 16)) for pair in pairs]
    rank = np.array([ranks.get(stage or "", -1) for stage in named], dtype=np.int64)
    mine = np.full(events.kind.size, -1, dtype=np.int64)
    mine[on_cpu] = rank[which] if pairs.size else -1
    return {stage: [Layer(stage, spans_of(events, mine == ranks[stage]))] for stage in _ORDER}
