from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import log_cases as cases
import numpy as np
import pytest
from builders import (
    make_diagnosis,
    make_log_file,
    make_log_report,
    make_recommendation,
    make_stages,
    make_stat,
    make_wall,
)
from printing import one_line, printed, widest

from perfdoctor.record import LogFile
from perfdoctor.render.log_abstentions import fact_words
from perfdoctor.render.log_words import now, place
from perfdoctor.report import (
    Abstained,
    ChangePoint,
    ComparedConfiguration,
    Comparison,
    Epochs,
    Evidence,
    Forecast,
    Hotspot,
    Prediction,
    Report,
    Stalls,
    Throughput,
    Trend,
    Usage,
)

WIDTHS = (80, 100, 140)
GOLDEN = (cases.imagenet_slow_down, cases.epochs_only, cases.no_timing, cases.three_runs)


@pytest.mark.parametrize("case", GOLDEN)
def test_the_console_shows_what_the_golden_file_shows(
    case: Callable[[], Report], golden: Callable[[str, str], None]
) -> None:
    golden(f"log_{case.__name__}.txt", printed(case(), files=(Path("throughput.png"),)))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", cases.ALL)
def test_no_line_is_wider_than_the_console(case: Callable[[], Report], width: int) -> None:
    assert widest(case(), width) <= width


@pytest.mark.parametrize("case", [cases.epochs_only, cases.no_timing, cases.one_epoch])
def test_the_report_of_a_small_log_fits_a_screen(case: Callable[[], Report]) -> None:
    assert printed(case(), 80).count("\n") <= 30


@pytest.mark.parametrize("case", [cases.imagenet_slow_down, cases.tokens_by_time])
def test_neither_a_log_nor_its_numbers_are_said_to_be_measured_here(
    case: Callable[[], Report],
) -> None:
    text = printed(case())
    assert "nan" not in text
    assert "not measured" not in text
    assert "hidden" not in text
    assert "alone" not in text


def test_a_log_without_times_is_told_so_plainly() -> None:
    text = one_line(printed(cases.no_timing()))
    assert "No timing information: this log says neither how long" in text
    assert "Where the" not in text
    for case in (cases.epochs_only, cases.only_dates, cases.tokens_by_time):
        assert "No timing information" not in printed(case())


def test_what_the_log_leaves_unsaid_of_the_wall_clock_is_said() -> None:
    text = printed(cases.three_records())
    assert "not timed by this log: validation, checkpoint" in text
    assert "unexplained: time of which the log says nothing" in printed(cases.only_dates())
    whole = printed(make_log_report(wall=make_wall({}, total_s=60.0)))
    assert "nothing of what took the time" in whole
    everything = {"data_loading": 3.0, "validation": 1.0, "checkpoint": 1.0}
    whole = printed(make_log_report(wall=make_wall(everything)))
    assert "not timed by" not in whole
    assert "unexplained" not in whole


def test_the_rest_of_the_step_is_called_so_and_not_a_stage() -> None:
    text = printed(cases.imagenet_slow_down())
    assert "rest of the step: not split further by this log" in text
    assert "\n other " not in text


def test_a_log_that_splits_no_step_has_no_table_of_stages() -> None:
    text = printed(make_log_report(stages=make_stages({"other": 0.12})))
    assert "Where the time of a step goes" not in text
    assert "this log times whole steps, not the stages in them" in text


def test_hidden_work_of_a_trace_is_shown() -> None:
    stages = make_stages({"forward": 0.1, "communication": 0.02})
    stages["communication"] = replace(stages["communication"], hidden_s=0.015)
    text = printed(make_log_report(stages=stages))
    assert "hidden: work done behind other work" in text
    assert "15.0 ms" in text


def test_what_happened_several_times_is_counted() -> None:
    wall = make_wall({"train": 80.0, "validation": 20.0})
    parts = (wall.parts[0], replace(wall.parts[1], count=4))
    text = printed(make_log_report(wall=replace(wall, parts=parts)))
    assert "time  times" in text
    assert "20.0 s      4" in text
    assert "times" not in printed(make_log_report(wall=wall)).replace("times whole", "")


def test_the_hottest_functions_of_a_profile_are_named() -> None:
    spots = tuple(
        Hotspot(file="data.py", line=line, function=f"f{line}", share=0.3 - line / 100)
        for line in range(9)
    )
    text = printed(make_log_report(hotspots=spots))
    assert "hot spots   30 % f0 (data.py)" in text
    assert "26 % f4 (data.py:4)" in text
    assert "f5" not in text


def test_the_state_of_a_growing_log_is_one_line() -> None:
    assert now(cases.imagenet_slow_down()) == (
        "train.log: step 9,000 · 12 epochs · a step takes 306 ms (p50) · 824 samples/s · "
        "1,500 steps left: 11 min 52 s (95 % interval 11 min 30 s–12 min 21 s)"
    )
    assert now(cases.no_timing()) == "train_log.txt: 12 epochs · no timing information yet"


def test_neighbouring_changes_of_one_direction_are_one() -> None:
    text = one_line(printed(cases.imagenet_slow_down()))
    assert (
        "Throughput fell from 2,052 to 539 samples/s between step 4,100 and 4,610 "
        "(train.log:423 and train.log:473)" in text
    )


def changed(*points: ChangePoint, unit: str = "samples/s", **trend: object) -> str:
    """The sentences about a trend with these change points."""
    fields = {"first": 100.0, "last": 50.0, "change": -0.5, "shape": "step"} | trend
    found = Trend(**fields, change_points=points, unit=unit)
    report = make_log_report(throughput=Throughput(samples_per_s=80.0, trend=found))
    return one_line(printed(report))


def test_a_change_lies_between_the_record_before_and_its_own() -> None:
    point = ChangePoint(index=200, before=100.0, after=50.0, p=0.001, step=2010.0)
    assert "Throughput fell from 100 to 50 samples/s at step 2,010" in changed(point)
    every_ten = replace(point, step_before=2000.0)
    assert "from 100 to 50 samples/s between step 2,000 and 2,010" in changed(every_ten)
    every_step = replace(point, step_before=2009.0)
    assert "samples/s at step 2,010" in changed(every_step)


def test_a_change_without_a_step_has_its_time_or_its_record() -> None:
    point = ChangePoint(index=200, before=5.6e6, after=7.4e6, p=0.001, at_s=7200.0)
    assert "rose from 5.60 M to 7.40 M tokens/s after 2 h 0 min" in changed(point, unit="tokens/s")
    assert "at record 201" in changed(replace(point, at_s=None))


def test_a_change_at_a_restart_is_said_to_be_there() -> None:
    point = ChangePoint(index=200, before=100.0, after=50.0, p=0.001, step=10.0, step_before=0.0)
    trend = Trend(first=100.0, last=50.0, change=-0.5, shape="step", change_points=(point,))
    report = make_log_report(
        throughput=Throughput(samples_per_s=80.0, trend=trend), restarts=(199,)
    )
    assert "Throughput fell from 100 to 50 samples/s at a restart" in one_line(printed(report))
    elsewhere = replace(report, restarts=(150,))
    assert "between step 0 and 10" in one_line(printed(elsewhere))


def test_changes_far_apart_are_told_one_by_one_and_the_fourth_is_counted() -> None:
    points = [
        ChangePoint(index=60 * n, before=100.0, after=90.0, p=0.001, step=600.0 * n + 10)
        for n in range(1, 6)
    ]
    text = changed(*points)
    assert text.count("Throughput fell") == 3
    assert "and 2 more changes of speed" in text


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("steady", "no change beyond its noise: 100 samples/s at the start, 50 at the end"),
        ("drift", "Throughput fell gradually: 100 samples/s at the start, 50 at the end (-50 %)"),
        ("decay", "Throughput kept falling: 100 samples/s at the start"),
        ("periodic", "Throughput goes up and down at regular distances: 100 samples/s"),
    ],
)
def test_a_trend_without_change_points_is_told_by_its_shape(shape: str, said: str) -> None:
    assert said in changed(shape=shape)


def test_ends_that_differ_in_a_short_run_are_not_called_steady() -> None:
    trend = Trend(first=100.0, last=130.0, change=0.3, shape="steady")
    report = make_log_report(
        step_s=np.linspace(0.1, 0.13, 12), throughput=Throughput(samples_per_s=100.0, trend=trend)
    )
    said = one_line(printed(report))
    assert "too few values to tell whether it changed: 100 samples/s at the start, 130" in said
    same = Throughput(samples_per_s=100.0, trend=replace(trend, last=101.0, change=0.01))
    assert "steady: 100 samples/s" in one_line(printed(replace(report, throughput=same)))


def test_speeding_up_is_not_called_falling() -> None:
    assert "Throughput rose gradually" in changed(shape="drift", last=150.0, change=0.5)


@pytest.mark.parametrize(
    ("stalls", "said"),
    [
        (
            Stalls(count=24, excess_s=3.1, share=0.08, period_steps=500.0),
            "every 500 steps, 3.10 s: 24 slow steps, 8.0 % of the time of all steps",
        ),
        (
            Stalls(count=3, excess_s=12.0, share=0.01, at_epoch_start=True, period_steps=750.0),
            "at the start of an epoch, 12.0 s: 3 slow steps",
        ),
        (
            Stalls(count=1, excess_s=0.5, share=0.001),
            "now and then, 500 ms more than a usual step: 1 slow step, 0.1 %",
        ),
    ],
)
def test_stalls_are_told_with_their_period(stalls: Stalls, said: str) -> None:
    assert said in one_line(printed(make_log_report(stalls=stalls)))


def test_what_came_after_the_best_epoch_is_told() -> None:
    text = one_line(printed(cases.imagenet_slow_down()))
    assert "best acc1 71.32 in epoch 6" in text
    assert (
        "53 % of the time of all epochs (1 h 6 min) came after it; early stopping with a "
        "patience of 3 epochs would have saved 25 min 10 s" in text
    )
    assert "1,500 steps left: 11 min 52 s (95 % interval 11 min 30 s–12 min 21 s)" in text


def test_where_the_last_epoch_was_the_best_nothing_came_after_it() -> None:
    report = cases.imagenet_slow_down()
    assert report.epochs is not None
    assert report.epochs.economics is not None
    economics = replace(report.epochs.economics, after_best_s=0.0, after_best_share=0.0)
    text = one_line(printed(replace(report, epochs=replace(report.epochs, economics=economics))))
    assert "no later epoch was better" in text
    assert "came after it" not in text


def test_files_are_called_by_their_names_where_these_tell_them_apart() -> None:
    paths = ("/data/runs/a/train.log", "/data/runs/b/train.log", "/data/runs/b/eval.log")
    logs = tuple(make_log_file(path) for path in paths)
    report = make_log_report(logs=logs)
    assert place(report, "/data/runs/b/eval.log:12") == "eval.log:12"
    assert place(report, "/data/runs/b/train.log:12") == "/data/runs/b/train.log:12"
    assert place(report, "/elsewhere.log:12") == "/elsewhere.log:12"


def test_epochs_that_are_not_timed_are_counted_all_the_same() -> None:
    text = one_line(printed(make_log_report(epochs=Epochs(count=7, steps_per_epoch=40))))
    assert "7 seen · 40 steps each · the log does not tell how long they take" in text


def test_ranks_restarts_and_dates_are_in_the_report() -> None:
    text = one_line(printed(cases.hundred_thousand_records()))
    assert "written by 8 ranks" in text
    assert "restarts 2 times: steps repeat in the log" in text
    assert "2026-03-01 21:14:05 to 2026-03-02 00:58:31 (3 h 44 min)" in text
    assert "for 3.50 s; the log has no dates" in printed(cases.three_records())


@pytest.mark.parametrize("started_at", ["yesterday", "9999-12-31T23:59:00"])
def test_a_date_that_cannot_be_understood_is_shown_as_it_is(started_at: str) -> None:
    wall = make_wall({"train": 3600.0}, started_at=started_at)
    assert f"from {started_at}, for 1 h 0 min" in printed(make_log_report(wall=wall))


def test_unread_lines_are_counted_and_three_of_them_shown() -> None:
    text = printed(cases.imagenet_slow_down())
    assert "7 lines not read, though they look like records:" in text
    assert text.count("\n  train.log:") == 3
    assert "and 4 more" in text
    assert "not read" not in printed(make_log_report())


def test_four_files_are_named_and_the_rest_counted() -> None:
    logs = tuple(
        LogFile(path=f"rank{n}.log", format="x", reason="", lines=9, records=5) for n in range(16)
    )
    text = one_line(printed(make_log_report(logs=logs)))
    assert "rank3.log: x · 5 records in 9 lines and 12 more files with 60 records" in text
    assert "rank4.log" not in text


def test_of_hundreds_of_settings_the_known_and_a_few_are_shown() -> None:
    settings = {f"option_{n}": n for n in range(300)} | {"num_workers": 4}
    text = one_line(printed(make_log_report(configuration=settings)))
    assert "settings 4 workers, option_0 0," in text
    assert "option_5 5, and 294 more" in text


def test_what_a_log_lacks_is_said_in_words_with_the_command_that_measures_it() -> None:
    paths = ("configuration.num_workers", "environment.device", "memory.peak_share", "wall.total_s")
    lacking = [
        Abstained(rule=f"PD{n}", missing=path, measure_with="perfdoctor run train.py")
        for n, path in enumerate(paths * 2)
    ]
    lacking.append(Abstained(rule="PD9", missing="loader.batch", measure_with="perfdoctor bench"))
    text = one_line(printed(make_log_report(abstained=tuple(lacking))))
    assert (
        "8 rules could not decide, since the log does not tell: how many workers load the data; "
        "the device; how much memory the training takes; and 1 more fact "
        "(perfdoctor run train.py measures it)"
    ) in text
    assert (
        "1 rule could not decide, since the log does not tell: how the loader works "
        "(perfdoctor bench measures it)"
    ) in text


def test_what_was_measured_and_does_not_do_is_said_with_its_reason() -> None:
    few = "only 1 sample, at least 10 are needed"
    abstained = tuple(
        Abstained(rule=rule, missing="utilisation.gpu", reason=few) for rule in ("PD206", "PD207")
    )
    text = one_line(printed(make_log_report(abstained=abstained)))
    assert f"PD206, PD207 did not decide: {few}" in text


@pytest.mark.parametrize("path", ["needs.of.another", "configuration.mine", "series.x"])
def test_every_fact_has_words_or_is_shown_as_it_is(path: str) -> None:
    known = {"configuration.mine": "the setting mine", "series.x": "the course of the run"}
    assert fact_words(path) == known.get(path, path)


def test_an_upper_bound_is_no_prediction_of_as_much() -> None:
    bound = Prediction(speedup=2.0, low=1.0, high=4.0, model="amdahl-upper-bound")
    text = one_line(
        printed(
            make_log_report(
                diagnosis=make_diagnosis(), recommendations=(make_recommendation(predicted=bound),)
            )
        )
    )
    assert "predicted up to 4.00×, possibly nothing" in text
    assert "Up to: only an upper bound is known." in text
    assert "2.00×" not in text


def test_evidence_is_shown_with_the_name_of_its_file_and_not_with_the_folder() -> None:
    where = "/data/somebody/runs/17/train.log:412"
    report = make_log_report(
        logs=(make_log_file("/data/somebody/runs/17/train.log"),),
        diagnosis=make_diagnosis(),
        recommendations=(
            make_recommendation(
                evidence=(Evidence(metric="after", value=2.0, unit="samples/s", where=where),)
            ),
        ),
    )
    assert "in train.log:412" in one_line(printed(report))


def test_validation_of_some_epochs_is_no_share_of_each() -> None:
    time, validation = make_stat(10.0, count=90), make_stat(0.8, count=23)
    text = one_line(
        printed(make_log_report(epochs=Epochs(count=90, time=time, validation=validation)))
    )
    assert "validation takes 800 ms each (p50), 23 times" in text
    assert "of an epoch" not in text


def test_a_forecast_of_training_alone_says_so() -> None:
    found = Forecast(steps_left=100, left_s=50.0, low_s=45.0, high_s=55.0, training_only=True)
    assert "of training alone, without validation" in one_line(
        printed(make_log_report(forecast=found))
    )
    assert "alone" not in one_line(
        printed(make_log_report(forecast=replace(found, training_only=False)))
    )


def test_a_temperature_is_in_degrees() -> None:
    heat = {"gpu_temperature_c": Usage(mean=84.0, p50=84.0, p95=84.0)}
    assert "GPU temperature 84 °C" in one_line(printed(make_log_report(utilisation=heat)))


def test_a_verdict_on_the_whole_run_says_so_even_of_a_stage() -> None:
    diagnosis = make_diagnosis(bottleneck="data_loading", share=0.3, of="run")
    assert "waiting for data 30 % of the run" in printed(make_log_report(diagnosis=diagnosis))


def test_a_verdict_about_no_stage_of_a_step_is_about_the_run() -> None:
    diagnosis = make_diagnosis(verdict="evaluation-bound", bottleneck="validation", share=0.3)
    text = printed(make_log_report(diagnosis=diagnosis))
    assert "validation 30 % of the run" in text


def test_runs_are_listed_best_first_and_empty_columns_left_out() -> None:
    lines = printed(cases.three_runs(), 140).splitlines()
    header = next(n for n, line in enumerate(lines) if "samples/s" in line and "run" in line)
    names = [line.split()[:2] for line in lines[header + 2 : header + 5]]
    assert names == [
        ["★", "runs/workers4/train.log"],
        ["runs/base/train.log", "1,800"],
        ["runs/old/train.log", "1,204"],
    ]
    assert "memory" not in lines[header]
    assert "best acc1" in lines[header]


def test_the_rate_that_runs_are_compared_by_stands_beside_their_ratio() -> None:
    first = ComparedConfiguration(
        label="b", configuration={}, steps_per_s=2.8, tokens_per_s=40_000, relative=1.0
    )
    second = replace(first, label="a", steps_per_s=10.1, tokens_per_s=10_000, relative=0.25)
    comparison = Comparison(varied=("run",), rows=(first, second), best=(0,), measure="tokens/s")
    text = printed(replace(cases.three_runs(), comparison=comparison), 140)
    assert "tokens/s  relative" in text
    assert "steps/s" not in next(line for line in text.splitlines() if "tokens/s  relative" in line)
    assert "relative: tokens/s ÷ that of b" in text


def test_runs_without_rates_are_sorted_by_the_time_of_an_epoch() -> None:
    report = cases.epochs_of_runs()
    assert report.comparison is not None
    rows = tuple(reversed(report.comparison.rows))
    text = printed(replace(report, comparison=replace(report.comparison, rows=rows, best=())))
    assert text.index("run 0") < text.index("run 1") < text.index("run 2")


def test_thirty_of_many_runs_are_listed() -> None:
    text = printed(cases.many_runs(), 180)
    assert "10 more runs are in the report" in text
    assert "train_37.log" in text
    assert "train_3.log" not in text
