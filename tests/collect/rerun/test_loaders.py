"""The training's batches come from where a mode says, and epochs keep their length."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from perfdoctor.collect.rerun import loaders
from perfdoctor.collect.rerun.loaders import Replay, Switches, twin_arguments
from perfdoctor.collect.rerun.modes import batches_compared
from perfdoctor.errors import PerfdoctorError


class Counting(torch.utils.data.Dataset):
    """Samples are their indices."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index])


class Stream(IterableDataset):
    """Ten of them in their order."""

    def __iter__(self):
        return iter(range(10))


@pytest.fixture
def switches(monkeypatch):
    """Switches in place; every loader is number 0, which trains."""
    kept = DataLoader.__init__, DataLoader.__iter__
    made = Switches(lambda loader: 0)
    made.install(torch)
    made.training = 0
    yield made
    DataLoader.__init__, DataLoader.__iter__ = kept


def flat(batches) -> list[int]:
    return [int(value) for batch in batches for value in batch.flatten()]


def test_without_a_mode_the_script_gets_its_own_batches(switches):
    assert flat(DataLoader(Counting(10), batch_size=4)) == list(range(10))
    assert switches.samples == 10


def test_a_twin_gives_the_same_samples_in_batches_of_its_own(switches):
    loader = DataLoader(Counting(12), batch_size=3)
    switches.source = switches.twin(loader, {"batch_size": 6})
    sizes = [len(batch) for batch in loader]
    assert sizes == [6, 6, 6, 6]  # as many batches as the script's own epoch


def test_within_one_epoch_both_give_batches_and_it_is_no_longer_for_it(switches):
    loader = DataLoader(Counting(8), batch_size=2)
    seen = []
    twin = switches.twin(loader, {})
    for number, batch in enumerate(loader):
        seen.append(batch)
        switches.source = twin if number % 2 == 0 else None
    assert flat(seen) == [0, 1, 0, 1, 2, 3, 2, 3]


def test_once_there_are_twins_each_side_has_epochs_of_its_own(switches):
    loader = DataLoader(Counting(4), batch_size=1)
    switches.load_by_twins(loader)
    twin, usual, trial = switches.twin(loader, {}), [], []
    for _ in range(2):
        for number, batch in enumerate(loader):
            (trial if switches.source else usual).append(int(batch))
            switches.source = twin if number % 2 == 0 else None
    assert usual == trial == [0, 1, 2, 3]


def test_a_prolonged_epoch_begins_anew_without_an_end(switches):
    loader = DataLoader(Counting(3), batch_size=1)
    switches.prolonged = True
    switches.load_by_twins(loader)
    seen = []
    for batch in loader:
        switches.steps += 1
        seen.append(int(batch))
        if len(seen) == 7:
            break
    assert seen == [0, 1, 2, 0, 1, 2, 0]
    assert switches.epochs == 4  # the script's one, and three of the twin


def test_an_epoch_that_trains_nothing_ends_where_epochs_are_prolonged(switches):
    loader = DataLoader(Counting(3), batch_size=1)
    switches.prolonged = True
    switches.load_by_twins(loader)
    assert flat(itertools.islice(loader, 9)) == [0, 1, 2]


def test_an_iterable_dataset_still_ends_by_itself_where_epochs_are_prolonged(switches):
    loader = DataLoader(Stream(), batch_size=2)
    switches.prolonged = True
    switches.load_by_twins(loader)
    assert len(list(loader)) == 5


def test_other_loaders_keep_their_own_batches(switches):
    training, other = DataLoader(Counting(4)), DataLoader(Counting(3))
    numbers = {id(training): 0, id(other): 1}
    switches._number_of = lambda loader: numbers[id(loader)]
    switches.source = Replay([torch.tensor([7])])
    assert flat(training) == [7, 7, 7, 7]
    assert flat(other) == [0, 1, 2]


def test_an_iterable_dataset_ends_by_itself(switches):
    assert len(list(DataLoader(Stream(), batch_size=2))) == 5


def test_leaving_an_epoch_early_and_beginning_again_works(switches):
    loader = DataLoader(Counting(8), batch_size=2)
    next(iter(loader))
    assert flat(loader) == list(range(8))


def test_workers_of_a_paused_script_stand_still_and_go_on(switches):
    loader = DataLoader(Counting(64), batch_size=4, num_workers=2, persistent_workers=True)
    iterator = iter(loader)
    next(iterator)
    switches.still()
    assert [state(pid) for pid in iterator.pids()] == ["T", "T"]
    switches.go()
    assert "T" not in [state(pid) for pid in iterator.pids()]
    list(iterator)
    switches.still()
    assert len(list(loader)) == 16  # persistent workers answer, though they stood still


def test_the_workers_of_whoever_is_not_asked_stay_still(switches):
    loader = DataLoader(Counting(64), batch_size=4, num_workers=1)
    iterator = iter(loader)
    next(iterator)
    switches.still()
    switches.source = Replay([torch.tensor([7])])
    switches.go()
    assert [state(pid) for pid in iterator.pids()] == ["T"]
    switches.source = None
    switches.go()
    next(iterator)


def state(pid: int) -> str:
    """R, S, T (stopped), … of a process; waits until a signal has arrived."""
    os.sched_yield()
    for _ in range(1000):
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        if found in "ST":
            return found
    return found


def test_workers_that_have_ended_get_no_signals(switches, monkeypatch):
    loader = DataLoader(Counting(8), batch_size=4, num_workers=1)
    iterator = iter(loader)
    next(iterator)
    assert len(iterator.pids()) == 1
    list(iterator)
    iterator._own._shutdown_workers()
    assert iterator._own._workers and iterator.pids() == []
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, what: sent.append(pid))
    switches.still()
    assert sent == []


def test_a_loader_that_is_made_anew_each_epoch_is_the_latest_one(switches):
    for _ in range(2):
        loader = DataLoader(Counting(2))
        list(loader)
        assert switches.loader is loader


def test_a_twin_without_workers_has_no_settings_of_workers():
    given = {"dataset": 1, "num_workers": 4, "prefetch_factor": 8, "persistent_workers": True}
    assert twin_arguments(given, {"num_workers": 0}) == {"dataset": 1, "num_workers": 0}


def test_a_batch_size_that_a_sampler_decides_cannot_be_changed():
    with pytest.raises(PerfdoctorError) as caught:
        twin_arguments({"dataset": 1, "batch_sampler": object()}, {"batch_size": 8})
    assert caught.value.slug == "own-batch-sampler"


def test_a_loader_made_before_the_switches_has_no_twin(switches):
    loader = DataLoader(Counting(4))
    switches._arguments.clear()
    with pytest.raises(PerfdoctorError) as caught:
        switches.twin(loader, {})
    assert caught.value.slug == "no-twin"


def test_a_signal_to_a_worker_that_has_ended_is_no_error():
    loaders.send(signal.SIGCONT, [2**22 + 1])


def test_the_size_of_a_tensor_dataset_is_its_epoch(switches):
    data = TensorDataset(torch.arange(6))
    loader = DataLoader(data, batch_size=4, drop_last=True)
    assert len(list(loader)) == 1


def test_the_first_batches_of_both_sides_are_compared_while_the_script_stands_still(switches):
    loader = DataLoader(Counting(8), batch_size=2, shuffle=True)
    rerun = SimpleNamespace(loaders=switches, training_loader=lambda: loader)
    before = torch.get_rng_state()
    assert batches_compared(rerun, {"num_workers": 1, "threads": 2}, 3) == "same"
    assert torch.equal(torch.get_rng_state(), before)
    assert (switches.epochs, switches.samples) == (0, 0)
