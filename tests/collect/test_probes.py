"""Probes compare in pairs, and one that cannot be made is absent."""

from __future__ import annotations

import pytest
import torch
import toys
from fake_time import FakeClock

from perfdoctor.collect import probes
from perfdoctor.collect.options import BenchOptions
from perfdoctor.collect.probes import Arms, interleaved, probe_all
from perfdoctor.collect.training import TrainingLoop

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    fake = FakeClock()

    def timed(device, work):
        before = fake.time_s
        work()
        return fake.time_s - before

    monkeypatch.setattr(probes, "timed", timed)
    return fake


def arms(clock, now, changed, **more):
    return Arms(lambda: clock.advance(now), lambda: clock.advance(changed), ("forward",), **more)


def test_a_change_that_halves_the_time_is_a_speedup_of_two(clock):
    probe = interleaved("x", arms(clock, 0.02, 0.01), CPU, budget_s=1)
    assert (probe.speedup, probe.low, probe.high) == pytest.approx((2, 2, 2))
    assert probe.pairs == 8


def test_identical_arms_have_no_speedup(clock):
    assert interleaved("x", arms(clock, 0.01, 0.01), CPU, 1).speedup == pytest.approx(1)


def test_throughput_at_twice_the_batch_is_scaled(clock):
    probe = interleaved("x", arms(clock, 0.01, 0.015, scale=2.0), CPU, 1)
    assert probe.speedup == pytest.approx(2 / 1.5)


def test_order_alternates_so_that_a_drift_cancels(clock):
    seen = []
    both = Arms(
        lambda: (seen.append("now"), clock.advance(0.1)),
        lambda: (seen.append("changed"), clock.advance(0.1)),
        ("forward",),
    )
    interleaved("x", both, CPU, 1)
    assert seen[4:12] == ["now", "changed", "changed", "now", "now", "changed", "changed", "now"]


def test_a_probe_that_would_take_too_long_is_not_made(clock):
    assert interleaved("x", arms(clock, 5, 5), CPU, budget_s=1) is None


def test_a_way_that_is_far_faster_does_not_make_the_other_one_repeat(clock):
    probe = interleaved("x", arms(clock, 0.1, 0.00001), CPU, budget_s=1)
    assert probe.speedup == pytest.approx(10_000)
    assert clock.time_s < 2


@pytest.fixture
def loop() -> TrainingLoop:
    made = TrainingLoop(toys.searched_workload_second_order, BenchOptions(device="cpu"))
    made.run_steps(3)
    made.finish()
    return made


def test_the_probes_of_a_cpu_training(loop):
    found = {p.name: p for p in probe_all(loop, 0.5, "fp32")}
    assert {"bf16", "batch_x2", "optimizer_fused", "arch_first_order"} <= set(found)
    assert found["batch_x2"].details["batch_size"] == 16
    assert not {"tf32", "fp16", "h2d_pinned"} & set(found)


def test_what_is_already_on_is_not_probed():
    loop = TrainingLoop(
        lambda: toys.workload(optimizer=lambda p: torch.optim.AdamW(p, fused=True)),
        BenchOptions(device="cpu", precision="bf16"),
    )
    loop.run_steps(3)
    loop.finish()
    assert not {"bf16", "optimizer_fused"} & {p.name for p in probe_all(loop, 0.5, "bf16")}


def test_the_optimizer_probe_does_not_touch_the_model(loop):
    before = [p.detach().clone() for p in loop.weights]
    arm = probes._fused(loop, "fp32")
    arm.now()
    arm.changed()
    assert all(torch.equal(a, b) for a, b in zip(before, loop.weights, strict=True))


def test_a_probe_that_raises_is_left_out(loop, monkeypatch):
    def broken(loop, precision):
        raise RuntimeError("not supported")

    monkeypatch.setattr(probes, "_PROBES", {"broken": broken, "fused": probes._fused})
    assert [p.name for p in probe_all(loop, 0.5, "fp32")] == ["fused"]


def test_thread_counts_are_put_back(loop, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(probes, "usable_cores", lambda: before + 1)
    arm = probes._threads(loop, "fp32")
    arm.changed()
    assert torch.get_num_threads() == before
