"""What a log says twice and not alike, and what of it is believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_fields import fields
from test_more_shapes import data_of, middle

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import gathering
from perfdoctor.readers.fields import Hints, analyse
from perfdoctor.readers.lexer import Dialect
from perfdoctor.record import Run

RunOf = Callable[..., Run]


# bars


def test_rates_that_outlast_their_bar_are_means_since_it_began(run_of: RunOf) -> None:
    text, elapsed_s = "", 29
    for i in range(4, 14):
        elapsed_s += 2 if i % 2 else 4
        text += f"Epoch 0: {4 * i}%|#  | {i}/25 [00:{elapsed_s}<01:00, {elapsed_s / i:.2f}s/it]\n"
    assert float(np.nanmean(run_of(text).step_s)) == pytest.approx(3, rel=0.1)


def test_a_bar_whose_elapsed_goes_on_over_the_epochs(run_of: RunOf) -> None:
    text = "".join(
        f"Epoch {e}: 1%|  | 50/7200 [{2 * e}:00:50<9:00:00, {(7200 * e + 50) / 50:.2f}s/it]\n"
        for e in range(4)
    )
    assert middle(run_of(text).step_s) == pytest.approx(1)


def test_a_pause_on_the_bar_does_not_make_its_rates_wrong(run_of: RunOf) -> None:
    text = "".join(
        f"Epoch 0: {i}%|#  | {i}/100 [{(i + 60 * (i > 9)) // 60:02d}:{(i + 60 * (i > 9)) % 60:02d}"
        "<01:00, 1.00s/it]\n"
        for i in range(1, 40)
    )
    run = run_of(text)
    assert (run.step_s == 1).all()


# the lines' times


def stamped(lines: Callable[[int], str], apart_s: int, count: int = 8) -> str:
    return "".join(
        f"[2024/03/04 10:{apart_s * i // 60:02d}:{apart_s * i % 60:02d}] {lines(i)}\n"
        for i in range(count)
    )


def test_costs_that_only_fit_as_sums_are_of_all_steps_between(run_of: RunOf) -> None:
    text = stamped(
        lambda i: f"iter: {10 + 10 * i}, loss: 0.{i}, reader_cost: 2.00 s, batch_cost: 4.00 s", 5
    )
    run = run_of(text)
    assert middle(run.step_s) == pytest.approx(0.4)
    assert data_of(run) == pytest.approx(0.2)


def test_times_of_single_steps_stay_where_the_counter_counts_samples(run_of: RunOf) -> None:
    text = stamped(lambda i: f"step: {6400 * (i + 1)}, loss: 0.{i}, batch_time: 0.500 s", 50)
    assert middle(run_of(text).step_s) == pytest.approx(0.5)


def test_lines_of_the_same_moment_tell_no_step(run_of: RunOf) -> None:
    run = run_of("".join(f"[2024-03-04 10:00:00,123] step={i} loss=2.{i}\n" for i in range(9)))
    assert not np.isfinite(run.step_s).any()


def test_dates_without_a_year_are_of_the_year_of_the_others(run_of: RunOf) -> None:
    text = "INFO 09-15 14:42:21 [worker.py:188] It took 1.46 seconds to fall asleep.\n" * 4
    text += "".join(f"[2025-09-15 14:{43 + i}:21,446] step={i} loss=2.{i}\n" for i in range(5))
    run = run_of(text)
    assert run.wall_s == pytest.approx(5 * 60, abs=1)
    assert run.started_at is not None


def test_a_time_of_day_beside_dates_is_left_out(run_of: RunOf) -> None:
    text = "[06:07:27] searching for the best convolution\n"
    text += "".join(f"[08/27/2018 06:0{i}:55 INFO] step={i} loss=2.{i}\n" for i in range(5))
    assert run_of(text).wall_s == pytest.approx(4 * 60)


def test_a_sum_that_began_before_the_log_is_not_the_time_of_its_lines(run_of: RunOf) -> None:
    text = "".join(
        f"step: {220 + i}, total_time: {3600 + 15 * i}.5, loss: 0.{i}\n" for i in range(9)
    )
    run = run_of(text)
    assert run.wall_s == pytest.approx(8 * 15)
    assert sum(s.seconds for s in run.spans if s.name == "train") == pytest.approx(120)


# parts of a step


def waits(data: list[float], step: float = 0.65) -> str:
    return "".join(f"load_data_time: {d:.4f}, train_step_time: {step:.3f}.\n" for d in data)


def test_a_wait_that_is_longer_than_its_step_is_not_in_it(run_of: RunOf) -> None:
    run = run_of(waits([0.0001] * 5 + [19.6] + [0.0001] * 6))
    assert float(run.step_s.max()) == pytest.approx(20.25)
    assert float(np.nansum(run.step_s)) == pytest.approx(12 * 0.65 + 19.6, rel=0.01)


def test_what_is_usually_longer_than_its_step_may_go_on_at_the_same_time(run_of: RunOf) -> None:
    run = run_of(waits([0.9, 1.1, 1.0] * 4))
    assert middle(run.step_s) == pytest.approx(0.65)
    assert not any(s.name == "data_loading" for s in run.stages)
    assert any("no part of it" in note for note in run.notes)


def test_the_lines_times_tell_that_the_wait_comes_on_top(run_of: RunOf) -> None:
    run = run_of(stamped(lambda i: f"step: {i}, data_time: 4.0 s, step_time: 1.0 s", 5, 20))
    assert middle(run.step_s) == pytest.approx(5)
    assert data_of(run) == pytest.approx(4)


# epochs


def test_an_epoch_takes_no_longer_than_passes_between_two(run_of: RunOf) -> None:
    text = "".join(
        f"[2024-03-04 10:00:{10 * e}] epoch: {e}, duration: 9000, loss: 0.{e}\n" for e in range(6)
    )
    epochs = run_of(text).epochs
    assert epochs is not None
    assert np.nanmax(epochs.time_s) == pytest.approx(10)


def test_the_time_of_an_epoch_so_far_is_not_that_of_the_epoch(run_of: RunOf) -> None:
    text = "Epoch: 0, batches: 100, 115.2 samples/sec, epoch time so far: 0:00:27\n"
    text += "Epoch: 0, batches: 200, 120.1 samples/sec, loss: 2.0\n"
    epochs = run_of(text).epochs
    assert epochs is not None
    assert not np.isfinite(epochs.time_s).any()


def test_the_generator_of_a_gan_loads_no_data(run_of: RunOf) -> None:
    text = "".join(
        f"epoch {e} generator pretraining [time: 30.2s, loss: 3.{e}]\n" for e in range(5)
    )
    epochs = run_of(text).epochs
    assert epochs is not None
    assert epochs.time_s.tolist() == pytest.approx([30.2] * 5)


# restarts


def test_two_counters_that_differ_by_one_make_no_restart(run_of: RunOf) -> None:
    text = ""
    for i in range(60, 260, 10):
        text += f"loss = 2.{i}, step = {i + 1} (8.6 sec)\n" if i % 100 == 0 else ""
        text += f"Average examples/sec: 28{i}.2, step = {i}\n"
    assert run_of(text).restarts == ()


def test_the_prefix_of_mpirun_names_a_rank(run_of: RunOf) -> None:
    text = "[1,0]<stdout>:Batch size: 32\n"
    text += "".join(f"[1,0]<stdout>:Iter #{i}: 60{i}.3 img/sec per GPU\n" for i in range(9))
    run = run_of(text + "[1,0]<stdout>:Total img/sec on 8 GPU(s): 4801.4 +-42.7\n")
    assert (run.restarts, run.ranks, run.epochs) == ((), 1, None)


def test_lines_without_a_rank_are_of_the_only_one(run_of: RunOf) -> None:
    text = "[Rank 0] starting\n"
    text += "".join(
        ("[Rank 0] " if i % 2 else "") + f"step={i} loss=2.{i} step_time=0.{i}\n"
        for i in range(1, 9)
    )
    assert np.isfinite(run_of(text).step_s).sum() == 8


# one line


def test_thousands_of_words_in_a_second() -> None:
    found = fields("[Batch 800/42068] loss=0.95, throughput=39.15K wps, wc=606.57K")
    assert found["tokens_per_s"] == pytest.approx(39_150)


def test_ten_digits_with_a_fraction_at_the_end_are_a_moment() -> None:
    found = fields("train: epoch 0, iter 100, samples/s: 2161.654 1605777750.5480015")
    assert found["time"] == pytest.approx(1605777750.548)
    assert found["samples_per_s"] == pytest.approx(2161.654)


def test_memory_with_a_fraction_is_in_gigabytes_and_whole_numbers_in_megabytes() -> None:
    assert fields("tick 1 step 5 gpumem 5.1")["memory_bytes"] == pytest.approx(5.1 * 2**30)
    assert fields("step: 5 max mem: 1942")["memory_bytes"] == pytest.approx(1942 * 2**20)


def test_only_a_rate_that_counts_tells_of_one_device() -> None:
    line = "iteration 20 | tokens per second: 50022.5 | tokens per gpu per second: 6252.8 |"
    assert not analyse(line, Dialect()).device_rates
    assert analyse("iteration 20 | tokens per gpu per second: 6252.8 |", Dialect()).device_rates


def test_a_counter_is_no_part_of_a_step_though_it_is_called_like_one() -> None:
    hints = Hints(roles={"step": "optimizer_s"})
    assert fields("[Rank 0] step=35, skipped=0", hints) == {
        "rank": 0, "step": 35, "metric:skipped": 0,
    }  # fmt: skip
    parts = fields("time (ms) | forward: 650.1 | step: 105.4", hints)
    assert parts["optimizer_s"] == pytest.approx(0.1054)


def test_epoch_and_step_of_deepspeed_are_no_part_and_whole(run_of: RunOf) -> None:
    run = run_of(
        "".join(
            f"[2022-03-11 02:0{i}:58,985] [INFO] [timer.py:189:stop] 0/{10 * i}, "
            f"SamplesPerSec=83.{i}86, MemAllocated=0.26GB\n"
            for i in range(1, 7)
        )
    )
    assert middle(run.rates["samples_per_s"]) == pytest.approx(83.4, abs=0.2)
    assert run.step_s[-1] == pytest.approx(6)


def test_requests_to_a_server_are_no_steps(run_of: RunOf) -> None:
    text = "".join(
        f'{{"event": "request_completed", "status_code": 200, "process_time_ms": 3.{i}}}\n'
        for i in range(9)
    )
    assert not np.isfinite(run_of(text, "server.jsonl").step_s).any()
    assert "unclear_s" not in fields("Mean TTFT (ms):     9626.13")


def test_a_single_record_over_several_lines(run_of: RunOf) -> None:
    text = "{'execution_time': 0.7726,\n 'flops': 115442874056704.0,\n 'step_time': 0.7768}\n"
    assert run_of(text).step_s.tolist() == [0.7768]


def test_what_cannot_be_put_together_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: object) -> Run:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(gathering, "assemble", fails)
    path = tmp_path / "train.log"
    path.write_text("step 1 loss 2.0 step_time 0.5\n")
    with pytest.raises(PerfdoctorError, match="does not fit together") as raised:
        gathering.gather([str(path)], lambda what, done, of: None)
    assert raised.value.slug == "log-unreadable"


def test_the_length_of_a_memory_is_no_memory() -> None:
    assert "memory_bytes" not in fields("| model | mem_len : 256 | step : 5")


def test_the_peak_in_parentheses_is_the_memory() -> None:
    found = fields("Epoch 3 Memory: 0.44 GB (Max: 15.47 GB) loss: 0.3")
    assert found["memory_bytes"] == pytest.approx(15.47 * 2**30)


def test_frames_a_second_since_the_start_are_taken_apart(run_of: RunOf) -> None:
    text, elapsed_s = "time/fps,time/time_elapsed,time/total_timesteps,rollout/ep_len_mean\n", 0
    for i in range(1, 41):
        elapsed_s += 10 if i <= 20 else 20
        text += f"{1000 * i // elapsed_s},{elapsed_s},{1000 * i},100\n"
    rate = run_of(text, "progress.csv").rates["samples_per_s"]
    assert rate[15] == pytest.approx(100)
    assert rate[-1] == pytest.approx(50)


def test_rates_that_are_means_of_the_run_give_way_to_the_moments(run_of: RunOf) -> None:
    text, moment = "", 1_700_000_000.25
    for i in range(24):
        moment += 9.5 if i in (8, 16) else 0.5
        mean = (i + 1) / (moment - 1_700_000_000.25)
        text += f'{{"step": {i}, "loss": 2.0, "time": {moment}, "steps_per_sec": {mean:.3f}}}\n'
    run = run_of(text, "log.jsonl")
    assert middle(run.step_s) == pytest.approx(0.5)
    assert run.started_at == pytest.approx(1_700_000_000.75)


def test_a_sum_in_whole_seconds_may_stand_still(run_of: RunOf) -> None:
    text = "".join(f"step: {i}, loss: 2.{i}, elapsed: {i // 2} s\n" for i in range(1, 99))
    assert middle(run_of(text).step_s) == pytest.approx(0.5, rel=0.05)


def test_two_dated_lines_at_the_head_are_not_the_run(run_of: RunOf) -> None:
    text = "W1205 12:44:41.166817   276 context.cc:447] device: 0\n"
    text += "W1205 12:44:41.171645   276 context.cc:465] device: 0\n"
    text += "".join(
        f"Step {25 * i}, total used time {7.5 * i} (s), loss 0.{i}\n" for i in range(1, 9)
    )
    assert run_of(text).wall_s == pytest.approx(60)


def test_epochs_without_a_time_took_about_what_the_others_took(run_of: RunOf) -> None:
    took = {1: " took 60.5 s", 2: "", 3: " took 61.5 s", 4: " took 61.0 s"}
    text = "[2024-03-04 10:00:00] begin\n"
    text += "".join(f"[2024-03-04 10:0{e}:05] epoch {e}{took[e]} loss 2.{e}\n" for e in took)
    spans = {span.name: span.seconds for span in run_of(text).spans}
    assert spans["train"] == pytest.approx(244, abs=1)
