"""From a workload to a Run, for real but small."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
import torch
import toys
from torch.utils.data import default_collate

from perfdoctor.collect import bench, rounds
from perfdoctor.collect.assembly import configuration
from perfdoctor.collect.bench import measure
from perfdoctor.collect.hardware import HardwareSampler
from perfdoctor.collect.options import BenchOptions, no_progress
from perfdoctor.collect.rounds import Case, measure_rounds
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.errors import PerfdoctorError
from perfdoctor.record import Source

BENCH = Source(kind="bench", command="perfdoctor bench")


@pytest.fixture(scope="module")
def run(small_limits):
    options = BenchOptions(device="cpu", iterations=12, max_seconds=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "_PROBE", 2.0)  # a busy machine must not make a probe too long
        return measure(lambda: toys.workload(dataset=toys.PartlyUnreadable()), options, BENCH)


def test_steps_are_the_sum_of_their_stages(run):
    total = np.nansum([stage.exposed_s for stage in run.stages], axis=0)
    assert total == pytest.approx(run.step_s)
    assert run.step_s.size == 12


def test_the_first_step_is_kept_apart(run):
    assert run.first_s > 0
    assert not run.epoch_start[0]


def test_both_passes_are_recorded(run):
    assert {"data_loading", "forward", "loss", "backward", "optimizer"} <= {
        stage.name for stage in run.alone
    }
    assert {"data_loading", "forward", "loss", "backward", "optimizer", "other"} == {
        stage.name for stage in run.stages
    }


def test_loading_in_the_training_process_hides_nothing(run):
    loading = next(stage for stage in run.stages if stage.name == "data_loading")
    assert loading.hidden_s == pytest.approx(0, abs=1e-4)


def test_what_else_is_measured_is_there(run):
    assert run.latency_s.size > 0
    assert run.loader.alone_samples > 0
    assert run.memory.training_peak_bytes > 1 << 20
    assert run.memory.total_bytes > run.memory.training_peak_bytes
    assert {limit.name for limit in run.limits} == {"compute"}
    assert {probe.name for probe in run.probes} >= {"bf16", "batch_x2"}
    assert run.step_cpu_s > 0
    assert run.warnings == ()


def test_skipped_files_are_named_once(run):
    assert {s.path for s in run.skipped} == {f"file{i}.jpg" for i in range(0, 64, 5)}


def test_the_configuration_is_the_one_really_used(run):
    assert run.configuration["batch_size"] == 8
    assert run.configuration["num_workers"] == 0
    assert run.configuration["optimizer"] == "AdamW"
    assert run.configuration["dataset_size"] == 64
    assert run.configuration["parameters"] > 0  # a baseline of another model is none
    assert run.configuration["prefetch_factor"] is None
    assert run.configuration["dataset"] == "PartlyUnreadable"
    assert run.configuration["collate"] == "default"


def own(samples):
    return default_collate(samples)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "default"),
        ({"collate_fn": own}, "own"),
        ({"loader_options": {"batch_size": None}}, "default_convert"),
    ],
)
def test_who_puts_samples_together_is_told(settings, name):
    workload = toys.workload(**settings)
    loop = TrainingLoop(lambda: workload, BenchOptions(device="cpu"))
    assert configuration(loop)["collate"] == name


def test_memory_on_the_cpu_is_that_of_the_training_and_its_workers():
    loop = TrainingLoop(toys.workload, BenchOptions(device="cpu"))
    measurement = bench.Measurement(loop=loop, source=BENCH, training_peak_bytes=500)
    measurement.hardware = HardwareSampler(loop.device, workers_pss_bytes=70)
    assert measurement._memory().training_peak_bytes == 570
    assert measurement._memory().workers_peak_bytes == 70


def test_an_interrupt_after_the_loop_keeps_the_report(monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.alone, "compute_alone", interrupt)
    options = BenchOptions(device="cpu", iterations=5, max_seconds=0.5)
    run = measure(toys.workload, options, BENCH)
    assert run.sampling.stop == "interrupted"
    assert run.step_s.size == 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_heeded_at_the_next_step():
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals arrive in the main thread")

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)  # what it raises here is dropped

    class Dropping(toys.Classifier):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 4:
                Dying()
            return super().forward(x)

    options = BenchOptions(device="cpu", iterations=50, max_seconds=0.5)
    before = signal.getsignal(signal.SIGINT)
    run = measure(lambda: toys.workload(model=Dropping()), options, BENCH)
    assert run.sampling.stop == "interrupted"
    assert run.step_s.size == 3  # without the first, which is kept apart
    assert signal.getsignal(signal.SIGINT) is before


def test_what_cannot_be_measured_is_a_warning_and_not_the_end(monkeypatch):
    def broken(*args):
        raise ValueError("no such counter")

    monkeypatch.setattr(bench.alone, "inference_latency", broken)
    options = BenchOptions(device="cpu", iterations=5, max_seconds=0.5)
    run = measure(toys.workload, options, BENCH)
    assert run.warnings == ("measuring inference failed: ValueError: no such counter",)
    assert run.latency_s is None


def test_a_loss_that_explodes_is_told():
    options = BenchOptions(device="cpu", iterations=3, max_seconds=0.2)
    run = measure(lambda: toys.workload(loss=lambda o, t: o.sum() * float("nan")), options, BENCH)
    assert any("NaN" in warning for warning in run.warnings)


def test_workers_hide_loading_and_their_stages_are_shown():
    options = BenchOptions(device="cpu", iterations=10, num_workers=1, max_seconds=0.5)
    run = measure(lambda: toys.workload(dataset=toys.NamingAStage()), options, BENCH)
    stages = {stage.name: stage for stage in run.stages}
    assert np.nansum(stages["decode"].exposed_s) == 0
    assert np.nanmedian(stages["decode"].hidden_s) > 0
    assert run.loader.batch_s.size == 10


def test_a_search_reports_its_architecture_step():
    options = BenchOptions(device="cpu", iterations=6, max_seconds=0.5)
    run = measure(lambda: toys.searched_workload(arch_every=3), options, BENCH)
    arch = next(stage for stage in run.stages if stage.name == "arch_step")
    assert np.isfinite(arch.exposed_s).sum() == 2
    assert run.configuration["arch_every"] == 3


# -- several configurations --------------------------------------------------------------------


def cases(*sizes):
    options = [BenchOptions(device="cpu", batch_size=n, max_seconds=0.1) for n in sizes]
    return [Case(f"batch_size={o.batch_size}", toys.workload, o) for o in options]


def test_blocks_take_turns_forwards_and_backwards(monkeypatch):
    order = []
    real = rounds._block
    monkeypatch.setattr(
        rounds, "_block", lambda m, n: (order.append(m.loop.options.batch_size), real(m, n))
    )
    outcomes = measure_rounds(cases(2, 4), BENCH, no_progress)
    assert order == [2, 4, 4, 2] * 3
    for outcome in outcomes:
        assert set(outcome.run.block.tolist()) == set(range(rounds.ROUNDS))


def test_what_idle_workers_have_made_ahead_is_not_counted():
    options = BenchOptions(device="cpu", iterations=12, num_workers=1)
    (outcome,) = measure_rounds([Case("one", toys.workload, options)], BENCH, no_progress)
    assert outcome.run.step_s.size == outcome.run.samples.size == 12
    assert outcome.run.sampling.stop == "iterations"


def test_a_case_that_fails_does_not_cost_the_others():
    good, bad = measure_rounds(cases(4, 65), BENCH, no_progress)
    assert good.run is not None
    assert bad.run is None
    assert "larger than the dataset" in bad.error


def test_a_case_that_fails_in_a_round_does_not_cost_the_others():
    class Flaky(toys.Points):
        left = 120

        def __getitem__(self, index):
            self.left -= 1
            if self.left < 0:
                raise OSError("file gone")
            return super().__getitem__(index)

    options = BenchOptions(device="cpu", iterations=60)
    flaky = Case("flaky", lambda: toys.workload(dataset=Flaky()), options)
    good, bad = measure_rounds([Case("good", toys.workload, options), flaky], BENCH, no_progress)
    assert good.run.step_s.size == 60
    assert bad.error == "the dataset failed: OSError: file gone"


def test_stages_named_in_a_dataset_without_workers_are_part_of_loading():
    options = BenchOptions(device="cpu", iterations=5, max_seconds=0.2)
    run = measure(lambda: toys.workload(dataset=toys.NamingAStage()), options, BENCH)
    stages = {stage.name: stage for stage in run.stages}
    assert "decode" not in stages
    assert stages["data_loading"].hidden_s == pytest.approx(0, abs=1e-4)


def test_where_every_case_fails_the_first_reason_is_raised():
    with pytest.raises(PerfdoctorError, match="batch size 70"):
        measure_rounds(cases(70, 80), BENCH, no_progress)


def test_only_the_best_is_measured_stage_by_stage():
    outcomes = measure_rounds(cases(2, 32), BENCH, no_progress)
    assert sorted(bool(outcome.run.alone) for outcome in outcomes) == [False, True]


def test_an_interrupt_keeps_whole_rounds(monkeypatch):
    real = rounds._block

    def block(measurement, number):
        if number == 2 and measurement.loop.options.batch_size == 2:
            raise KeyboardInterrupt
        real(measurement, number)

    monkeypatch.setattr(rounds, "_block", block)
    outcomes = measure_rounds(cases(2, 4), BENCH, no_progress)
    assert all(set(o.run.block.tolist()) == {0, 1} for o in outcomes)
    assert all(o.run.sampling.stop == "interrupted" for o in outcomes)


def test_torch_threads_are_left_alone():
    before = torch.get_num_threads()
    measure_rounds(cases(4), BENCH, no_progress)
    assert torch.get_num_threads() == before
