"""Shapes of lines that logs of many projects share, each with the trap it held."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_fields import fields

from perfdoctor.record import Floats, Run

RunOf = Callable[..., Run]


def middle(values: Floats) -> float:
    return float(np.median(values[np.isfinite(values)]))


def data_of(run: Run) -> float:
    return middle(next(s.exposed_s for s in run.stages if s.name == "data_loading"))


# one line


def test_thousands_are_separated_by_commas_before_another_comma_too() -> None:
    line = "[epoch:  3, iter:   1,400, lr:(1.000e-03,)] time: 0.776"
    assert fields(line)["step"] == 1400


def test_numbers_of_a_list_are_no_thousands() -> None:
    assert fields("sizes 100,200,300,4000 step_time: 0.5")["step_s"] == 0.5


def test_a_name_in_parentheses_is_of_the_value_in_parentheses() -> None:
    found = fields("[iter: 500] [eta: 8 days, 22:51:35, time (data): 0.776 (0.020)] loss: 0.3")
    assert found["data_loading_s"] == 0.020
    assert found["unclear_s"] == 0.776


def test_a_time_that_says_so_is_taken_before_a_letter() -> None:
    found = fields("[  0]  10 || B: 6.981 | S: 1.818 | T: 20.124 || timer: 0.290")
    assert found["unclear_s"] == 0.290


def test_t_in_parentheses_is_no_unit() -> None:
    found = fields("Epoch: 0 [ 6464/109468] Data (t): 0.158 Batch (t): 0.559, 36.0876/s")
    assert found["step_s"] == 0.559
    assert found["data_loading_s"] == 0.158
    assert found["samples_per_s"] == 36.0876


def test_of_several_rates_the_one_of_everything_counts() -> None:
    line = "fps step: 700.5 fps step and policy inference: 500.5  fps total: 260.25 epoch: 3/10"
    assert fields(line)["samples_per_s"] == 260.25


def test_a_clock_without_zeros_is_a_time_behind_a_date() -> None:
    found = fields("12/13 9:57:5 Epoch 110/10000, accuracy = 0.000")
    assert found["time"] - fields("12/13 9:57:4 Epoch 110/10000")["time"] == 1


def test_windows_of_a_rate_are_no_rates() -> None:
    line = "Fps is (10 sec: 2211.5, 60 sec: 2166.8, 300 sec: 1322.3). Samples: 1046959"
    assert fields(line)["samples_per_s"] == 2211.5


def test_numbers_in_the_names_of_files_are_no_times() -> None:
    assert "unclear_s" not in fields(r"Writing C:\videos\MsPacman__1__17\rl-video-episode-1.mp4")


def test_a_day_without_a_year_and_its_time_are_a_moment() -> None:
    found = fields("12 Nov 21:13    INFO  epoch 1 training [time: 16.26s, loss: 0.5]")
    assert "time" in found
    assert found["train_s"] == 16.26


def test_a_bar_without_a_total_counts_its_steps() -> None:
    found = fields("Epoch 0: :   0%|          | 614/? [23:53<00:00, v_num=, loss=0.3]")
    assert found["step"] == 614
    assert found["bar_elapsed_s"] == 1433


# several lines


def test_what_grows_by_the_count_of_each_interval_counts_the_steps(run_of: RunOf) -> None:
    text = "".join(
        f"[ time:{21.0 * i}s total_exs:{570 * i} ] {{'loss': 5.1, 'updates': 19, "
        f"'total_updates': {19 * i}}}\n"
        for i in range(1, 8)
    )
    run = run_of(text)
    assert middle(run.step_s) == pytest.approx(21 / 19)


def test_two_lines_and_their_clock_tell_what_a_time_is_of(run_of: RunOf) -> None:
    run = run_of(
        '[11/18 19:39:49][INFO] json_stats: {"dt": 4.99, "epoch": "10/50", "iter": "90/159"}\n'
        '[11/18 19:40:36][INFO] json_stats: {"dt": 4.82, "epoch": "10/50", "iter": "100/159"}\n'
    )
    assert run.step_s.tolist() == [4.99, 4.82]


def test_the_old_bars_of_keras_count_samples_and_tell_epochs(run_of: RunOf) -> None:
    run = run_of(
        "".join(
            f"Epoch {e}/9\n50000/50000 [==========] - {700 + e}s - loss: 1.3 - val_loss: 1.1\n"
            for e in range(1, 6)
        )
    )
    assert not run.step_s.size
    assert run.epochs is not None
    assert run.epochs.time_s.tolist() == [701, 702, 703, 704, 705]


def test_an_old_bar_of_keras_that_goes_on_by_ones_counts_steps(run_of: RunOf) -> None:
    run = run_of(
        "Epoch 1/9\n"
        + "".join(f" {i}/40 [=>....] - ETA: {40 - i}s - loss: 1.3\n" for i in range(1, 40))
        + "40/40 [=====] - 80s - loss: 1.3\n"
    )
    assert middle(run.step_s) == pytest.approx(2.0)


def test_what_remains_of_an_epoch_is_no_epoch_s_time(run_of: RunOf) -> None:
    run = run_of(
        "".join(
            f"Epoch:[0/19]({100 * i}/24681) loss:4.1 epoch_Time:{98 - i}.0min:\n" for i in range(9)
        )
    )
    assert run.epochs is None or not np.isfinite(run.epochs.time_s).any()


def test_the_time_of_an_epoch_beside_that_of_its_steps_hides_no_steps(run_of: RunOf) -> None:
    run = run_of(
        "".join(
            f"19:46:{10 * e:02d}INFO Train epoch time: 23.5 s, per step time: 372.7 ms\n"
            for e in range(5)
        )
    )
    assert middle(run.step_s) == pytest.approx(0.3727)


def test_an_epoch_that_the_log_begins_in_has_no_known_length(run_of: RunOf) -> None:
    def line(minute: int, epoch: int, step: int) -> str:
        return f"2024-01-01 08:{minute:02d}:00 INFO epoch: {epoch}, iter: {step}, loss: 0.3\n"

    rows = [line(2 * i, 86 + i // 3, 107_000 + 200 * i) for i in range(2, 8)]
    run = run_of("".join(rows))
    assert run.epochs is not None
    assert np.isfinite(run.epochs.time_s).tolist() == [False, True, False]


def test_a_table_with_lists_in_its_cells_is_read_by_its_columns(run_of: RunOf) -> None:
    names = f"| Epoch | {'training time':^18} | {'tesing time':^17} | {'Loss':^57} |\n"
    rule = "".join("+" if c == "|" else "-" for c in names.strip()) + "\n"
    text = "".join(
        f"neg_sampling_cpp time: 2.95s\n{rule}{names}{rule}"
        f"|   {e}   | {1000 + e}.8289427757263 | 78.96694374083473 "
        f"| [332.3973051458597, 132.3633598163724, 1.551181080925744] |\n{rule}"
        for e in range(6, 11)
    )
    run = run_of(text)
    assert run.epochs is not None
    assert run.epochs.time_s.round().tolist() == [1007, 1008, 1009, 1010, 1011]


def test_a_column_may_say_which_rows_are_of_the_training(run_of: RunOf) -> None:
    text = "accuracy | loss | epoch | train | time\n-- | -- | -- | -- | --\n" + "".join(
        f"0.81 | 0.72 | {e} | True | 00:2{e}\n0.85 | 0.54 | {e} | False | 00:01\n"
        for e in range(1, 5)
    )
    run = run_of(text)
    assert run.epochs is not None
    assert run.epochs.time_s.tolist() == [21, 22, 23, 24]


def test_means_since_the_epoch_began_are_taken_apart(run_of: RunOf) -> None:
    text = "".join(
        f"[train: 92, {n} / 1000] FPS: 1.1  ,  TotalTime: {(0.75 * n + 40) / n:.3f}  ,  loss: 3.1\n"
        for n in range(100, 900, 100)
    )
    assert middle(run_of(text).step_s) == pytest.approx(0.75, rel=0.02)


def test_means_that_the_clock_contradicts_give_way_to_it(run_of: RunOf) -> None:
    text = "".join(
        f"2020-01-23 08:{(0.8 * n) // 60:02.0f}:{0.8 * n % 60:06.3f} Epoch: [460/484] "
        f"Iter:[{n}/247], Time: {(0.8 * n + 20) / n:.2f}, loss: 0.1\n"
        for n in range(100, 240, 10)
    )
    assert middle(run_of(text).step_s) == pytest.approx(0.8, rel=0.02)


def test_step_times_that_really_fall_are_left_as_they_are(run_of: RunOf) -> None:
    text = "".join(f"step {n} step_time {0.9 - n / 4000:.4f}\n" for n in range(100, 900, 100))
    assert middle(run_of(text).step_s) == pytest.approx(0.7875, rel=0.01)


def test_a_rate_of_one_digit_gives_way_to_the_clock(run_of: RunOf) -> None:
    text = "".join(
        f"2024-01-01 08:{6 * i % 60:02d}:00.000 INFO train | step: {20 * i} | steps/sec: 0.1 |\n"
        for i in range(8)
    )
    assert middle(run_of(text).step_s) == pytest.approx(18.0)


def test_a_time_of_100_iterations_beside_that_of_a_validation(run_of: RunOf) -> None:
    text = "".join(
        f" Loss: 13.0  Iterations:  {n}/1533  TrainExecTime: 75.0  ValEvalTime: 7.9\n"
        for n in range(99, 999, 100)
    )
    assert middle(run_of(text).step_s) == pytest.approx(0.75)


def test_a_loop_of_another_length_after_the_end_of_an_epoch_is_validation(run_of: RunOf) -> None:
    text = "".join(
        f"[10:{10 + 3 * e}:00.5] Epoch: [{e}]  [{i}/9]  iter-time: 17.5\n"
        for e in range(3)
        for i in (0, 4, 8)
    )
    text = text.replace("[8/9]  iter-time: 17.5\n", "[8/9]  iter-time: 17.5\n@")
    for e in range(3):
        lines = (
            f"Epoch: [{e}] Total time: 0:02:37\nEpoch: [{e}]  [0/1]  iter-time: 3.4\n"
            f"Epoch: [{e}] Total time: 0:00:03\n"
        )
        text = text.replace("@", lines, 1)
    run = run_of(text)
    assert run.restarts == ()
    assert middle(run.step_s) == pytest.approx(17.5)
    assert run.epochs is not None
    assert run.epochs.time_s.tolist() == [157, 157, 157]


def test_a_sum_that_goes_on_as_the_clock_does_is_no_restart(run_of: RunOf) -> None:
    def block(minute: int, seconds: float, steps: range) -> str:
        head = f"2024-12-13 09:{minute:02d}:00 Epoch 110/10000, loss = 21.9, elapsed = {seconds}\n"
        return head + "".join(f"batch {i} : time 0.15{i % 7}\n" for i in steps)

    text = block(10, 319.5, range(1599, 2000, 100)) + block(12, 439.5, range(99, 700, 100))
    run = run_of(text + block(14, 559.5, range(799, 999, 100)))
    assert run.restarts == ()


# where the time went


def stamped(minute: float, text: str) -> str:
    hours, rest = divmod(minute, 60)
    return f"2024-01-01 {8 + int(hours):02d}:{int(rest):02d}:00 INFO {text}\n"


def training(pause_min: float = 0.0) -> str:
    text, at = "", 0.0
    for epoch in range(1, 5):
        for step in range(10, 110, 10):
            at += 1
            text += stamped(at, f"epoch {epoch} step {step}/100 loss 0.5")
        at += 5 + (pause_min if epoch == 3 else 0)
        text += stamped(at, f"validation of epoch {epoch}: accuracy 0.9")
    return text


def spans(run: Run) -> dict[str, tuple[float, int]]:
    return {span.name: (span.seconds, span.count) for span in run.spans}


def test_validations_are_counted(run_of: RunOf) -> None:
    assert spans(run_of(training()))["validation"] == (pytest.approx(1200), 4)


def test_a_pause_of_hours_before_a_line_of_validation_is_no_validation(run_of: RunOf) -> None:
    found = spans(run_of(training(pause_min=480)))
    assert found["validation"][0] < 1000
    assert found["unexplained"][0] >= 480 * 60


def test_a_run_does_not_take_longer_than_a_century(run_of: RunOf) -> None:
    run = run_of('{"_runtime": 1e308, "_step": 1000, "loss": 2.1}', name="wandb-summary.json")
    assert run.wall_s is None
