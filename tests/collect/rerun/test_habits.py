"""What a script does now and then is counted, and done less often while that is wanted."""

from __future__ import annotations

import gc
import io

import pytest
import torch

from perfdoctor.collect.rerun.habits import Habit, Habits


class Script:
    """At step `now` (None: it stands still)."""

    now: int | None = 0

    def step(self) -> int | None:
        return self.now


def happened(habit: Habit, script: Script, steps) -> list[int]:
    """The steps among these at which it may happen."""
    found = []
    for script.now in steps:
        if habit.may_happen():
            found.append(script.now)
    return found


@pytest.fixture
def habits(monkeypatch):
    """Those of a script in this process, and the script."""
    monkeypatch.setattr(gc, "collect", gc.collect)
    monkeypatch.setattr(torch, "save", torch.save)
    script = Script()
    made = Habits(script.step)
    made.install(torch)
    return made, script


def test_a_habit_is_left_alone_and_its_period_learnt():
    script = Script()
    habit = Habit(script.step)
    assert habit.period is None
    assert happened(habit, script, [2, 4, 6, 8]) == [2, 4, 6, 8]
    assert habit.period == 2


def test_all_that_happens_in_one_step_is_one_occasion():
    script = Script()
    habit = Habit(script.step)
    with habit.one_in(2):
        assert happened(habit, script, [5, 5, 10, 10, 15, 15]) == [10, 10]
    assert habit.period == 5


def test_it_is_as_before_afterwards():
    script = Script()
    habit = Habit(script.step)
    with habit.one_in(0):
        assert happened(habit, script, [1, 2]) == []
    assert happened(habit, script, [3]) == [3]


def test_what_happens_while_the_script_stands_still_is_none_of_its_habits():
    script = Script()
    habit = Habit(script.step)
    assert happened(habit, script, [1, None, None]) == [1, None, None]
    assert habit.period is None


def test_a_save_that_is_left_out_leaves_an_empty_file(habits, tmp_path):
    made, _ = habits
    with made.saving.one_in(0):
        torch.save({}, tmp_path / "a.pt")
        torch.save({}, f=str(tmp_path / "b.pt"))
        torch.save({}, io.BytesIO())
    assert [path.stat().st_size for path in sorted(tmp_path.iterdir())] == [0, 0]
    torch.save({"x": 1}, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt") == {"x": 1}


def test_an_older_file_stays_what_it_was(habits, tmp_path):
    made, _ = habits
    (tmp_path / "a.pt").write_bytes(b"older")
    with made.saving.one_in(0):
        torch.save({}, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").read_bytes() == b"older"


def test_collections_by_hand_can_be_left_out(habits):
    made, script = habits
    kept = [[]]
    kept[0].append(kept)
    del kept
    with made.collecting.one_in(0):
        assert gc.collect() == 0
    script.now = 50
    gc.collect()
    script.now = 100
    gc.collect()
    assert made.periods() == {"collect_each_step": 50}
