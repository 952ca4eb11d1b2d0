"""The discrete events of a DataLoader and its training, for many configurations at once.

It follows `torch.utils.data.dataloader._MultiProcessingDataLoaderIter`: worker w makes batches
w, w + W, w + 2W, …; W × prefetch_factor batches are asked for ahead; batches are handed over in
order; the next one is asked for when one is taken. What happens in between only changes how fast
everything goes on, since workers and training share the cores. All times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfdoctor.record import Bools, Floats

Ints = NDArray[np.int64]
#: Halvings of the interval in which the share of a core is looked for: to a millionth of it.
_HALVINGS = 20


@dataclass(frozen=True)
class Sharing:
    """How fast things go beside each other, one row a configuration.

    `worker[r, n, m]` is how much of its work a worker does in a second while n workers of
    configuration r are busy, and the training too if m is 1; `main` the same of the training.
    """

    worker: Floats = field(repr=False)
    main: Floats = field(repr=False)


@dataclass(frozen=True)
class Demand:
    """What is asked of the cores, one element a configuration.

    Attributes:
        worker_share: processor time ÷ time of a batch that is made with a core of its own.
        threads: cores that the training uses while it computes, below 1 where it also waits.
        cores: to be shared. Not whole where there is a quota, or where others take some.
        barriers: what parallel computing loses besides, when it shares its cores: its threads
            wait for the slowest one, so it gets on 1 + `barriers` times as slowly where it fills
            all cores, less where it fills some.
    """

    worker_share: Floats
    threads: Floats
    cores: Floats
    barriers: Floats

    def of(self, index: Ints) -> Demand:
        """Of these configurations."""
        return Demand(*(v[index] for v in (self.worker_share, self.threads, self.cores,
                                           self.barriers)))  # fmt: skip

    def crowded(self, workers: Ints) -> Bools:
        """Whether so many busy workers and the training want more cores than there are."""
        wanted = workers * self.worker_share + self.threads
        return np.asarray(wanted > self.cores * (1 + 1e-9))

    def sharing(self, most_workers: int) -> Sharing:
        """Fair shares: every thread that wants a core gets the same part of one."""
        busy = np.arange(most_workers + 1, dtype=np.float64)[None, :, None]
        main = np.array([0.0, 1.0])[None, None, :]
        share, threads, cores, barriers = (
            v[:, None, None] for v in (self.worker_share, self.threads, self.cores, self.barriers)
        )
        count = np.maximum(1.0, np.ceil(threads - 1e-9))
        each = threads / count
        part = _fair_part(busy * share, share, main * threads, each, cores)
        parallel = np.clip((threads - 1) / np.maximum(cores - 1, 1e-9), 0.0, 1.0)
        crowded = part < 1 - 1e-9
        lost = np.where(crowded & (busy > 0), 1 + barriers * parallel, 1.0)
        worker = 1 / (1 - share + share / part)
        return Sharing(worker, 1 / (1 - each + each / part) / lost)


def _fair_part(
    of_workers: Floats, share: Floats, of_main: Floats, each: Floats, cores: Floats
) -> Floats:
    """The part of a core that each thread gets when it wants one, at most all of it.

    A thread that needs a core for `share` of its time uses share ÷ (1 − share + share ÷ part).
    """
    low, high = np.full(np.broadcast(of_workers, of_main).shape, 1e-4), 1.0

    def used(part: Floats | float) -> Floats:
        by_workers = of_workers / (1 - share + share / part)
        total: Floats = by_workers + of_main / (1 - each + each / part)
        return total

    enough = used(1.0) <= cores + 1e-9
    top = np.full_like(low, high)
    for _ in range(_HALVINGS):
        middle = (low + top) / 2
        fits = used(middle) <= cores
        low, top = np.where(fits, middle, low), np.where(fits, top, middle)
    return np.where(enough, 1.0, low)


@dataclass(frozen=True)
class Course:
    """How it went: when each step ended, and how much longer work took because of sharing.

    `done_s[r, k]`: end of step k. `worker_stretch`, `main_stretch`: time ÷ work of a batch and of
    a step, one element a configuration.
    """

    done_s: Floats = field(repr=False)
    worker_stretch: Floats
    main_stretch: Floats


def run(made_s: Floats, used_s: Floats, workers: Ints, ahead: Ints, sharing: Sharing) -> Course:
    """Runs all configurations (rows) from an empty queue, every step (column).

    `made_s` and `used_s` are the work of each batch and of each step, handing over included:
    seconds it takes where nothing is shared. `workers` are at least 1, `ahead` at least 1.
    """
    state = _State(made_s, used_s, workers, ahead, sharing)
    for _ in range(2 * made_s.shape[1]):
        state.next_event()
    return Course(state.done_s, *state.stretches())


class _State:
    """All configurations between two of their events; each row has a clock of its own.

    Workers that are busy all get on equally fast, so `work` counts what each of them has done
    since the beginning, and `finish[r, w]` is where on that scale worker w is through.
    """

    def __init__(
        self, made_s: Floats, used_s: Floats, workers: Ints, ahead: Ints, sharing: Sharing
    ) -> None:
        count, self.steps = made_s.shape
        self.used_s, self.workers, self.ahead = used_s, workers, ahead
        width = int(workers.max())
        self.made_s = np.pad(made_s, ((0, 0), (0, width)))
        self.row = np.arange(count)
        self.speeds = np.stack((sharing.worker, sharing.main))
        self.asked = np.minimum(ahead, self.steps)
        lanes = np.arange(width)
        begun = lanes[None, :] < np.minimum(workers, self.asked)[:, None]
        self.finish = np.where(begun, self.made_s[:, :width], np.inf)
        self.batch = np.tile(lanes, (count, 1))
        self.ready = np.zeros((count, self.steps + 1), dtype=bool)
        self.active = begun.sum(axis=1)
        self.busy = np.zeros(count, dtype=np.int64)
        self.cursor = np.zeros(count, dtype=np.int64)
        self.now, self.work = np.zeros(count), np.zeros(count)
        self.left = np.full(count, np.inf)
        self.done_s = np.zeros((count, self.steps))
        self.sums = np.zeros((4, count))

    def next_event(self) -> None:
        """In each row, a worker finishes a batch or the training a step, whichever is first."""
        worker_speed, main_speed = self.speeds[:, self.row, self.active, self.busy]
        lane = self.finish.argmin(axis=1)
        to_batch = (self.finish[self.row, lane] - self.work) / worker_speed
        to_step = self.left / main_speed
        made = to_batch <= to_step
        passed = np.where(made, to_batch, to_step)
        self.now += passed
        self.work += worker_speed * passed
        self.left -= main_speed * passed
        self.sums += passed * np.stack(
            (self.active, self.active * worker_speed, self.busy, self.busy * main_speed)
        )
        self._made(np.flatnonzero(made), lane)
        self._used(np.flatnonzero(~made))
        self._take()

    def _made(self, rows: Ints, lane: Ints) -> None:
        """A batch is finished; its worker begins the next one it has been asked for."""
        lanes = lane[rows]
        batch = self.batch[rows, lanes]
        self.ready[rows, batch] = True
        following = batch + self.workers[rows]
        goes_on = following < self.asked[rows]
        made_s = self.made_s[rows, np.minimum(following, self.steps)]
        self.finish[rows, lanes] = np.where(goes_on, self.work[rows] + made_s, np.inf)
        self.batch[rows, lanes] = following
        self.active[rows] -= ~goes_on

    def _used(self, rows: Ints) -> None:
        """A step is done."""
        self.done_s[rows, self.cursor[rows]] = self.now[rows]
        self.cursor[rows] += 1
        self.busy[rows] = 0
        self.left[rows] = np.inf

    def _take(self) -> None:
        """Where the training is idle and its next batch ready it takes that, and asks for one."""
        free: Bools = (self.busy == 0) & self.ready[self.row, self.cursor]
        rows = np.flatnonzero(free)
        cursor = self.cursor[rows]
        self.left[rows] = self.used_s[rows, cursor]
        self.busy[rows] = 1
        wanted = cursor + self.ahead[rows]
        rows, wanted = rows[wanted < self.steps], wanted[wanted < self.steps]
        self.asked[rows] = wanted + 1
        lane = wanted % self.workers[rows]
        idle = np.isinf(self.finish[rows, lane]) & (self.batch[rows, lane] == wanted)
        rows, wanted, lane = rows[idle], wanted[idle], lane[idle]
        self.finish[rows, lane] = self.work[rows] + self.made_s[rows, wanted]
        self.active[rows] += 1

    def stretches(self) -> tuple[Floats, Floats]:
        """Time ÷ work of the workers and of the training."""
        worker_s, worker_work, main_s, main_work = self.sums
        return _ratio(worker_s, worker_work), _ratio(main_s, main_work)


def _ratio(time_s: Floats, work_s: Floats) -> Floats:
    return np.divide(time_s, work_s, out=np.ones_like(time_s), where=work_s > 0)


def in_step(made_s: Floats, used_s: Floats, workers: Ints, ahead: Ints, ranks: int = 1) -> Floats:
    """When each step ended where cores are plenty; arguments as for `run`.

    Each `ranks` rows that follow each other are of one training: their steps end together.
    """
    count, steps = made_s.shape
    row = np.arange(count)
    ready, taken = np.zeros((count, steps)), np.zeros((count, steps))
    done_s = np.zeros((count, steps))
    now = np.zeros(count)
    for k in range(steps):
        before, earlier = k - workers, k - ahead  # negative: none yet
        free = np.where(before >= 0, ready[row, np.maximum(before, 0)], 0.0)
        asked = np.where(earlier >= 0, taken[row, np.maximum(earlier, 0)], 0.0)
        ready[:, k] = np.maximum(free, asked) + made_s[:, k]
        taken[:, k] = np.maximum(now, ready[:, k])
        now = taken[:, k] + used_s[:, k]
        if ranks > 1:
            now = np.repeat(now.reshape(-1, ranks).max(axis=1), ranks)
        done_s[:, k] = now
    return done_s
