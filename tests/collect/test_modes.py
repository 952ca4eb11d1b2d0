"""Changes that are made in a running training and undone without a trace."""

from __future__ import annotations

import gc
import random

import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from perfdoctor.collect.arm_loop import ArmLoop
from perfdoctor.collect.arm_training import BenchTraining, steady_s
from perfdoctor.collect.cached import CachedDataset
from perfdoctor.collect.loader import BatchInfo
from perfdoctor.collect.modes import CHANGES, Mode, checkpointing
from perfdoctor.collect.options import BenchOptions
from perfdoctor.errors import PerfdoctorError

SPEC = {"workload": f"{toys.__file__}:workload"}


def made(factory=toys.workload, **options):
    return ArmLoop(factory, BenchOptions(**options), record=3)


def state_of(loop: ArmLoop) -> tuple:
    """Everything that a mode may exchange or set."""
    held = (loop.options, loop.model, loop.optimizer, loop.scaler, loop.loader, loop.workload)
    return (
        *map(id, held), id(loop._batches), loop.replayed, loop.non_blocking,
        torch.get_num_threads(), torch.is_anomaly_enabled(), gc.get_freeze_count(),
        torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark,
    )  # fmt: skip


SMALL = {
    "threads": 1, "anomaly_detection": True, "deterministic": True, "cudnn_benchmark": True,
    "gc_frozen": True, "optimizer_fused": True, "optimizer_foreach": True, "arch_every": 3,
    "arch_order": 1, "cache_samples": True, "free_loading": True, "non_blocking": True,
    "reads_at_once": 2, "start_every": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(CHANGES) - {"gradient_checkpointing"}))
def test_a_change_is_undone_without_a_trace(name):
    loop = made()
    loop.run_steps(2)
    mode = Mode(loop, {name: SMALL[name]})
    loop._batches = iter(loop.loader)
    before = state_of(loop)
    with mode.active():
        loop.run_steps(3)
        inside = state_of(loop)
    assert inside != before or SMALL[name] == torch.get_num_threads()
    assert state_of(loop) == before
    loop.run_steps(1)


@pytest.mark.parametrize(
    ("changes", "effect"),
    [
        ({"batch_size": 4}, lambda loop: loop.loader_arguments["batch_size"] == 4),
        ({"precision": "bf16"}, lambda loop: loop.autocast()._enabled),
        ({"arch_every": 5}, lambda loop: loop.workload.arch_every == 5),
        ({"anomaly_detection": True}, lambda loop: torch.is_anomaly_enabled()),
        ({"optimizer_fused": True}, lambda loop: loop.optimizer.param_groups[0]["fused"]),
        ({"optimizer_foreach": True}, lambda loop: loop.optimizer.param_groups[0]["foreach"]),
        ({"gc_frozen": True}, lambda loop: gc.get_freeze_count() > 0),
    ],
)
def test_a_change_is_in_effect_inside(changes, effect):
    loop = made()
    mode = Mode(loop, changes)
    assert not effect(loop)
    with mode.active():
        assert effect(loop)
    assert not effect(loop)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", None]), max_size=8))
def test_modes_in_any_order_leave_the_loop_as_it_was(order):
    loop = made()
    modes = {
        "a": Mode(loop, {"batch_size": 4, "optimizer_fused": True}),
        "b": Mode(loop, {"free_loading": True, "arch_every": 2, "precision": "bf16"}),
    }
    before = state_of(loop)[:6]
    for name in order:
        if name is not None:
            with modes[name].active():
                loop.run_steps(1)
        else:
            loop.run_steps(1)
    assert state_of(loop)[:6] == before


def test_all_modes_train_the_same_weights():
    loop = made()
    mode = Mode(loop, {"optimizer_foreach": True})
    before = loop.eager_model.fc.weight.detach().clone()
    with mode.active():
        loop.run_steps(2)
    assert not torch.equal(loop.eager_model.fc.weight, before)


def test_a_mode_that_makes_no_sense_is_refused():
    with pytest.raises(PerfdoctorError, match="'channels_last' in a running process"):
        Mode(made(), {"channels_last": True})
    with pytest.raises(PerfdoctorError, match="'unheard_of'"):
        Mode(made(), {"unheard_of": 1})
    with pytest.raises(PerfdoctorError, match="no switch for gradient checkpointing"):
        Mode(made(), {"gradient_checkpointing": True})
    with pytest.raises(PerfdoctorError, match="cannot be replayed by index"):
        Mode(made(lambda: toys.workload(dataset=toys.Stream())), {"cache_samples": True})


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.use_checkpoint = False
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x)


def test_switches_for_gradient_checkpointing_are_found_and_turned():
    model = nn.Sequential(Block())
    assert checkpointing(model) is False
    assert checkpointing(nn.Linear(1, 1)) is None
    loop = made(lambda: toys.workload(model=model))
    with Mode(loop, {"gradient_checkpointing": True}).active():
        assert checkpointing(model) is True
    assert checkpointing(model) is False


def test_first_losses_are_those_of_a_training_made_anew():
    training = BenchTraining(SPEC, {"seed": 3}, {"other": {"batch_size": 4}})
    training.warm(4, None)
    facts = training.facts(None)
    again = training.first_losses(4, None)
    assert again["losses"] == facts["losses"][:4]
    assert all(norm > 0 for norm in again["gradient_norms"])
    assert training.first_losses(4, "other")["losses"] != again["losses"]


def test_a_chunk_counts_none_of_the_steps_before_it():
    training = BenchTraining(SPEC, {}, {})
    chunk = training.chunk(5, None)
    assert len(chunk["step_s"]) == len(chunk["samples"]) == len(chunk["starts"]) == 5
    assert chunk["wall_s"] > 0 and set(chunk["stages_s"]) >= {"forward", "backward"}
    assert training._loop.step_index == 6
    assert chunk["steady_s"] is None


def test_a_failed_step_leaves_the_next_one_a_clean_start(monkeypatch):
    training = BenchTraining(SPEC, {}, {"broken": {}})
    training.chunk(2, None)
    loop = training._loop
    with monkeypatch.context() as broken:
        broken.setattr(loop.optimizer, "step", lambda: 1 / 0)
        with pytest.raises(PerfdoctorError, match="ZeroDivisionError"):
            training.chunk(2, "broken")
    assert not loop.steps.infos and not loop.timeline.in_step
    assert all(weight.grad is None for weight in loop.weights)
    assert len(training.chunk(2, None)["step_s"]) == 2


def test_an_unknown_mode_is_an_error():
    with pytest.raises(PerfdoctorError, match="no mode 'absent'"):
        BenchTraining(SPEC, {}, {}).warm(1, "absent")


def test_replayed_batches_take_no_time_to_load():
    loop = made()
    with Mode(loop, {"free_loading": True}).active():
        loop.run_steps(4)
    infos = loop.finish().infos
    assert all(info.batch_s == 0 for info in infos[-4:])


def test_cached_samples_are_made_once_and_no_more_of_them_than_allowed(monkeypatch):
    asked = []

    class Counted(toys.Points):
        def __getitem__(self, index):
            asked.append(index)
            return super().__getitem__(index)

    monkeypatch.setattr("perfdoctor.collect.cached.MOST_BYTES", 40 * 16)
    cached = CachedDataset(Counted(64))
    assert len(cached) == 64
    assert [cached[i][1] for i in range(64)] == [(i % len(cached._samples)) % 2 for i in range(64)]
    assert asked == list(range(41))


def made_by(workers: int, batch_ms: float, idle_ms: float, count: int) -> list[BatchInfo]:
    """Batches of workers that begin one after the other and pause between batches."""
    infos = []
    for number in range(count):
        worker, turn = number % workers, number // workers
        start = 1e6 * (turn * (batch_ms + idle_ms) + worker * batch_ms / workers) + 1
        info = BatchInfo(start_ns=int(start), cpu_start_ns=0, worker=worker)
        info.done_ns = int(start + 1e6 * batch_ms)
        infos.append(info)
    return infos


@given(st.integers(1, 6), st.floats(2.0, 50.0))
def test_busy_workers_tell_the_rate_that_lasts(workers, batch_ms):
    infos = made_by(workers, batch_ms, 0.0, 20 * workers)
    random.Random(0).shuffle(infos)
    found = steady_s(infos, 0, workers)
    assert found == pytest.approx(batch_ms / workers / 1e3, rel=0.05)


def test_workers_that_wait_for_room_do_not_limit_the_training():
    assert steady_s(made_by(2, 10.0, 5.0, 40), 0, 2) is None


def test_batches_made_during_the_pause_do_not_count():
    infos = made_by(2, 10.0, 0.0, 40)
    assert steady_s(infos, infos[-1].done_ns, 2) is None
    assert steady_s(infos[:4], 0, 2) is None
