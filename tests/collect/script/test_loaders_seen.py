"""Loaders that are made anew, told apart or taken for one."""

from __future__ import annotations

import gc

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from perfdoctor.collect.script.loaders_seen import LoadersSeen
from perfdoctor.collect.script.recorder import Recorder


class Client(torch.utils.data.Dataset):
    """One client's data of a federated training."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return self.number


def of_clients(seen: LoadersSeen, clients: list[Client], *, learning: bool) -> list[int]:
    """The numbers of the facts of a loader for each, which is gone before the next one is made."""
    found = []
    for client in clients:
        loader = DataLoader(client, batch_size=2, shuffle=True)
        facts = seen.of(loader, learning=learning)
        facts.training += learning
        found.append(facts.number)
        del loader
        gc.collect()
    return found


def test_loaders_of_one_client_after_the_other_are_one() -> None:
    clients = [Client(n) for n in range(3)]
    assert of_clients(LoadersSeen(Recorder()), clients * 2, learning=True) == [0] * 6


@pytest.mark.parametrize("learning", [True, False])
def test_one_that_is_not_trained_on_is_another(learning: bool) -> None:
    seen, clients = LoadersSeen(Recorder()), [Client(n) for n in range(2)]
    assert of_clients(seen, clients[:1], learning=learning) == [0]
    assert of_clients(seen, clients[1:], learning=not learning) == [1]


def test_those_that_live_side_by_side_are_two() -> None:
    seen = LoadersSeen(Recorder())
    data = [TensorDataset(torch.zeros(8)) for _ in range(2)]
    loaders = [DataLoader(one, batch_size=2) for one in data]
    assert [seen.of(loader).number for loader in loaders] == [0, 1]
