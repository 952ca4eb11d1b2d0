"""Configurations measured in turns are compared in pairs, logged runs by their medians."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import make_report, make_stat

from perfdoctor.compare.runs import Row, best, block_rates, compare_logs, compare_rows
from perfdoctor.record import LogFile
from perfdoctor.report import Epochs, Steps, Throughput


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


def logged(name, *, samples=None, steps=None, epoch_s=None, interval=None, **overrides):
    """A report of a log that tells of some rates."""
    fields = {
        "steps": None,
        "stages": {},
        "throughput": Throughput(
            samples_per_s=samples, steps_per_s=steps, samples_per_s_ci=interval
        ),
        "epochs": None if epoch_s is None else Epochs(count=9, time=make_stat(epoch_s, count=9)),
    }
    return make_report(name=name, **(fields | overrides))


def test_logged_runs_are_in_the_order_of_their_samples_per_second():
    found = compare_logs([logged("a", samples=100), logged("b", samples=400)])
    assert [row.label for row in found.rows] == ["b", "a"]
    assert [row.relative for row in found.rows] == [1, 0.25]
    assert found.best == (0,)
    assert found.rows[0].relative_ci is None
    low, high = found.rows[1].relative_ci
    assert low < 0.25 < high


def test_what_all_tell_counts_before_what_only_some_tell():
    a = logged("a", samples=900, steps=1, epoch_s=50)
    b = logged("b", steps=3, epoch_s=80)
    found = compare_logs([a, b])
    assert [row.label for row in found.rows] == ["b", "a"]
    assert found.rows[1].relative == pytest.approx(1 / 3)


def test_runs_that_tell_tokens_are_compared_by_these_and_say_so():
    a, b = logged("a", steps=10.1), logged("b", steps=2.8)
    a = replace(a, throughput=Throughput(steps_per_s=10.1, tokens_per_s=10_000))
    b = replace(b, throughput=Throughput(steps_per_s=2.8, tokens_per_s=40_000))
    found = compare_logs([a, b])
    assert found.measure == "tokens/s"
    assert [(row.label, row.tokens_per_s, row.relative) for row in found.rows] == [
        ("b", 40_000, 1),
        ("a", 10_000, 0.25),
    ]


def test_epochs_compare_runs_that_tell_nothing_else():
    a, b = logged("a", epoch_s=80), logged("b", epoch_s=50)
    found = compare_logs([a, b])
    assert [row.label for row in found.rows] == ["b", "a"]
    assert found.rows[1].relative == pytest.approx(50 / 80)


def test_a_run_without_a_common_measure_stands_last_and_has_no_relative_speed():
    reports = [logged("nothing"), logged("a", samples=100), logged("b", samples=90)]
    found = compare_logs(reports)
    assert [row.label for row in found.rows] == ["a", "b", "nothing"]
    assert (found.rows[2].relative, found.rows[2].relative_ci) == (None, None)
    assert 2 not in found.best


def test_logged_runs_whose_intervals_overlap_share_the_first_place():
    wide = [logged("a", samples=100, interval=(80, 125)), logged("b", samples=85)]
    assert compare_logs(wide).best == (0, 1)
    narrow = [logged("a", samples=100, interval=(99.9, 100.1)), logged("b", samples=85)]
    assert compare_logs(narrow).best == (0,)


def test_runs_at_different_times_differ_as_machines_do():
    """Identical code drifted by 9.5 % within an hour on one machine."""
    exact = [logged("a", samples=100, interval=(100, 100)), logged("b", samples=91)]
    assert compare_logs(exact).best == (0, 1)


def test_a_ratio_is_as_uncertain_as_both_medians_together():
    a = logged("a", samples=100, interval=(80, 125))
    b = logged("b", samples=50, interval=(40, 62.5))
    low, high = compare_logs([a, b]).rows[1].relative_ci
    assert (low, high) == pytest.approx((0.5 / 1.25**2**0.5, 0.5 * 1.25**2**0.5))


def test_runs_that_tell_nothing_have_no_best():
    found = compare_logs([logged("a"), logged("b")])
    assert found.best == ()
    assert [row.relative for row in found.rows] == [None, None]


def recorded(name, count, **fields):
    """A report that rests on so many records."""
    file = LogFile(path=name, format="plain", reason="", lines=90, records=count)
    time = make_stat(0.1, count=count)
    steps = Steps(count=count, warmup_discarded=0, time=time)
    return replace(logged(name, **fields), steps=steps, logs=(file,))


def test_a_run_of_three_records_is_listed_last_and_marked():
    few, many = recorded("few", 3, samples=900), recorded("many", 300, samples=100)
    found = compare_logs([few, many])
    assert [row.label for row in found.rows] == ["many", "few"]
    assert found.best == (0,)
    assert found.rows[1].relative is None
    assert found.rows[1].note == "only 3 records with a step time or a rate: too few to compare"
    assert found.rows[0].note is None


def test_runs_that_are_all_short_are_compared_and_marked():
    found = compare_logs([recorded("a", 3, samples=100), recorded("b", 4, samples=400)])
    assert [row.label for row in found.rows] == ["b", "a"]
    assert all(row.note for row in found.rows)


def test_the_measure_is_what_the_runs_with_enough_records_tell():
    runs = [recorded(n, 300, samples=s, steps=1) for n, s in (("a", 100), ("b", 300))]
    found = compare_logs([*runs, recorded("short", 2, steps=9)])
    assert [row.label for row in found.rows] == ["b", "a", "short"]


def test_steps_are_compared_with_a_word_on_their_batches():
    a = logged("a", samples=900, steps=1)
    assert compare_logs([a, logged("b", samples=900, steps=3)]).notes == ()
    unknown = compare_logs([a, logged("b", steps=3, configuration={})]).notes
    assert "not all batch sizes are known" in unknown[0]
    differ = compare_logs([a, logged("b", steps=3, configuration={"batch_size": 32})]).notes
    assert "batch sizes differ (32, 900)" in differ[0]
    same = compare_logs([a, logged("b", steps=3, configuration={"batch_size": 900})]).notes
    assert same == ()
