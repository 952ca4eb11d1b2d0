"""Several criteria judged together, pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perfdoctor.compare.checks import DEFAULT, Criterion, overall, parse, parse_all
from perfdoctor.compare.judging import Jury, PairValues, ordered
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate.against import by_processor_time

SERIES = 300


def pair(**differences: float) -> PairValues:
    """step=0.05: both sides have it, the new one 5 % more."""
    keys = {name.replace("__", ":"): d for name, d in differences.items()}
    before = dict.fromkeys(keys, 0.01)
    return PairValues(keys, before, {key: 0.01 * math.exp(d) for key, d in keys.items()})


def judged_of(differences, *criteria: str, key: str = "step__p25"):
    jury = Jury(parse_all(criteria, ()))
    for d in differences:
        if jury.finished:
            break
        jury.add(pair(**{key: d}))
    return jury


def test_without_a_wish_the_step_must_not_get_slower_by_five_percent():
    (found,) = parse_all((), ())
    assert found == Criterion(metric="step", statistic="p25", margin=0.05)
    assert parse(DEFAULT, fails=True) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step:p50:5%", ("step", "p50", 0.05)),
        ("step:3", ("step", "p25", 0.03)),
        ("data_loading:p95:20%", ("data_loading", "p95", 0.2)),
        ("graph_build:12.5 %", ("graph_build", "p50", 0.125)),
        ("memory:10%", ("memory", "peak", 0.1)),
    ],
)
def test_a_criterion_is_read(text, expected):
    found = parse(text, fails=True)
    assert (found.metric, found.statistic, pytest.approx(found.margin)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "forward:cpu:5%", "step", "step:p50", "step:p49:5%", "memory:p50:5%", "step:peak:5%",
     "step:0%", "step:1e9", "step:400%", "step:5%:p50", "step:.:5.%.", "step:...:5", "step:1.2.3%"],
)  # fmt: skip
def test_what_is_no_criterion_is_refused_with_one_line(text):
    with pytest.raises(PerfdoctorError, match="cannot read the criterion") as caught:
        parse(text, fails=True)
    assert "\n" not in str(caught.value)


def test_the_same_quantity_twice_is_refused():
    with pytest.raises(PerfdoctorError, match="step:p25 is asked for twice"):
        parse_all(("step:5%", "step:p25:7%"), ())


def test_a_clear_slowdown_is_a_regression_at_the_first_look():
    jury = judged_of([0.08, 0.081, 0.079, 0.082, 0.078])
    (found,) = jury.judged()
    assert (found.outcome, found.pairs, jury.finished) == ("regression", 5, True)
    assert found.change == pytest.approx(math.expm1(0.08), abs=0.002)
    assert overall(jury.judged()) == "regression"


def test_the_same_code_passes_and_tells_what_it_could_have_seen():
    (found,) = judged_of([0.001, -0.002, 0.0, 0.002, -0.001]).judged()
    assert found.outcome == "pass"
    assert found.seen is not None and 0 < found.seen < 0.02


def test_faster_code_is_told_to_be_an_improvement_and_passes():
    jury = judged_of([-0.2, -0.21, -0.19, -0.2, -0.205])
    assert jury.judged()[0].outcome == "improved"
    assert overall(jury.judged()) == "pass"


def test_no_pair_is_no_pass():
    jury = judged_of([])
    assert jury.judged()[0].reason == "nothing was measured"
    assert overall(jury.judged()) == "inconclusive"


def test_too_few_pairs_are_no_pass_however_equal():
    (found,) = judged_of([0.0] * 4).judged()
    assert found.outcome == "inconclusive"
    assert "only 4 of at least 5" in str(found.reason)


def test_pairs_that_contradict_each_other_stay_inconclusive():
    (found,) = judged_of(np.tile([0.4, -0.4], 15)).judged()
    assert (found.outcome, found.pairs) == ("inconclusive", 30)


def test_what_only_one_side_has_is_inconclusive():
    jury = Jury(parse_all(("graph_build:5%",), ()))
    for _ in range(5):
        jury.add(PairValues({"step:p25": 0.0}, {}, {"graph_build:p50": 0.1}))
    (found,) = jury.judged()
    assert found.outcome == "inconclusive"
    assert "not measured before" in str(found.reason)


def test_one_regression_ends_it_though_others_are_open():
    jury = Jury(parse_all(("step:5%", "memory:10%"), ()))
    for n in range(5):
        jury.add(pair(step__p25=0.3 + n / 1000, memory__peak=0.5 * (-1) ** n))
    assert jury.finished
    assert [found.outcome for found in jury.judged()] == ["regression", "inconclusive"]


def test_with_several_criteria_less_is_seen_and_the_power_says_so():
    noisy = [0.03, -0.02, 0.0, 0.02, -0.03]
    (alone,) = judged_of(noisy, "step:5%").judged()
    both = Jury(parse_all(("step:5%", "memory:5%"), ()))
    for d in noisy:
        both.add(pair(step__p25=d, memory__peak=d))
    assert both.judged()[0].seen > alone.seen


def test_memory_may_grow_up_to_its_whole_margin():
    grown = [math.log(1.07) + n / 10_000 for n in (-1, 0, 1, 0.5, -0.5)]
    (found,) = judged_of(grown, "memory:10%", key="memory__peak").judged()
    assert found.outcome == "pass"
    (found,) = judged_of([2 * d for d in grown], "memory:10%", key="memory__peak").judged()
    assert found.outcome == "regression"


def test_a_warning_neither_fails_nor_prolongs_the_check():
    jury = Jury(parse_all(("step:5%",), ("forward:p50:5%",)))
    for n in range(5):
        jury.add(pair(step__p25=n / 10_000, forward__p50=0.3 + n / 1000))
    assert jury.finished
    assert [found.outcome for found in jury.judged()] == ["pass", "regression"]
    assert overall(jury.judged()) == "pass"


def test_an_outcome_once_decided_does_not_change_with_later_pairs():
    jury = Jury(parse_all(("step:5%", "forward:p50:5%"), ()))
    for n in range(14):
        calm = n / 10_000 if n < 5 else 0.5
        jury.add(pair(step__p25=calm, forward__p50=0.02 * (-1) ** n + 0.03))
    assert jury.judged()[0].outcome == "pass"
    assert jury.judged()[0].pairs == 5


def test_three_criteria_together_cry_wolf_no_more_than_one():
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(SERIES):
        jury = Jury(parse_all(("step:5%", "forward:p50:5%", "memory:5%"), ()))
        while not jury.finished:
            d = rng.normal(0, 0.045, 3)
            jury.add(pair(step__p25=d[0], forward__p50=d[1], memory__peak=d[2]))
        alarms += overall(jury.judged()) == "regression"
    assert alarms / SERIES <= 0.02


def test_every_quantity_is_shown_steps_first_memory_last():
    jury = judged_of([0.0] * 5)
    for _ in range(2):
        jury.add(pair(step__p25=0.1, memory__peak=0.0, forward__p50=0.2, data_loading__p50=0.0))
    assert [s.name for s in jury.shifts()] == ["step", "data_loading", "forward", "memory"]
    assert jury.shifts()[2].direction == "slower"


def test_one_pair_shows_both_values_and_judges_nothing():
    jury = judged_of([0.4])
    (found,) = jury.shifts()
    assert found.before and found.after and found.ratio is None
    assert found.direction == "unclear"


def test_what_looks_worse_and_is_not_sure_is_told_as_that():
    (found,) = judged_of([0.10, 0.28, 0.14, 0.26, 0.13]).judged()
    assert found.outcome == "inconclusive" and found.interval[0] > 0
    assert "looks worse" in found.reason


def test_quantities_come_step_first_with_their_usual_statistic_and_memory_last():
    keys = ["memory:peak", "step:mean", "other:p50", "step:p25", "forward:p50", "step:cpu"]
    assert ordered(keys) == [
        "step:p25", "step:mean", "step:cpu", "forward:p50", "other:p50", "memory:peak",
    ]  # fmt: skip


@pytest.mark.parametrize("asked", ["step:p25:5%", "step:cpu:5%"])
def test_where_the_wall_clock_tells_nothing_processor_time_is_offered_unless_it_was_asked(asked):
    jury = Jury(parse_all((asked,), ()))
    for noise in (-0.4, 0.5, 0.1, -0.3, 0.4):
        jury.add(pair(step__p25=noise, step__cpu=0.08 + noise / 100))
    told = list(by_processor_time(jury))
    assert len(told) == (asked == "step:p25:5%")
    assert all("+8.4 %" in line and "--fail-on step:cpu:5%" in line for line in told)
