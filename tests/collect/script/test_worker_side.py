"""The stopwatch and its records, with a counted clock and no processes."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import pytest

from perfdoctor.collect.script import stopwatch
from perfdoctor.collect.script.stacks import Frame, Sampled
from perfdoctor.collect.script.stopwatch import (
    StampedCollate,
    Stopwatch,
    TimedIndices,
    takes_many,
)
from perfdoctor.collect.script.worker_records import (
    CAPACITY,
    SAMPLES,
    SIZE_BYTES,
    Reservoir,
    Tally,
    map_file,
)
from perfdoctor.collect.script.worker_side import DataQueue, IndexQueue
from perfdoctor.collect.script.worker_stacks import StackTotals, read_stacks, write_stacks
from perfdoctor.collect.script.worker_totals import KEPT, LoaderTotals, Sample, read_record


class Clock:
    """Moves only where told."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now

    def passes(self, nanoseconds: int) -> None:
        self.now += nanoseconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stopwatch, "_clock", clock)
    monkeypatch.setattr(stopwatch, "_cpu_clock", lambda: clock.now // 2)
    return clock


class Mail:
    """A queue."""

    def __init__(self, messages=()) -> None:
        self.messages = list(messages)
        self.closed = False

    def get(self, timeout=None):
        return self.messages.pop(0)

    def put(self, message) -> None:
        self.messages.append(message)

    def close(self) -> None:
        self.closed = True


class Worker:
    """A worker without torch: `make` fetches as torch does, each sample takes what `cost` says."""

    def __init__(self, clock, dataset=(), *, iterable=False, batched=True) -> None:
        self.clock = clock
        self.buffer = bytearray(SIZE_BYTES)
        tally = Tally(self.buffer, 0, clock())
        self.watch = Stopwatch(tally, dataset, iterable=iterable, batched=batched)
        self.indices = IndexQueue(Mail(), self.watch)
        self.batches = DataQueue(Mail(), self.watch)
        self.collate = StampedCollate(self._collate, self.watch)

    def make(self, index, *, wait_ns=0, cost_ns=10, fails=False):
        self.indices._queue.put((0, index))
        self.clock.passes(wait_ns)
        _, index = self.indices.get(timeout=5)
        samples = []
        for number in index:
            self.clock.passes(cost_ns * (1 + number))
            samples.append(number)
        self.batches.put((0, _error() if fails else self.collate(samples)))
        return self.batches._queue.messages[-1][1]

    def _collate(self, samples):
        self.clock.passes(100)
        return samples

    def observed(self):
        self.watch.close()
        totals = LoaderTotals()
        totals.begin(0, 0)
        totals.add(read_record(self.buffer), 0)
        return totals.observed()


def _error():
    wrapper = __import__("torch._utils", fromlist=["ExceptionWrapper"]).ExceptionWrapper
    try:
        raise ValueError("broken")
    except ValueError:
        return wrapper(where="in a test")


def _ns(seconds) -> list[int]:
    return [round(s * 1e9) for s in seconds]


def test_a_batch_is_split_into_samples_collating_and_processor_time(clock):
    worker = Worker(clock)
    assert worker.make([0, 1, 2]) == [0, 1, 2]
    seen = worker.observed()
    assert (seen.batches, seen.samples, seen.lost) == (1, 3, 0)
    assert _ns(seen.sample_s) == [10, 20, 30]
    assert _ns(seen.batch_s) == [160]
    assert _ns(seen.collate_s) == [100]
    assert _ns(seen.cpu_s) == [80]
    assert _ns([seen.fetch_total_s, seen.collate_total_s, seen.cpu_total_s]) == [60, 100, 80]


def test_waiting_for_an_index_is_idle_but_for_the_first_one(clock):
    worker = Worker(clock)
    worker.make([0], wait_ns=7_000)
    worker.make([0], wait_ns=500)
    worker.make([0], wait_ns=300)
    seen = worker.observed()
    assert _ns(seen.idle_s) == [0, 500, 300]
    assert _ns([seen.idle_total_s]) == [800]
    assert _ns(seen.start_s) == [8_000]


def test_waiting_between_epochs_of_persistent_workers_is_not_idle(clock):
    worker = Worker(clock)
    worker.make([0])
    clock.passes(1_000_000)
    resume = SimpleNamespace(seed=None)
    worker.indices._queue.put(resume)
    assert worker.indices.get() is resume
    worker.batches.put((resume, None))
    worker.make([0], wait_ns=900)
    worker.make([0], wait_ns=40)
    seen = worker.observed()
    assert _ns(seen.idle_s) == [0, 0, 40]
    assert (seen.batches, seen.lost) == (3, 0)


def test_a_batch_that_failed_is_counted_as_lost_and_not_timed(clock):
    worker = Worker(clock)
    worker.make([0, 1], fails=True)
    worker.make([0])
    seen = worker.observed()
    assert (seen.batches, seen.samples, seen.lost) == (1, 1, 1)


def test_the_end_of_an_iterable_is_neither_a_batch_nor_lost(clock):
    worker = Worker(clock, iterable=True)
    worker.make([0, 0])
    worker.indices._queue.put((1, [None, None]))
    worker.indices.get()
    worker.batches.put((1, "the end"))  # no collating: torch sends a mark
    seen = worker.observed()
    assert (seen.batches, seen.samples, seen.lost) == (1, 2, 0)


def test_indices_that_are_left_early_tell_how_many_samples_came(clock):
    indices = TimedIndices([None] * 4)
    indices.stamps = []
    for number, _ in enumerate(indices):
        if number == 2:
            break  # the third one was not there
    assert len(indices.stamps) - 1 == 2
    assert indices == [None] * 4


def test_a_dataset_asked_for_a_whole_batch_gets_a_plain_list(clock):
    class Many:
        def __getitems__(self, indices):
            raise AssertionError

    class MadeUp:
        def __getattr__(self, name):
            return getattr(Many(), name)

    assert [takes_many(d) for d in (Many(), MadeUp(), [])] == [True, True, False]
    worker = Worker(clock, Many())
    worker.indices._queue.put((0, [3, 4]))
    assert type(worker.indices.get()[1]) is list
    clock.passes(50)
    worker.batches.put((0, worker.collate([3, 4])))
    seen = worker.observed()
    assert _ns(seen.sample_s) == [25]  # the mean
    assert seen.samples == 2


def test_without_batching_an_index_passes_unchanged_and_is_one_sample(clock):
    worker = Worker(clock, batched=False)
    for index in ((1, 2), "key", 5):
        worker.indices._queue.put((0, index))
        assert worker.indices.get() == (0, index)
        worker.batches.put((0, worker.collate(index)))
    assert worker.observed().samples == 3


def test_a_collate_function_has_no_frame_of_ours_above_it(clock):
    def fails(samples):
        raise TypeError("no")

    collate = StampedCollate(fails, Worker(clock).watch)
    with pytest.raises(TypeError) as caught:
        collate([1])
    assert [frame.name for frame in caught.traceback][1:] == ["fails"]


def test_a_queue_is_otherwise_the_loops_own(clock):
    worker = Worker(clock)
    worker.batches.close()
    assert worker.batches._queue.closed


def test_what_fails_in_the_watch_ends_only_the_watch(clock, monkeypatch):
    worker = Worker(clock)
    monkeypatch.setattr(worker.watch._tally, "add", lambda *a: 1 / 0)
    assert worker.make([0, 1]) == [0, 1]
    assert worker.watch.off
    assert worker.make([2]) == [2]


def test_a_run_of_many_batches_leaves_exact_totals_and_a_bounded_sample(clock):
    worker = Worker(clock)
    for number in range(4 * CAPACITY):
        worker.watch.begin([number])
        clock.passes(10 + number)
        worker.watch.collating_ns = clock()
        worker.watch.end()
        worker.watch.sent()
    seen = worker.observed()
    assert seen.batches == 4 * CAPACITY
    assert _ns([seen.fetch_total_s]) == [sum(range(10, 10 + 4 * CAPACITY))]
    assert seen.cpu_total_s == pytest.approx(seen.fetch_total_s / 2, rel=1e-3)
    assert seen.batch_s.size == CAPACITY
    assert list(seen.batch_s) == sorted(seen.batch_s)  # in their order


def test_a_large_batch_keeps_some_samples_from_everywhere(clock):
    worker = Worker(clock)
    worker.make(list(range(100)))
    kept = _ns(worker.observed().sample_s)
    assert len(kept) <= SAMPLES
    assert kept[0] <= 60 and kept[-1] >= 950


def test_each_element_of_a_stream_is_kept_with_the_same_chance():
    kept = Counter()
    for seed in range(400):
        reservoir, places = Reservoir(10, seed), {}
        for number in range(100):
            if number == reservoir.next:
                places[reservoir.take()] = number
        assert len(places) == 10
        kept.update(number // 25 for number in places.values())
    # 4000 draws over four quarters: 1000 each, with a standard deviation of 27
    assert all(abs(kept[quarter] - 1_000) < 140 for quarter in range(4))


def test_samples_of_workers_that_did_different_amounts_are_mixed_by_amount():
    def records(count, mark):
        data = bytearray(SIZE_BYTES)
        tally = Tally(data, 0, 0)
        for _ in range(count):
            tally.add(mark, mark, 0, 0, 0, 1, ())
        tally.sent(0, 0)
        return read_record(data).batches

    sample = Sample()
    sample.add(records(500, 1), 1.0)
    sample.add(records(500, 2), 10.0)
    first, second = ((sample.records[:, 0] == mark).sum() for mark in (1, 2))
    assert second == 500
    assert 20 < first < 90  # about a tenth
    for _ in range(20):
        sample.add(records(500, 3), 10.0)
    assert len(sample.records) <= KEPT


def test_a_file_that_is_no_record_is_not_read():
    assert read_record(b"") is None
    assert read_record(bytes(SIZE_BYTES)) is None


def test_a_record_file_is_not_made_where_there_is_no_room(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        map_file(str(tmp_path / "1-1.batches"))


def _sampled(*names, seconds=1.0):
    frames = tuple(Frame(f"{name}.py", 1, name, 1) for name in names)
    return Sampled(2, frames, seconds, 1)


def test_stacks_are_written_without_what_called_the_loop(tmp_path):
    path = tmp_path / "1-1.stacks"
    script = (_sampled("item", "fetch", "loop", "script"), _sampled("item", "fetch", "loop", "x"))
    write_stacks(str(path), script, ("loop.py", "loop"))
    assert read_stacks(path) == [Sampled(2, _sampled("item", "fetch").stack, 2.0, 2)]
    path.write_text("[[")
    assert read_stacks(path) == []


def test_of_too_many_stacks_the_lightest_become_one():
    totals = StackTotals(most=10)
    totals.add(_sampled(f"f{n}", seconds=float(n)) for n in range(30))
    kept = totals.sampled()
    assert len(kept) <= 10
    assert sum(s.seconds for s in kept) == sum(range(30))
    assert max(s.seconds for s in kept if s.stack) == 29
    assert next(itertools.dropwhile(lambda s: s.stack, kept)).count == 25
