"""Samples of one batch are read at once, and come in their order."""

from __future__ import annotations

import pickle
import threading

from torch.utils.data import DataLoader, Dataset

from perfdoctor.collect.concurrent import ConcurrentReads


class Met(Dataset):
    """No sample is there before its neighbour is asked for as well."""

    def __init__(self) -> None:
        self.both = threading.Barrier(2, timeout=10)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        self.both.wait()
        return index


class Squares(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return index**2


def test_two_samples_are_read_at_once_and_keep_their_order():
    loader = DataLoader(ConcurrentReads(Met(), 2), batch_size=2)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]


def test_workers_have_threads_of_their_own():
    reads = ConcurrentReads(Met(), 2)
    assert reads.__getitems__([0, 1]) == [0, 1]  # threads here, none of which a fork takes along
    loader = DataLoader(reads, batch_size=2, num_workers=1, timeout=20)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]


def test_it_can_be_sent_to_a_worker_that_is_spawned():
    reads = ConcurrentReads(Squares(), 2)
    reads.__getitems__([0])
    sent = pickle.loads(pickle.dumps(reads))
    assert sent.__getitems__([3]) == [9]
    assert (len(sent), sent[2]) == (4, 4)
