"""What logs do to mislead their reader."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from perfdoctor.record import Run

RunOf = Callable[..., Run]


def lines(count: int, line: Callable[[int], str]) -> str:
    return "".join(line(i) for i in range(count))


def at(i: float, form: str, start: datetime) -> str:
    return (start + timedelta(seconds=i)).strftime(form)


def steps(run: Run) -> list[float]:
    assert run.track is not None
    assert run.track.step is not None
    return list(run.track.step)


def line_numbers(run: Run) -> list[int]:
    assert run.track is not None
    return run.track.line.tolist()


def plain(i: int, step_s: str = "0.250") -> str:
    return f"step {i} loss 2.1 step_time: {step_s} s\n"


# averages


def imagenet(i: int, current: float, mean: float) -> str:
    times = f"Time {current:6.3f} ({mean:6.3f})\tData  0.010 ( 0.100)"
    return f"Epoch: [0][{i:4d}/1000]\t{times}\n"


def test_the_value_before_the_parentheses_is_the_step_s_and_not_the_average(run_of: RunOf) -> None:
    run = run_of(lines(20, lambda i: imagenet(i, 0.2 + i % 3 / 100, 0.9)))
    assert run.step_s == pytest.approx([0.2 + i % 3 / 100 for i in range(20)])
    assert run.stages[0].name == "data_loading"
    assert run.stages[0].exposed_s == pytest.approx(0.01)


def test_averages_tell_what_the_steps_between_two_lines_took(run_of: RunOf) -> None:
    # every 10th step is printed, and these are the fast ones: 0.1 s, while the others take 0.433 s
    def line(i: int) -> str:
        return imagenet(10 * i, 0.1, 0.4 if i else 0.1)

    run = run_of(lines(30, line))
    assert run.step_s == pytest.approx(0.1)
    assert run.mean_step_s is not None
    assert run.mean_step_s[2:] == pytest.approx(0.4, rel=0.01)


def test_an_average_that_creeps_up_tells_of_the_slow_steps_at_the_end(run_of: RunOf) -> None:
    # 100 steps of 0.2 s, then 100 of 0.6 s
    means = [0.2 if n <= 100 else (100 * 0.2 + (n - 100) * 0.6) / n for n in range(10, 210, 10)]
    text = "".join(
        f"Epoch: [0][{n - 1}/1000]\tTime 0.200 ({mean:.5f})\n"
        for n, mean in zip(range(10, 210, 10), means, strict=True)
    )
    run = run_of(text)
    assert run.mean_step_s is not None
    tail = run.mean_step_s[-8:]
    assert np.nanmean(tail) == pytest.approx(0.6, rel=0.1)


# units


@pytest.mark.parametrize(
    "unit", ["250 ms", "250ms", "0.25 s", "0.25s", "0.25sec", "250000us", "0.25 seconds"]
)
def test_milliseconds_and_seconds_are_told_apart(run_of: RunOf, unit: str) -> None:
    assert run_of(lines(10, lambda i: f"step {i} step_time: {unit}\n")).step_s == pytest.approx(
        0.25
    )


def test_a_log_may_change_from_milliseconds_to_seconds(run_of: RunOf) -> None:
    run = run_of(
        lines(
            20, lambda i: f"step {i} took {900 + i} ms\n" if i < 10 else f"step {i} took 1.{i} s\n"
        )
    )
    assert run.step_s == pytest.approx(
        [0.9 + i / 1000 if i < 10 else 1 + i / 100 for i in range(20)]
    )


def test_the_unit_may_stand_in_the_name(run_of: RunOf) -> None:
    assert run_of(lines(10, lambda i: f"step={i} step_time_ms=250\n")).step_s == pytest.approx(0.25)
    assert run_of(
        lines(10, lambda i: f"step {i} | time per step (ms): 250.0\n")
    ).step_s == pytest.approx(0.25)


def test_steps_per_second_that_flip_to_seconds_per_step(run_of: RunOf) -> None:
    def frame(i: int) -> str:
        speed = "2.00it/s" if i < 50 else "2.50s/it"
        elapsed_s = int(i / 2 if i < 50 else 25 + 2.5 * (i - 50))
        return f"\r{i}%|###   | {i}/100 [{elapsed_s // 60:02d}:{elapsed_s % 60:02d}<00:30, {speed}]"

    run = run_of(lines(100, frame))
    assert run.step_s[10:50] == pytest.approx(0.5)
    assert run.step_s[50:] == pytest.approx(2.5)


def test_thousands_are_separated_by_commas(run_of: RunOf) -> None:
    run = run_of(
        lines(12, lambda i: f"step {i * 1000:,} loss 2.1 step_time 1,250 ms, 12,345 tokens/s\n")
    )
    assert run.step_s == pytest.approx(1.25)
    assert run.rates["tokens_per_s"] == pytest.approx(12345)
    assert steps(run) == [1000 * i for i in range(12)]


@pytest.mark.parametrize(
    "rate", ["12.5K tok/s", "12.5k tok/s", "tok/s 12.5K", "12500 tok/s", "0.0125M tok/s"]
)
def test_thousands_are_written_as_k(run_of: RunOf, rate: str) -> None:
    run = run_of(lines(12, lambda i: f"step {i} loss 2.1 dt 250ms {rate}\n"))
    assert run.rates["tokens_per_s"] == pytest.approx(12500)


def test_decimal_commas(run_of: RunOf) -> None:
    run = run_of(lines(20, lambda i: f"step {i}: loss 2,{10 + i} time 0,2{i % 3} s\n"))
    assert run.step_s == pytest.approx([0.2 + i % 3 / 100 for i in range(20)])


def test_decimal_commas_with_three_decimals_are_no_thousands(run_of: RunOf) -> None:
    run = run_of(lines(20, lambda i: f"step {i}: loss 2,{100 + i} time 0,25{i % 3} s\n"))
    assert run.step_s == pytest.approx([0.25 + i % 3 / 1000 for i in range(20)])


def test_values_that_are_not_numbers_are_missing(run_of: RunOf) -> None:
    def line(i: int) -> str:
        return f"step {i} loss nan step_time {'nan' if i == 5 else 'inf' if i == 6 else '0.250'}\n"

    run = run_of(lines(20, line))
    assert np.nanmax(run.step_s) == np.nanmin(run.step_s) == 0.25
    assert np.isfinite(run.step_s).sum() == 18


# devices and ranks


def test_rates_of_one_device_are_said_to_be_so(run_of: RunOf) -> None:
    run = run_of(lines(12, lambda i: f"step {i} loss 2.1 step_time 0.25s 32 samples/s/gpu\n"))
    assert run.rates["samples_per_s"] == pytest.approx(32)
    assert any("one device" in note for note in run.notes)


def test_rates_of_all_devices_are_not_said_to_be_of_one(run_of: RunOf) -> None:
    run = run_of(lines(12, lambda i: f"step {i} loss 2.1 step_time 0.25s 256 samples/s\n"))
    assert not any("one device" in note for note in run.notes)
    assert run.samples == pytest.approx(64)


@pytest.mark.parametrize(
    "sizes",
    ["batch_size_per_gpu: 8 global_batch_size: 64", "global_batch_size: 64 batch_size_per_gpu: 8"]
)  # fmt: skip
def test_the_global_batch_is_the_step_s_where_both_are_printed(run_of: RunOf, sizes: str) -> None:
    run = run_of(lines(12, lambda i: f"step {i} {sizes} step_time: 0.25s 256 samples/s\n"))
    assert run.samples == pytest.approx(64)


def test_ranks_that_print_in_turn_are_counted_and_the_first_one_read(run_of: RunOf) -> None:
    def line(i: int) -> str:
        return f"[rank{i % 4}] step {i // 4} step_time: {0.25 + i % 4 / 10:.2f}s\n"

    run = run_of(lines(80, line))
    assert run.ranks == 4
    assert run.step_s == pytest.approx(0.25)
    assert steps(run) == list(range(20))


def test_ranks_without_a_name_do_not_make_more_steps(run_of: RunOf) -> None:
    run = run_of(lines(80, lambda i: f"step {i // 4} step_time: {0.25 + i % 4 / 100:.3f}s\n"))
    assert steps(run) == list(range(20))
    assert run.restarts == ()


# estimates


def test_the_time_that_remains_is_not_the_time_that_passed(run_of: RunOf) -> None:
    def line(i: int) -> str:
        left = (100 - i) * 15
        return f"step {i}/100 loss 2.3 time 0.250 eta 0:{left // 60:02d}:{left % 60:02d}\n"

    assert run_of(lines(30, line)).step_s == pytest.approx(0.25)


def test_only_an_estimate_tells_no_step_time(run_of: RunOf) -> None:
    run = run_of(lines(30, lambda i: f"step {i}/100 loss 2.3 eta: 0:{59 - i:02d}:00\n"))
    assert not np.isfinite(run.step_s).any()


def test_time_that_passed_and_time_that_remains_in_one_line(run_of: RunOf) -> None:
    def line(i: int) -> str:
        passed, remains = (i + 1) * 2.5, (99 - i) * 2.5
        return f"[{i + 1}/100] loss=2.3 elapsed: {passed:.1f}s remaining: {remains:.1f}s\n"

    run = run_of(lines(30, line))
    assert run.step_s[1:] == pytest.approx(2.5)


# terminals


def test_colours_are_not_part_of_the_text(run_of: RunOf) -> None:
    run = run_of(
        lines(
            20,
            lambda i: (
                f"\x1b[32mstep {i}\x1b[0m \x1b[1;31mstep_time\x1b[0m: 0.25\x1b[36ms\x1b[0m\x1b[K\n"
            ),
        )
    )
    assert run.step_s == pytest.approx([0.25] * 20)


def test_each_frame_of_a_progress_bar_is_a_record_of_its_line(run_of: RunOf) -> None:
    bar = lines(50, lambda i: f"\rEpoch 0: {2 * i}%|#  | {i}/50 [00:{i:02d}<00:10,  1.00it/s]")
    run = run_of(f"starting\n{bar}\ndone\n")
    assert run.logs[0].lines == 3
    assert run.step_s.size == 50
    assert set(line_numbers(run)) == {2}


def test_backspaces_overwrite_like_carriage_returns(run_of: RunOf) -> None:
    run = run_of(lines(20, lambda i: "\b" * 30 + f"step {i}/100 step_time 0.25 s"))
    assert run.step_s == pytest.approx([0.25] * 20)


def test_a_keras_bar_s_last_frame_is_the_epoch(run_of: RunOf) -> None:
    def epoch(e: int) -> str:
        frames = "".join(f"\r {s}/100 [=====>....] - ETA: {99 - s}s - loss: 2.1" for s in (1, 50))
        last = "100/100 [==========] - 12s 120ms/step - loss: 2.1 - val_loss: 1.9"
        return f"Epoch {e + 1}/5\n{frames}\r{last}\n"

    run = run_of(lines(5, epoch))
    assert run.epochs is not None
    assert run.epochs.time_s == pytest.approx([12.0] * 5)
    assert run.step_s == pytest.approx([0.12] * 5)
    assert run.epochs.metrics["val_loss"] == pytest.approx([1.9] * 5)


# restarts


def test_a_resumed_run_repeats_steps(run_of: RunOf) -> None:
    run = run_of(lines(20, plain) + lines(20, lambda i: plain(15 + i, "0.350")))
    assert run.restarts == (19,)
    assert steps(run)[18:22] == [18, 19, 15, 16]
    assert run.steps_per_epoch is None


def test_two_runs_in_one_file_are_not_one_long_epoch(run_of: RunOf) -> None:
    one = lines(30, lambda i: imagenet(10 * i, 0.25, 0.3))
    run = run_of(one + one)
    assert run.restarts == (29,)
    assert run.step_s.size == 60


def test_counters_that_begin_anew_in_each_epoch_go_on_over_the_run(run_of: RunOf) -> None:
    text = "".join(
        f"epoch {e} step {s}/50 step_time 0.25\n" for e in range(3) for s in range(0, 50, 5)
    )
    run = run_of(text)
    assert run.restarts == ()
    assert run.steps_per_epoch == 50
    assert steps(run) == [50 * e + s for e in range(3) for s in range(0, 50, 5)]
    assert np.flatnonzero(run.epoch_start).tolist() == [0, 10, 20]


def test_a_merge_s_conflict_markers_are_no_lines_of_the_log(run_of: RunOf) -> None:
    text = (
        lines(20, plain)
        + "<<<<<<< HEAD\n"
        + plain(20)
        + "=======\n"
        + plain(20, "0.350")
        + ">>>>>>> theirs\n"
    )
    run = run_of(text)
    assert np.isfinite(run.step_s).all()
    assert run.logs[0].unread == 0


# what a plain "time" means


def test_a_time_printed_every_n_steps_may_be_of_all_of_them(run_of: RunOf) -> None:
    run = run_of(lines(20, lambda i: f"step {i * 50} loss 2.1 time 12.{i % 10}s\n"))
    assert run.step_s == pytest.approx([(12 + i % 10 / 10) / 50 for i in range(20)])


def test_a_time_printed_every_n_steps_may_be_of_one_of_them(run_of: RunOf) -> None:
    run = run_of(lines(20, lambda i: f"step {i * 50} loss 2.1 time 0.25{i % 10}s\n"))
    assert run.step_s == pytest.approx([0.25 + i % 10 / 1000 for i in range(20)])


@pytest.mark.parametrize(("between_s", "step_s"), [(100, 2.0), (5000, 100.0)])
def test_time_stamps_decide_what_a_time_is_of(
    run_of: RunOf, between_s: float, step_s: float
) -> None:
    start = datetime(2024, 5, 1, 12)
    form = "%Y-%m-%d %H:%M:%S"
    run = run_of(
        lines(
            30,
            lambda i: f"{at(between_s * i, form, start)} step {i * 50} loss 2.1 time 100.{i % 3}\n",
        )
    )
    assert np.nanmedian(run.step_s) == pytest.approx(step_s, rel=0.01)


def test_the_interval_of_printing_may_change_on_the_way(run_of: RunOf) -> None:
    def line(i: int) -> str:
        step, time = (10 * i, 2.5) if i < 15 else (140 + (i - 14) * 50, 12.5)
        return f"step {step} loss 2.1 time {time}\n"

    assert run_of(lines(30, line)).step_s == pytest.approx([0.25] * 30)


def test_a_time_that_grows_over_the_run_is_a_sum(run_of: RunOf) -> None:
    run = run_of(lines(30, lambda i: f"step {i * 10} loss 2.1 time {i * 2.5:.2f}\n"))
    assert run.step_s[1:] == pytest.approx(0.25)


def test_a_time_that_grows_within_each_epoch_is_a_sum(run_of: RunOf) -> None:
    text = "".join(
        f"epoch {e} step {s}/100 loss 2.1 time {s * 0.25 + 0.1:.2f}\n"
        for e in range(3)
        for s in range(0, 100, 10)
    )
    run = run_of(text)
    assert run.step_s[np.isfinite(run.step_s)] == pytest.approx(0.25)
    assert np.isfinite(run.step_s).sum() == 27


def test_step_times_that_creep_upwards_are_no_sum(run_of: RunOf) -> None:
    values = [0.25 + 0.002 * i + (i * 7) % 5 * 0.0002 for i in range(60)]
    run = run_of(lines(60, lambda i: f"step {i} loss 2.1 time {values[i]:.4f}\n"))
    assert run.step_s == pytest.approx(values, abs=1e-4)


def test_step_times_that_grow_a_little_in_each_epoch_are_no_sum(run_of: RunOf) -> None:
    text = "".join(
        f"epoch {e} step {s}/100 loss 2.1 time {0.25 + s * 0.0002:.4f}\n"
        for e in range(3)
        for s in range(0, 100, 10)
    )
    run = run_of(text)
    assert run.step_s == pytest.approx(
        [0.25 + s * 0.0002 for _ in range(3) for s in range(0, 100, 10)]
    )


def test_an_index_that_is_called_time_is_no_time(run_of: RunOf) -> None:
    run = run_of(lines(30, lambda i: f"step {i * 10} time {i} loss 2.2\n"))
    assert not np.isfinite(run.step_s).any()


def test_a_step_s_time_wins_over_an_index_called_t(run_of: RunOf) -> None:
    run = run_of(lines(30, lambda i: f"t={i} step {i * 10} step_ms 250\n"))
    assert run.step_s == pytest.approx([0.25] * 30)


# time stamps


def test_a_clock_without_a_date_goes_on_past_midnight(run_of: RunOf) -> None:
    start = datetime(2024, 5, 1, 23, 59, 50)
    run = run_of(lines(30, lambda i: f"{at(2 * i, '%H:%M:%S', start)} step {i} loss 2.1\n"))
    assert run.step_s[1:] == pytest.approx(2.0)
    assert run.wall_s == pytest.approx(58)
    assert run.started_at is None


@pytest.mark.parametrize(
    "form", ["%m-%d %H:%M:%S", "I%m%d %H:%M:%S.000000 12 x.cc:3]", "%b %d %H:%M:%S"]
)
def test_dates_without_a_year_go_on_past_new_year(run_of: RunOf, form: str) -> None:
    start = datetime(2023, 12, 31, 23, 59, 50)
    run = run_of(lines(30, lambda i: f"{at(2 * i, form, start)} step {i} loss 2.1\n"))
    assert run.step_s[1:] == pytest.approx(2.0)
    assert run.wall_s == pytest.approx(58)


def test_a_change_of_the_time_zone_takes_no_time(run_of: RunOf) -> None:
    def stamp(i: int) -> str:
        moment = datetime(2024, 3, 31, 0, 59, 40, tzinfo=timezone.utc) + timedelta(seconds=i)
        return moment.astimezone(timezone(timedelta(hours=1 if i < 20 else 2))).isoformat()

    run = run_of(lines(40, lambda i: f"{stamp(i)} step {i} loss 2.1\n"))
    assert run.step_s[1:] == pytest.approx(1.0)
    assert run.wall_s == pytest.approx(39)


def test_days_may_come_before_months(run_of: RunOf) -> None:
    start = datetime(2024, 4, 11, 12)
    run = run_of(
        lines(60, lambda i: f"{at(3600 * i, '%d/%m/%Y %H:%M:%S', start)} step {i} loss 2.1\n")
    )
    assert run.step_s[1:] == pytest.approx(3600)
    assert run.started_at == start.replace(tzinfo=timezone.utc).timestamp()


def test_only_time_stamps_tell_how_long_steps_take(run_of: RunOf) -> None:
    start = datetime(2024, 5, 1, 12)
    run = run_of(
        lines(
            30, lambda i: f"{at(4 * i, '%Y-%m-%d %H:%M:%S', start)} iteration {i * 10}: loss 2.1\n"
        )
    )
    assert run.step_s[1:] == pytest.approx(0.4)


# encodings and damage

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "gbk"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_encoding_does_not_matter(run_of: RunOf, encoding: str) -> None:
    run = run_of(lines(30, plain).encode(encoding))
    assert run.step_s == pytest.approx([0.25] * 30)
    assert line_numbers(run) == list(range(1, 31))


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "utf-16"])
def test_chinese_lines(run_of: RunOf, encoding: str) -> None:
    text = lines(
        30, lambda i: f"第{i // 10 + 1}轮 第{i}步，损失 2.1，耗时 0.25秒，吞吐量 128 样本/秒\n"
    )
    run = run_of(text.encode(encoding))
    assert run.step_s == pytest.approx([0.25] * 30)
    assert run.rates["samples_per_s"] == pytest.approx(128)
    assert run.samples == pytest.approx(32)
    assert steps(run) == list(range(30))


def test_chinese_counters_may_stand_right_before_the_time(run_of: RunOf) -> None:
    run = run_of(lines(30, lambda i: f"第{i // 10 + 1}轮 第{i}步 耗时 0.25秒\n"))
    assert run.step_s == pytest.approx([0.25] * 30)


def test_broken_bytes_spoil_nothing_beside_them(run_of: RunOf) -> None:
    run = run_of(
        b"".join(b"step %d: l\xff\xfeoss \xc3 2.1 step_time 0.25 s\n" % i for i in range(30))
    )
    assert run.step_s == pytest.approx([0.25] * 30)


@pytest.mark.parametrize("zeros", [3, 5000, 3 * 2**20])
def test_zeros_before_the_first_line_are_left_out(run_of: RunOf, zeros: int) -> None:
    run = run_of(bytes(zeros) + lines(30, plain).encode())
    assert run.step_s.size == 30
    assert line_numbers(run)[0] == 1


def test_windows_line_ends(run_of: RunOf) -> None:
    run = run_of(lines(30, plain).replace("\n", "\r\n"))
    assert run.step_s == pytest.approx([0.25] * 30)
    assert line_numbers(run) == list(range(1, 31))


@pytest.mark.parametrize("cut", range(1, 38, 4))
def test_a_last_line_that_was_cut_off_spoils_nothing(run_of: RunOf, cut: int) -> None:
    run = run_of((lines(30, plain) + plain(30))[:-cut])
    known = run.step_s[np.isfinite(run.step_s)]
    assert known[:30] == pytest.approx([0.25] * 30)
    assert known.size in (30, 31)


LONG = {"of letters": (b"x", 50_000_000), "of records": (b"step 1 step_time 0.25 s; ", 2_000_000)}


@pytest.mark.parametrize("kind", LONG)
def test_a_line_of_50_mb_takes_no_more_memory_than_others(
    run_of: RunOf, within: Callable[[float], AbstractContextManager[None]], kind: str
) -> None:
    before, after = lines(50, plain).encode(), lines(50, lambda i: plain(50 + i)).encode()
    part, count = LONG[kind]
    text = before + part * count + b"\n" + after
    tracemalloc.start()
    try:
        with within(60):
            run = run_of(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6
    assert [line for line in line_numbers(run) if line != 51] == [
        i for i in range(1, 102) if i != 51
    ]
    assert run.logs[0].unread >= 1
    assert any("overlong" in note for note in run.notes)


# forms of records


def test_json_with_numbers_as_text_and_without_numbers(run_of: RunOf) -> None:
    rows = [
        {"step": str(i), "step_time": "0.25", "loss": "nan", "note": None, "on": True}
        for i in range(20)
    ]
    assert run_of("".join(json.dumps(row) + "\n" for row in rows)).step_s == pytest.approx(
        [0.25] * 20
    )


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "null"])
def test_json_lines_may_hold_what_json_has_not(run_of: RunOf, value: str) -> None:
    run = run_of(
        lines(20, lambda i: f'{{"step": {i}, "loss": {value}, "dt_ms": 250.5}}\n'), "x.jsonl"
    )
    assert run.step_s == pytest.approx([0.2505] * 20)


def test_json_behind_a_logger_s_prefix(run_of: RunOf) -> None:
    run = run_of(
        lines(20, lambda i: f'INFO 2024-01-01 00:00:{i:02d} {{"step": {i}, "dt_ms": 250.5}}\n')
    )
    assert run.step_s == pytest.approx([0.2505] * 20)


def test_a_table_whose_rows_are_half_empty(run_of: RunOf) -> None:
    rows = lines(
        20, lambda i: f"0,{i},2.1,0.25,\n" + (f"0,{i},,,1.{9 - i // 5}\n" if i % 5 == 4 else "")
    )
    run = run_of("epoch,step,train_loss,step_time,val_loss\n" + rows, "metrics.csv")
    assert run.step_s[np.isfinite(run.step_s)] == pytest.approx([0.25] * 20)
    assert line_numbers(run)[:6] == [2, 3, 4, 5, 6, 8]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("step,loss,step_time_s", "{},2.1,0.25"), ("step;loss;step_time_s", "{};2,1;0,25"),
        ("step;loss;step_time_s", "{};2.1;0.25"),
        ("step\tloss\tstep_time_s", "{}\t2.1\t0.25"), ("step|loss|step_time_s", "{}|2.1|0.25"),
        ('"step","step_time_s"', '"{}","0.25"'),
        ("step, loss, step_time_ms", "{}, 2.1, 250"),
        ('step,note,step_time_s', '{},"a, b ""c""",0.25'),
    ],
)  # fmt: skip
def test_tables_have_other_separators_and_quotes(run_of: RunOf, header: str, row: str) -> None:
    run = run_of("\n".join([header, *(row.format(i) for i in range(20))]), "x.csv")
    assert run.step_s == pytest.approx([0.25] * 20)
    assert line_numbers(run) == list(range(2, 22))


def test_a_separator_inside_a_quoted_name_makes_no_column(run_of: RunOf) -> None:
    rows = lines(20, lambda i: f"{i},2.1,0.25\n")
    assert run_of('step,"loss, total",step_time_s\n' + rows, "x.csv").step_s == pytest.approx(
        [0.25] * 20
    )


def test_a_row_is_at_the_line_where_it_begins(run_of: RunOf) -> None:
    rows = lines(10, lambda i: f'{i},0.25,"two\nlines"\n')
    run = run_of("step,step_time_s,note\n" + rows, "x.csv")
    assert line_numbers(run) == [2 + 2 * i for i in range(10)]


def test_a_table_in_the_text_with_names_above(run_of: RunOf) -> None:
    rows = lines(9, lambda i: f"{i}         0.{500 - i}    0.400000    0.9{i}0000  00:4{i}     \n")
    run = run_of("epoch     train_loss  valid_loss  accuracy  time    \n" + rows)
    assert run.epochs is not None
    assert run.epochs.time_s == pytest.approx([40 + i for i in range(9)])
    assert run.epochs.metrics["accuracy"] == pytest.approx([0.9 + i / 100 for i in range(9)])


def test_a_table_between_bars(run_of: RunOf) -> None:
    head = "| step | loss | step_time (ms) | samples/s |\n|---|---|---|---|\n"
    run = run_of(head + lines(20, lambda i: f"| {i} | 2.1 | {250 + i % 2} | 128.0 |\n"))
    assert run.step_s == pytest.approx([0.25 + i % 2 / 1000 for i in range(20)])
    assert run.rates["samples_per_s"] == pytest.approx(128)


def test_a_record_may_spread_over_several_lines(run_of: RunOf) -> None:
    def record(i: int) -> str:
        times = f"  step_time: 0.25{i % 3} s\n  throughput: 128 samples/s\n"
        return f"===== step {i} =====\n  loss: 2.1\n{times}"

    run = run_of(lines(20, record))
    assert run.step_s == pytest.approx([0.25 + i % 3 / 1000 for i in range(20)])
    assert run.rates["samples_per_s"] == pytest.approx(128)


def test_dictionaries_as_python_prints_them(run_of: RunOf) -> None:
    run = run_of(
        lines(
            20,
            lambda i: (
                f"{ {'step': i, 'loss': 2.1, 'time/step': 0.25, 'tokens_per_sec': 1234.5} }\n"
            ),
        )
    )
    assert run.step_s == pytest.approx([0.25] * 20)
    assert run.rates["tokens_per_s"] == pytest.approx(1234.5)


def test_stages_of_a_step_add_up_to_it(run_of: RunOf) -> None:
    run = run_of(lines(20, lambda i: f"step {i} data 0.100 fwd 0.050 bwd 0.080 opt 0.010\n"))
    found = {stage.name: float(stage.exposed_s[0]) for stage in run.stages}
    assert found.pop("other", 0.0) == pytest.approx(0, abs=1e-9)
    assert found == {
        "data_loading": 0.1, "forward": 0.05, "backward": 0.08, "optimizer": 0.01,
    }  # fmt: skip
    assert run.step_s == pytest.approx([0.24] * 20)


# where values come from


def test_values_know_their_line_however_large_the_file(run_of: RunOf) -> None:
    # more than one chunk of 8 MiB, with bars and lines that say nothing between
    filler = "x" * 900 + "\n"
    text = lines(4000, lambda i: f"{filler * 3}bar {i}\rbar\rstep {i} step_time 0.25 s\n")
    assert len(text) > 10 * 2**20
    run = run_of(text)
    assert line_numbers(run) == [4 * (i + 1) for i in range(4000)]


def test_lines_that_could_not_be_read_are_counted_and_shown(run_of: RunOf) -> None:
    run = run_of(lines(20, lambda i: plain(i) + f"it took ages of time xx{i}yy\n"))
    log = run.logs[0]
    assert (log.lines, log.records, log.unread) == (40, 20, 20)
    assert [sample.line for sample in log.unread_samples] == [2, 4, 6, 8, 10]
    assert log.unread_samples[0].text == "it took ages of time xx0yy"


def test_nothing_in_a_log_is_evaluated(run_of: RunOf, tmp_path: Path) -> None:
    target = f"{tmp_path}/made"
    attack = f"__import__('os').system('touch {target}')"
    text = lines(
        20, lambda i: f"step {i} step_time 0.25 {attack}\n{{'loss': {attack}, 'epoch': {i}}}\n"
    )
    run_of(
        text
        + f"Namespace(batch_size={attack}, lr=0.1)\n"
        + f"!!python/object/apply:os.system ['touch {target}']\n"
    )
    run_of(f'{{"step": "{attack}"}}\n' * 20, "x.jsonl")
    run_of(f"step,time\n{attack},1\n", "x.csv")
    assert list(tmp_path.glob("made")) == []


def test_a_log_without_any_number_makes_an_empty_run(run_of: RunOf) -> None:
    run = run_of("hello world\nfoo\n" * 50)
    assert run.step_s.size == 0
    assert run.epochs is None
    assert not math.isnan(run.logs[0].lines)
