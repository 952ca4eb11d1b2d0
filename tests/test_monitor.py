"""TrainingMonitor, with time that passes only where a loop says so."""

from __future__ import annotations

import json
import weakref
from typing import Any

import pytest

from perfdoctor import TrainingMonitor
from perfdoctor.collect.script.step_rows import MOST_ROWS
from perfdoctor.errors import PerfdoctorError

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def monitor(clock: Clock, **given: Any) -> TrainingMonitor:
    return TrainingMonitor("net", **{"output_dir": None, "clock": clock} | given)


def train(watched: TrainingMonitor, clock: Clock, steps: int = 40) -> None:
    """Each step takes 1 s: 0.25 to load, 0.5 forward; half a second lies between two of them."""
    for i in range(steps):
        with watched.stage("data_loading"):
            clock.spend(0.25)
        with watched.stage("forward"):
            clock.spend(0.5)
        clock.spend(0.25)
        clock.spend(0.5)
        watched.log_iteration(1.0, loss=1 / (i + 1), epoch=i // 10)


def test_the_numbers_are_those_of_the_loop(clock):
    with monitor(clock, batch_size=8) as watched:
        train(watched, clock)
        so_far = watched.get_summary()
        clock.spend(10)
    found = watched.get_summary()
    assert "verdict" not in so_far
    assert found["p50_step_s"] == so_far["p50_step_s"] == pytest.approx(1.0)
    assert found["seconds"] == pytest.approx(40 * 1.5 + 10)
    assert found["steps"] + watched.report.steps.warmup_discarded == 40
    assert found["stages"]["forward"] == pytest.approx(0.5 / 1.5, abs=0.01)
    assert found["metrics"] == {"loss": pytest.approx(1 / 40)}
    assert found["verdict"]
    assert watched.report.ending.how == "finished"
    assert watched.report.source.kind == "monitor"
    assert watched.report.epochs.steps_per_epoch == 10


def test_without_seconds_a_step_is_all_the_time_since_the_last_one(clock):
    with monitor(clock) as watched:
        for _ in range(20):
            clock.spend(2)
            watched.log_iteration(samples=16)
    assert watched.get_summary()["p50_step_s"] == pytest.approx(2)
    assert watched.get_summary()["samples_per_s"] == pytest.approx(8)


def test_an_exception_in_the_block_goes_on_and_is_said(clock):
    with pytest.raises(ZeroDivisionError), monitor(clock) as watched:
        train(watched, clock)
        with watched.stage("forward"):
            1 / 0  # noqa: B018
    assert watched.report.ending.how == "exception"
    assert watched.report.ending.detail.startswith("ZeroDivisionError")


def test_a_block_may_stop_it_itself(clock):
    with monitor(clock) as watched:
        train(watched, clock)
        report = watched.stop_monitoring()
    assert watched.report is report


def test_the_report_is_written_where_it_was_asked_for_at_the_start(tmp_path, monkeypatch, clock):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with monitor(clock, output_dir="out") as watched:
        train(watched, clock)
        monkeypatch.chdir("elsewhere")
    (path,) = (tmp_path / "out").glob("performance_report_*.json")
    assert json.loads(path.read_text())["name"] == "net"


def test_what_cannot_be_written_is_said_at_once_or_in_one_line(tmp_path, clock, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(PerfdoctorError, match="cannot write"):
        monitor(clock, output_dir=tmp_path / "file").start_monitoring()
    with monitor(clock, output_dir=tmp_path / "out") as watched:
        train(watched, clock)
        (tmp_path / "out").rmdir()
        (tmp_path / "out").touch()
    assert watched.report is not None
    error = capsys.readouterr().err
    assert error.startswith("perfdoctor: the report of net is not written")
    assert error.count("\n") == 1


def test_calls_in_the_wrong_order_are_explained(clock):
    watched = monitor(clock)
    for call in (watched.log_iteration, watched.stop_monitoring, watched.get_summary):
        with pytest.raises(PerfdoctorError, match="call start_monitoring"):
            call()
    watched.start_monitoring()
    with pytest.raises(PerfdoctorError, match="monitored already"):
        watched.start_monitoring()
    train(watched, clock)
    watched.stop_monitoring()
    with watched:  # and again from the start
        train(watched, clock, steps=20)
    assert watched.report.wall.total_s == pytest.approx(30)


def test_its_memory_does_not_grow_with_the_steps(clock):
    watched = monitor(clock).start_monitoring()
    for _ in range(3 * MOST_ROWS):
        clock.spend(1)
        watched.log_iteration()
    assert len(watched._recorder.steps.rows().sums) < MOST_ROWS
    assert watched.get_summary()["p50_step_s"] == pytest.approx(1)
    watched.stop_monitoring()


def test_a_tensor_given_as_a_metric_keeps_no_graph(clock):
    import torch

    with monitor(clock) as watched:
        loss = (torch.ones(3, requires_grad=True) * 2).sum()
        kept = weakref.ref(loss)
        for _ in range(10):
            clock.spend(1)
            watched.log_iteration(loss=loss)
        del loss
        assert kept() is None
    assert watched.get_summary()["metrics"] == {"loss": 6.0}
