"""Times held against each other: what fits neither the clock nor the epoch is not believed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from perfdoctor.record import Run

RunOf = Callable[..., Run]


def clock(seconds: float) -> str:
    whole = int(seconds)
    return f"2021-01-08 19:{whole // 60:02d}:{whole % 60:02d},{int(seconds % 1 * 1000):03d}"


def informer(epoch: int, first_s: float) -> str:
    text = ""
    for step, speed in ((100, first_s), (200, 0.18)):
        text += f"\titers: {step}, epoch: {epoch} | loss: 0.12\n"
        text += f"\tspeed: {speed:.4f}s/iter; left time: 127.8467s\n"
    return text + f"Epoch: {epoch} cost time: 40.5\nUpdating learning rate to 5e-05\n"


def test_the_first_time_of_an_epoch_that_does_not_fit_into_it_is_left_out(run_of: RunOf) -> None:
    run = run_of("".join(informer(epoch, 0.335) for epoch in range(1, 6)))
    known = run.step_s[np.isfinite(run.step_s)]
    assert known == pytest.approx(0.18)
    assert any("does not fit into it" in note for note in run.notes)


def test_a_first_time_that_fits_into_its_epoch_stays(run_of: RunOf) -> None:
    run = run_of("".join(informer(epoch, 0.21) for epoch in range(1, 6)))
    assert np.isfinite(run.step_s).all()


def rated(per_s: float, step_s: float) -> str:
    return "".join(
        f"{clock(20 * step_s * i)} Iter:{460 + 20 * i} {per_s:.2f} it/sec loss:0.01\n"
        for i in range(12)
    )


def test_iterations_a_second_that_are_samples_by_the_clock_are_samples(run_of: RunOf) -> None:
    run = run_of(rated(1657.0, 0.309))
    assert np.nanmedian(run.step_s) == pytest.approx(0.309, rel=0.01)
    assert np.nanmedian(run.rates["samples_per_s"]) == pytest.approx(1657)


def test_iterations_a_second_that_fit_the_clock_are_iterations(run_of: RunOf) -> None:
    run = run_of(rated(3.24, 0.309))
    assert np.nanmedian(run.step_s) == pytest.approx(1 / 3.24, rel=0.01)
    assert run.track is not None
    assert run.track.step is not None
    assert run.track.step[0] == 460


def test_waiting_beside_the_printed_time_is_added_if_the_clock_shows_both(run_of: RunOf) -> None:
    text = "".join(
        f"[{clock(4.92 * i)}] epoch: [0/100], iter: {10 * i}, loss: 0.69, reader_cost: 2.34 s, "
        f"batch_cost: 2.58 s, ips: 198.8\n"
        for i in range(1, 30)
    )
    run = run_of(text)
    assert np.nanmedian(run.step_s) == pytest.approx(0.492, rel=0.01)
    data = next(s for s in run.stages if s.name == "data_loading")
    assert np.nanmedian(data.exposed_s) == pytest.approx(0.234, rel=0.01)


def test_parts_beside_running_means_are_running_means(run_of: RunOf) -> None:
    # 0.75 s a step, 0.02 s of it waiting; the first step took 40 s more, 37 s of it waiting
    text = "".join(
        f"[train: 92, {n} / 1000] DataTime: {0.02 + 37 / n:.4f}  ,  ForwardTime: 0.700  ,  "
        f"TotalTime: {0.75 + 40 / n:.4f}  ,  Loss/total: 3.2\n"
        for n in range(100, 1001, 100)
    )
    run = run_of(text)
    data = next(s for s in run.stages if s.name == "data_loading")
    assert np.nanmedian(run.step_s) == pytest.approx(0.75, rel=0.01)
    assert np.nanmedian(data.exposed_s) == pytest.approx(0.02, rel=0.2)


def test_times_beyond_a_century_are_none(run_of: RunOf) -> None:
    lines = [f'{{"_step": {i}, "_runtime": {10.0 * i}, "loss": 1.0}}\n' for i in range(50)]
    lines[40] = '{"_step": 40, "_runtime": 1e308, "loss": 1.0}\n'
    run = run_of("".join(lines), "history.jsonl")
    assert run.wall_s is not None
    assert run.wall_s <= 500
    assert np.nanmax(run.step_s) == pytest.approx(10.0)


def test_milliseconds_that_are_too_few_for_a_moment_are_none(run_of: RunOf) -> None:
    mark = ':::MLLOG {"namespace": "", "time_ms": %d, "key": "cache_clear", "value": true}\n'
    steps = "".join(
        f"Iter: {1000 * i} Time(1000 iters): 2.6s Loss: 0.1 lr:1\n" for i in range(1, 30)
    )
    run = run_of(mark % 1592669569790 + steps + mark % 1593178230)
    assert run.wall_s is None or run.wall_s < 200


def test_an_epoch_that_is_told_of_while_it_goes_on_has_no_length(run_of: RunOf) -> None:
    text = "".join(
        f"12/13 9:{55 + i}:19 Epoch 110/10000, accuracy = 0.0, time = {319.3 + 60 * i}\n"
        + "".join(f"batch {100 * b} : time 0.15{3 * b % 5}\n" for b in range(1, 6))
        for i in range(3)
    )
    run = run_of(text)
    assert run.epochs is None or not np.isfinite(run.epochs.time_s).any()


def test_a_duration_at_the_end_of_a_line_about_an_epoch_is_its_length(run_of: RunOf) -> None:
    text = "".join(
        f"INFO:model:====> Epoch: {e} [2023-07-07 {12 + e}:35:13] | (1:11:5{e}.773330)\n"
        for e in range(1, 5)
    )
    run = run_of(text)
    assert run.epochs is not None
    assert np.nanmedian(run.epochs.time_s) == pytest.approx(4313.3, abs=1.5)


def test_right_answers_of_all_are_no_counter(run_of: RunOf) -> None:
    bar = " [===== 391/391 ====>]  Step: {} | Tot: {} | Loss: 1.5 | Acc: 45.4% ({}/50000)\n"
    first, second = ("20s974ms", "9m27s", 14680), ("1s298ms", "9m17s", 22701)
    run = run_of(f"Epoch: 0\n{bar.format(*first)}\nEpoch: 1\n{bar.format(*second)}")
    assert run.step_s == pytest.approx([567 / 391, 557 / 391])


def test_ticks_account_for_the_wall_clock(run_of: RunOf) -> None:
    text = "".join(
        f"tick {i}  kimg {6.1 * i:.1f}  lod 0.00  minibatch 32  time {at}  sec/tick {train}  "
        f"sec/kimg 107.1  maintenance {rest}  gpumem 5.1\n"
        for i, (at, train, rest) in enumerate(
            [("58s", 57.7, 0.0), ("12m 16s", 648.1, 30.5), ("23m 19s", 644.3, 18.0)]
        )
    )
    run = run_of(text)
    parts = {span.name: span.seconds for span in run.spans}
    assert parts["train"] == pytest.approx(1350.1)
    assert parts["maintenance"] == pytest.approx(48.5)
    assert parts.get("unexplained", 0.0) < 1.0
