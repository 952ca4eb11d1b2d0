"""The user's architecture step is left out, whoever calls it, where it is a function of its own."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest

from perfdoctor.collect.rerun.habits import Habit
from perfdoctor.collect.rerun.searching import Searching
from perfdoctor.errors import PerfdoctorError

AUTOGRAD = SimpleNamespace(backward=lambda: None, grad=lambda: None)
TORCH = SimpleNamespace(autograd=AUTOGRAD)


def decorated(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


class Base:
    def step(self, made, *, name="step"):
        AUTOGRAD.backward()
        made.append(name)


class Architect(Base):
    @decorated
    def step(self, made, /, scale=2, *, name="search"):
        super().step(made, name=name)  # a closure, of the class
        return scale * len(made)


def place(function):
    return function.__code__.co_filename, function.__code__.co_firstlineno


class Script:
    """One that searches every `period` steps by `search`."""

    def __init__(self, search, period=1):
        self.now, self.period, self.search = 0, period, search
        self.searching = Searching(
            Habit(lambda: self.now), lambda: {place(search)}, lambda: self.period
        )
        self.searching.install(TORCH)

    def train(self, steps, *args, **kwargs):
        found = []
        for _ in range(steps):
            self.now += 1
            if self.now % self.period == 0:
                found.append(Architect().step(*args, **kwargs))
            self.searching.trains()
        return found


def script_of(period=1):
    return Script(Architect.step.__wrapped__, period)


def test_all_but_some_are_left_out_and_give_the_last_result():
    made, script = [], script_of()
    with script.searching.one_in(4):
        results = script.train(8, made, scale=3)
        script.searching.check()
    assert made == ["search"] * 3  # there was no result before the first
    assert results == [3, 3, 3, 6, 6, 6, 6, 9]
    assert script.train(2, made, name="x") == [8, 10]
    assert made[-2:] == ["x", "x"]


def test_steps_are_of_the_training():
    made, script = [], script_of(period=2)
    with script.searching.one_in(4):
        assert len(script.train(16, made)) == 8
    assert len(made) == 1 + 4


def test_a_step_within_the_loop_is_not_left_out():
    script = Script(Script.train)
    script.train(1, [])
    with pytest.raises(PerfdoctorError, match="same function"), script.searching.one_in(2):
        pass


def test_an_update_without_its_gradients_is_not_the_whole(monkeypatch):
    script = script_of()
    monkeypatch.setattr(AUTOGRAD, "backward", lambda: None)
    with script.searching.one_in(2):
        script.train(4, [])
        with pytest.raises(PerfdoctorError, match="gradients"):
            script.searching.check()


def test_a_function_that_is_made_anew_is_told():
    script = script_of()
    with script.searching.one_in(2), pytest.raises(PerfdoctorError, match="anew"):
        script.searching.check()
