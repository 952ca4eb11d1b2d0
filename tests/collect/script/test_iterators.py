"""The wait for an iterator's workers to end, observed: it is waiting for data, and kept.

Time passes only where a loop says so, so every figure is exact.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_observing import Clock, Net, Samples, Watched
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from perfdoctor.collect.script.settings_used import training_loader

ENDING = 7
STEP = 30  # forward and backward


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Waiting for workers to end costs `ENDING`, the first time that it is asked for."""
    clock, original = Clock(), _MultiProcessingDataLoaderIter._shutdown_workers

    def shut_down(self: Any) -> None:
        clock.spend(0 if self._shutdown else ENDING)
        original(self)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_shutdown_workers", shut_down)
    return clock


def _loader(clock: Clock, count: int = 8, **options: Any) -> DataLoader[Any]:
    return DataLoader(Samples(clock, count), batch_size=4, num_workers=1, **options)


def _stepping(clock: Clock) -> Callable[[torch.Tensor], None]:
    model = Net(clock)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(x: torch.Tensor) -> None:
        model(x).sum().backward()
        optimizer.step()

    return step


def _epochs(clock: Clock, loader: DataLoader[Any], epochs: int) -> None:
    step = _stepping(clock)
    for _ in range(epochs):
        for x, _ in loader:
            step(x)


def _ended(seen: Watched) -> list[int]:
    facts = training_loader(seen.observer)
    assert facts is not None
    return facts.ended_ns


def test_the_end_of_an_epoch_s_workers_is_waiting_for_data(clock: Clock) -> None:
    with Watched(clock) as seen:
        _epochs(clock, _loader(clock), 3)
    assert seen.totals()["data_loading"] == 3 * ENDING
    assert "other" not in seen.totals()
    assert _ended(seen) == [ENDING] * 3


def test_so_is_the_end_of_those_whose_iterator_is_thrown_away(clock: Clock) -> None:
    with Watched(clock) as seen:
        loader, step = _loader(clock, 80), _stepping(clock)
        for _ in range(40):  # the last of them go steadily
            x, _ = next(iter(loader))
            step(x)
    assert seen.totals()["data_loading"] == 40 * ENDING
    assert "other" not in seen.totals()
    assert _ended(seen) == [ENDING] * 40
    assert all(
        step == {"data_loading": ENDING, "forward": 10, "backward": 20} for step in seen.per_step()
    )


def test_what_an_end_interrupts_goes_on_afterwards(clock: Clock) -> None:
    class Drops(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            clock.spend(1)
            self.kept.clear()  # type: ignore[operator]
            return super().forward(x)

    with Watched(clock) as seen:
        model = Drops(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(3):
            batches = iter(_loader(clock))
            x, _ = next(batches)
            model.__dict__["kept"] = [batches]
            del batches
            model(x).sum().backward()
            optimizer.step()
    assert seen.totals() == {"data_loading": 3 * ENDING, "forward": 33, "backward": 60}


def test_workers_that_persist_end_once(clock: Clock) -> None:
    with Watched(clock) as seen:
        loader = _loader(clock, persistent_workers=True)
        _epochs(clock, loader, 3)
        assert _ended(seen) == []
        del loader
        gc.collect()
        assert _ended(seen) == [ENDING]
    assert seen.totals()["data_loading"] == ENDING


def test_an_end_amid_a_note_is_timed_and_notes_nothing(clock: Clock) -> None:
    with Watched(clock) as seen:
        recorder, loader, step = seen.observer.recorder, _loader(clock), _stepping(clock)
        batches = iter(loader)
        x, _ = next(batches)
        recorder.note(recorder.current)
        del batches
        recorder.note(clock())
        step(x)
    assert _ended(seen) == [ENDING]
    assert seen.totals() == {"start_up": ENDING, "forward": 10, "backward": 20}


def test_nothing_is_timed_once_the_observation_is_over(clock: Clock) -> None:
    with Watched(clock) as seen:
        loader, step = _loader(clock), _stepping(clock)
        batches = iter(loader)
        x, _ = next(batches)
        step(x)
    del batches
    assert clock.now == STEP + ENDING
    assert _ended(seen) == []


def test_a_loader_without_workers_has_no_end(clock: Clock) -> None:
    with Watched(clock) as seen:
        _epochs(clock, DataLoader(Samples(clock), batch_size=4), 2)
    assert _ended(seen) == []
