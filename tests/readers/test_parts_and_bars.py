"""Times of parts beside those of whole steps, and bars of something else than the training."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from test_fields import fields

from perfdoctor.readers.loops import without_other_bars
from perfdoctor.readers.moments import with_time
from perfdoctor.readers.records import OTHER_PHASE, TRAIN, VALIDATION, Reading
from perfdoctor.record import Floats, Run

RunOf = Callable[..., Run]


def middle(values: Floats) -> float:
    return float(np.median(values[np.isfinite(values)]))


def at(second: float) -> str:
    minute, rest = divmod(second, 60)
    hour, minute = divmod(int(minute), 60)
    return f"2024-05-02 {8 + hour:02}:{minute:02}:{rest:06.3f}".replace(".", ",")


# a part of the step and the step


def test_a_time_of_whole_steps_counts_before_one_of_their_parts() -> None:
    line = "step:7 - timing_s/gen:30.5 - timing_s/update_actor:47.5 - timing_s/step:98.25"
    assert fields(line)["step_s"] == 98.25


def test_a_time_of_a_part_of_the_steps_counts_where_it_is_all_there_is() -> None:
    assert fields("iter 7 | actor step time: 0.475 s")["step_s"] == 0.475


def test_the_mean_beside_a_part_s_time_does_not_make_it_less() -> None:
    assert fields("iter 7 | actor step time: 0.475 (0.500)")["step_s"] == 0.475


def test_of_columns_that_of_whole_steps_counts(reading_of: Callable[..., Reading]) -> None:
    rows = [{"step": i, "timing_s/update_actor": 4.5, "timing_s/step": 9.5} for i in range(9)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert set(reading_of(text, "x.jsonl").records.column("step_s")) == {9.5}


def test_verl_s_throughput_is_of_tokens(run_of: RunOf) -> None:
    told = "timing_s/step:20.500 - perf/total_num_tokens:9000 - perf/throughput:1500.500"
    run = run_of("".join(f"step:{i} - actor/kl:0.0 - {told}\n" for i in range(1, 20)))
    assert run.source.format == "verl"
    assert middle(run.step_s) == 20.5
    assert middle(run.rates["tokens_per_s"]) == 1500.5


def test_epochs_without_a_better_result_are_no_number_of_one() -> None:
    assert "epoch" not in fields("BAD EPOCHS (no improvement): 2, loss 0.5")
    assert fields("EPOCHS: 2, loss 0.5")["epoch"] == 2


def test_pytorch_s_own_lines_tell_their_time() -> None:
    line = "[rank0]:[W514 09:01:22.104117211 ProcessGroup.cpp:4561] using GPU"
    assert set(fields(line)) >= {"time"}
    assert "unclear_s" not in fields(line)


# bars over something else


def epoch_with_bar(epoch: int, bar_s: int) -> str:
    """190 steps of half a second, of which each tenth is told, then a bar over 20 others."""
    begin = (epoch - 1) * (95 + bar_s)
    lines = [
        f"{at(begin + i / 2)} epoch {epoch} - iter {i}/190 - loss 0.5 - time (sec): {i / 2:.2f}"
        for i in range(19, 191, 19)
    ]
    bars = [
        f"{5 * i}%|█| {i}/20 [{i * bar_s // 1200:02}:{i * bar_s // 20 % 60:02}<00:01,  1.25it/s]"
        for i in range(21)
    ]
    end = f"{at(begin + 95 + bar_s)} DEV : loss 0.5"
    return "\n".join([*lines, "\r".join(bars), end]) + "\n"


def test_a_short_bar_of_another_length_after_each_epoch_counts_no_steps(run_of: RunOf) -> None:
    run = run_of("".join(epoch_with_bar(epoch, 16) for epoch in range(1, 6)))
    assert run.step_s.size == 50
    assert middle(run.step_s) == pytest.approx(0.5)
    assert run.epochs is not None
    assert middle(run.epochs.time_s) == pytest.approx(95)


@pytest.mark.parametrize(("bar_s", "left"), [(16, True), (960, False)])
def test_bars_that_take_most_of_the_time_are_of_the_training(
    reading_of: Callable[..., Reading], bar_s: int, left: bool
) -> None:
    text = "".join(epoch_with_bar(epoch, bar_s) for epoch in range(1, 4))
    records = with_time(reading_of(text).records)
    bars = np.isfinite(records.column("bar_elapsed_s"))
    assert set(without_other_bars(records).column("phase")[bars]) == {
        OTHER_PHASE if left else TRAIN
    }


# a bar over several epochs, which prints means since it began


def long_bar(
    epochs: int, slow_s: float, pause_s: float, forgets: bool = False, odd_s: float = 0.75
) -> str:
    """Epochs of 100 steps of 0.75 s, or every third of them of another time, the first step slow,
    and a pause after each."""
    lines, elapsed, n = [], 0.0, 0
    for epoch in range(1, epochs + 1):
        lines.append(f"epoch {epoch}/{epochs}")
        for i in range(100):
            n += 1
            own_s = slow_s if n == 1 else odd_s if n % 3 == 0 else 0.75
            elapsed += own_s + (pause_s if i == 0 and epoch > 1 else 0.0)
            mean = own_s if forgets else elapsed / n
            rate = f"{mean:.2f}s/it" if mean > 1 else f"{1 / mean:.2f}it/s"
            clock = f"{int(elapsed) // 60:02}:{int(elapsed) % 60:02}"
            lines.append(f"steps: 9%|█ | {n}/{100 * epochs} [{clock}<09:00, {rate}, loss=0.1]")
    return "\n".join(lines) + "\n"


def test_means_since_a_bar_began_are_not_what_a_step_takes(run_of: RunOf) -> None:
    run = run_of(long_bar(8, 20.0, 8.0))
    assert middle(run.step_s) == pytest.approx(0.75, rel=0.03)


def test_rates_that_forget_are_taken_as_they_are(run_of: RunOf) -> None:
    run = run_of(long_bar(8, 20.0, 8.0, forgets=True))
    assert middle(run.step_s) == pytest.approx(0.75, rel=0.005)
    assert "as printed" in " ".join(run.notes)


def test_the_times_of_single_steps_are_taken_as_they_are(run_of: RunOf) -> None:
    run = run_of(long_bar(8, 20.0, 0.0, forgets=True, odd_s=0.15))
    assert middle(run.step_s) == pytest.approx(0.75, rel=0.005)


def test_means_that_tell_the_same_are_taken_as_they_are(run_of: RunOf) -> None:
    run = run_of(long_bar(8, 0.75, 0.0))
    assert "as printed" in " ".join(run.notes)


def test_a_bar_over_several_epochs_is_not_the_time_of_one(run_of: RunOf) -> None:
    run = run_of(long_bar(8, 20.0, 8.0))
    assert run.epochs is not None
    assert middle(run.epochs.time_s) == pytest.approx(83, abs=1)


def test_a_bar_over_two_epochs_is_not_the_time_of_the_second(run_of: RunOf) -> None:
    run = run_of(long_bar(2, 20.0, 8.0))
    assert run.epochs is not None
    assert middle(run.epochs.time_s) == pytest.approx(83, abs=1)


# CLU's writer


def clu(step: int, second: float, what: str = "train", rate: float = 2.5) -> str:
    stamp = at(second)[11:].replace(",", ".") + "000"
    told = f"collection={what} loss=2.{step:05}, timing/seconds=40.5, timing/seqs=9000"
    rates = f"timing/seqs_per_second=225.5, timing/steps_per_second={rate}"
    return f"I0512 {stamp} 1398 logging_writer.py:48] [{step}] {told}, {rates}\n"


def test_a_number_in_brackets_counts_the_steps_of_clu(run_of: RunOf) -> None:
    run = run_of("".join(clu(100 * i, 40 * i) for i in range(1, 20)))
    assert run.track is not None and run.track.step is not None
    assert run.track.step.tolist() == [100 * i for i in range(1, 20)]
    assert middle(run.step_s) == pytest.approx(0.4)


def test_a_collection_of_an_evaluation_is_no_training(reading_of: Callable[..., Reading]) -> None:
    text = "".join(clu(100 * i, 40 * i) + clu(100 * i, 40 * i + 1, "training_eval/c4", 9.5)
                   for i in range(1, 20))  # fmt: skip
    records = reading_of(text).records
    assert set(records.column("steps_per_s")[records.column("phase") == VALIDATION]) == {9.5}


def test_a_number_in_brackets_counts_nothing_elsewhere() -> None:
    assert "step" not in fields("worker.py:48] [3] loss=2.1, accuracy=0.5")


# tables with a bar between their rows


def chainer(epochs: int, first_s: float, each_s: float, names: str) -> str:
    """Epochs of 780 iterations, a bar of four lines after every hundred, a row after each."""
    lines = [names]
    for n in range(100, 780 * epochs, 100):
        if n % 780 < 100 and n > 780:
            epoch = n // 780
            lines.append(f"{epoch}  {780 * epoch}  {9 / epoch:.4f}  {first_s + each_s * epoch:.3f}")
        lines += [
            f"     total [####......] {n % 97}.25%",
            f"this epoch [##........] {n % 89}.50%",
            f"       {n} iter, {n // 780} epoch / {epochs} epochs",
            "     40.25 iters/sec. Estimated time to finish: 0:14:02.976565.",
        ]
    return "\n".join(lines) + "\n"


def test_rows_of_a_table_keep_their_names_over_bars(run_of: RunOf) -> None:
    run = run_of(chainer(25, 4.0, 20.0, "epoch  iteration  main/loss  elapsed_time"))
    assert middle(run.step_s) == pytest.approx(1 / 40.25)
    assert run.epochs is not None
    assert np.isfinite(run.epochs.time_s).sum() >= 23
    assert middle(run.epochs.time_s) == pytest.approx(20)


def test_sums_that_hardly_grow_are_not_the_times_of_epochs(run_of: RunOf) -> None:
    run = run_of(chainer(25, 4000.0, 20.0, "epoch  iteration  main/loss  elapsed_time"))
    assert run.epochs is None or not (run.epochs.time_s > 1000).any()


@pytest.mark.parametrize(
    ("counts", "row", "longest"),
    [("epoch", "3  0.6  7", 9.25), ("precision", "3  0.6  7", 1.5), ("epoch", "3  0.6  7  8", 1.5)],
)
def test_rows_of_as_many_values_belong_to_a_table_that_counts(
    reading_of: Callable[..., Reading], counts: str, row: str, longest: float
) -> None:
    table = f"{counts}  recall  support  elapsed\n" + "1  0.6  70  1.5\n" * 3
    text = table + "saved: the best of all models, at once.\n" + f"{row}  9.25\n" * 3
    assert np.nanmax(reading_of(text).records.column("elapsed_s")) == longest
