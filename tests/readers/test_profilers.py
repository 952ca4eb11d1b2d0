"""Reports of Lightning's SimpleProfiler."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.readers.advanced_profiler import LightningAdvancedProfiler
from perfdoctor.readers.profilers import LightningSimpleProfiler

SIMPLE, ADVANCED = LightningSimpleProfiler(), LightningAdvancedProfiler()
Rows = Sequence[tuple[str, float, int]]

MODERN: Rows = [
    ("run_training_epoch", 90.0, 3),
    ("run_training_batch", 60.0, 300),
    ("[LightningModule]Net.optimizer_step", 58.0, 300),
    ("[Strategy]DDPStrategy.backward", 30.0, 300),
    ("[Strategy]DDPStrategy.training_step", 20.0, 300),
    ("[_TrainingEpochLoop].train_dataloader_next", 12.0, 300),
    ("[Strategy]DDPStrategy.validation_step", 8.0, 30),
    ("[_EvaluationLoop].val_next", 2.0, 30),
    ("[LightningModule]Net.on_validation_epoch_end", 1.0, 3),
    ("[Callback]ModelCheckpoint{'monitor': None, 'mode': 'min'}.on_train_epoch_end", 4.0, 3),
    ("save_checkpoint", 3.5, 3),
    ("[Callback]TQDMProgressBar.on_train_batch_end", 0.5, 300),
    ("[Callback]TQDMProgressBar.on_validation_batch_end", 0.25, 30),
    ("[Strategy]DDPStrategy.batch_to_device", 3.0, 330),
    ("[LightningModule]Net.transfer_batch_to_device", 2.5, 330),
    ("[LightningModule]Net.optimizer_zero_grad", 1.0, 300),
]
MIDDLE: Rows = [
    ("run_training_epoch", 50.0, 10),
    ("run_training_batch", 22.0, 5500),
    ("optimizer_step_and_closure_0", 21.0, 5500),
    ("training_step_and_backward", 16.0, 5500),
    ("model_forward", 10.5, 5500),
    ("get_train_batch", 10.0, 5500),
    ("training_step", 9.5, 5500),
    ("backward", 4.5, 5500),
    ("evaluation_step_and_end", 2.25, 500),
    ("validation_step", 2.2, 500),
    ("on_validation_end", 0.25, 10),
    ("training_batch_to_device", 0.75, 5500),
    ("cache_result", 0.125, 23625),
]


def framed(rows: Rows, total_s: float = 100.0, title: str = "FIT") -> str:
    """As Lightning 1.5 and later print it."""
    line = "|  {:<80s}\t|  {:<15}\t|  {:<15}\t|  {:<15}\t|  {:<15}\t|"
    rule = "-" * 150
    head = line.format("Action", "Mean duration (s)", "Num calls", "Total time (s)", "Percentage %")
    body = [
        line.format(name, f"{s / calls:.5}", calls, f"{s:.5}", f"{100 * s / total_s:.5}")
        for name, s, calls in rows
    ]
    total = line.format("Total", "-", "7058", f"{total_s:.5}", "100 %")
    return "\n".join(
        [f"{title} Profiler Report", "", rule, head, rule, total, rule, *body, rule, ""]
    )


def unframed(rows: Rows, total_s: float) -> str:
    """As Lightning 1.1 to 1.4."""
    lines = [
        "FIT Profiler Report", "",
        "Action\t|  Mean duration (s)\t|Num calls      \t|  Total time (s) \t|  Percentage %   \t|",
        "-" * 130,
        f"Total\t|  -              \t|_              \t|  {total_s:.5}\t|  100 %          \t|",
        "-" * 130,
    ]  # fmt: skip
    lines += [
        f"{n}\t|  {s / c:.5}\t|{c}\t|  {s:.5}\t|  {100 * s / total_s:.5}\t|" for n, s, c in rows
    ]
    return "\n".join(lines) + "\n"


def plain(rows: Rows) -> str:
    """As Lightning 0.7 to 1.0, and later ones with extended=False."""
    lines = ["Profiler Report", "", "Action\t|  Mean duration (s)\t|  Total time (s) ", "-" * 65]
    lines += [f"{name}\t|  {s / calls:.5}\t|  {s:.5}" for name, s, calls in rows]
    return "\n".join(lines) + "\n\n"


def test_rows_that_nest_become_stages_that_do_not() -> None:
    text = framed(MODERN)
    assert SIMPLE.score("fit-perf.txt", text) > 0.9
    facts = SIMPLE.read("fit-perf.txt", text).facts
    assert facts == pytest.approx(
        {
            "wall_s": 100.0,
            "epochs": 3,
            "epoch_mean_s": 30.0,
            "steps": 300,
            "step_mean_s": 0.2,
            "data_loading_s": 12.0,
            "h2d_copy_s": 3.0,
            "forward_s": 20.0,
            "backward_s": 30.0,
            "optimizer_s": 8.0,
            "validation_s": 11.0,
            "checkpoint_s": 4.0,
            "logging_s": 0.75,
        }
    )


def test_the_names_of_older_versions_mean_the_same() -> None:
    facts = SIMPLE.read("p.txt", unframed(MIDDLE, 54.0)).facts
    assert facts == pytest.approx(
        {
            "wall_s": 54.0,
            "epochs": 10,
            "epoch_mean_s": 5.0,
            "steps": 5500,
            "step_mean_s": 0.004,
            "data_loading_s": 10.0,
            "h2d_copy_s": 0.75,
            "forward_s": 9.5,
            "backward_s": 4.5,
            "optimizer_s": 5.0,
            "validation_s": 2.5,
            "logging_s": 0.125,
        }
    )


def test_the_oldest_table_has_no_calls_no_total_and_no_closure() -> None:
    rows = [
        ("on_epoch_start", 0.001, 1), ("get_train_batch", 16.0, 2000), ("model_forward", 3.5, 2000),
        ("model_backward", 3.25, 2000), ("optimizer_step", 2.0, 2000),
    ]  # fmt: skip
    text = "loss=0.301, v_num=1]INFO:root:\n" + "".join(
        f"    {x}\n" for x in plain(rows).split("\n")
    )
    facts = SIMPLE.read("p.txt", text).facts
    assert facts == pytest.approx(
        {
            "steps": 2000,
            "data_loading_s": 16.0,
            "forward_s": 3.5,
            "backward_s": 3.25,
            "optimizer_s": 2.0,
        }
    )


def test_accumulated_batches_run_the_closure_more_often_than_the_optimizer() -> None:
    rows = [
        ("run_training_batch", 60.0, 400), ("[LightningModule]N.optimizer_step", 20.0, 100),
        ("[Strategy]S.training_step", 24.0, 400), ("[Strategy]S.backward", 32.0, 400),
    ]  # fmt: skip
    assert SIMPLE.read("p.txt", framed(rows)).facts["optimizer_s"] == pytest.approx(6.0)


def test_hotspots_are_the_longest_rows_that_hold_no_others() -> None:
    hotspots = SIMPLE.read("p.txt", framed(MODERN)).hotspots
    assert [(each.function.rpartition(".")[2], each.share, each.stage) for each in hotspots] == [
        ("backward", 0.30, "backward"),
        ("training_step", 0.20, "forward"),
        ("train_dataloader_next", 0.12, "data_loading"),
        ("validation_step", 0.08, "validation"),
        ("optimizer step without its closure", 0.08, "optimizer"),
        ("on_train_epoch_end", 0.04, "checkpoint"),
        ("batch_to_device", 0.03, "h2d_copy"),
        ("val_next", 0.02, "validation"),
        ("on_validation_epoch_end", 0.01, "validation"),
        ("on_train_batch_end", 0.005, "logging"),
    ]


def test_a_report_logged_twice_counts_once_and_two_fits_add_up() -> None:
    once = SIMPLE.read("p.txt", framed(MODERN))
    twice = SIMPLE.read("p.txt", framed(MODERN) + framed(MODERN))
    assert twice.facts == once.facts
    both = SIMPLE.read("p.txt", framed(MODERN) + framed([("run_training_epoch", 10.0, 1)], 20.0))
    assert both.facts["epochs"] == 4
    assert both.facts["epoch_mean_s"] == pytest.approx(25.0)
    assert both.facts["wall_s"] == 120.0
    assert any("2 profiler reports" in note for note in both.notes)


def test_a_report_of_validate_beside_one_of_fit_is_left_out() -> None:
    text = framed(MODERN) + framed(MODERN, 200.0, title="VALIDATE")
    assert SIMPLE.read("p.txt", text).facts["wall_s"] == 100.0


def test_a_report_at_the_end_of_a_long_log_does_not_make_it_the_profilers() -> None:
    text = "Epoch 1 step 5 loss 0.5\n" * 200 + framed(MODERN) + "Training finished\n"
    assert 0 < SIMPLE.score("train.log", text) < 0.5
    reading = SIMPLE.read("train.log", text)
    assert reading.facts["wall_s"] == 100.0
    assert reading.unread == 0


def test_a_row_that_was_cut_is_counted_and_ends_the_table() -> None:
    text = framed(MODERN[:2])
    reading = SIMPLE.read("p.txt", text[: text.rindex("\t|  60.0")])
    assert "steps" not in reading.facts
    assert reading.facts["epochs"] == 3
    assert reading.unread == 1


def test_a_row_that_was_not_timed_is_passed_over() -> None:
    header = "Action | Mean duration (s) | Total time (s)\n"
    text = header + "backward | nan | nan\ntraining_step | 0.5 | 2.0\n"
    assert SIMPLE.read("p.txt", text).facts == {"forward_s": 2.0, "steps": 4}


def test_the_advanced_profilers_reader_does_not_take_it() -> None:
    assert ADVANCED.score("p.txt", framed(MODERN)) == 0


@given(st.text(alphabet="FITProfile Report|Action-Tal0.9_\n\t[]", max_size=300))
def test_no_text_makes_a_reader_fail(text: str) -> None:
    header = "Action | Mean duration (s) | Total time (s)\na | 1 | 2\n"
    block = "Profile stats for: a\n 3 function calls in 1.0 seconds\n"
    for start in ("", header, block):
        for reader in (SIMPLE, ADVANCED):
            assert 0 <= reader.score("x", start + text) <= 1
            assert all(value >= 0 for value in reader.read("x", start + text).facts.values())
