"""What one line holds."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.readers.fields import Hints, analyse
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.records import OTHER_PHASE, TRAIN, VALIDATION
from perfdoctor.readers.values import Runs


def fields(
    line: str, hints: Hints | None = None, dialect: Dialect | None = None
) -> dict[str, float]:
    """Role → value, as all lines of this shape are read."""
    raw = line.encode()
    runs = Runs(
        np.frombuffer(raw, np.uint8)[None, :], [m.span() for m in re.finditer(rb"[0-9]+", raw)]
    )
    found = {}
    for field in analyse(line, dialect or Dialect(), hints).fields:
        value = float(field.value.read(runs)[0]) * field.scale
        found[field.role] = (
            value / float(field.per.read(runs)[0]) if field.per is not None else value
        )
    return found


CASES: list[tuple[str, dict[str, Any]]] = [
    ("step=100 loss=2.31 step_time=412 ms", {"step": 100, "step_s": 0.412, "metric:loss": 2.31}),
    ("step: 100, loss: 2.31, step_time: 0.412", {"step": 100, "step_s": 0.412}),
    ("step 100 | loss 2.31 | 412 ms | 77.6 samples/s", {"step": 100, "samples_per_s": 77.6}),
    ("Epoch: [3][ 50/1000]\tTime  0.501 ( 0.983)\tData  0.010 ( 0.438)",
     {"epoch": 3, "step": 50, "step_total": 1000, "unclear_s": 0.501, "unclear_s_mean": 0.983,
      "data_loading_s": 0.01, "data_loading_s_mean": 0.438}),
    ("[Epoch 1/10] [Batch 20/469] loss: 0.5",
    {"epoch": 1, "epoch_total": 10, "step": 20, "step_total": 469}),
    ("Epoch 3: 14%|█▍   | 14/97 [02:28<14:42, 10.63s/batch, loss=0.3]",
     {"epoch": 3, "step": 14, "step_total": 97, "bar_elapsed_s": 148, "step_s": 10.63}),
    (" 21%|██▏  | 110/513 [00:47<02:53,  2.33it/s]",
     {"step": 110, "step_total": 513, "bar_elapsed_s": 47, "steps_per_s": 2.33}),
    ("{'step': 20, 'loss': 2.1, 'time/step': 0.25, 'tokens_per_sec': 1234.5}",
     {"step": 20, "step_s": 0.25, "tokens_per_s": 1234.5}),
    ("第3轮 第120步 耗时 0.25秒 吞吐量 128 样本/秒",
     {"epoch": 3, "step": 120, "samples_per_s": 128}),
    ("2024-05-01 12:00:00,123 - INFO - step 7 took 0.25 s",
    {"step": 7, "time": 1714564800.123, "unclear_s": 0.25}),
    ("Epoch 4 finished in 1:02:03, val_acc=0.91",
    {"epoch": 4, "metric:val_acc": 0.91, "unclear_s": 3723}),
    ("100 steps took 25.0 s", {"step_s": 0.25}),
    ("global_step/sec: 12.5", {"steps_per_s": 12.5}),
    ("iter 10: loss 2.3, time 250.12ms, mfu 33.2%", {"step": 10, "unclear_s": 0.25012}),
    ("1875/1875 [==============================] - 2s 1ms/step - loss: 0.4830",
     {"step": 1875, "bar_elapsed_s": 2, "step_s": 1e-3}),
    ("step 1,000: 1,250.5 ms/step", {"step": 1000, "step_s": 1.2505}),
    ("[rank3] step 12 step_time 0.3s", {"rank": 3, "step": 12, "step_s": 0.3}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_a_line_s_values_have_their_roles(line: str, expected: dict[str, float]) -> None:
    found = fields(line)
    assert {role: found.get(role) for role in expected} == pytest.approx(expected)


def test_what_remains_is_left_out() -> None:
    found = fields("step 10 step_time: 0.25 s eta: 1:02:03 remaining 500 s")
    assert set(found) == {"step", "step_s"}


def test_averages_in_parentheses_stand_beside_the_value_they_are_of() -> None:
    found = fields("Train: 0 [  50/1251 (  4%)]  Time: 0.558s, 1833.54/s  (0.775s, 1320.11/s)")
    assert found["samples_per_s"] == pytest.approx(1833.54)
    assert found["samples_per_s_mean"] == pytest.approx(1320.11)


def test_other_statistics_in_parentheses_are_no_values() -> None:
    found = fields("step 3 step_time 0.25 (min 0.1, max 0.9)")
    assert found["step_s"] == 0.25
    assert not {0.1, 0.9} & set(found.values())


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        ("Epoch 1 train loss 2.1", TRAIN), ("Val: [10/100] Time 0.2", VALIDATION),
        ("Test: [0/79] time 0.1", VALIDATION),
        ("Evaluating: 40%|## | 4/10 [00:01<00:02, 3.1it/s]", VALIDATION),
        ("验证 第3步 耗时 0.2秒", VALIDATION),
        ("Map: 40%|## | 4/10 [00:01<00:02, 3.1 examples/s]", OTHER_PHASE),
        ("Downloading data: 40%|## | 4/10 [00:01<00:02, 3.1MB/s]", OTHER_PHASE),
        ("step 10 loss 2.1", TRAIN),
        ("Train: train loss 1.0, val loss 2.0", TRAIN),
    ],
)  # fmt: skip
def test_the_words_before_the_first_value_tell_the_phase(line: str, phase: float) -> None:
    assert analyse(line, Dialect()).phase == phase


def test_a_format_s_hints_win_over_names() -> None:
    assert fields("timer: 0.21 sec", Hints(roles={"timer": "step_s"})) == {"step_s": 0.21}
    assert "unclear_s" not in fields("timer: 0.21 sec", Hints(roles={"timer": ""}))


def test_seconds_since_1970_are_a_moment_not_a_duration() -> None:
    assert fields("step 3 time: 1714564800.5")["time"] == 1714564800.5
    assert fields("step 3 time: 1714564800500")["time"] == 1714564800.5


def test_one_unit_before_a_bar_is_of_all_values_behind_it() -> None:
    found = fields("rank=0 time (ms) | forward: 1330.05 | backward: 4766.88 | optimizer: 10.5")
    assert found["forward_s"] == pytest.approx(1.33005)
    assert found["backward_s"] == pytest.approx(4.76688)
    assert found["optimizer_s"] == pytest.approx(0.0105)


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_line_is_read_without_an_error(line: str) -> None:
    analyse(line, Dialect())


_PARTS = st.sampled_from(
    ["step ", "Epoch: ", "[3]", "[ 10/100]", " (0.5)", "time ", "1:02:03", "<", "12.5 ms", "it/s",
    "s/it", ", ", "|",
     " = ", "{", "'loss': ", "nan", "3%", "avg ", "in ", "100 steps ", "took ",
     "2024-05-01 12:00:00 ", "val ", "eta ",
     "第3轮", "12", "[", "(", ")", "]", "- ", "1,000", "GB ", "rank", "per "]
)  # fmt: skip


@given(st.lists(_PARTS, max_size=25).map("".join))
@settings(max_examples=300, deadline=None)
def test_every_role_of_a_line_occurs_once_and_can_be_read(line: str) -> None:
    roles = [field.role for field in analyse(line, Dialect()).fields]
    assert len(roles) == len(set(roles))
    fields(line)


def test_steps_beside_what_an_episode_gave_are_those_of_the_game() -> None:
    found = fields("global_step=217, episodic_return=21.0")
    assert found["env_steps"] == 217
    assert "step" not in found


def test_a_counter_of_updates_beside_an_episode_counts_the_training() -> None:
    found = fields("Updates 10, num timesteps 20480, FPS 153, episode reward 20.1")
    assert (found["step"], found["env_steps"], found["samples_per_s"]) == (10, 20480, 153)


def test_a_time_of_steps_told_by_name_is_believed_beside_an_episode() -> None:
    found = fields("episode: 5, episode steps: 337, steps per second: 192, episode reward: 3.0")
    assert (found["step"], found["steps_per_s"]) == (337, 192)


def test_a_bar_over_the_steps_of_a_game_tells_samples() -> None:
    found = fields("Epoch #1: 500it [00:40, 1244.5it/s, env_step=500, len=20, n/ep=7, rew=2.0]")
    assert found["samples_per_s"] == 1244.5
    assert not {"step", "steps_per_s"} & set(found)


def test_a_command_that_a_shell_shows_measures_nothing() -> None:
    assert not fields("+ srun --mem=0 -N 1 -n 1 -w node66 sleep 30")
