"""trainer_state.json and all_results.json of the Hugging Face Trainer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from perfdoctor.readers.huggingface import HfAllResults
from perfdoctor.readers.records import TRAIN, VALIDATION
from perfdoctor.readers.trainer_state import HfTrainerState

STATE, RESULTS = HfTrainerState(), HfAllResults()


def trained(step: int, epoch: float, loss: float) -> dict[str, float]:
    return {"step": step, "epoch": epoch, "loss": loss, "learning_rate": 1e-4, "grad_norm": 0.5}


def evaluated(step: int, epoch: float, seconds: float) -> dict[str, float]:
    speed = {"eval_samples_per_second": 50.0, "eval_steps_per_second": 2.0}
    return {"step": step, "epoch": epoch, "eval_loss": 1.5, "eval_runtime": seconds, **speed}


def ended(step: int, runtime: float, samples_per_s: float) -> dict[str, float]:
    rates = {"train_samples_per_second": samples_per_s, "train_steps_per_second": 0.11}
    return {"step": step, "epoch": 2.0, "train_runtime": runtime, "train_loss": 1.2, **rates}


def state(history: list[Any], **more: Any) -> str:
    base = {"global_step": 20, "max_steps": 20, "num_train_epochs": 2, "epoch": 2.0}
    return json.dumps({**base, "log_history": history, **more}, indent=2, sort_keys=True)


HISTORY = [trained(10, 1.0, 2.5), evaluated(10, 1.0, 20.0), trained(20, 2.0, 2.0)]


def test_each_entry_is_a_record_on_the_line_where_it_begins() -> None:
    text = state([*HISTORY, ended(20, 220.0, 1.455)])
    assert STATE.score("trainer_state.json", text) > 0.9
    reading = STATE.read("trainer_state.json", text)
    assert list(reading.records.column("step")) == [10, 10, 20]
    assert list(reading.records.column("phase")) == [TRAIN, VALIDATION, TRAIN]
    assert list(reading.records.column("metric:loss"))[::2] == [2.5, 2.0]
    assert reading.records.column("metric:eval_loss")[1] == 1.5
    assert reading.records.column("validation_s")[1] == 20.0
    assert list(reading.records.column("step_total")) == [20, 20, 20]
    lines = text.splitlines()
    assert all(lines[line - 1].strip() == "{" for line in reading.records.line)
    assert '"eval_loss": 1.5' in lines[reading.records.line[1] + 1]


def test_speed_comes_from_steps_and_runtime_without_the_evaluation_in_between() -> None:
    reading = STATE.read("s", state([*HISTORY, ended(20, 220.0, 1.4545)]))
    assert reading.facts["wall_s"] == 220.0
    assert reading.facts["steps"] == 20
    assert reading.facts["validation_s"] == 20.0
    assert reading.facts["step_s"] == pytest.approx(10.0)
    assert reading.facts["steps_per_s"] == pytest.approx(0.1)
    assert reading.facts["samples_per_s"] == pytest.approx(1.6, rel=1e-3)
    assert reading.configuration["global_batch_size"] == 16


def test_evaluation_after_training_is_not_part_of_it() -> None:
    history = [trained(20, 2.0, 2.0), ended(20, 200.0, 1.6), evaluated(20, 2.0, 50.0)]
    reading = STATE.read("s", state(history))
    assert reading.facts["step_s"] == pytest.approx(10.0)
    assert reading.facts["validation_s"] == 50.0


def test_a_run_that_stopped_early_was_slower_than_the_trainer_says() -> None:
    text = state([ended(20, 200.0, 16.0)], max_steps=200)
    facts = STATE.read("s", text).facts
    assert facts["step_s"] == pytest.approx(10.0)
    assert facts["samples_per_s"] == pytest.approx(1.6)


def test_sessions_of_a_resumed_run_are_added_up() -> None:
    first = [evaluated(5, 0.5, 20.0), ended(10, 120.0, 1.6)]
    reading = STATE.read("s", state([*first, trained(20, 2.0, 2.0), ended(20, 100.0, 1.6)]))
    assert reading.facts["wall_s"] == 220.0
    assert reading.facts["step_s"] == pytest.approx(10.0)
    assert any("2 sessions" in note for note in reading.notes)


def test_a_checkpoint_of_an_unfinished_run_tells_no_speed() -> None:
    reading = STATE.read("s", state(HISTORY, train_batch_size=8, logging_steps=10))
    assert "step_s" not in reading.facts
    assert "wall_s" not in reading.facts
    assert reading.configuration["batch_size"] == 8
    assert reading.configuration["logging_steps"] == 10
    assert "did not end" in reading.notes[0]


def test_nan_and_numbers_without_end_are_read() -> None:
    text = state([trained(10, 1.0, 2.5)]).replace("2.5", "NaN").replace("0.0001", "9" * 5000)
    reading = STATE.read("s", text)
    assert np.isnan(reading.records.column("metric:loss")[0])
    assert np.isinf(reading.records.column("metric:learning_rate")[0])


def test_entries_of_other_kinds_are_counted_as_unread() -> None:
    reading = STATE.read("s", state([trained(10, 1.0, 2.5), None, "x"]))
    assert (len(reading.records), reading.unread) == (1, 2)


@pytest.mark.parametrize("history", [None, 5, "x", {}])
def test_a_history_that_is_no_list_holds_no_records(history: Any) -> None:
    assert len(STATE.read("s", json.dumps({"log_history": history})).records) == 0


def test_all_results_are_facts_under_their_own_names_too() -> None:
    result = {"epoch": 3.0, "train_runtime": 100.0, "train_samples": 600, "eval_runtime": 4.0}
    text = json.dumps({**result, "train_samples_per_second": 18.0, "train_steps_per_second": 2.25})
    assert RESULTS.score("out/all_results.json", text) > 0.9
    reading = RESULTS.read("out/all_results.json", text)
    assert reading.facts["wall_s"] == reading.facts["train_runtime"] == 100.0
    assert reading.facts["validation_s"] == 4.0
    assert reading.facts["epochs"] == 3.0
    assert reading.facts["step_s"] == pytest.approx(1 / 2.25)
    assert reading.configuration == {"train_samples": 600}


def test_a_rate_rounded_to_two_digits_is_sharpened_by_the_batch_size_that_fits() -> None:
    rates = {"train_samples_per_second": 1.753, "train_steps_per_second": 0.11}
    reading = RESULTS.read("r.json", json.dumps({"train_runtime": 27386.6, **rates}))
    assert reading.facts["step_s"] == pytest.approx(16 / 1.753)


def test_a_rate_that_is_all_rounding_gives_no_step_time() -> None:
    rates = {"train_samples_per_second": 0.004, "train_steps_per_second": 0.001}
    assert "step_s" not in RESULTS.read("r.json", json.dumps(rates)).facts
