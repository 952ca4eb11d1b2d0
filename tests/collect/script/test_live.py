"""The run as it is now, from a recorder whose clock stands still unless told."""

from __future__ import annotations

import pytest

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.live import Course, LiveWatch, StepTimes
from perfdoctor.collect.script.recorder import Recorder

STAGES = list(Recorder().names)


class Training:
    """Spends time under labels, and asks for a view when told."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.recorder = Recorder(lambda: self.now_ns)
        self.machine: dict[str, float] = {}
        self.watch = LiveWatch(
            "train.py",
            self.recorder,
            stage_of=lambda: STAGES,
            machine=lambda: self.machine,
            clock=lambda: self.now_ns * 1e-9,
        )

    def spend(self, label: int, seconds: float) -> None:
        self.recorder.enter(label)
        self.now_ns += round(seconds * 1e9)
        self.recorder.leave()

    def step(self, forward_s: float, backward_s: float, samples: int = 8) -> None:
        if not self.recorder.steps.steps:
            self.recorder.rebase(r.OTHER)
        self.spend(r.FORWARD, forward_s)
        self.spend(r.BACKWARD, backward_s)
        self.recorder.spent[r.SAMPLES] += samples
        self.recorder.end_step()
        self.watch.stepped()


@pytest.fixture
def training():
    return Training()


def shares(view, which):
    return {s.name: pytest.approx(getattr(s, which)) for s in view.stages}


def test_before_the_first_step_there_is_no_view(training):
    training.now_ns += 10**9
    assert training.watch.view() is None


def test_the_recent_shares_are_without_start_up_and_those_of_the_run_with_it(training):
    training.spend(r.START_UP, 2.0)
    training.step(0.5, 1.5)
    view = training.watch.view()
    assert shares(view, "recent") == {"start_up": 0.0, "forward": 0.25, "backward": 0.75}
    assert shares(view, "whole") == {"start_up": 0.5, "forward": 0.125, "backward": 0.375}
    assert (view.steps, view.elapsed_s, view.recent_s) == (1, 4.0, 2.0)


def test_recent_is_the_last_ten_seconds(training):
    for _ in range(30):
        training.step(1.0, 0.0)
        training.watch.view()
    for _ in range(10):
        training.step(0.0, 1.0)
        view = training.watch.view()
    assert view.recent_s == pytest.approx(10.0)
    assert {s.name: s.recent for s in view.stages}["backward"] == pytest.approx(1.0)
    assert shares(view, "whole") == {"forward": 0.75, "backward": 0.25}


def test_with_slow_steps_recent_goes_back_to_the_step_before(training):
    for _ in range(3):
        for _ in range(40):
            training.spend(r.FORWARD, 1.0)
            view = training.watch.view()
        training.step(0.0, 0.0)
    assert view.recent_s >= 40.0
    assert view.recent_rate == pytest.approx(8 / 40)


def test_a_long_validation_shows_before_the_step_that_it_precedes_has_ended(training):
    for _ in range(20):
        training.step(1.0, 0.0)
        training.watch.view()
    for _ in range(200):
        training.spend(r.VALIDATION, 1.0)
        view = training.watch.view()
    assert {s.name: s.recent for s in view.stages}["validation"] == pytest.approx(1.0)
    assert len(training.watch._moments) <= 128


def test_a_label_that_is_running_counts_until_now(training):
    training.step(1.0, 0.0)
    training.recorder.enter(r.BACKWARD)
    training.now_ns += 3 * 10**9
    view = training.watch.view()
    assert shares(view, "whole") == {"forward": 0.25, "backward": 0.75}
    training.now_ns += 10**9
    assert shares(training.watch.view(), "whole") == {"forward": 0.2, "backward": 0.8}


def test_rates_are_of_steps_without_what_lies_between_them(training):
    training.step(1.0, 1.0)
    training.spend(r.VALIDATION, 6.0)
    training.step(1.0, 1.0)
    view = training.watch.view()
    assert view.whole_rate == view.recent_rate == pytest.approx(16 / 4)


def test_the_median_step_now_and_over_the_run(training):
    for _ in range(60):
        training.step(0.3, 0.2)
        training.watch.view()
    for _ in range(20):
        training.step(0.6, 0.4)
        view = training.watch.view()
    assert view.recent_step_s == pytest.approx(1.0)
    assert view.whole_step_s == pytest.approx(0.5, rel=0.005)


def test_many_steps_between_two_views_count_as_many(training):
    for _ in range(3000):
        training.step(0.001, 0.0)
    training.watch.view()
    for _ in range(100):
        training.step(0.1, 0.0)
    view = training.watch.view()
    assert view.whole_step_s == pytest.approx(0.001, rel=0.006)
    assert view.recent_step_s == pytest.approx(0.1)


def test_the_machine_s_counters_are_passed_on(training):
    training.machine = {"cpu": 50.0}
    training.step(1.0, 0.0)
    assert training.watch.view().machine == {"cpu": 50.0}


def test_on_a_device_the_host_s_unfinished_step_counts_only_where_it_is_long(training):
    training.step(1.0, 0.0)
    training.recorder._lane = object()
    training.recorder.enter = training.recorder.leave = None
    training.recorder.spent[r.BACKWARD] = 10**9
    assert "backward" not in shares(training.watch.view(), "whole")
    training.recorder.spent[r.BACKWARD] = 3 * 10**9
    assert shares(training.watch.view(), "whole")["backward"] == 0.75


def test_the_median_of_step_times_is_within_half_a_per_cent():
    times = StepTimes()
    assert times.median() is None
    for number in range(1, 1000):
        times.add(number * 1e-4, 2.0)
    assert times.median() == pytest.approx(0.05, rel=0.005)
    assert len(times.weights) < 1500


def test_the_course_covers_all_of_the_run_in_few_stretches():
    course = Course(most=4, length_s=1.0)
    for number in range(16):
        course.add(number, 1.0)
    assert course.rates() == (1.5, 5.5, 9.5, 13.5)
    course.add(100.0, 2.0)
    assert course.rates() == (3.5, 11.5, 50.0)


def test_a_course_needs_time():
    course = Course()
    course.add(1.0, 0.0)
    assert course.rates() == ()
