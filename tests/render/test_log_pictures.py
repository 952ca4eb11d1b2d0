from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import log_cases as cases
import numpy as np
import pytest
from builders import (
    make_epoch_series,
    make_log_report,
    make_recommendation,
    make_report,
    make_wall,
)
from drawn_texts import extents, laid_out, outside, overlapping
from matplotlib.figure import Figure
from PIL import Image

from perfdoctor.record import Floats
from perfdoctor.render import figure as looks
from perfdoctor.render import log_pictures, png
from perfdoctor.render.runs_panel import measures
from perfdoctor.report import ComparedConfiguration, Comparison, Prediction, Report
from perfdoctor.stages import STAGES

BUILDERS = (log_pictures.throughput, log_pictures.stages, log_pictures.comparison)


def drawn(build: Callable[[Report], Figure | None], report: Report) -> Figure:
    """The figure, laid out but not painted."""
    with looks.style():
        figure = build(report)
        assert figure is not None
        return laid_out(figure)


def shown(build: Callable[[Report], Figure | None], report: Report) -> set[str]:
    return {text for text, _ in extents(drawn(build, report))}


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("case", cases.ALL)
def test_no_two_texts_overlap_and_none_leaves_the_picture(
    case: Callable[[], Report], build: Callable[[Report], Figure | None]
) -> None:
    with looks.style():
        figure = build(case())
        if figure is None:
            return
        laid_out(figure)
    boxes = extents(figure)
    assert len(boxes) > 3
    assert overlapping(boxes) == []
    assert outside(figure, boxes) == []


@pytest.mark.parametrize("draw", [png.throughput, png.stages, png.comparison])
@pytest.mark.parametrize("case", [cases.imagenet_slow_down, cases.foreign, cases.three_runs])
def test_pictures_are_drawn_without_a_warning(
    case: Callable[[], Report], draw: Callable[[Report], bytes | None]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = draw(case())
    if data is None:
        assert draw is png.comparison
        assert case is not cases.three_runs
        return
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width == 1320
        assert len(image.convert("RGB").resize((60, 40)).getcolors(2400)) > 10


def test_where_there_is_nothing_to_draw_there_is_no_picture() -> None:
    untimed = cases.no_timing()
    assert png.throughput(untimed) is None
    assert png.stages(untimed) is None
    assert png.comparison(untimed) is None
    assert png.throughput(cases.only_dates()) is None
    assert png.stages(cases.epochs_only()) is None
    empty = make_log_report(series={"step_s": (None, None), "samples": (1.0, 1.0)})
    assert png.throughput(empty) is None


def test_a_change_is_marked_with_its_rates_its_step_and_its_line() -> None:
    texts = shown(log_pictures.throughput, cases.imagenet_slow_down())
    assert "2,052 → 900 samples/s at step 4,110 (train.log:423)" in texts
    figure = drawn(log_pictures.throughput, cases.imagenet_slow_down())
    marks = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert marks == [4110.0, 4610.0]


def test_the_largest_changes_are_marked_where_there_are_many() -> None:
    figure = drawn(log_pictures.throughput, cases.steps_repeat())
    assert sum(line.get_linestyle() == "--" for line in figure.axes[0].lines) == 4


def test_stalled_records_are_the_ones_that_are_marked() -> None:
    figure = drawn(log_pictures.throughput, cases.imagenet_slow_down())
    slow = next(line for line in figure.axes[0].lines if "slow" in str(line.get_label()))
    assert slow.get_label() == "slow: every 500 steps, 3.10 s"
    assert slow.get_xdata().tolist() == [500.0 * n for n in range(1, 19)]


def test_warm_up_and_restarts_are_drawn_where_they_were() -> None:
    ax = drawn(log_pictures.throughput, cases.hundred_thousand_records()).axes[0]
    (warm_up,) = ax.patches
    assert (warm_up.get_x(), warm_up.get_width()) == (0.0, 4001.0)
    marks = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert marks == [30_001.0, 70_001.0]
    assert [t.get_text() for t in ax.get_legend().get_texts()].count("restart") == 1


def test_where_steps_repeat_records_are_in_the_order_of_events() -> None:
    ax = drawn(log_pictures.throughput, cases.steps_repeat()).axes[0]
    assert ax.get_xlabel() == "record; the training steps repeat"
    assert ax.lines[0].get_xdata().tolist() == [float(n) for n in range(1, 401)]
    marks = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert marks == [250.0]


def test_without_steps_the_axis_is_the_time() -> None:
    ax = drawn(log_pictures.throughput, cases.tokens_by_time()).axes[0]
    assert ax.get_xlabel() == "hours since the first record"
    assert ax.get_ylabel() == "tokens/s"
    marks = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert marks == [2.0]


def test_without_steps_and_times_records_are_counted() -> None:
    report = make_log_report(series={"samples_per_s": (100.0, 110.0, None, 90.0)})
    ax = drawn(log_pictures.throughput, report).axes[0]
    assert ax.get_xlabel() == "record"
    assert ax.lines[0].get_xdata().tolist() == [1.0, 2.0, 4.0]


def test_steps_that_only_some_records_have_are_no_axis() -> None:
    series = {"samples_per_s": (100.0, 110.0, 90.0), "step": (10.0, None, 30.0)}
    ax = drawn(log_pictures.throughput, make_log_report(series=series)).axes[0]
    assert ax.get_xlabel() == "record"


def test_printed_rates_come_before_calculated_ones() -> None:
    series = {"step_s": (0.1, 0.1), "samples": (32.0, 32.0), "samples_per_s": (300.0, 300.0)}
    assert "Throughput: 300 samples/s (median record)" in shown(
        log_pictures.throughput, make_log_report(series=series)
    )
    del series["samples_per_s"]
    assert "Throughput: 320 samples/s (median record)" in shown(
        log_pictures.throughput, make_log_report(series=series)
    )
    del series["samples"]
    assert "Throughput: 10 steps/s (median record)" in shown(
        log_pictures.throughput, make_log_report(series=series)
    )


def test_a_few_wild_rates_do_not_squeeze_the_others() -> None:
    rates = [100.0] * 300
    rates[7] = 90_000.0
    ax = drawn(
        log_pictures.throughput, make_log_report(series={"samples_per_s": tuple(rates)})
    ).axes[0]
    assert ax.get_ylim()[1] < 300
    assert "1 record above what is drawn" in ax.get_xlabel()


def test_epochs_are_a_second_panel_from_three_on() -> None:
    series = make_log_report().series
    two, three = (make_epoch_series(np.full(n, 60.0)) for n in (2, 3))
    assert len(drawn(log_pictures.throughput, make_log_report(series=series | two)).axes) == 1
    assert len(drawn(log_pictures.throughput, make_log_report(series=series | three)).axes) == 2
    assert len(drawn(log_pictures.throughput, make_log_report(series=two)).axes) == 1


def test_slow_and_best_epochs_have_their_colours_and_names() -> None:
    ax = drawn(log_pictures.throughput, cases.epochs_only()).axes[0]
    bars = {bars.get_label(): len(bars.get_paths()) for bars in ax.collections}
    assert bars == {"epoch": 28, "slow epoch": 1, "best: val_loss 0.2135 in epoch 12": 1}


def test_validation_is_on_top_inside_the_epoch_unless_it_comes_after_it() -> None:
    epoch_s, validation_s = np.full(4, 50.0), np.full(4, 10.0)
    inside = make_epoch_series(epoch_s, validation_s)
    after = inside | {"epoch_train_s": (50.0,) * 4}
    for series, ends in ((inside, (40.0, 50.0)), (after, (50.0, 60.0))):
        ax = drawn(log_pictures.throughput, make_log_report(series=series)).axes[0]
        bars = next(c for c in ax.collections if c.get_label() == "validation")
        heights = bars.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == ends


def test_every_part_of_the_wall_clock_has_its_name_share_and_time() -> None:
    texts = shown(log_pictures.stages, cases.imagenet_slow_down())
    assert "Where the wall clock went: 2 h 14 min" in texts
    assert "waiting for data  57 % · 1 h 16 min" in texts
    assert "unexplained  0.9 % · 1 min 12 s" in texts
    assert "rest of the step" in texts


def test_small_parts_are_one_where_there_are_many() -> None:
    wall = make_wall({f"part{n}": 1.0 + n for n in range(14)})
    texts = shown(log_pictures.stages, make_log_report(wall=wall))
    assert "5 more parts  14 % · 15.0 s" in texts


@pytest.mark.parametrize(
    "names",
    [
        ["start_up", "data_loading", *STAGES[2:6], "validation", "checkpoint", "other"],
        [f"my_{n}" for n in range(10)],
        [f"my_{n}" for n in range(14)],
        ["train", "arch_step", "unexplained", *(f"my_{n}" for n in range(7))],
    ],
)
def test_no_two_parts_of_the_wall_clock_have_the_same_colour(names: list[str]) -> None:
    report = make_log_report(wall=make_wall(dict.fromkeys(names, 1.0)))
    shapes = list(drawn(log_pictures.stages, report).axes[0].patches)
    bar, keys = shapes[::2], shapes[1::2]
    shown = min(10, len(names))
    assert len({patch.get_facecolor() for patch in bar}) == len(bar) == shown
    assert [patch.get_facecolor() for patch in bar] == [key.get_facecolor() for key in keys]


#: Linear RGB as the eyes of others see it: Machado, Oliveira & Fernandes, A Physiologically-based
#: Model for Simulation of Color Vision Deficiency (2009), severity 1.
EYES = {
    "usual": [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
    "protanopia": [
        (0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ],
    "deuteranopia": [
        (0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ],
    "tritanopia": [
        (1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ],
}  # fmt: skip


def lab(rgb: Floats) -> Floats:
    """CIELAB of linear RGB (IEC 61966-2-1, CIE 15)."""
    to_xyz = np.array(
        [(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)]
    )
    xyz = to_xyz @ np.clip(rgb, 0, 1) / to_xyz.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_colour_blind_readers_can_tell_the_parts_of_the_wall_clock_apart(eyes: str) -> None:
    report = make_log_report(wall=make_wall({f"my_{n}": 1.0 for n in range(10)}))
    patches = drawn(log_pictures.stages, report).axes[0].patches[::2]
    coded = np.array([patch.get_facecolor()[:3] for patch in patches])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    seen = [lab(np.array(EYES[eyes]) @ rgb) for rgb in linear]
    # 2.3 is just noticeable; shades side by side in a key need several times that
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15


def test_gains_are_drawn_only_where_some_are_predicted() -> None:
    report = cases.imagenet_slow_down()
    assert "What the advice brings" in shown(log_pictures.stages, report)
    unpredicted = tuple(replace(r, predicted=None) for r in report.recommendations)
    texts = shown(log_pictures.stages, replace(report, recommendations=unpredicted))
    assert "What the advice brings" not in texts


def test_runs_are_drawn_best_first_with_their_intervals() -> None:
    figure = drawn(log_pictures.comparison, cases.three_runs())
    rates, epochs = figure.axes
    labels = [label.get_text() for label in rates.get_yticklabels()]
    assert labels == ["★ runs/workers4/train.log", "runs/base/train.log", "runs/old/train.log"]
    assert [bar.get_width() for bar in rates.patches] == [2412.0, 1800.0, 1204.0]
    assert len(rates.collections) == 3  # one interval each
    assert epochs.get_xlabel() == "minutes, less is better"


def test_runs_that_tell_only_epochs_are_compared_by_them() -> None:
    figure = drawn(log_pictures.comparison, cases.epochs_of_runs())
    assert len(figure.axes) == 1
    assert "Median epoch (★ best)" in shown(log_pictures.comparison, cases.epochs_of_runs())


def test_a_bench_report_without_steps_can_be_drawn() -> None:
    assert png.graph_benchmark(make_report(steps=None, throughput=None)).startswith(b"\x89PNG")


def compared(*rows: ComparedConfiguration) -> Comparison:
    return Comparison(varied=("run",), rows=rows, best=(0,))


def run_row(label: str, **fields: Any) -> ComparedConfiguration:
    return ComparedConfiguration(label=label, configuration={"run": label}, **fields)


def test_runs_are_drawn_by_what_most_of_them_tell() -> None:
    rows = (
        run_row("a", steps_per_s=9.0, samples_per_s=90.0, step_p50_s=0.1),
        run_row("b", steps_per_s=3.0, step_p50_s=0.3, epoch_p50_s=70.0),
    )
    assert [m.unit or m.title for m in measures(compared(*rows))] == [
        "steps per second",
        "Median step",
    ]


@pytest.mark.parametrize("name", ["W" * 30 + ".log", "m" * 90 + ".log", "runs/日志" * 12])
def test_no_label_of_a_run_is_cut_at_the_edge(name: str) -> None:
    report = make_log_report(comparison=compared(run_row(name, samples_per_s=3.0, relative=1.0)))
    figure = drawn(log_pictures.comparison, report)
    assert outside(figure, extents(figure)) == []


def test_a_run_of_few_records_is_marked() -> None:
    few = run_row("b", samples_per_s=3.0, note="only 3 timed records: too few to compare")
    report = make_log_report(
        comparison=compared(run_row("a", samples_per_s=9.0, relative=1.0), few)
    )
    assert "3 · too few records" in shown(log_pictures.comparison, report)


def test_an_upper_bound_is_drawn_as_a_range_and_not_as_a_point() -> None:
    bound = Prediction(speedup=2.0, low=1.0, high=4.0, model="amdahl-upper-bound")
    report = make_log_report(recommendations=(make_recommendation(predicted=bound),))
    texts = shown(log_pictures.stages, report)
    assert "up to 4.00×\npredicted" in texts
    assert any("hatched: somewhere in there" in text for text in texts)
    assert not any("2.00" in text for text in texts)
