"""Real DataLoaders, observed and not: what is seen, and that nobody can tell."""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import worker as torch_worker
from worker_toys import (
    Batches,
    Broken,
    Killed,
    Nested,
    NotIterable,
    Numbers,
    Shard,
    TellsItsCaller,
    bad_collate,
    bad_init,
    seeded_init,
)

from perfdoctor.collect.script import worker_side, workers
from perfdoctor.collect.script.stacks import Frame, Sampled
from perfdoctor.collect.script.worker_records import FETCHING
from perfdoctor.collect.script.worker_stacks import write_stacks
from perfdoctor.collect.script.workers import WorkerWatch, supported

_ORIGINAL = torch_worker._worker_loop
_CHECKOUT = str(Path(__file__).parents[3])


@pytest.fixture
def watch(tmp_path):
    watch = WorkerWatch(tmp_path, warn=pytest.fail)
    assert watch.install()
    yield watch
    watch.close()
    assert list(tmp_path.iterdir()) == []
    assert torch_worker._worker_loop is _ORIGINAL


def _iterate(loader, watch=None, index=0):
    """The batches of one epoch; the iterator is told to the watch, if there is one."""
    began = time.perf_counter()
    iterator = iter(loader)
    if watch is not None:
        watch.note_iterator(iterator, index, time.perf_counter() - began)
    return list(iterator)


def _seeded() -> None:
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)


def _draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(()).item()


def _error(loader, watch=None) -> str:
    """The error of one epoch. Its traceback goes: it would keep the workers until some later gc."""
    try:
        _iterate(loader, watch)
    except Exception as error:
        error.__traceback__ = None
        return f"{type(error)} {error}"
    raise AssertionError("no error")


def test_torch_is_as_expected():
    assert supported()


@pytest.mark.parametrize(
    ("method", "count"),
    [("fork", 2), ("spawn", 1), pytest.param("forkserver", 1, marks=pytest.mark.slow)],
)
def test_workers_give_the_same_batches_and_are_counted(watch, method, count):
    loader = functools.partial(
        DataLoader,
        Numbers(),
        batch_size=5,
        shuffle=True,
        num_workers=count,
        worker_init_fn=seeded_init,
    )
    _seeded()
    observed = _iterate(loader(multiprocessing_context=method), watch)
    watch.uninstall()
    after = _draws()
    _seeded()
    plain = _iterate(loader(multiprocessing_context="fork"))  # what they give is the same
    assert all(torch.equal(a, b) for a, b in zip(observed, plain, strict=True))
    assert after == _draws()
    assert sorted(int(n) for batch in observed for n in batch[:, 0]) == list(range(24))
    seen = watch.collect()[0]
    assert (seen.workers, seen.iterators, seen.epochs) == (count, 1, 1)
    assert (seen.batches, seen.samples, seen.lost) == (5, 24, 0)
    assert sorted(seen.batch_samples) == [4, 5, 5, 5, 5]
    assert seen.sample_s.size == 24
    assert seen.sample_s.sum() + seen.collate_s.sum() <= seen.batch_s.sum() + 1e-12
    assert seen.start_s.size == seen.create_s.size == seen.init_s.size == 1
    assert 0 < seen.start_s[0] <= seen.all_started_s[0]
    busy_s = seen.fetch_total_s + seen.collate_total_s + seen.idle_total_s
    assert 0 < busy_s <= seen.alive_s


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {"dataset": Broken(), "batch_size": 4},
        {"dataset": TellsItsCaller(), "batch_size": 4},
        {"dataset": Numbers(), "batch_size": 4, "collate_fn": bad_collate},
        {"dataset": NotIterable(), "batch_size": 4},
        {"dataset": Broken(), "batch_size": None},
    ],
    ids=["dataset", "warning", "collate", "iterable", "unbatched"],
)
def test_errors_arrive_with_the_same_text(watch, options, count):
    observed = _error(DataLoader(num_workers=count, **options), watch)
    watch.uninstall()
    assert observed == _error(DataLoader(num_workers=count, **options))
    # The folders that people keep the project and its environment in are often called so too.
    assert "perfdoctor" not in observed.replace(_CHECKOUT, "").replace(sys.prefix, "")


def test_an_error_in_worker_init_fn_arrives_with_the_same_text(watch):
    loader = DataLoader(Numbers(), num_workers=1, worker_init_fn=bad_init)
    observed = _error(loader, watch)
    watch.uninstall()
    assert observed == _error(loader)
    seen = watch.collect()[0]
    assert seen.batches == 0
    assert seen.lost >= 1


def test_an_iterable_is_counted_by_the_samples_that_came(watch):
    loader = DataLoader(Shard(21), batch_size=4, num_workers=2)
    batches = _iterate(loader, watch)
    assert sorted(int(n) for batch in batches for n in batch) == list(range(21))
    seen = watch.collect()[0]
    assert (seen.batches, seen.samples, seen.lost) == (6, 21, 0)
    assert sorted(seen.batch_samples) == [2, 3, 4, 4, 4, 4]


def test_persistent_workers_are_started_once_for_several_epochs(watch):
    loader = DataLoader(Numbers(), batch_size=4, num_workers=2, persistent_workers=True)
    for _ in range(3):
        _iterate(loader, watch)
    seen = watch.collect()[0]  # the workers still run
    assert (seen.workers, seen.iterators, seen.epochs) == (2, 1, 3)
    assert (seen.batches, seen.samples) == (18, 72)
    assert watch.collect()[0].batches == 18


def test_workers_started_each_epoch_are_counted_and_leave_no_files(watch):
    loader = DataLoader(Numbers(8), batch_size=4, num_workers=1)
    files = []
    for _ in range(4):
        _iterate(loader, watch)
        files.append(len(list(watch.scratch.glob("*.batches"))))
    assert max(files) <= 2
    seen = watch.collect()[0]
    assert (seen.workers, seen.iterators, seen.batches) == (4, 4, 8)
    assert seen.start_s.size == 4
    assert list(watch.scratch.iterdir()) == []


def test_several_loaders_at_once_are_told_apart(watch):
    first = DataLoader(Numbers(8), batch_size=4, num_workers=1)
    second = DataLoader(Numbers(6), batch_size=2, num_workers=1)
    one, two = iter(first), iter(second)
    watch.note_iterator(two, 7, 0.0)
    watch.note_iterator(one, 3, 0.0)
    for _ in zip(one, two, strict=False):
        pass
    _iterate(DataLoader(Numbers(4), batch_size=4), watch, index=9)
    list(two), list(one)
    seen = watch.collect()
    assert {index: loader.batches for index, loader in seen.items()} == {3: 2, 7: 3, 9: 1}


def test_a_loader_nobody_named_is_in_no_result(watch):
    _iterate(DataLoader(Numbers(8), num_workers=1))
    assert watch.collect() == {}


def test_without_workers_this_process_is_timed(watch):
    for dataset in (Numbers(), Batches(), Shard(24), Nested()):
        loader = DataLoader(dataset, batch_size=5)
        _seeded()
        observed = _iterate(loader, watch, index=1)
        watch.uninstall()
        _seeded()
        plain = _iterate(loader)
        assert all(torch.equal(a, b) for a, b in zip(observed, plain, strict=True))
        watch.install()
    seen = watch.collect()[1]
    assert (seen.workers, seen.batches, seen.samples) == (0, 20, 96)
    assert seen.idle_total_s == 0
    assert seen.start_s.size == 0


def test_observation_that_ends_gives_a_running_iterator_back(watch):
    iterator = iter(DataLoader(Numbers(), batch_size=2))
    kind, collate = type(iterator._dataset_fetcher), iterator._dataset_fetcher.collate_fn
    watch.note_iterator(iterator, 0, 0.0)
    next(iterator)
    assert type(iterator._dataset_fetcher) is not kind
    watch.uninstall()
    assert type(iterator._dataset_fetcher) is kind
    assert iterator._dataset_fetcher.collate_fn is collate
    assert len(list(iterator)) == 11


def test_a_worker_that_is_killed_leaves_its_totals(watch):
    # lists: a tensor's memory is handed over by a thread of the worker, and dies with it
    iterator = iter(DataLoader(Killed(), batch_size=4, num_workers=1, collate_fn=list))
    watch.note_iterator(iterator, 0, 0.0)
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises wherever we are
    try:
        for _ in range(3):  # the fifth batch kills it, with the fourth perhaps still in its pocket
            next(iterator)
        iterator._workers[0].join()
        iterator._shutdown_workers()
    finally:
        signal.signal(signal.SIGCHLD, before)
    seen = watch.collect()[0]
    assert (seen.batches, seen.samples) == (4, 16)
    assert seen.batch_s.size == 4


def test_stacks_of_the_workers_are_added_up(watch):
    loader = DataLoader(Numbers(8), batch_size=4, num_workers=2)
    iterator = iter(loader)
    watch.note_iterator(iterator, 2, 0.0)
    list(iterator)
    samples = [Sampled(FETCHING, (Frame("data.py", 3, "Data.__getitem__", 1),), 1.5, 30)]
    for file in watch.scratch.glob("*.batches"):  # what a long run would have seen
        write_stacks(str(file.with_suffix(".stacks")), samples, ("", ""))
    watch.collect()
    assert watch.sampled() == {2: [Sampled(FETCHING, samples[0].stack, 3.0, 60)]}


def test_looks_at_a_worker_begin_at_its_loop(tmp_path, monkeypatch):
    from perfdoctor.collect.script import worker_stacks

    monkeypatch.setattr(worker_stacks.StackSampler, "start", lambda self: None)
    code = _looks_from_inside.__code__
    looks = _looks_from_inside(str(tmp_path / "1-1.stacks"), (code.co_filename, code.co_name))
    looks.close()
    (seen,) = worker_stacks.read_stacks(tmp_path / "1-1.stacks")
    assert [frame.name for frame in seen.stack] == ["_seen", "once"]
    assert (seen.label, seen.count) == (FETCHING, 1)


def _looks_from_inside(path, loop):
    import threading

    from perfdoctor.collect.script.worker_stacks import Looks

    looks = Looks(path, threading.get_ident(), lambda: FETCHING, loop)
    looks._sampler.once()
    return looks


def test_a_child_of_the_users_is_not_observed(watch):
    site = worker_side.Site("_worker_loop", str(watch.scratch), os.getpid() + 1)
    loop = functools.partial(worker_side.observed_worker_loop, site)
    torch_worker._worker_loop = loop
    assert len(_iterate(DataLoader(Numbers(8), batch_size=4, num_workers=1), watch)) == 2
    assert watch.collect()[0].workers == 0
    torch_worker._worker_loop = _ORIGINAL


def test_without_its_folder_a_worker_works_unobserved(watch):
    watch.scratch.rmdir()
    assert len(_iterate(DataLoader(Numbers(8), batch_size=4, num_workers=1), watch)) == 2
    assert watch.collect()[0].workers == 0


def test_another_torch_is_left_alone(monkeypatch, tmp_path):
    told = []
    monkeypatch.delattr(torch_worker, "_worker_loop")
    assert not supported()
    watch = WorkerWatch(tmp_path, warn=told.append)
    assert not watch.install()
    watch.close()
    assert told == ["DataLoader workers are not observed: this torch is not as expected"]
    assert list(tmp_path.iterdir()) == []


def test_the_next_name_of_torchs_loop_is_known(monkeypatch):
    monkeypatch.delattr(torch_worker, "_worker_loop")
    monkeypatch.setattr(torch_worker, "_process_worker_loop", _ORIGINAL, raising=False)
    assert workers._loop_name() == "_process_worker_loop"


def test_no_room_for_a_scratch_folder_is_told(tmp_path):
    told = []
    watch = WorkerWatch(tmp_path / "missing", warn=told.append)
    assert not watch.install()
    assert torch_worker._worker_loop is _ORIGINAL
    assert "no scratch folder" in told[0]


def test_a_failure_of_its_own_ends_the_watch_and_is_told_once(tmp_path):
    told = []
    watch = WorkerWatch(tmp_path, warn=told.append)
    watch.install()
    watch.note_iterator([], 0, 0.0)  # a list cannot be weakly referenced
    assert torch_worker._worker_loop is _ORIGINAL
    watch.note_iterator([], 0, 0.0)
    assert len(told) == 1
    watch.close()


def test_without_workers_enough_batches_are_enough(tmp_path):
    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 8000

        def __getitem__(self, index):
            return torch.tensor(float(index))

    watch = WorkerWatch(tmp_path)
    watch.install()
    loader = torch.utils.data.DataLoader(Numbers(), batch_size=1)
    for _ in range(2):
        iterator = iter(loader)
        watch.note_iterator(iterator, 0, 0.0)
        batches = list(iterator)
        assert [float(batch) for batch in batches] == [float(i) for i in range(8000)]
    assert type(iterator._dataset_fetcher).__name__ == "_MapDatasetFetcher"
    assert iterator._dataset_fetcher.collate_fn is torch.utils.data.default_collate
    seen = watch.collect()[0]
    watch.close()
    assert seen.batches == 512
    assert seen.epochs == 2
