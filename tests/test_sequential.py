"""Decisions taken while measuring: rarely wrong when nothing changed, rarely blind when it did."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.sequential import LOOKS, ONE_PROCESS, Claim, Gate, interval, smallest_seen

SERIES = 600
pairs = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=40).map(np.array)


def noise(kind: str, spread: float, seed: int = 5) -> np.ndarray:
    """As the differences between pairs of processes are, or worse."""
    rng = np.random.default_rng(seed)
    shape = (SERIES, LOOKS[-1])
    if kind == "heavy tails":
        return rng.standard_t(3, shape) * spread / math.sqrt(3)
    values = rng.normal(0.0, spread, shape)
    disturbed = rng.random(shape) < (0.1 if kind == "disturbed" else 0.0)
    return np.where(disturbed, 5 * values, values)


def until(judge, series, pairs):
    """How often each answer was the first, where there is only time for so many pairs."""
    found = []
    for one in series:
        answers = [judge.look(one[:n]) for n in LOOKS if n <= pairs]
        answers.append(judge.look(one[:pairs], last=True))
        found.append(next((answer for answer in answers if answer), "inconclusive"))
    return {answer: found.count(answer) / len(found) for answer in set(found)}


def outcomes(judge, series):
    """How often each answer was the first."""
    found = []
    for one in series:
        answers = (judge.look(one[:n]) for n in LOOKS)
        found.append(next((answer for answer in answers if answer), "inconclusive"))
    return {answer: found.count(answer) / len(found) for answer in set(found)}


@pytest.mark.parametrize("spread", [0.01, 0.022, 0.045, 0.08])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "disturbed"])
def test_the_same_code_twice_is_called_slower_in_less_than_one_case_of_a_hundred(kind, spread):
    assert outcomes(Gate(), noise(kind, spread)).get("fail", 0) <= 0.012


@pytest.mark.parametrize("spread", [0.022, 0.045, 0.08])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "disturbed"])
@pytest.mark.parametrize("pairs", [5, 6, 9, 13, 29])
def test_nor_is_it_where_the_time_ends_with_a_last_look(kind, spread, pairs):
    assert until(Gate(), noise(kind, spread, 11), pairs).get("fail", 0) <= 0.012


@pytest.mark.parametrize("pairs", range(5, 31))
def test_the_last_look_spends_what_the_looks_that_come_no_more_would_have(pairs):
    gate = Gate()
    spent = sum(1 - gate.level(look) for look in LOOKS if look <= pairs)
    last = 1 - gate.level(pairs, last=True) if pairs < LOOKS[-1] else 0.0
    assert spent + last == pytest.approx(len(LOOKS) * (1 - gate.different))


@pytest.mark.parametrize(("kind", "power"), [("normal", 0.97), ("disturbed", 0.9)])
def test_the_pairs_of_a_default_check_find_five_percent(kind, power):
    slower = noise(kind, 0.025) + math.log(1.05)
    assert until(Gate(), slower, 12)["fail"] >= power


@pytest.mark.parametrize("odd", [-0.3, 0.3])
@pytest.mark.parametrize("pairs", [7, 9, 12])
def test_a_single_odd_pair_hides_nothing(odd, pairs):
    """A process that gets the worse place on the host's cores for its whole life."""
    slower = noise("normal", 0.013) + math.log(1.05)
    slower[:, 2] = odd
    assert until(Gate(), slower, pairs)["fail"] >= 0.95


@pytest.mark.parametrize("spread", [0.01, 0.022, 0.045, 0.08])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "disturbed"])
def test_a_change_that_changes_nothing_is_neither_verified_nor_refuted(kind, spread):
    found = outcomes(Claim(), noise(kind, spread))
    assert found.get("verified", 0) + found.get("refuted", 0) <= 0.015


@pytest.mark.parametrize(("spread", "power"), [(0.022, 0.98), (0.045, 0.94)])
def test_five_percent_are_found(spread, power):
    slower = noise("normal", spread) + math.log(1.05)
    assert outcomes(Gate(), slower)["fail"] >= power
    assert outcomes(Claim(), slower)["verified"] >= power


def test_few_disturbed_pairs_do_not_hide_five_percent():
    assert outcomes(Claim(), noise("disturbed", 0.045) + math.log(1.05))["verified"] >= 0.88


def test_on_a_quiet_machine_three_percent_are_verified():
    assert outcomes(Claim(), noise("normal", 0.022) + math.log(1.03))["verified"] >= 0.95


def test_a_gain_that_was_predicted_and_does_not_come_is_refuted():
    found = outcomes(Claim(predicted_low=math.log(1.2)), noise("normal", 0.03))
    assert found["refuted"] >= 0.95


@pytest.mark.parametrize("predicted", [1.1, 1.15, 1.3])
def test_a_gain_that_is_smaller_than_was_predicted_is_one_all_the_same(predicted):
    claim = Claim(predicted_low=math.log(predicted), common=ONE_PROCESS)
    three, five = (noise("normal", 0.018) + math.log(gain) for gain in (1.03, 1.05))
    assert outcomes(claim, three)["verified"] >= 0.93
    assert outcomes(claim, three).get("refuted", 0) <= 0.05
    assert outcomes(claim, five)["verified"] >= 0.98


def test_what_is_slower_than_before_is_refuted_without_a_prediction():
    found = outcomes(Claim(), noise("normal", 0.022) - math.log(1.1))
    assert found["refuted"] >= 0.99


def test_too_much_noise_is_mostly_inconclusive():
    assert outcomes(Gate(), noise("normal", 0.3)).get("inconclusive", 0) >= 0.85


@pytest.mark.parametrize("change", [0.0, math.log(1.03), math.log(1.05)])
def test_the_interval_where_it_stops_covers_the_truth(change):
    covered = 0
    for one in noise("normal", 0.022) + change:
        stop = next((n for n in LOOKS if Claim().look(one[:n])), LOOKS[-1])
        estimate = interval(one[:stop])
        covered += estimate.low <= change <= estimate.high
    assert 0.85 <= covered / SERIES <= 0.95


def of_one_process(spread: float) -> np.ndarray:
    """Blocks of one process have something in common, another in each process."""
    rng = np.random.default_rng(11)
    return noise("normal", spread) + rng.normal(0.0, ONE_PROCESS, (SERIES, 1))


@pytest.mark.parametrize("change", [0.0, math.log(1.03), math.log(1.05)])
def test_what_the_blocks_of_a_process_have_in_common_is_in_the_interval(change):
    held, covered, blind = Claim(common=ONE_PROCESS), 0, 0
    for one in of_one_process(0.018) + change:
        stop = next((n for n in LOOKS if held.look(one[:n])), LOOKS[-1])
        estimate, short = interval(one[:stop], common=held.common), interval(one[:stop])
        covered += estimate.low <= change <= estimate.high
        blind += short.low <= change <= short.high
    assert 0.85 <= covered / SERIES <= 0.96
    assert blind < covered


def test_what_the_blocks_of_a_process_have_in_common_is_no_gain():
    found = outcomes(Claim(common=ONE_PROCESS), of_one_process(0.018))
    assert found.get("verified", 0) + found.get("refuted", 0) <= 0.01
    faster = of_one_process(0.018) + math.log(1.03)
    assert outcomes(Claim(common=ONE_PROCESS), faster)["verified"] >= 0.95
    assert smallest_seen(faster[0], common=0.05) > smallest_seen(faster[0])


def test_it_only_looks_when_it_is_time_to():
    clear = np.full(6, 0.5)
    assert Gate().look(clear) is None and Claim().look(clear) is None
    assert Gate().look(clear[:5]) == "fail" and Claim().look(clear[:5]) == "verified"


@given(pairs)
def test_an_interval_encloses_its_centre_and_is_never_without_width(differences):
    estimate = interval(differences)
    assert estimate.low < estimate.centre < estimate.high


@given(pairs)
def test_seen_from_the_other_side_everything_is_turned_round(differences):
    one, other = interval(differences), interval(-differences)
    assert one.centre == pytest.approx(-other.centre)
    assert one.low == pytest.approx(-other.high)


def test_one_pair_tells_nothing():
    assert interval(np.array([0.1])) is None
    assert smallest_seen(np.array([0.1])) == math.inf


def test_more_pairs_see_smaller_changes():
    differences = noise("normal", 0.03)[0][:7]
    assert smallest_seen(differences, 30) < smallest_seen(differences, 14) < 0.1
