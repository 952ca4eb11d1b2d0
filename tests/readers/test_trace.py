"""Profiler traces: what a step is, what its time went into, and how busy the device was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trace_files import AUTOGRAD, GPU, MAIN, call, kernel, note, op, ran, steps, trace, upload

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.records import Reading
from perfdoctor.readers.trace import is_trace, read

US = 1e-6


def stage_us(reading: Reading, stage: str) -> list[float]:
    return [round(float(value) / US, 6) for value in reading.records.column(f"{stage}_s")]


def test_steps_are_those_of_the_cpu_thread_and_not_their_shadow_on_the_device() -> None:
    events = [
        kernel("k", 10, 20),
        ran("ProfilerStep#5", 10, 20, "gpu_user_annotation", GPU),
        ran("ProfilerStep#6", 11, 21, "user_annotation", GPU),
        note("ProfilerStep#6", 140, 250),
        note("ProfilerStep#5", 0, 140),
    ]
    reading = read("t.json", trace(*events))
    assert reading.format == "pytorch_chrome_trace"
    assert reading.framework == "pytorch"
    assert reading.records.column("step").tolist() == [5, 6]
    assert stage_us(reading, "step") == [140, 110]
    assert reading.records.line.tolist() == [5, 4]
    assert reading.lines == 5
    assert any("CPU's threads" in note for note in reading.notes)


def test_a_trace_without_steps_says_so_and_gives_totals() -> None:
    events = [note("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 0, 30),
              op("aten::mm", 30, 80), note("Optimizer.step#SGD.step", 80, 100)]  # fmt: skip
    reading = read("t.json", trace(*events))
    assert len(reading.records) == 0
    assert reading.facts["data_loading_s"] == pytest.approx(30 * US)
    assert reading.facts["optimizer_s"] == pytest.approx(20 * US)
    assert reading.facts["wall_s"] == pytest.approx(100 * US)
    assert "no ProfilerStep" in reading.notes[0]
    assert "gpu_busy_share" not in reading.facts
    assert "sync_count" not in reading.facts


def test_stages_of_a_step_do_not_overlap() -> None:
    events = [
        *steps(2),
        note("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", 0, 30),
        note("Optimizer.step#Adam.step", 30, 95),  # runs the rest as a closure
        note("## forward ##", 32, 60),
        op("autograd::engine::evaluate_function: MmBackward0", 60, 80, AUTOGRAD),
        op("autograd::engine::evaluate_function: AddBackward0", 70, 90, AUTOGRAD),
    ]
    reading = read("t.json", trace(*events))
    assert stage_us(reading, "data_loading") == [30, 0]
    assert stage_us(reading, "forward") == [28, 0]
    assert stage_us(reading, "backward") == [30, 0]
    assert stage_us(reading, "optimizer") == [7, 0]
    assert "h2d_copy_s" not in reading.records


def test_a_forward_run_again_in_backward_and_one_in_validation_are_not_forward() -> None:
    events = [
        *steps(1),
        note("backward", 10, 30),
        note("forward", 15, 20),
        note("validation", 50, 90),
        note("forward", 60, 70),
    ]
    reading = read("t.json", trace(*events))
    assert stage_us(reading, "backward") == [20]
    assert stage_us(reading, "validation") == [40]
    assert "forward_s" not in reading.records


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "data_loading"),
        ("[pl][profile][_TrainingEpochLoop].train_dataloader_next", "data_loading"),
        ("## data ##", "data_loading"),
        ("load_data", "data_loading"),
        ("[pl][profile][Strategy]SingleDeviceStrategy.batch_to_device", "h2d_copy"),
        ("DistributedDataParallel.forward", "forward"),
        ("model_forward", "forward"),
        ("loss.backward", "backward"),
        ("compute_loss", "loss"),
        ("Optimizer.zero_grad#SGD.zero_grad", "optimizer"),
        ("optimizer_step", "optimizer"),
        ("[pl][profile][Strategy]SingleDeviceStrategy.validation_step", "validation"),
        ("run_validation", "validation"),
        ("save_checkpoint", "checkpoint"),
        ("DataParallelWrapper", None),
        ("straightforward", None),
    ],
)
def test_annotations_tell_their_stage_by_their_words(name: str, stage: str | None) -> None:
    reading = read("t.json", trace(*steps(1), note(name, 10, 30)))
    found = {role for role in reading.records.columns if role.endswith("_s")} - {"step_s"}
    assert found == ({f"{stage}_s"} if stage else set())


def test_operators_with_such_words_are_no_stages() -> None:
    events = [*steps(1), op("aten::nll_loss_forward", 10, 30), op("aten::copy_backward", 40, 50)]
    assert set(read("t.json", trace(*events)).records.columns) == {"step", "step_s"}


def test_python_functions_tell_their_stage_by_function_and_file() -> None:
    def python(name: str, start_us: float, stop_us: float) -> dict[str, Any]:
        return ran(name, start_us, stop_us, "python_function", MAIN)

    events = [
        *steps(1),
        python("validation/backward/train.py(12): main", 0, 100),
        python("torch/utils/data/dataloader.py(720): __next__", 0, 10),
        python("nets/model.py(33): forward", 10, 30),
        python("torch/nn/modules/loss.py(1385): forward", 25, 30),
        python("torch/_tensor.py(600): backward", 30, 60),
        python("torch/optim/sgd.py(100): step", 60, 70),
    ]
    reading = read("t.json", trace(*events, with_stack=1))
    assert stage_us(reading, "data_loading") == [10]
    assert stage_us(reading, "forward") == [15]
    assert stage_us(reading, "loss") == [5]
    assert stage_us(reading, "backward") == [30]
    assert stage_us(reading, "optimizer") == [10]
    assert "validation_s" not in reading.records
    assert any("Stacks were recorded" in note for note in reading.notes)


def test_a_copy_counts_while_the_cpu_waits_in_it_or_the_device_does_nothing_else() -> None:
    events = [
        *steps(2),
        call("cudaMemcpyAsync", 10, 25, correlation=7),
        upload(12, 24, correlation=7),
        call("cudaMemcpyAsync", 40, 45, correlation=9),  # from device to device: no matter
        call("cudaMemcpyAsync", 110, 111, correlation=8),
        upload(120, 150, correlation=8),
        kernel("k", 125, 200),
    ]
    assert stage_us(read("t.json", trace(*events)), "h2d_copy") == [15, 1 + 5]


def test_communication_counts_while_no_other_kernel_runs() -> None:
    events = [
        *steps(1),
        note("backward", 20, 90),
        kernel("gemm", 20, 50),
        kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL", 40, 80, (0, 9)),
    ]
    reading = read("t.json", trace(*events))
    assert stage_us(reading, "communication") == [30]
    assert stage_us(reading, "backward") == [40]


def test_kernels_that_overlap_are_busy_once() -> None:
    events = [op("aten::mm", 0, 100), kernel("a", 0, 60), kernel("b", 20, 80, (0, 9)),
              kernel("c", 30, 40, (0, 9))]  # fmt: skip
    facts = read("t.json", trace(*events)).facts
    assert facts["gpu_busy_share"] == pytest.approx(0.8)
    assert facts["kernel_s"] == pytest.approx(130 * US)


def test_the_busy_share_is_the_mean_of_the_devices_that_ran_kernels() -> None:
    events = [op("aten::mm", 0, 100), kernel("a", 0, 80), kernel("b", 0, 40, (1, 7))]
    assert read("t.json", trace(*events)).facts["gpu_busy_share"] == pytest.approx(0.6)


def test_the_profilers_own_rows_are_part_of_the_wall_clock_only() -> None:
    events = [ran("PyTorch Profiler (0)", 0, 400, "Trace", ("Spans", "PyTorch Profiler")),
              op("aten::mm", 100, 200), kernel("k", 150, 200)]  # fmt: skip
    facts = read("t.json", trace(*events)).facts
    assert facts["wall_s"] == pytest.approx(400 * US)
    assert facts["active_s"] == pytest.approx(100 * US)
    assert facts["gpu_busy_share"] == pytest.approx(0.5)


def test_waits_and_launches_are_counted() -> None:
    events = [
        call("cudaLaunchKernel", 0, 5),
        call("cudaLaunchKernelExC", 5, 10),
        call("cudaStreamSynchronize", 10, 40),
        call("cudaDeviceSynchronize", 50, 60),
        call("cudaEventRecord", 60, 61),
        ran("Stream Sync", 10, 40, "cuda_sync", GPU),
        ran("Stream Wait Event", 11, 12, "cuda_sync", GPU),
    ]
    facts = read("t.json", trace(*events)).facts
    assert (facts["launch_count"], facts["sync_count"], facts["cuda_sync_count"]) == (2, 2, 2)
    assert facts["sync_s"] == pytest.approx(40 * US)


def test_the_clock_of_the_trace_is_turned_into_dates_where_it_has_one() -> None:
    new = read(
        "t", trace(note("ProfilerStep#1", 4e12, 4e12 + 5e5), baseTimeNanoseconds=17 * 10**17)
    )
    old = read("t", trace(note("ProfilerStep#1", 1.7e15, 1.7e15 + 5e5)))
    boot = read("t", trace(note("ProfilerStep#1", 4e9, 4e9 + 5e5)))
    assert new.records.column("time").tolist() == pytest.approx([1.704e9 + 0.5])
    assert old.records.column("time").tolist() == pytest.approx([1.7e9 + 0.5])
    assert "time" not in boot.records


def test_what_the_trace_says_of_the_machine_is_kept() -> None:
    data = trace(
        *steps(2),
        distributedInfo={"backend": "nccl", "rank": 3, "world_size": 8},
        deviceProperties=[{"id": 0, "name": "Tesla V100"}],
    )
    reading = read("t.json", data)
    assert reading.configuration == {
        "world_size": 8, "distributed_backend": "nccl", "gpu": "Tesla V100",
    }  # fmt: skip
    assert reading.records.column("rank").tolist() == [3, 3]


def test_the_peak_of_memory_is_the_accelerators() -> None:
    def memory(device: int, reserved: int) -> dict[str, Any]:
        args = {"Total Reserved": reserved, "Total Allocated": 5, "Device Type": device}
        return {"ph": "i", "name": "[memory]", "ts": 1, "args": args}

    facts = read("t", trace(op("a", 0, 1), memory(0, 9000), memory(1, 700), memory(1, 600))).facts
    assert facts["peak_bytes"] == 700


def test_hotspots_are_kernels_and_what_the_device_does_not_hide() -> None:
    events = [
        note("ProfilerStep#1", 0, 100),
        op("aten::linear", 0, 60),
        op("aten::addmm", 10, 50),
        call("cudaLaunchKernel", 40, 50),
        kernel("gemm", 45, 100),
        ran("train.py(12): collate\x1b[31m", 60, 100, "python_function", MAIN),
        ran("data/sets.py(8): __getitem__", 60, 70, "python_function", (100, 200)),
    ]
    spots = read("t.json", trace(*events)).hotspots
    shares = {spot.function: round(spot.share, 3) for spot in spots}
    assert shares == {
        "gemm": 0.55,
        "aten::addmm": 0.3,
        "aten::linear": 0.1,
        "cudaLaunchKernel": 0.05,
    }
    assert spots[0].function == "gemm"
    assert {spot.function: spot.library for spot in spots}["aten::addmm"] == "torch"


def test_a_python_function_is_a_hotspot_with_its_file_and_line() -> None:
    events = [
        ran("train.py(12): collate\x1b[31m", 0, 80, "python_function", MAIN),
        op("a", 80, 100),
    ]
    spot = read("t.json", trace(*events)).hotspots[0]
    assert (spot.file, spot.line, spot.function) == ("train.py", 12, "collate?[31m")
    assert spot.share == pytest.approx(0.8)


def test_there_are_no_more_than_ten_hotspots_and_the_largest_come_first() -> None:
    events = [
        kernel(f"kernel number {i} {'x' * 500}", 100 * i, 100 * i + 10 + i) for i in range(30)
    ]
    spots = read("t.json", trace(*events)).hotspots
    assert [spot.function[:16].strip() for spot in spots[:2]] == [
        "kernel number 29",
        "kernel number 28",
    ]
    assert len(spots) == 10
    assert max(len(spot.function) for spot in spots) <= 120


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (trace(*steps(1)), True),
        (b"\xef\xbb\xbf\n  " + trace(*steps(1), indent=2), True),
        (json.dumps(steps(1)).encode(), True),
        (b'{"schemaVersion": 1, "deviceProperties": [' + b'{"id": 0}, ' * 300, True),
        (b'{"schema_version": 1, "stages": {}}', False),
        (b'{"log_history": [{"loss": 1}]}', False),
        (b'[{"loss": 1}]', False),
        (b"Epoch 1 traceEvents", False),
        (b"", False),
    ],
)
def test_traces_are_known_by_their_first_keys(head: bytes, expected: bool) -> None:
    assert is_trace("anything.json", head) is expected


@pytest.mark.parametrize("data", [b"", b"{}", b'{"traceEvents": 5}', b"hello", b'{"a": ["b"]}'])
def test_what_holds_no_events_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(PerfdoctorError, match=r"x/t.json cannot be read as a trace") as caught:
        read("x/t.json", data)
    assert caught.value.slug == "trace-unreadable"
    assert "\n" not in str(caught.value)


def test_a_trace_of_nothing_is_read_as_such() -> None:
    reading = read("t.json", trace())
    assert (len(reading.records), dict(reading.facts), reading.lines) == (0, {}, 0)


@pytest.mark.filterwarnings("ignore:.*Profiler clears events")
def test_a_trace_that_torch_writes_now_is_read(tmp_path: Path) -> None:
    import torch
    from torch.profiler import ProfilerActivity, profile, schedule
    from torch.utils.data import DataLoader, TensorDataset

    model = torch.nn.Linear(32, 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(TensorDataset(torch.randn(24, 32)), batch_size=4)
    path = tmp_path / "run.pt.trace.json"
    with profile(
        activities=[ProfilerActivity.CPU],
        schedule=schedule(wait=1, warmup=1, active=3),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
    ) as profiler:
        for (batch,) in loader:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
            profiler.step()
    data = path.read_bytes()
    assert is_trace(path.name, data[:4096])
    reading = read(str(path), data)
    written = json.loads(data)["traceEvents"]
    durations = {e["name"]: e["dur"] for e in written if e["name"].startswith("ProfilerStep#")}
    assert {f"ProfilerStep#{int(n)}" for n in reading.records.column("step")} == set(durations)
    assert stage_us(reading, "step") == pytest.approx(list(durations.values()), abs=0.01)
    for stage in ("data_loading", "backward", "optimizer"):
        assert all(value > 0 for value in stage_us(reading, stage))
    stages = [
        reading.records.column(role) for role in ("data_loading_s", "backward_s", "optimizer_s")
    ]
    assert (np.sum(stages, axis=0) <= reading.records.column("step_s")).all()
    assert reading.records.column("time")[0] == pytest.approx(path.stat().st_mtime, abs=600)
    assert reading.lines == len(written)
    assert reading.unread == 0
    assert any(spot.function.startswith("aten::") for spot in reading.hotspots)
