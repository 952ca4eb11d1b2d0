"""How the threads of measured processes wait."""

from __future__ import annotations

import pytest

from perfdoctor.collect import waiting_threads
from perfdoctor.collect.waiting_threads import SLEEP, SPIN, waiting


@pytest.fixture(autouse=True)
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_threads, "_decided", {})


def others_use(cores: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_threads, "others_busy_cores", lambda: cores)


def test_alone_they_spin_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    others_use(0.1, monkeypatch)
    assert waiting({}) == SPIN


def test_beside_a_busy_program_they_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    others_use(1.0, monkeypatch)
    assert waiting({"num_workers": 0}) == SLEEP


def test_beside_loader_workers_they_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    others_use(0.0, monkeypatch)
    assert waiting({"num_workers": 2}) == SLEEP


def test_all_that_is_compared_waits_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    others_use(0.0, monkeypatch)
    first = waiting({})
    others_use(2.0, monkeypatch)
    assert waiting({"num_workers": 2}) == first == SPIN


def test_what_others_use_is_a_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_threads, "_WATCHED_S", 0.0)
    assert waiting_threads.others_busy_cores() == 0.0
