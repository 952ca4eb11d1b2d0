"""The verdict on a log: what it shows, and never more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from log_bases import (
    LOGS,
    STEP_S,
    bare,
    healthy_log,
    loading_log,
    recovered_log,
    search_log,
    slowing_log,
    steps_only,
    times,
    usage,
    waiting_log,
    wall,
    with_steps,
)

from perfdoctor.record import LogFile, Source
from perfdoctor.report import (
    ChangePoint,
    Diagnosis,
    Epochs,
    Report,
    Stalls,
    Throughput,
    Trend,
    Wall,
)
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings
from perfdoctor.stats import describe


def judged(report: Report) -> Diagnosis:
    result = diagnose(report, Settings())
    assert result.diagnosis is not None
    assert not result.warnings
    return result.diagnosis


def falling(*points: ChangePoint, **trend: Any) -> Report:
    """A log of step times whose speed ends at a quarter of what it was."""
    fields = {"first": 2052.0, "last": 539.0, "change": 539 / 2052 - 1, "shape": "step", **trend}
    found = Trend(change_points=points, **fields)
    return replace(steps_only(), throughput=Throughput(samples_per_s=900.0, trend=found))


def point(before: float, after: float, step: float, **where: Any) -> ChangePoint:
    return ChangePoint(index=int(step / 50), before=before, after=after, p=1e-6, step=step, **where)


# -- nothing, or not enough ---------------------------------------------------------------------


def test_losses_without_times_are_no_timing_information() -> None:
    seen = judged(bare())
    assert (seen.verdict, seen.bottleneck, seen.confidence) == ("inconclusive", "none", 0.0)
    assert seen.summary.startswith("No timing information in this log.")
    assert "`perfdoctor run train.py`" in seen.summary


@pytest.mark.parametrize("parts", [(), wall(unexplained=1.0).parts[1:]])
def test_a_total_alone_tells_neither_steps_nor_epochs(parts: Any) -> None:
    seen = judged(replace(bare(), wall=Wall(total_s=2566.84, parts=parts)))
    assert seen.verdict == "inconclusive"
    assert "only how long all of it took (43 min)" in seen.summary


def test_a_total_of_nothing_is_no_timing_information() -> None:
    seen = judged(replace(bare(), wall=Wall(total_s=0.0, parts=())))
    assert seen.summary.startswith("No timing information")


def test_step_times_alone_do_not_tell_what_they_are_spent_on() -> None:
    seen = judged(steps_only())
    assert (seen.verdict, seen.bottleneck) == ("inconclusive", "none")
    assert seen.summary == (
        "How long a step takes is known, but the log does not tell what that time is spent on; "
        "`perfdoctor run train.py` would."
    )


def test_time_in_other_alone_is_not_overhead() -> None:
    report = with_steps(bare(), times(STEP_S, 1), {"other": times(STEP_S, 1)})
    stages = {"other": replace(report.stages["other"], share=1.0)}
    assert judged(replace(report, stages=stages)).verdict == "inconclusive"


def test_rates_alone_are_known_but_not_what_for() -> None:
    report = replace(bare(), throughput=Throughput(tokens_per_s=57_820.0))
    assert judged(report).summary.startswith("How fast the training goes is known, but")


def test_epochs_alone_tell_that_training_takes_most_of_the_run() -> None:
    seen = judged(replace(bare(), wall=wall(validation=0.08)))
    assert seen.verdict == "inconclusive"
    assert seen.summary.startswith("That training takes 92 % of the run is known, but")


def test_training_that_is_all_a_log_tells_of_is_not_worth_saying() -> None:
    epochs = Epochs(count=40, time=describe(times(90.0, 1, count=40)))
    report = replace(bare(), wall=wall(), epochs=epochs)
    assert judged(report).summary.startswith("How long an epoch takes is known, but")


def test_what_the_log_does_not_explain_decides_nothing() -> None:
    report = replace(waiting_log(), wall=wall(unexplained=0.7))
    seen = judged(report)
    assert seen.verdict == "inconclusive"
    assert "70 % of the run (7 h) is explained by nothing in the log" in seen.summary


def test_a_wall_clock_that_accounts_for_nothing_is_only_a_total() -> None:
    report = replace(waiting_log(), wall=wall(unexplained=0.99))
    assert judged(report).verdict == "input-bound"
    result = diagnose(report, Settings())
    assert "PD705" not in [r.rule for r in result.recommendations]


def test_regular_stalls_are_worth_a_word() -> None:
    stalls = Stalls(count=80, excess_s=36.0, share=0.2, period_steps=250.0)
    for report in (steps_only(), loading_log(0.03)):
        summary = judged(replace(report, stalls=stalls)).summary
        assert summary.endswith(
            "20 % of the steps' time goes into stalls that come every 250 steps."
        )


# -- what holds the training up -----------------------------------------------------------------


def test_waiting_for_data_is_said_with_its_seconds() -> None:
    seen = judged(waiting_log())
    assert (seen.verdict, seen.bottleneck) == ("input-bound", "data_loading")
    assert seen.share == pytest.approx(0.35, abs=0.01)
    assert seen.summary == (
        "Training waits for data: 35 % of each step is spent waiting for the next batch "
        "(140 ms of 399 ms) while the model is idle."
    )
    assert seen.confidence == pytest.approx(11 / 12)


def test_averages_count_where_the_printed_steps_happen_not_to_wait() -> None:
    report = loading_log(0.0005)
    stages = {
        n: replace(s, share={"data_loading": 0.44}.get(n, 0.56)) for n, s in report.stages.items()
    }
    seen = judged(replace(report, stages=stages))
    assert (seen.verdict, seen.confidence) == ("input-bound", 0.7)


def test_the_wall_clock_tells_of_waiting_too() -> None:
    seen = judged(replace(bare(), wall=wall(data_loading=0.4)))
    assert (seen.verdict, seen.bottleneck) == ("input-bound", "data_loading")
    assert "40 % of the run (4 h of 10 h)" in seen.summary


@pytest.mark.parametrize(
    ("part", "word", "sentence"),
    [
        ("validation", "evaluation-bound", "Validation takes 30 % of the run (3 h of 10 h), and"),
        ("metrics", "evaluation-bound", "Metrics takes 30 %"),
        ("arch_step", "search-bound", "The architecture step takes 30 % of the run (3 h of 10 h)."),
        ("checkpoint", "io-bound", "Saving checkpoints takes 30 % of the run"),
        ("logging", "io-bound", "Logging takes 30 %"),
        ("communication", "communication-bound", "Communication takes 30 %"),
    ],
)
def test_a_third_of_the_wall_clock_holds_the_run_up(part: str, word: str, sentence: str) -> None:
    seen = judged(replace(loading_log(0.03), wall=wall(**{part: 0.30})))
    assert (seen.verdict, seen.bottleneck) == (word, part)
    assert seen.summary.startswith(sentence)
    assert seen.share == pytest.approx(0.30)
    assert seen.confidence == pytest.approx(0.85)


def test_parts_of_one_group_count_together() -> None:
    seen = judged(replace(loading_log(0.03), wall=wall(validation=0.12, metrics=0.13)))
    assert (seen.verdict, seen.bottleneck) == ("evaluation-bound", "metrics")
    assert seen.share == pytest.approx(0.25)


def test_validation_is_known_from_the_epochs_too() -> None:
    epoch_s = times(90.0, 1, count=20)
    epochs = Epochs(count=20, time=describe(epoch_s), validation=describe(0.4 * epoch_s))
    seen = judged(replace(bare(), epochs=epochs))
    assert (seen.verdict, seen.bottleneck) == ("evaluation-bound", "validation")
    assert "(12 min of 30 min)" in seen.summary


def test_the_larger_part_of_the_run_wins() -> None:
    report = loading_log(0.30)
    assert judged(replace(report, wall=wall(validation=0.6))).verdict == "evaluation-bound"
    assert judged(replace(report, wall=wall(validation=0.22))).verdict == "input-bound"


def test_half_of_a_small_part_is_less_than_a_third_of_the_run() -> None:
    parts = wall(data_loading=0.2, validation=0.4, start_up=0.2)
    assert judged(replace(loading_log(0.5), wall=parts)).verdict == "evaluation-bound"


def test_epochs_that_do_not_count_their_validation_are_shorter_than_the_run() -> None:
    epoch_s = times(90.0, 1, count=20)
    epochs = Epochs(count=20, time=describe(epoch_s), validation=describe(1.5 * epoch_s))
    assert judged(replace(bare(), epochs=epochs)).share == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("share", "word"), [(0.21, "evaluation-bound"), (0.18, "inconclusive"), (0.07, "compute-bound")]
)
def test_a_bottleneck_takes_a_fifth(share: float, word: str) -> None:
    seen = judged(replace(loading_log(0.03), wall=wall(validation=share)))
    assert seen.verdict == word
    assert ("Validation takes 18 % of the run, the most of what" in seen.summary) == (share == 0.18)


def test_a_part_below_a_fifth_is_named_with_the_share_that_it_would_need() -> None:
    for report in (loading_log(0.13), replace(loading_log(0.03), wall=wall(arch_step=0.13))):
        seen = judged(report)
        assert seen.verdict == "inconclusive"
        assert "takes 13 % of" in seen.summary
        assert "from 20 % on it would be called the bottleneck" in seen.summary


def test_a_wait_worth_advice_is_never_called_no_bottleneck() -> None:
    for share in (0.11, 0.15, 0.19):
        assert "not the bottleneck" not in judged(loading_log(share)).summary


def test_what_is_unexplained_lowers_the_confidence() -> None:
    seen = judged(replace(loading_log(0.03), wall=wall(validation=0.4, unexplained=0.2)))
    assert seen.confidence == pytest.approx(0.85 * 0.8)


# -- what does not ------------------------------------------------------------------------------


def test_a_short_wait_is_not_called_healthy() -> None:
    seen = judged(loading_log(0.03))
    assert (seen.verdict, seen.bottleneck, seen.share) == ("compute-bound", "none", 0.0)
    assert seen.summary.startswith(
        "Loading is not the bottleneck: waiting for data takes 3.0 % of each step."
    )
    assert "the log does not tell" in seen.summary
    assert seen.confidence <= 0.5


def counted(report: Report, records: int) -> Report:
    file = LogFile(path="train.log", format="generic", reason="", lines=40, records=records)
    return replace(report, logs=(file,))


def test_three_records_are_too_little_to_go_on() -> None:
    step_s = times(STEP_S, 1, count=3)
    seen = judged(counted(with_steps(bare(), step_s, {"data_loading": 0.5 * step_s}), 3))
    assert seen.verdict == "inconclusive"
    assert (
        "only 3 records with a step time or a rate, at least 10 (or 3 epochs) are needed"
        in seen.summary
    )


def test_a_summary_of_the_whole_run_is_no_single_record() -> None:
    step_s = times(STEP_S, 1, count=1)
    report = counted(with_steps(bare(), step_s, {"data_loading": 0.5 * step_s}), 0)
    assert judged(report).verdict == "input-bound"


def test_data_that_overlaps_the_step_is_no_wait() -> None:
    report = loading_log(0.5)
    report = replace(report, stages={}, wall=wall())
    seen = judged(report)
    assert seen.verdict == "inconclusive"
    assert "overlaps them or means something else" in seen.summary


def test_long_waits_now_and_then_are_not_said_of_each_step() -> None:
    step_s, wait_s = times(STEP_S, 1), 0.01 * times(STEP_S, 2)
    step_s[::20] += 6.0
    wait_s[::20] += 6.0
    report = with_steps(bare(), step_s, {"data_loading": wait_s})
    report = replace(report, stalls=Stalls(count=10, excess_s=6.0, share=0.42, period_steps=1000.0))
    seen = judged(report)
    assert seen.verdict == "input-bound"
    assert "in long waits at regular distances; the usual step hardly waits" in seen.summary


@pytest.mark.parametrize(("share", "of"), [(0.5, "run"), (0.03, "step")])
def test_the_verdict_says_what_its_share_is_of(share: float, of: str) -> None:
    assert judged(replace(loading_log(0.3), wall=wall(validation=share))).of == of


@pytest.mark.parametrize(("busy", "word"), [(98.0, "compute-bound"), (90.0, "inconclusive")])
def test_a_gpu_that_never_waits_computes(busy: float, word: str) -> None:
    seen = judged(replace(steps_only(), utilisation={"gpu": usage(busy)}))
    assert seen.verdict == word
    assert seen.confidence <= 0.5


def test_computing_that_is_timed_is_named() -> None:
    step_s = times(STEP_S, 1)
    parts = {"forward": 0.2 * step_s, "backward": 0.7 * step_s, "data_loading": 0.02 * step_s}
    seen = judged(with_steps(bare(), step_s, parts))
    assert (seen.verdict, seen.bottleneck) == ("compute-bound", "backward")
    assert seen.share == pytest.approx(0.9)
    assert "nothing else that the log times" in seen.summary


def test_a_log_that_times_a_third_of_the_step_does_not_tell_the_rest() -> None:
    step_s = times(STEP_S, 1)
    report = with_steps(bare(), step_s, {"forward": 0.3 * step_s})
    assert judged(report).verdict == "inconclusive"
    traced = judged(replace(report, source=Source(kind="trace")))
    assert (traced.verdict, traced.bottleneck) == ("overhead-bound", "other")


# -- getting slower -----------------------------------------------------------------------------


def test_a_fall_is_said_with_its_place() -> None:
    seen = judged(slowing_log())
    assert (seen.verdict, seen.bottleneck, seen.confidence) == ("degrading", "none", 0.9)
    assert seen.summary == (
        "Throughput fell from 53.7 to 26 samples/s between step 5,000 and 5,050 (train.log:412); "
        "waiting for data hardly grew, so loading is not the cause."
    )


def test_a_fall_in_two_parts_is_between_them() -> None:
    points = point(2052, 1100, 4100, where="train.log:4123"), point(1100, 539, 4600)
    assert judged(falling(*points)).summary == (
        "Throughput fell from 2052 to 539 samples/s between step 4,100 and 4,600 (train.log:4123)."
    )


def test_a_fall_without_steps_has_a_time() -> None:
    seen = judged(falling(replace(point(2052, 539, 0), step=None, at_s=11_400.0)))
    assert seen.summary == "Throughput fell from 2052 to 539 samples/s after 3 h 10 min."


@pytest.mark.parametrize("shape", ["drift", "decay", "step"])
def test_a_fall_without_change_points_is_over_the_run(shape: str) -> None:
    seen = judged(falling(shape=shape, unit="tokens/s"))
    assert seen.verdict == "degrading"
    assert seen.summary == "Throughput fell from 2052 to 539 tokens/s over the run."


def test_a_short_log_that_halves_its_speed_is_degrading_with_a_word_of_doubt() -> None:
    short = counted(falling(shape="drift"), 16)
    assert short.steps is not None
    assert short.steps.time is not None
    time = replace(short.steps.time, total_s=12.0)
    seen = judged(replace(short, steps=replace(short.steps, count=16, time=time), wall=None))
    assert seen.verdict == "degrading"
    assert seen.confidence <= 0.5
    assert "batches that are sorted by length look the same" in seen.summary


def test_a_fall_that_rises_again_in_part_is_told_from_end_to_end() -> None:
    points = point(2052, 300, 4100), point(300, 539, 4600)
    assert "from 2052 to 539 samples/s over the run." in judged(falling(*points)).summary


def test_a_fall_after_a_rise_is_told_from_there() -> None:
    rise, drop = point(2052, 8000, 1000), point(8000, 539, 4600, step_before=4550.0)
    seen = judged(falling(rise, drop))
    assert "fell from 8000 to 539 samples/s between step 4,550 and 4,600" in seen.summary
    assert seen.confidence == 0.9


@pytest.mark.parametrize(("restart", "word"), [(81, "inconclusive"), (20, "degrading")])
def test_another_run_in_the_same_file_may_be_slower(restart: int, word: str) -> None:
    report = falling(point(2052, 539, 4100))  # record 82
    assert judged(replace(report, restarts=(restart,))).verdict == word


def test_epochs_of_several_runs_are_no_trend() -> None:
    growing = tuple((100.0 * np.linspace(1, 1.6, 30)).tolist())
    report = replace(search_log(), series={"epoch_s": growing}, restarts=(12,))
    assert judged(report).verdict == "search-bound"


@pytest.mark.parametrize("shape", ["steady", "periodic"])
def test_other_shapes_do_not_degrade(shape: str) -> None:
    assert judged(falling(shape=shape)).verdict == "inconclusive"


def test_a_fall_by_a_tenth_does_not_degrade() -> None:
    assert judged(falling(last=1850.0, change=-0.098)).verdict == "inconclusive"


def test_a_slow_down_that_recovered_does_not_degrade_but_is_named() -> None:
    result = diagnose(recovered_log(), Settings())
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == "compute-bound"
    (only,) = result.recommendations
    assert (only.rule, only.optional) == ("PD701", True)
    assert "recovered" in only.title


def test_the_wait_for_data_that_grows_is_named() -> None:
    waits = np.linspace(0.01, 0.8, 200)
    report = with_steps(bare(), 0.3 + waits, {"data_loading": waits})
    trend = Trend(first=800.0, last=240.0, change=-0.7, shape="drift")
    seen = judged(replace(report, throughput=Throughput(trend=trend)))
    assert (seen.verdict, seen.bottleneck) == ("degrading", "data_loading")
    assert "most of the added time is spent waiting for data" in seen.summary
    assert seen.confidence == pytest.approx(10 / 11)


def test_epochs_that_grow_degrade() -> None:
    growing = 100.0 * np.linspace(1, 1.6, 30)
    report = replace(search_log(), series={"epoch_s": tuple(growing.tolist())})
    seen = judged(report)
    assert seen.verdict == "degrading"
    assert seen.summary.startswith("Epochs take longer and longer: from 2 min to 3 min")


# -- anything -----------------------------------------------------------------------------------


@pytest.mark.parametrize("base", sorted(LOGS))
def test_no_log_is_called_healthy(base: str) -> None:
    assert judged(LOGS[base]()).verdict not in ("healthy", "overhead-bound")


def test_a_run_without_steps_is_judged_by_its_wall_clock() -> None:
    report = replace(search_log(), source=Source(kind="bench"))
    assert judged(report).verdict == "search-bound"


def test_numbers_that_are_none_are_not_judged() -> None:
    nan = float("nan")
    report = healthy_log()
    broken = {name: replace(s, share=nan) for name, s in report.stages.items()}
    series = {**report.series, "step_s": (None,) * 200, "data_loading_s": (nan,) * 200}
    seen = judged(replace(report, stages=broken, series=series, wall=None))
    assert seen.verdict == "inconclusive"


def test_a_fall_of_rates_without_any_step_time_is_one() -> None:
    report = falling(shape="decay", unit="tokens/s")
    empty = replace(report, steps=None, series={"step_s": (None,) * 281, "step": (1.0,) * 281})
    result = diagnose(empty, Settings())
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == "degrading"
    assert [r.rule for r in result.recommendations] == ["PD701"]
