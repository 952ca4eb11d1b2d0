"""Whole JSON documents: Hugging Face's, wandb's, perfdoctor's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.documents import PerfdoctorReport, WandbSummary
from perfdoctor.readers.huggingface import HfAllResults
from perfdoctor.readers.trainer_state import HfTrainerState

STATE, RESULTS, WANDB, REPORT = HfTrainerState(), HfAllResults(), WandbSummary(), PerfdoctorReport()
OLD_REPORT = Path(__file__).parent.parent / "old_reports" / "version_1.json"


def test_a_wandb_step_is_a_call_of_log_and_no_training_step() -> None:
    text = '{"_runtime": 2566.8, "_step": 20, "_timestamp": 1.7e9, "loss": 1.5, "iter": 5000}'
    assert WANDB.score("wandb-summary.json", text) > 0.9
    facts = WANDB.read("wandb-summary.json", text).facts
    assert facts == {"wall_s": 2566.8, "logged_steps": 20, "ended_at": 1.7e9}


def test_rates_and_times_of_a_wandb_summary_are_told_by_name_and_unit() -> None:
    summary = {
        "_wandb": {"runtime": 100},
        "train/step_time_ms": 250.0,
        "perf": {"samples_per_second": {"mean": 64.0}},
        "tokens_per_sec_per_gpu": 1000,
        "epoch_time": 30.0,
        "throughput": 7.0,
        "trainer/global_step": 400,
        "eval/samples_per_second": 999.0,
        "val_accuracy": 0.9,
        "batch_time_minutes": 2.0,
        "note": "text",
        "done": True,
    }
    reading = WANDB.read("wandb-summary.json", json.dumps(summary))
    assert reading.facts == {
        "wall_s": 100,
        "step_s": 0.25,
        "samples_per_s": 64.0,
        "tokens_per_s": 1000,
        "epoch_s": 30.0,
        "throughput": 7.0,
        "steps": 400,
        "batch_time_minutes": 2.0,
    }
    assert reading.device_rates


def test_a_report_of_perfdoctor_is_read_back() -> None:
    data = OLD_REPORT.read_bytes()
    assert REPORT.score(str(OLD_REPORT), data.decode()) > 0.9
    reading = REPORT.read(str(OLD_REPORT), data)
    assert reading.report is not None
    assert reading.report.schema_version == 1
    assert reading.configuration == reading.report.configuration


@pytest.mark.parametrize("version", [None, 0, False, "1", 999])
def test_a_report_of_no_known_version_is_refused(version: Any) -> None:
    with pytest.raises(PerfdoctorError, match=r"schema.version"):
        REPORT.read("x.json", json.dumps({"schema_version": version}))


def test_each_document_is_recognised_by_one_reader_only() -> None:
    texts = [
        json.dumps({"global_step": 10, "log_history": [{"step": 10, "loss": 2.5}]}),
        json.dumps({"train_runtime": 1.0}),
        json.dumps({"_runtime": 1.0, "_step": 3}),
        OLD_REPORT.read_text(),
        json.dumps({"loss": 1.0}),
        '{"_runtime": 1.0, "_step": 1}\n{"_runtime": 2.0, "_step": 2}\n',
        "Epoch 1 loss 0.5\n",
        "",
    ]
    readers = (STATE, RESULTS, WANDB, REPORT)
    sure = [[reader.score("x.json", text) > 0 for reader in readers] for text in texts]
    expected = [[i == j for j in range(4)] for i in range(4)] + [[False] * 4] * 4
    assert sure == expected


@pytest.mark.parametrize("reader", [STATE, RESULTS, WANDB, REPORT])
def test_a_document_that_was_cut_off_says_where_and_what_to_do(
    reader: HfTrainerState | HfAllResults | WandbSummary | PerfdoctorReport,
) -> None:
    with pytest.raises(PerfdoctorError) as caught:
        reader.read("run/cut.json", '{\n "schema_version": 1,\n "log_history": [{"step": 1')
    assert caught.value.slug == "json-unreadable"
    message = str(caught.value)
    assert "run/cut.json" in message
    assert "line 3" in message
    assert "ends too early" in message
    assert "copy the file again" in message


@pytest.mark.parametrize("text", ["[1, 2]", "5", '"x"'])
def test_a_document_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(PerfdoctorError, match="object was expected"):
        RESULTS.read("x.json", text)


def test_nesting_without_end_is_refused_and_not_followed() -> None:
    with pytest.raises(PerfdoctorError) as caught:
        WANDB.read("deep.json", '{"a":' * 200_000)
    assert caught.value.slug == "json-unreadable"
    assert WANDB.score("deep.json", '{"a":' * 50_000) == 0


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "log_history",
                        "step",
                        "train_runtime",
                        "eval_runtime",
                        "_runtime",
                        "train_samples_per_second",
                        "train_steps_per_second",
                        "max_steps",
                        "global_step",
                        "schema_version",
                        "x",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_any_document_is_read_or_refused_in_one_line(document: Any) -> None:
    text = json.dumps(document)
    for reader in (STATE, RESULTS, WANDB, REPORT):
        assert 0 <= reader.score("x.json", text) <= 1
        try:
            reader.read("x.json", text)
        except PerfdoctorError as error:
            assert len(str(error).splitlines()) == 1
