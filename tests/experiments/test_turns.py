"""How differences are made and decided, with speeds and noise that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fake_arm import FakeArm
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.collect.arm import ArmSpec, Chunk
from perfdoctor.collect.lock_step import InMode, seconds_per_sample
from perfdoctor.experiments.turns import (
    ChunkPlan,
    Decision,
    abba,
    block,
    by_blocks,
    chunk_plan,
)
from perfdoctor.sequential import Claim


def chunk(step_s, samples=8.0, starts=None, steady_s=None):
    times = np.array(step_s)
    flags = np.zeros(times.size, dtype=np.bool_) if starts is None else np.array(starts)
    return Chunk(
        step_s=times,
        stages_s={},
        samples=np.full(times.size, samples),
        starts=flags,
        wall_s=1.0,
        cpu_s=1.0,
        steady_s=steady_s,
    )


class Scripted:
    """Gives its chunks one after the other and notes whose turn it was."""

    def __init__(self, name, times, turns):
        self.name, self.times, self.turns = name, iter(times), turns

    def chunk(self, steps):
        self.turns.append(self.name)
        return chunk([next(self.times)] * steps)


def test_a_steady_drift_of_the_machine_cancels_within_a_round():
    turns: list[str] = []
    slower = [1.0 * 1.1**i for i in range(4)]  # ABBA: the old side meets 0 and 3, the new 1 and 2
    old = Scripted("A", [slower[0], slower[3]], turns)
    new = Scripted("B", [slower[1], slower[2]], turns)
    assert abba(old, new, ChunkPlan(3), swapped=False) == pytest.approx(0.0)
    assert turns == ["A", "B", "B", "A"]


def test_a_plan_of_one_turn_begins_with_the_other_side_in_every_other_block():
    turns: list[str] = []
    old, new = Scripted("A", [1.0] * 2, turns), Scripted("B", [0.5] * 2, turns)
    for swapped in (False, True):
        plan = ChunkPlan(2, turns=1)
        assert block(old, new, plan, swapped=swapped) == pytest.approx(math.log(2))
    assert "".join(turns) == "ABBA"


def test_every_other_round_begins_with_the_other_side():
    turns: list[str] = []
    old, new = Scripted("A", [1.0] * 9, turns), Scripted("B", [0.5] * 9, turns)
    assert block(old, new, ChunkPlan(2, rounds=2), swapped=True) == pytest.approx(math.log(2))
    assert "".join(turns) == "BAABABBA"


def test_one_disturbed_round_of_a_block_does_not_count():
    old = Scripted("A", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [])
    new = Scripted("B", [1.0, 1.0, 50.0, 50.0, 1.0, 1.0], [])
    assert block(old, new, ChunkPlan(2, rounds=3)) == pytest.approx(0.0)


def test_seconds_per_sample_leaves_out_what_a_short_chunk_cannot_hold_its_share_of():
    begun = chunk([9.0, 1.0, 1.0], starts=[True, False, False])
    assert seconds_per_sample(begun) == pytest.approx(1 / 8)
    assert seconds_per_sample(chunk([9.0], starts=[True])) == pytest.approx(9 / 8)


def test_a_larger_batch_is_compared_by_its_samples():
    assert seconds_per_sample(chunk([2.0], samples=64.0)) == pytest.approx(2 / 64)


def test_batches_borrowed_from_the_queue_are_paid_back():
    assert seconds_per_sample(chunk([1.0, 1.0], steady_s=2.0)) == pytest.approx(2 / 8)
    assert seconds_per_sample(chunk([1.0, 1.0], steady_s=0.5)) == pytest.approx(1 / 8)


@given(
    st.floats(1e-5, 2.0),
    st.floats(0.01, 20.0),
    st.integers(1, 8),
    st.integers(0, 16),
)
def test_chunks_are_whole_turns_and_blocks_keep_to_their_time(step_s, block_s, turn, queue):
    plan = chunk_plan(step_s, block_s, turn=turn, queue=queue)
    assert plan.steps >= 1 and plan.steps >= queue
    assert plan.steps % turn == 0
    spent = 4 * plan.rounds * (plan.steps + queue + 1) * step_s
    assert plan.rounds == 1 or spent <= 1.5 * block_s


@settings(max_examples=25, deadline=None)
@given(st.floats(0.7, 1.4), st.floats(0.0, 0.03), st.integers(0, 10_000))
def test_the_measured_gain_is_the_real_one(world_gain, noise, seed):
    from fake_arm import World

    FakeArm.world = World(noise, seed)
    FakeArm.world.gains["precision"] = world_gain
    arm = FakeArm(ArmSpec(workload={}))
    arm.add_mode("new", {"precision": "bf16"})
    decision = Decision(Claim(), [])
    plan = chunk_plan(0.01, 0.5)
    for _ in range(14):
        decision.add(block(InMode(arm), InMode(arm, "new"), plan))
    speedup, low, high = decision.speedup()
    assert speedup == pytest.approx(world_gain, rel=0.03)
    assert low <= speedup <= high


def test_blocks_end_with_the_time_but_not_just_before_a_look(world):
    arm = FakeArm(ArmSpec(workload={}))
    arm.add_mode("new", {})
    world.noise = 0.02
    plan = chunk_plan(0.01, 1.0)
    block_s = 4 * plan.rounds * (plan.steps + 1) * 0.01

    def made(blocks):
        decision = Decision(Claim(), [])
        deadline = world.time.now_s + (blocks - 0.5) * block_s
        by_blocks(InMode(arm), InMode(arm, "new"), plan, decision, deadline, lambda: None, 30)
        return len(decision.differences)

    assert made(6) == 7
    assert made(12) == 14
    assert made(16) == 20
    assert made(15) == 15
    assert made(1) == 1
