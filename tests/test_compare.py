"""Configurations measured in turns are compared in pairs."""

from __future__ import annotations

import numpy as np
import pytest
from builders import make_report

from perfdoctor.compare import Row, best, block_rates, compare_rows


def row(label, rates, error=None):
    report = None if error else make_report()
    rates = None if error else np.array(rates, dtype=float)
    return Row(label, {"num_workers": label}, report, rates, error)


MOODS = np.array([1.0, 0.6, 1.1, 0.9, 0.5, 1.0])  # the machine's, the same for both of a pair


def test_a_real_difference_shows_through_a_moody_machine():
    rows = [row("a", 100 * MOODS), row("b", 110 * MOODS)]
    comparison = compare_rows(rows)
    assert comparison.best == (1,)
    assert comparison.rows[1].relative == pytest.approx(1.1)
    assert comparison.rows[1].relative_ci == pytest.approx((1.1, 1.1))


def test_what_cannot_be_told_apart_shares_the_first_place():
    noise = np.array([1.02, 0.97, 1.01, 0.98, 1.03, 0.99])
    assert best([row("a", 100 * MOODS), row("b", 100 * MOODS * noise)]) == (0, 1)


def test_too_few_rounds_decide_nothing():
    assert best([row("a", [100, 100]), row("b", [200, 200])]) == (0, 1)


def test_a_failed_configuration_has_a_reason_and_no_numbers():
    comparison = compare_rows([row("a", 0, error="out of memory"), row("b", 100 * MOODS)])
    assert comparison.rows[0].error == "out of memory"
    assert comparison.rows[0].samples_per_s is None
    assert comparison.best == (1,)
    assert comparison.rows[1].relative == 1


def test_blocks_are_rated_by_all_their_seconds():
    step_s, samples = np.array([1.0, 1.0, 2.0, 6.0]), np.full(4, 8.0)
    rates = block_rates(step_s, samples, np.array([0, 0, 1, 1]))
    assert rates.tolist() == [8, 2]
