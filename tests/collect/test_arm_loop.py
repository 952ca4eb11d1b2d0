"""What an arm's loop notes of its first steps, and what ends in a mode that holds more."""

from __future__ import annotations

import pytest
import torch
import toys

import perfdoctor
from perfdoctor.collect import arm_training
from perfdoctor.collect.arm_loop import ArmLoop
from perfdoctor.collect.arm_training import BenchTraining
from perfdoctor.collect.options import BenchOptions
from perfdoctor.errors import PerfdoctorError


def workload() -> perfdoctor.Workload:
    return perfdoctor.Workload(
        model=toys.Classifier(),
        dataset=toys.Points(),
        batch_size=4,
        optimizer=lambda parameters: torch.optim.Adam(parameters),
    )


def test_steps_that_the_scaler_leaves_out_while_it_looks_for_its_scale_have_no_norm():
    loop = ArmLoop(workload, BenchOptions(device="cpu"), record=5)
    loop.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-60)
    loop.run_steps(5)
    loop.finish()
    assert loop.scaler.get_scale() < 2.0**127
    assert len(loop.losses) == 5
    assert len(loop.gradient_norms) in (3, 4)
    assert arm_training.finite(loop.gradient_norms) == loop.gradient_norms


def test_without_a_scaler_every_step_has_one():
    loop = ArmLoop(workload, BenchOptions(device="cpu"), record=3)
    loop.run_steps(5)
    loop.finish()
    assert len(loop.losses) == len(loop.gradient_norms) == 3


@pytest.fixture
def training(monkeypatch):
    module = type("Described", (), {"from_description": staticmethod(lambda _: workload)})
    monkeypatch.setattr(arm_training, "import_module", lambda name: module)
    modes = {"fused": {"optimizer_foreach": True}, "threads": {"threads": 1}}
    made = BenchTraining({}, {"device": "cpu"}, modes)
    yield made
    made.close()


@pytest.mark.parametrize(("mode", "slug"), [("fused", "no-room"), ("threads", "out-of-memory")])
def test_memory_that_runs_out_beside_a_second_optimizer_says_so(training, monkeypatch, mode, slug):
    training.warm(2, None)

    def full(loop, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ArmLoop, "_update_weights", full)
    with pytest.raises(PerfdoctorError) as caught:
        training.warm(1, mode)
    assert caught.value.slug == slug
