"""Builds, installations and pulls count parts of a whole too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from perfdoctor.record import Run

RunOf = Callable[..., Run]
AT = "2024-03-01 10:{:02d}:{:02d} "


def at(seconds: int) -> str:
    return AT.format(seconds // 60, seconds % 60)


def training(begins_s: int) -> str:
    return "".join(
        f"{at(begins_s + 5 * i)}iter {10 * i}/600 loss {3 - i / 30:.3f}\n" for i in range(60)
    )


COMMANDS = (
    "/usr/local/bin/nvcc -DX=1 -I/usr/include -std=c++17 -gencode=arch=sm_80 -c k.cu -o k.o",
    "c++ -MMD -MF a.o.d -DTORCH_API -I/x -fPIC -std=c++17 -c a.cpp -o a.o",
    "Building CXX object src/CMakeFiles/a.dir/a.cpp.o",
    "RUN pip install torch==1.13",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_build_counts_are_no_steps(run_of: RunOf, command: str) -> None:
    run = run_of("".join(f"{at(i)}[{i}/40] {command}\n" for i in range(1, 41)))
    assert not np.isfinite(run.step_s).any()
    assert run.epochs is None


def test_a_build_before_the_training_is_its_start(run_of: RunOf) -> None:
    build = "".join(f"{at(i)}[{i}/40] {COMMANDS[0]}\n" for i in range(1, 41))
    run = run_of(build + training(60))
    assert np.nanmedian(run.step_s) == pytest.approx(0.5)
    parts = {span.name: span.seconds for span in run.spans}
    assert parts["start_up"] == pytest.approx(59)
    assert parts["train"] == pytest.approx(295)


def test_a_build_within_the_training_adds_no_steps(run_of: RunOf) -> None:
    lines = [f"iter {20 * i} loss 1.0 time 0.200 s\n" for i in range(30)]
    build = [f"[{i}/12] {COMMANDS[1]}\n" for i in range(1, 13)]
    run = run_of("".join(lines[:5] + build + lines[5:]))
    assert np.isfinite(run.step_s).sum() == 30
    assert run.restarts == ()


def test_a_part_of_a_whole_beside_a_loss_counts_steps(run_of: RunOf) -> None:
    run = run_of("".join(f"{at(4 * i)}[{20 * i}/800] loss: {3 - i / 40:.2f}\n" for i in range(40)))
    assert np.nanmedian(run.step_s) == pytest.approx(0.2)


def test_a_part_of_a_whole_beside_nothing_counts_nothing(run_of: RunOf) -> None:
    run = run_of("".join(f"{at(4 * i)}[{i}/40] resolving packages\n" for i in range(40)))
    assert not np.isfinite(run.step_s).any()


STAGES = (
    "-- Configuring done (41.3s)",
    "-- Generating done (4.8s)",
    "#5 DONE 15.0s",
    "#9 exporting layers 38.2s done",
    "Fetched 118 MB in 6s (18.9 MB/s)",
)


@pytest.mark.parametrize("stage", STAGES)
def test_what_the_stages_of_a_build_took_are_no_steps(run_of: RunOf, stage: str) -> None:
    run = run_of("".join(f"-- Found package {i}\n{stage}\n" for i in range(12)))
    assert not np.isfinite(run.step_s).any()


def test_seconds_behind_other_marks_are_of_steps(run_of: RunOf) -> None:
    run = run_of("".join(f"#{i} done in 0.50 s, loss 1.{i:02}\n" for i in range(12)))
    assert np.nanmedian(run.step_s) == 0.5


def test_a_few_times_without_a_name_beside_nothing_are_of_no_training(run_of: RunOf) -> None:
    run = run_of("".join(f"unpacked part {'abc'[i]} ({10 + i}.5s)\n" for i in range(3)))
    assert not np.isfinite(run.step_s).any()


def test_many_times_without_a_name_may_be_of_steps(run_of: RunOf) -> None:
    run = run_of("".join(f"done, took 0.{40 + i}s\n" for i in range(12)))
    assert np.nanmedian(run.step_s) == pytest.approx(0.455)


def test_times_that_are_not_alike_beside_nothing_are_of_no_training(run_of: RunOf) -> None:
    run = run_of(
        "".join(f"installed a package, took {1.7 ** (7 * i % 20):.2f}s\n" for i in range(20))
    )
    assert not np.isfinite(run.step_s).any()


def test_a_few_times_beside_a_loss_are_of_steps(run_of: RunOf) -> None:
    run = run_of("".join(f"loss 1.{i} took 0.5{i}s\n" for i in range(4)))
    assert np.isfinite(run.step_s).sum() == 4


def served(i: int) -> str:
    told = f"{at(i)}Avg generation throughput: {400 + i}.5 tokens/s, Running: 3 requests\n"
    return told + f'{at(i)}10.0.0.{i % 9}:5000 - "POST /v1/completions HTTP/1.1" 200 OK\n'


def capturing(total: int) -> str:
    bars = (f"{i}/{total} [00:{i:02}<00:05,  1.95it/s]" for i in range(1, total + 1))
    return "".join(f"Capturing graph shapes: {i}%|█| {bar}\r" for i, bar in enumerate(bars)) + "\n"


def test_a_server_that_starts_with_bars_is_no_training(run_of: RunOf) -> None:
    run = run_of(capturing(30) + "".join(map(served, range(60))))
    assert not np.isfinite(run.step_s).any()
    assert not run.rates


def test_the_answers_of_a_server_beside_a_training_leave_its_steps(run_of: RunOf) -> None:
    steps = "".join(f"step {i} loss 2.{i} step_time 0.25 s\n" for i in range(20))
    run = run_of("".join(map(served, range(20))) + steps)
    assert np.nanmedian(run.step_s) == 0.25
