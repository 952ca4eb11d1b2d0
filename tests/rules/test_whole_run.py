"""Gains of an observed script are of its whole run, start-up and end included."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import make_recommendation, make_report
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.ending import Ending
from perfdoctor.record import Source
from perfdoctor.report import Choice, Prediction, Together, Wall, WallPart
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.whole_run import of_whole_run, share_of_training, together_of_whole_run
from perfdoctor.schema import to_dict
from perfdoctor.stats import amdahl

GUESS = Prediction(speedup=2.0, low=1.5, high=4.0, model="made up")


def facts(kind: str = "run", how: str = "finished", **counters: float) -> Facts:
    parts = [("start_up", 0.3), ("forward", 0.6), ("shut_down", 0.1)]
    wall = Wall(
        total_s=10.0, parts=tuple(WallPart(name=n, seconds=10 * s, share=s) for n, s in parts)
    )
    report = replace(make_report(), source=Source(kind=kind), ending=Ending(how), wall=wall)
    report = replace(report, counters=counters)
    return Facts(to_dict(report))


@pytest.mark.parametrize("how", ["finished", "exit", "os._exit"])
def test_start_up_and_end_do_not_get_faster(how):
    assert share_of_training(facts(how=how)) == pytest.approx(0.6)
    whole = of_whole_run(make_recommendation(predicted=GUESS), 0.6).predicted
    assert whole.speedup == pytest.approx(1 / 0.7)
    assert whole.low < whole.speedup < whole.high


@pytest.mark.parametrize(
    ("how", "import_s", "end_s"),
    [("finished", 1.5, 0.6), ("exit", 20.0, 0.8), ("os._exit", 1.5, 0.0)],
)
def test_the_end_of_the_process_which_nobody_in_it_sees_is_part_of_the_run(how, import_s, end_s):
    seen = facts(how=how, import_torch_s=import_s)
    assert share_of_training(seen) == pytest.approx(6.0 / (10.0 + end_s))


@pytest.mark.parametrize(
    ("kind", "how"),
    [("run", "stopped"), ("run", "interrupted"), ("run", "exception"), ("bench", "finished")],
)
def test_where_the_whole_run_was_not_seen_gains_are_of_the_training(kind, how):
    assert share_of_training(facts(kind, how)) == 1.0


def test_what_is_not_predicted_stays_so():
    one = make_recommendation(predicted=None)
    assert of_whole_run(one, 0.5) == one


def test_all_together_is_compared_with_the_product_of_the_same_kind():
    both = [make_recommendation(rule=rule, predicted=GUESS) for rule in ("PD101", "PD401")]
    whole = [of_whole_run(one, 0.5) for one in both]
    guess = Together(
        speedup=3.0, low=2.0, high=4.0, model="made up", rules=("PD101", "PD401"), product=4.0
    )
    found = together_of_whole_run(guess, whole, 0.5)
    assert found.product == pytest.approx((1 / 0.75) ** 2)
    assert found.speedup == pytest.approx(1 / (0.5 + 0.5 / 3))
    assert together_of_whole_run(None, whole, 0.5) is None


def test_the_other_choices_are_of_the_whole_run_too():
    choice = Choice(rule="PD107", name="slow-sample", advice="", snippet="", predicted=GUESS)
    whole = of_whole_run(make_recommendation(predicted=GUESS, choices=(choice,)), 0.5)
    assert whole.choices[0].predicted == whole.predicted


@settings(deadline=None)
@given(st.floats(0.05, 0.99), st.floats(0.5, 5.0), st.floats(1.0, 3.0), st.floats(1.0, 3.0))
def test_the_interval_of_the_whole_run_holds_that_of_the_training_in_it(share, low, up, further):
    guess = Prediction(speedup=low * up, low=low, high=low * up * further, model="made up")
    whole = of_whole_run(make_recommendation(predicted=guess), share).predicted
    assert whole.low <= amdahl(share, guess.low) <= whole.speedup
    assert whole.speedup <= amdahl(share, guess.high) <= whole.high
