"""Other languages, other tools, and numbers beside a training that are none of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_fields import fields

from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.records import Reading
from perfdoctor.record import Floats, Run

RunOf = Callable[..., Run]


def middle(values: Floats) -> float:
    return float(np.median(values[np.isfinite(values)]))


def timed(run: Run) -> int:
    return int(np.isfinite(run.step_s).sum())


# languages


@pytest.mark.parametrize(
    "line",
    [
        "[Epoche 3] Dauer: 41.5 sec",
        "Epoca 3, durata: 41.5 secondi",
        "Época 3 - duração: 41.5 segundos",
        "Époque 3 : durée 41.5 secondes",
        "Эпоха 3, время: 41.5 сек",
        "エポック 3 時間: 41.5 秒",
    ],
)
def test_an_epoch_and_its_time_are_told_in_other_languages(line: str) -> None:
    found = fields(line)
    assert found["epoch"] == 3
    assert found["unclear_s"] == 41.5


def test_the_time_that_remains_is_no_time_of_an_epoch() -> None:
    assert "unclear_s" not in fields("Epoca 3, tiempo restante: 41.5 segundos")


def test_the_duration_of_an_epoch_in_german_is_of_no_step(run_of: RunOf) -> None:
    lines = []
    for epoch in (1, 2, 3):
        lines += [f"  [Epoche {epoch}, Batch {i}00/640] Loss: 2.{i}1" for i in range(1, 7)]
        lines += [f"[Epoche {epoch}] Dauer: {90 + epoch}.25 sec", "Text erzeugt (0.81 sec)"]
    run = run_of("\n".join(lines))
    assert timed(run) == 0
    assert run.epochs is not None
    assert middle(run.epochs.time_s) == 92.25


def on_the_fifth(second: int) -> str:
    return f"[05.10.2022 07:{30 + second // 60}:{second % 60:02}]"


def german(epoch: int, step: int) -> str:
    clock = on_the_fifth(14 * epoch + step // 25)
    told = "Verlust 0,6476, Lernrate 9,94e-04, 0,0442 s/Schritt (davon Laden 0,0090 s)"
    return f"{clock} Epoche {epoch}/9, Schritt {step}/300: {told}, 1.0{epoch}2,5 Kacheln/s"


def test_points_that_part_thousands_leave_commas_decimal(run_of: RunOf) -> None:
    lines = ["Kacheln = 14.400"]
    for epoch in range(1, 6):
        lines += [german(epoch, step) for step in range(50, 301, 50)]
        lines += [f"{on_the_fifth(14 * epoch + 13)} Epoche {epoch} beendet nach 13,{epoch} Sek."]
    run = run_of("\n".join(lines))
    assert middle(run.step_s) == pytest.approx(0.0442)
    assert run.stages[0].name == "data_loading"
    assert middle(run.stages[0].exposed_s) == pytest.approx(0.009)
    assert middle(run.rates["samples_per_s"]) == pytest.approx(1032.5)
    assert run.epochs is not None
    assert middle(run.epochs.time_s) == pytest.approx(13.3)


def test_a_point_parts_thousands_where_commas_are_decimal() -> None:
    comma = Dialect(decimal_comma=True)
    assert fields("Schritt 5, 14.400 Kacheln/s", dialect=comma)["samples_per_s"] == 14400
    assert fields("Schritt 5, 0.250 s/Schritt", dialect=comma)["step_s"] == 0.25


def test_a_power_may_follow_a_decimal_comma() -> None:
    found = fields("Schritt 5, Lernrate 9,5e-04", dialect=Dialect(decimal_comma=True))
    assert found["metric:lernrate"] == pytest.approx(9.5e-4)


def test_what_a_server_keeps_beside_a_processor_is_not_its_use() -> None:
    assert "cpu" not in fields("step 3 CPU KV cache usage: 3.5%")
    assert fields("step 3 CPU usage: 55.5%")["cpu"] == 55.5


def test_three_decimals_behind_a_point_stay_what_they_are(run_of: RunOf) -> None:
    lines = [f"step {i} kernel (3,3) loss 2.{i:03} time 1.250 s/step" for i in range(20)]
    assert middle(run_of("\n".join(lines)).step_s) == 1.25


# what is none of it


def test_an_address_holds_no_numbers() -> None:
    assert fields("epoch 3 loading https://data.eu-west-2.example.org/v1/set.zip") == {"epoch": 3}


def test_nameless_times_beside_steps_without_any_are_of_something_else(run_of: RunOf) -> None:
    steps = [f"batch {i}/90 loss 1.{i:02}" for i in range(1, 31)]
    steps[9] += "\nsaved the samples (4.51 sec)"
    steps[19] += "\nsaved the samples (4.13 sec)"
    assert timed(run_of("\n".join(steps))) == 0


def test_a_single_time_of_no_name_is_not_of_the_only_epoch(run_of: RunOf) -> None:
    stamp = "2024-05-01 10:{:02}:00"
    lines = [f"{stamp.format(i)} Epoch 2 Step: {100 * i} Loss: 2.{i}" for i in range(1, 9)]
    run = run_of("\n".join([*lines, "time taken:", "4,512 seconds"]))
    assert run.epochs is None or not np.isfinite(run.epochs.time_s).any()
    assert middle(run.step_s) == pytest.approx(0.6)


@pytest.mark.parametrize(
    "text",
    [
        "real\t0m41.058s\nuser\t1m12.489s\nsys\t0m0.401s\n",
        "llama_print_timings: sample time = 31.20 ms / 64 runs (0.49 ms per token, 2051.48 tokens "
        "per second)\n" * 3,
    ],
)
def test_a_command_and_a_served_model_are_no_training(run_of: RunOf, text: str) -> None:
    run = run_of("loading the model\n" + text)
    assert timed(run) == 0
    assert not run.rates


def test_the_time_of_an_evaluation_still_counts() -> None:
    assert fields("eval time: 3.25 s")["validation_s"] == 3.25


# bars


def bar(epoch: int, steps: int, clock: str, rate: str, told: str) -> str:
    return f"Epoch {epoch}/9: 100%|██████| {steps}/{steps} [{clock}<00:00, {rate}it/s, {told}]"


def test_a_bar_that_tells_the_validation_loss_alone_is_of_the_validation(run_of: RunOf) -> None:
    judged = "lr=1e-3, val_loss=2.9"
    lines = [
        bar(1, 240, "00:20", "12.00", judged),
        bar(2, 240, "01:00", "4.00", "lr=1e-3, total_loss=2.5"),
        bar(2, 240, "00:20", "12.00", judged),
    ]
    assert middle(run_of("\n".join(lines)).step_s) == pytest.approx(0.25)


def test_a_validation_loss_that_is_carried_along_makes_no_validation(run_of: RunOf) -> None:
    lines = [bar(1, 240, "01:00", "4.00", "v_num=0")]
    lines += [bar(epoch, 240, "01:00", "4.00", f"v_num=0, val_loss=2.{epoch}") for epoch in (2, 3)]
    assert timed(run_of("\n".join(lines))) == 3


def test_of_a_bar_that_was_cut_in_the_middle_its_whole_time_counts(run_of: RunOf) -> None:
    lines = [
        "Steps:   1%|  | 1/201 [00:09<30:00,  9.00s/it, loss=0.1]",
        "Steps:   1%|  | 2/201 [00:15<22:00,  6.60s/it, loss=0.1]",
        "...",
        "Steps: 100%|██| 200/201 [06:40<00:01,  1.70s/it, loss=0.1]",
        "Steps: 100%|██| 201/201 [06:42<00:00,  1.75s/it, loss=0.1]",
    ]
    assert middle(run_of("\n".join(lines)).step_s) == pytest.approx(402 / 201)


# forms of lines


def test_a_counter_may_follow_the_name_of_a_metric(run_of: RunOf) -> None:
    lines = [f"09:{40 + i}:10.250 [main] Score at iteration {50 * i} is 1.5{i}" for i in range(9)]
    assert middle(run_of("\n".join(lines)).step_s) == pytest.approx(60 / 50)


def test_the_best_score_so_far_counts_no_steps() -> None:
    assert "step" not in fields("best score at iteration 400 is 1.39")


def test_a_counter_and_a_sum_of_seconds_stand_in_brackets(run_of: RunOf) -> None:
    lines = [f"[{10 * i} | {7 + 15.5 * i:.2f}] loss=2.{i} avg=2.5" for i in range(1, 9)]
    assert middle(run_of("\n".join(lines)).step_s) == pytest.approx(1.55)


def test_minutes_and_seconds_may_be_parted_by_a_point(run_of: RunOf) -> None:
    lines = [f"03/27/24 - 11:{50 + i}.{15 + i}PM, iter: 00{i}, cost: 0.0{i}" for i in range(1, 8)]
    assert middle(run_of("\n".join(lines)).step_s) == pytest.approx(61.0)


def test_a_rate_that_is_a_mean_tells_the_time_of_a_step(run_of: RunOf) -> None:
    run = run_of("iteration begins\nAverage training steps per second: 250.0\n")
    assert middle(run.step_s) == pytest.approx(0.004)


def test_a_duration_is_never_a_rate() -> None:
    assert "samples_per_s" not in fields("training_speed: 1:54:25")


def test_what_a_batch_holds_is_no_total_of_steps() -> None:
    assert "step_total" not in fields("step=4 num_samples_in_batch=14 loss=2.0")


# rates of one device


def per_gpu(settings: str) -> str:
    lines = [
        f"2024-01-05 10:00:{i:02}.500 INFO step={i} loss=9.{i} tgs (tokens/gpu/second)=2000.5"
        for i in range(1, 20)
    ]
    return "\n".join([settings, *lines])


def test_tokens_of_one_device_are_taken_times_all(run_of: RunOf) -> None:
    sizes = "data parallel size: 4, pipeline parallel size: 1, tensor parallel size: 2"
    run = run_of(per_gpu(f"launched, {sizes}"))
    assert middle(run.rates["tokens_per_s"]) == pytest.approx(16_004)
    assert any("times 8" in note for note in run.notes)


def test_tokens_of_one_device_stay_where_the_number_of_devices_is_not_told(run_of: RunOf) -> None:
    run = run_of(per_gpu("launched, data parallel size: 4"))
    assert middle(run.rates["tokens_per_s"]) == pytest.approx(2000.5)
    assert "Its rates are of one device." in run.notes


# tables


def test_names_in_two_lines_are_put_together(run_of: RunOf) -> None:
    rows = [(1, 1, 2), (1, 50, 22), (2, 100, 42), (2, 150, 62), (3, 200, 82), (3, 250, 102)]
    lines = [
        "|===================================================|",
        "|  Epoch  |  Iteration  |  Time Elapsed  |  Batch   |",
        "|         |             |   (hh:mm:ss)   |   Loss   |",
        "|===================================================|",
        *(f"| {e:7} | {i:11} |       00:{s // 60:02}:{s % 60:02} |   1.2345 |" for e, i, s in rows),
        "|===================================================|",
    ]
    run = run_of("\n".join(lines))
    assert middle(run.step_s) == pytest.approx(0.4)


def test_an_epoch_that_ends_between_two_lines_is_not_timed_by_them(run_of: RunOf) -> None:
    lines = []
    for step in range(50, 951, 50):
        lines.append(f"Epoch {(step - 1) // 170} Iteration {step} elapsed {step * 0.4:.1f} s")
    run = run_of("\n".join(lines))
    assert middle(run.step_s) == pytest.approx(0.4)
    assert run.epochs is None or not np.isfinite(run.epochs.time_s).any()


def test_a_table_may_number_its_rows(run_of: RunOf) -> None:
    lines = ["            timestamp    duration speed epochs iterations"]
    for i in range(1, 9):
        minute, second = divmod(30 * i, 60)
        moment = f"2024-03-07 15:{20 + minute}:{second:02}"
        row = f"{i} {moment}  0:0{minute}:{second:02}.025  467 {i / 4:.3f}"
        lines.append(f"{row}  {1000 + 40 * i}")
    assert middle(run_of("\n".join(lines)).step_s) == pytest.approx(0.75)


def test_the_whole_batch_is_taken_from_the_header_of_a_trainer(
    reading_of: Callable[..., Reading],
) -> None:
    head = "  Total train batch size (w. parallel, distributed & accumulation) = 96\n"
    found = reading_of(head + "step 1 loss 2.0 time 0.5 s\n")
    assert found.configuration["batch_size"] == 96


def test_sums_that_end_long_before_their_epoch_are_not_its_time(run_of: RunOf) -> None:
    lines = [
        f"Epoch {e} step {n}/1000 loss 0.5 elapsed {0.4 * n:.1f} s"
        for e in range(6)
        for n in range(50, 751, 50)
    ]
    run = run_of("\n".join(lines))
    assert middle(run.step_s) == pytest.approx(0.4)
    assert run.epochs is None or not np.isfinite(run.epochs.time_s).any()
