"""What a script does now and then is counted, and done less often while that is wanted."""

from __future__ import annotations

import gc
import io

import pytest
import torch

from perfdoctor.collect.rerun.habits import Habit, Habits
from perfdoctor.errors import PerfdoctorError


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


def saved(made, script, steps, name, every=10):
    """Saves the step's number at each of these steps, one in `every` of them really."""
    with made.saving.one_in(every):
        for script.now in steps:
            torch.save(script.now, name(script.now))


def test_what_was_left_out_can_be_read_back(habits, tmp_path):
    made, script = habits
    saved(made, script, range(5), lambda step: tmp_path / f"step_{step}.pt")
    assert [torch.load(tmp_path / f"step_{step}.pt") for step in range(5)] == [0] * 5
    torch.save(5, tmp_path / "step_1.pt")
    assert torch.load(tmp_path / "step_0.pt") == 0  # the other names stay what they were


def test_a_file_of_another_run_is_not_read_back(habits, tmp_path):
    made, script = habits
    (tmp_path / "last.pt").write_bytes(b"older")
    saved(made, script, range(5), lambda step: str(tmp_path / "last.pt"))
    assert torch.load(tmp_path / "last.pt") == 0


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_may_be_renamed_or_removed_after_it_was_saved(habits, tmp_path, gone):
    made, script = habits
    with made.saving.one_in(10):
        for script.now in range(3):
            torch.save(script.now, tmp_path / "new")
            assert torch.load(tmp_path / "new") == 0
            (tmp_path / "new").replace(tmp_path / "last")
            if gone:
                (tmp_path / "new").unlink(missing_ok=True)
                (tmp_path / "last").unlink()


def test_one_kind_of_file_does_not_stand_for_another(habits, tmp_path):
    made, script = habits
    with made.saving.one_in(10):
        for script.now in range(2):
            torch.save("model", tmp_path / f"model_{script.now}.pt")
            torch.save("state", tmp_path / f"state_{script.now}.pt")
    assert torch.load(tmp_path / "state_1.pt") == "state"


def test_what_is_saved_into_an_open_file_is_saved_and_told(habits):
    made, script = habits
    with made.saving.one_in(10):
        for script.now in range(2):
            torch.save({"x": 1}, kept := io.BytesIO())
            kept.seek(0)
            assert torch.load(kept) == {"x": 1}
        with pytest.raises(PerfdoctorError, match="opened itself"):
            made.check()
    made.check()
    assert made.periods() == {}


def test_an_open_file_beside_others_is_no_obstacle(habits, tmp_path):
    made, script = habits
    saved(made, script, [1], lambda step: tmp_path / "a.pt")
    with made.saving.one_in(10):
        torch.save({}, io.BytesIO())
        made.check()


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
