"""Every moment of a step belongs to exactly one stage."""

from __future__ import annotations

import threading

import pytest
from fake_time import FakeClock, FakeDeviceClock
from hypothesis import given
from hypothesis import strategies as st

import perfdoctor
from perfdoctor.stages import PAUSED, StageTimeline, activated, in_order


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def run_stage(timeline: StageTimeline, clock: FakeClock, name: str, seconds: float) -> None:
    with timeline.stage(name):
        clock.advance(seconds)


def test_time_between_stages_is_other(clock):
    timeline = StageTimeline(clock)
    timeline.begin_step()
    clock.advance(1)
    run_stage(timeline, clock, "forward", 2)
    clock.advance(4)
    timeline.begin_step()
    (step,) = timeline.drain()
    assert step.exposed_s == {"other": 5, "forward": 2}
    assert step.total_s == 7


def test_a_nested_stage_is_taken_out_of_the_one_around_it(clock):
    timeline = StageTimeline(clock)
    timeline.begin_step()
    with timeline.stage("forward"):
        clock.advance(1)
        run_stage(timeline, clock, "graph_build", 10)
        clock.advance(2)
    timeline.begin_step()
    (step,) = timeline.drain()
    assert step.exposed_s == {"forward": 3, "graph_build": 10, "other": 0}


def test_paused_time_is_no_part_of_the_step(clock):
    timeline = StageTimeline(clock)
    timeline.begin_step()
    run_stage(timeline, clock, "forward", 1)
    timeline.enter(PAUSED)
    clock.advance(100)
    timeline.leave()
    timeline.begin_step()
    assert timeline.drain()[0].total_s == 1


def test_the_unfinished_step_waits_for_its_end(clock):
    timeline = StageTimeline(clock)
    timeline.begin_step()
    run_stage(timeline, clock, "forward", 1)
    assert timeline.drain() == []
    timeline.begin_step()
    assert len(timeline.drain()) == 1
    assert timeline.drain() == []


def test_restart_forgets_the_step_that_was_cut_short(clock):
    timeline = StageTimeline(clock)
    timeline.begin_step()
    timeline.enter("forward")
    clock.advance(5)
    timeline.restart()
    timeline.begin_step()
    clock.advance(1)
    timeline.begin_step()
    assert [step.exposed_s for step in timeline.drain()] == [{"other": 1}]


def test_steps_whose_device_times_are_unknown_stay_until_they_are_known():
    clock = FakeDeviceClock()
    timeline = StageTimeline(clock)
    timeline.begin_step()
    with timeline.stage("forward"):
        clock.advance(0.1)
        clock.work(3)
    timeline.begin_step()
    assert timeline.drain() == []
    clock.catch_up()
    (step,) = timeline.drain()
    assert step.exposed_s["forward"] == pytest.approx(3.1)
    assert step.host_s["forward"] == pytest.approx(0.1)


def test_a_wait_behind_queued_device_work_is_not_exposed():
    clock = FakeDeviceClock()
    timeline = StageTimeline(clock)
    timeline.begin_step()
    with timeline.stage("forward"):
        clock.work(5)
    timeline.begin_step()
    with timeline.stage("data_loading"):
        clock.advance(2)  # the device is busy with the forward pass all along
    timeline.begin_step()
    clock.catch_up()
    second = timeline.drain()[1]
    assert second.exposed_s["data_loading"] == 0
    assert second.host_s["data_loading"] == 2


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(["forward", "loss", "mine"]), st.integers(0, 1000)),
            max_size=6,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_stages_always_add_up_to_the_wall_time(steps):
    clock = FakeClock()
    timeline = StageTimeline(clock)
    for stages in steps:
        timeline.begin_step()
        for name, milliseconds in stages:
            run_stage(timeline, clock, name, milliseconds)
            clock.advance(1)
    timeline.begin_step()
    assert sum(step.total_s for step in timeline.drain()) == pytest.approx(clock.time_s)


def test_a_named_stage_without_a_measurement_does_nothing():
    with perfdoctor.stage("graph_build"):
        pass


def test_a_named_stage_reports_to_the_active_timeline(clock):
    timeline = StageTimeline(clock)
    with activated(timeline):
        timeline.begin_step()
        with perfdoctor.stage("graph_build"):
            clock.advance(3)
        timeline.begin_step()
    with perfdoctor.stage("after"):
        clock.advance(1)
    assert timeline.drain()[0].exposed_s["graph_build"] == 3


def test_a_named_stage_ends_when_its_block_raises(clock):
    timeline = StageTimeline(clock)
    with activated(timeline):
        timeline.begin_step()
        with pytest.raises(ValueError, match="inside"), perfdoctor.stage("graph_build"):
            raise ValueError("inside")
        clock.advance(2)
        timeline.begin_step()
    assert timeline.drain()[0].exposed_s["other"] == 2


def test_another_thread_does_not_disturb_the_timeline(clock):
    timeline = StageTimeline(clock)

    def elsewhere() -> None:
        with perfdoctor.stage("elsewhere"):
            pass

    with activated(timeline):
        timeline.begin_step()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        timeline.begin_step()
    assert set(timeline.drain()[0].exposed_s) == {"other"}


def test_fixed_stages_come_first_and_other_last():
    assert in_order(["other", "zebra", "backward", "apple", "data_loading"]) == [
        "data_loading",
        "backward",
        "apple",
        "zebra",
        "other",
    ]
