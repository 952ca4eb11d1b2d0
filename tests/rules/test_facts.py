"""Facts: a report read by path, where absent and null mean not measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perfdoctor.rules import Facts, Missing

FACTS = Facts(
    {
        "stages": {"forward": {"share": 0.5}, "loss": None},
        "configuration": {"num_workers": 2, "pin_memory": False, "precision": "fp32"},
        "environment": {"gpu": [{"name": "NVIDIA A100"}]},
        "series": {"step_s": [0.1, None, 0.3], "forward_s": [None, None]},
        "steps": {"cpu_s": math.nan},
    },
    {"share": 0.2},
)


def test_a_path_leads_through_keys_and_list_positions() -> None:
    assert FACTS.number("stages.forward.share") == 0.5
    assert FACTS.text("environment.gpu.0.name") == "NVIDIA A100"
    assert FACTS.flag("configuration.pin_memory") is False


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "stages.optimizer.share",
        "stages.loss",
        "environment.gpu.1.name",
        "stages.forward.share.more",
        "steps.cpu_s",
    ],
)
def test_what_is_absent_or_null_or_no_number_is_missing(path: str) -> None:
    assert not FACTS.has(path)
    with pytest.raises(Missing) as missing:
        FACTS.get(path)
    assert missing.value.path == path


def test_a_series_has_nan_where_the_stage_did_not_run() -> None:
    np.testing.assert_array_equal(FACTS.series("step_s"), [0.1, np.nan, 0.3])


@pytest.mark.parametrize("name", ["backward_s", "forward_s"])
def test_a_series_without_any_value_is_missing(name: str) -> None:
    with pytest.raises(Missing, match=f"series.{name}"):
        FACTS.series(name)


def test_a_value_of_another_type_is_an_error_and_not_missing() -> None:
    for read in (FACTS.number, FACTS.flag):
        with pytest.raises(TypeError, match=r"configuration\.precision"):
            read("configuration.precision")
    with pytest.raises(TypeError):
        FACTS.number("configuration.pin_memory")
    with pytest.raises(TypeError):
        FACTS.text("configuration.num_workers")


def test_thresholds_are_those_of_the_rule_that_asks() -> None:
    assert FACTS.threshold("share") == 0.2
    assert FACTS.with_thresholds({"share": 0.3}).threshold("share") == 0.3
    with pytest.raises(KeyError):
        FACTS.threshold("other")
