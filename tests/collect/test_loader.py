"""Batches come with how they were made, whichever process made them."""

from __future__ import annotations

import time

import pytest
import torch
import toys

import perfdoctor
from perfdoctor.collect.loader import TimedBatch, is_iterable, make_loader


def batches(dataset, *, strict=False, count_reads=False, **options):
    options = {"batch_size": 8, **options}
    return list(make_loader(dataset, options, strict=strict, count_reads=count_reads))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_are_those_of_a_plain_loader(workers):
    seen = [b.data[0][:, 0].tolist() for b in batches(toys.Points(20), num_workers=workers)]
    plain = torch.utils.data.DataLoader(toys.Points(20), batch_size=8)
    assert seen == [x[:, 0].tolist() for x, _ in plain]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_batch_says_who_made_it_and_how_long_it_took(workers):
    infos = [batch.info for batch in batches(toys.Points(20), num_workers=workers)]
    assert [info.samples for info in infos] == [8, 8, 4]
    assert [info.worker for info in infos] == ([0, 1, 0] if workers else [None] * 3)
    for info in infos:
        assert info.start_ns <= info.fetched_ns <= info.done_ns
        assert 0 <= info.collate_s <= info.batch_s
        assert info.failure is None


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_sample_is_replaced_and_named(workers):
    found = batches(toys.PartlyUnreadable(20), num_workers=workers)
    assert all(len(batch.data[1]) == batch.info.samples for batch in found)
    assert dict(found[0].info.skipped) == {"file0.jpg": "truncated", "file5.jpg": "truncated"}


def test_strict_makes_an_unreadable_sample_a_failure():
    (batch, *_) = batches(toys.PartlyUnreadable(20), strict=True)
    assert batch.data is None
    assert batch.info.failure[1] == "UnreadableSampleError: file0.jpg: truncated"


def test_a_dataset_without_a_readable_sample_is_a_failure():
    (batch, *_) = batches(toys.Unreadable(6), batch_size=2)
    assert batch.info.failure is not None


@pytest.mark.parametrize("workers", [0, 1])
def test_the_users_exception_arrives_with_their_traceback_and_not_ours(workers):
    (batch, *_) = batches(toys.Broken(8), num_workers=workers)
    where, line, traceback = batch.info.failure
    assert where == "dataset"
    assert line == "KeyError: 'no such column'"
    assert "toys.py" in traceback
    assert "perfdoctor/collect" not in traceback


def test_a_collate_function_that_raises_is_named_as_such():
    def collate(samples):
        raise ValueError("ragged")

    (batch,) = batches(toys.Points(8), collate_fn=collate)
    assert batch.info.failure[:2] == ("collate function", "ValueError: ragged")


@pytest.mark.parametrize("workers", [0, 1])
def test_streams_drop_what_could_not_be_read_and_name_it(workers):
    found = batches(toys.Stream(), num_workers=workers, batch_size=5)
    assert [batch.info.samples for batch in found] == [5, 5, 2]
    assert found[0].info.skipped == [("shard.tar", "bad member")]


def test_a_stream_that_ends_does_not_charge_its_end_to_the_next_epoch():
    loader = make_loader(toys.Stream(), {"batch_size": 12}, strict=False)
    list(loader)
    between = time.perf_counter_ns()
    assert next(iter(loader)).info.start_ns > between


@pytest.mark.parametrize("workers", [0, 1])
def test_stages_named_by_the_dataset_come_with_the_batch(workers):
    def collate(samples):
        with perfdoctor.stage("pad"):
            return torch.utils.data.default_collate(samples)

    (batch,) = batches(toys.NamingAStage(8), num_workers=workers, collate_fn=collate)
    assert set(batch.info.stages_s) == {"decode", "pad"}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_that_fails_late_is_told_even_where_the_last_batch_is_dropped(workers):
    class Failing(toys.Stream):
        def __iter__(self):
            yield from super().__iter__()
            raise OSError("file gone")

    found = batches(Failing(), num_workers=workers, batch_size=5, drop_last=True)
    assert found[-1].info.failure[1] == "OSError: file gone"


def test_leaving_is_the_users_failure_and_not_ours():
    class Leaving(toys.Points):
        def __getitem__(self, index):
            raise SystemExit(0)

    (batch,) = batches(Leaving(8))
    assert batch.info.failure[1] == "SystemExit: 0"


def test_a_dataset_may_give_whole_batches():
    found = batches(toys.Points(3), batch_size=None)
    assert [b.data[0].shape for b in found] == [(4,)] * 3


def test_a_batch_can_be_pinned_by_the_loader():
    pinned = TimedBatch(data=torch.zeros(2), info=None)
    assert hasattr(pinned, "pin_memory")


def test_bytes_read_from_files_are_counted(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(100_000))

    class Files(toys.Points):
        def __getitem__(self, index):
            path.read_bytes()
            return super().__getitem__(index)

    (batch,) = batches(Files(3), count_reads=True)
    if batch.info.read_bytes == 0:
        pytest.skip("this system does not count reads")
    assert 300_000 <= batch.info.read_bytes < 330_000


def test_kinds_of_datasets_are_told_apart():
    assert is_iterable(toys.Stream())
    assert not is_iterable(toys.Points())
