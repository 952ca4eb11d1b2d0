"""What goes away when a line is mended, and what stays unknown."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.report import Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.mended import (
    UNKNOWN,
    VECTORISED,
    after_one_pass,
    is_random,
    kept_samples,
    rewritten,
)
from perfdoctor.rules.observed import HotLine
from perfdoctor.rules.whole_run import epochs_in_all

SHARES = st.floats(0.01, 1.0)


def line(
    share: float, library: str = "", function: str = "Rows.get", looks: int | None = None
) -> HotLine:
    return HotLine("data.py", 3, function, library, "data_loading", share, "main", looks)


def facts(epochs: int | None = 4, how: str = "finished", **more: Any) -> Facts:
    told = {"source": {"kind": "run"}, "ending": {"how": how}, "epochs": {"count": epochs}}
    return Facts({**told, **more})


def test_python_of_ones_own_goes_and_of_torchs_operations_nothing_is_known() -> None:
    assert rewritten([line(0.3)]).ends == VECTORISED
    assert rewritten([line(0.3, "Tensor.norm")]).ends == UNKNOWN
    assert rewritten([line(0.3, "loss.item")]).ends == UNKNOWN
    half = rewritten([line(0.3), line(0.3, "torch.cat")])
    assert half.likely == pytest.approx((VECTORISED[1] + UNKNOWN[1]) / 2)


def test_a_loop_over_small_operations_is_python_all_the_same() -> None:
    assert rewritten([line(0.3, "Tensor.norm")], looped=True).ends == VECTORISED


def test_what_the_source_tells_of_drawing_counts_more_than_names() -> None:
    assert is_random(replace(line(0.3, "Image.filter"), drawn=True))
    assert not is_random(replace(line(0.3, function="without_noise"), drawn=False))


@pytest.mark.parametrize(
    ("function", "library", "drawn"),
    [
        ("Rows.get", "torch.randn", True),
        ("RandomCrop.forward", "pad", True),
        ("add_noise", "", True),
        ("Rows.get", "StandardScaler.transform", False),
        ("Rows.get", "json.loads", False),
    ],
)
def test_what_is_drawn_anew_is_known_by_its_name(function: str, library: str, drawn: bool) -> None:
    assert is_random(line(0.1, library, function)) == drawn


def test_of_samples_goes_what_is_not_random_but_for_taking_them_out_again() -> None:
    told = facts(loader={"batch": {"mean_s": 0.1}}, configuration={"batch_size": 1000})
    gone = kept_samples(told, [line(0.6)], [line(0.2)], 0.9)
    assert gone.likely == pytest.approx(0.9 * 0.75 - 0.03)
    assert gone.high == pytest.approx(0.9)


def test_the_fewer_looks_at_the_hottest_line_the_less_is_sure_to_go() -> None:
    few, many = (kept_samples(facts(), [line(0.5, looks=n), line(0.3)], [], 1.0) for n in (5, 500))
    assert few.low < many.low < many.likely


@settings(deadline=None)
@given(st.lists(SHARES, min_size=1, max_size=4), st.lists(SHARES, max_size=3), SHARES)
def test_what_goes_is_in_order_and_no_more_than_samples_are(
    fixed: list[float], drawn: list[float], of_samples: float
) -> None:
    gone = kept_samples(facts(), [line(s) for s in fixed], [line(s) for s in drawn], of_samples)
    assert 0 <= gone.low <= gone.likely <= gone.high <= of_samples + 1e-12


@pytest.mark.parametrize("called", ["json.loads", "distance_transform_edt"])
def test_in_a_run_of_four_epochs_the_first_goes_as_before(called: str) -> None:
    guess = Prediction(speedup=5.0, low=2.0, high=5.0, model="made up")
    found = after_one_pass(facts(), guess, [line(0.9, called)])
    assert found.speedup == pytest.approx(1 / (0.25 + 0.75 / 5))
    assert (found.low, found.high) == (pytest.approx(1 / (0.25 + 0.75 / 2)), 5.0)


def test_calls_on_arrays_take_all_rows_at_once_but_that_is_not_sure() -> None:
    guess = Prediction(speedup=5.0, low=5.0, high=5.0, model="made up")
    found = after_one_pass(facts(), guess, [line(0.9, "StandardScaler.transform")])
    assert found.speedup == 5.0
    assert found.low == pytest.approx(1 / (0.25 + 0.75 / 5))


@pytest.mark.parametrize("told", [facts(how="stopped"), facts(epochs=None)])
def test_where_the_end_was_not_seen_one_pass_weighs_nothing(told: Facts) -> None:
    guess = Prediction(speedup=5.0, low=2.0, high=5.0, model="made up")
    assert math.isinf(epochs_in_all(told))
    assert after_one_pass(told, guess, [line(0.9)]) == guess
