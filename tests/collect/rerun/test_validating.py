"""The user's validation is left out where it is a function of its own, else it is made short."""

from __future__ import annotations

import pytest

from perfdoctor.collect.rerun.functions import callers, place_of
from perfdoctor.collect.rerun.habits import Habit
from perfdoctor.collect.rerun.validating import Validating
from perfdoctor.errors import PerfdoctorError


class Script:
    """One that trains, and validates after each third step by `validate`."""

    def __init__(self, validate, *, has_loader=False):
        self.now: int | None = 0
        self.made, self.results, self.around = [], [], set()
        self.habit = Habit(lambda: self.now)
        self.validating = Validating(
            self.habit, lambda: self.around, lambda: has_loader, lambda: self.now
        )
        self.validate = validate

    def train(self, steps):
        for _ in range(steps):
            self.now += 1
            self.around |= {place_of(frame.f_code) for frame in callers()}
            self.validating.trains()
            if self.now % 3 == 0:
                self.results.append(self.validate(self))


def forward(script):
    script.validating.validates()
    script.made.append(script.now)


def evaluate(script, found=None):
    for _ in range(2):
        forward(script)
    return found or script.now


def on_both(script):
    return [evaluate(script), evaluate(script, "test")]


def one_batch(script):
    forward(script)


def in_the_loop(script):
    return None


def watched(script, steps=12):
    script.train(steps)
    script.made.clear()
    script.results.clear()
    return script


def test_all_but_some_are_left_out_and_give_the_last_result():
    script = watched(Script(evaluate))
    with script.validating.one_in(1):
        script.train(3)
        assert script.results == [15]
    with script.validating.one_in(2):
        script.train(12)
        script.validating.check()
    assert script.results == [15, 15, 21, 21, 27]
    assert script.made == [15, 15, 21, 21, 27, 27]
    script.train(3)
    assert script.results[-1] == 30


def test_an_occasion_without_an_older_result_is_made_and_told():
    script = watched(Script(evaluate))
    script.habit.occasions()
    with script.validating.one_in(0):
        script.train(6)
    assert script.habit.occasions() == {15: True, 18: False}
    assert script.results == [15, 15]


def test_what_is_called_twice_has_a_result_for_each_call():
    script = Script(on_both)
    script.around.add(place_of(on_both.__code__))  # it saves too, say
    watched(script)
    with script.validating.one_in(1):
        script.train(3)
    with script.validating.one_in(0):
        script.train(3)
    assert script.results == [[15, "test"], [15, "test"]]
    assert script.made == [15] * 4


def test_a_validation_within_the_loop_sees_its_first_batch_only():
    script = Script(in_the_loop, has_loader=True)
    script.validate = lambda one: [one.validating.validates() for _ in range(3)]
    script.around.add(place_of(script.validate.__code__))
    watched(script)
    with script.validating.one_in(0):
        assert script.validating.is_short("validation")
        assert not script.validating.is_short("train")
        script.now = None  # it stands still
        assert not script.validating.is_short("validation")
    script.now = 30
    assert not script.validating.is_short("validation")


def test_what_is_called_for_each_batch_is_no_whole_validation():
    def each_batch(one):
        for _ in range(6):
            one_batch(one)

    script = Script(each_batch, has_loader=True)
    script.around.add(place_of(each_batch.__code__))
    watched(script)
    with script.validating.one_in(0):
        assert script.validating.is_short("validation")
        script.train(3)
    assert len(script.made) == 6


def test_a_validation_within_the_loop_without_a_loader_cannot_be_left_out():
    script = Script(lambda one: one.validating.validates())
    script.around.add(place_of(script.validate.__code__))
    watched(script)
    with pytest.raises(PerfdoctorError, match="same function"), script.validating.one_in(2):
        pass


def test_before_one_was_seen_it_is_made_and_told():
    script = Script(evaluate)
    with script.validating.one_in(0):
        script.train(14)
    assert script.habit.occasions() == {3: True, 6: True, 9: False, 12: False}
    assert script.results == [3, 6, 6, 6]  # there was no result to give before the second one


def test_what_goes_on_elsewhere_is_told():
    script = watched(Script(evaluate))
    with script.validating.one_in(0):
        script.train(6)
        script.validate = lambda one: forward(one)
        script.train(3)
        with pytest.raises(PerfdoctorError, match="not all of it"):
            script.validating.check()


def test_fewer_of_what_was_never_seen_is_no_trial():
    script = watched(Script(lambda one: None))
    with script.validating.one_in(2):
        script.train(6)
        with pytest.raises(PerfdoctorError, match="none was seen"):
            script.validating.check()
    with script.validating.one_in(0):  # the trial looks for the occasions itself
        script.validating.check()
    script.validating.check()
