"""From a measured training and settings to the rows of a simulation, and to their mean steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfdoctor.pipeline_events import Demand, Ints, in_step, run
from perfdoctor.pipeline_job import ENDS, LIKELY, Allowance, LoaderModel, Setting
from perfdoctor.pipeline_series import drawn, rebatched
from perfdoctor.record import Floats

#: Starting and ending workers where that was not measured: once, and for each. Measured with torch
#: 2.13 on two cores, forked: 15 ms and 7 to 19 ms for each to start, since the training's process
#: makes them one after the other; 10 ms and 4 to 7 ms to end.
_START_S, _START_EACH_S = 0.015, 0.012
_END_S, _END_EACH_S = 0.010, 0.006
#: Steps that are simulated: four times the queue, so that what it holds at first counts little.
_STEPS, _MOST_STEPS, _QUEUES = 192, 1024, 4
#: Series drawn for each setting.
DRAWN = 4
#: Ranks that are simulated beside each other; the slowest of more is hardly slower.
_MOST_RANKS = 16


@dataclass(frozen=True)
class _Row:
    setting: Setting
    allow: Allowance
    draw: int


class Rows:
    """Every setting in every variant: with likely allowances and each drawn series, then the ends.

    Rows of one variant follow each other.
    """

    def __init__(self, model: LoaderModel, settings: Sequence[Setting]) -> None:
        self._model, self._settings = model, settings
        variants = [(LIKELY, draw) for draw in range(DRAWN)] + [(end, 0) for end in ENDS]
        self._rows = [_Row(s, allow, draw) for allow, draw in variants for s in settings]
        self._steps = self._simulated()
        self._workers = np.array([row.setting.workers for row in self._rows])
        self._ahead = np.array([row.setting.ahead for row in self._rows])
        self._demand = self._asked()
        self._made_s, self._used_s = self._series(DRAWN)

    def mean_steps(self) -> Floats:
        """Mean step time, one row a variant and one column a setting."""
        done_s, stretch = np.zeros_like(self._used_s), np.ones((2, len(self._rows)))
        for index, course, stretched in self._courses():
            done_s[index], stretch[:, index] = course, stretched
        rows = zip(self._rows, done_s, strict=True)
        step_s = [self._over_epoch(row, done) + self._once_s(row) for row, done in rows]
        found = np.array(step_s).reshape(-1, len(self._settings))
        slowest: Floats = found * self._slowest(stretch)
        return slowest

    # -- what goes in ------------------------------------------------------------------------

    def _simulated(self) -> int:
        """How many steps are simulated: whole epochs where these are short."""
        longest = max((s.ahead for s in self._settings), default=1)
        steps = min(_MOST_STEPS, max(_STEPS, _QUEUES * longest))
        epochs = [self._epoch(s) for s in self._settings]
        known = [epoch for epoch in epochs if epoch is not None]
        return steps if len(known) < len(epochs) else max(1, min(steps, max(known, default=steps)))

    def _epoch(self, setting: Setting) -> int | None:
        own = setting.steps_per_epoch
        return self._model.steps_per_epoch if own is None else own or None

    def _ranks(self, setting: Setting) -> int:
        return self._model.ranks if setting.ranks is None else setting.ranks

    def _cores(self, setting: Setting) -> float:
        """Of one rank."""
        cores = self._model.cores if setting.cores is None else setting.cores
        return cores / self._ranks(setting)

    def _asked(self) -> Demand:
        """Of the cores, by one rank, which has its part of them."""
        work, count = self._model.work, len(self._rows)
        cores = [self._cores(row.setting) for row in self._rows]
        return Demand(
            worker_share=np.full(count, work.worker_share),
            threads=np.full(count, work.threads),
            cores=np.array(cores),
            barriers=np.array([row.allow.barriers for row in self._rows]),
        )

    def _series(self, count: int) -> tuple[Floats, Floats]:
        """Work of each batch and of each step, handing over included; one row each."""
        used = drawn(self._model.consume_s * self._model.work.step, count, self._steps)
        made = {ratio: self._batches(ratio, count) for ratio in {s.batch for s in self._settings}}
        made_s = [made[row.setting.batch][row.draw] * self._load(row) for row in self._rows]
        used_s = [used[row.draw] * self._compute(row) + self._handover_s(row) for row in self._rows]
        return np.array(made_s), np.array(used_s)

    def _batches(self, ratio: float, count: int) -> Floats:
        batch_s = self._model.batch_s * self._model.work.batch
        measured = drawn(batch_s, count, math.ceil(self._steps * ratio) + 1)
        return rebatched(measured, ratio, self._model.sample_spread)[:, : self._steps]

    def _load(self, row: _Row) -> float:
        """The factor on making a batch; what computes takes longer in a worker than in the loop."""
        elsewhere = row.setting.workers > 0 and self._model.workers == 0
        longer = (row.allow.in_worker - 1) * self._model.work.worker_share if elsewhere else 0.0
        return row.setting.load * (1 + longer)

    def _compute(self, row: _Row) -> float:
        """The factor on the rest of the step, for another batch size as well."""
        likely, least, most = self._model.growth
        ends = sorted((row.setting.batch**least, row.setting.batch**most))
        of_size = (ends[0], row.setting.batch**likely, ends[1])[row.allow.growth + 1]
        return float(row.setting.compute * of_size)

    def _handover_s(self, row: _Row) -> float:
        if row.setting.workers == 0:
            return 0.0
        return self._model.handover_s * (1.0 if self._model.handover_known else row.allow.handover)

    # -- how it goes -------------------------------------------------------------------------

    def _courses(self) -> Iterator[tuple[Ints, Floats, Floats]]:
        """When the steps of which rows ended, and time ÷ work of workers and training."""
        crowded = self._demand.crowded(self._workers)
        alone = np.flatnonzero(self._workers == 0)
        if alone.size:
            yield alone, *self._without_workers(alone)
        plenty = np.flatnonzero((self._workers > 0) & ~crowded)
        if plenty.size:
            yield plenty, in_step(*self._of(plenty)), np.ones((2, plenty.size))
        shared = np.flatnonzero((self._workers > 0) & crowded)
        if shared.size:
            sharing = self._demand.of(shared).sharing(int(self._workers[shared].max()))
            course = run(*self._of(shared), sharing)
            yield shared, course.done_s, np.stack((course.worker_stretch, course.main_stretch))

    def _of(self, index: Ints) -> tuple[Floats, Floats, Ints, Ints]:
        return self._made_s[index], self._used_s[index], self._workers[index], self._ahead[index]

    def _without_workers(self, index: Ints) -> tuple[Floats, Floats]:
        sharing = self._demand.of(index).sharing(1)
        stretch = np.stack((1 / sharing.worker[:, 1, 0], 1 / sharing.main[:, 0, 1]))
        made_s, used_s, _, _ = self._of(index)
        step_s = made_s * stretch[0][:, None] + used_s * stretch[1][:, None]
        return np.cumsum(step_s, axis=1), stretch

    def _over_epoch(self, row: _Row, done_s: Floats) -> float:
        """Mean step of an epoch; without epochs, after the queue has filled."""
        epoch, ahead = self._epoch(row.setting), row.setting.ahead
        if epoch is not None and epoch <= self._steps:
            return (float(done_s[epoch - 1]) + self._each_epoch_s(row)) / epoch
        # while the queue fills, and when no more is asked for, it goes as in no other step
        first, last = (ahead, self._steps - ahead) if ahead else (1, self._steps)
        settled_s = float(done_s[last - 1] - done_s[first - 1]) / max(1, last - first)
        if epoch is None or not ahead:
            return settled_s if ahead else float(done_s[-1]) / self._steps
        total_s = float(done_s[last - 1]) + (epoch - last) * settled_s
        return (total_s + self._each_epoch_s(row)) / epoch

    def _each_epoch_s(self, row: _Row) -> float:
        """Starting and ending the workers of an epoch."""
        return 0.0 if row.setting.persistent else self._start_s(row) + self._end_s(row)

    def _once_s(self, row: _Row) -> float:
        """One step's part in starting and ending workers that last for the whole run, beyond those
        that were there when it was measured: their start is no part of a usual step."""
        steps, setting = self._model.steps_in_all, row.setting
        lasting = setting.persistent or self._epoch(setting) is None
        if steps is None or not lasting:
            return 0.0
        as_before = replace(row, setting=replace(setting, workers=self._model.workers))
        spent_s, before_s = (self._start_s(one) + self._end_s(one) for one in (row, as_before))
        return max(0.0, spent_s - before_s) * setting.batch / steps

    def _start_s(self, row: _Row) -> float:
        """Starting workers."""
        workers, before = row.setting.workers, self._model.workers
        if workers == 0:
            return 0.0
        start_s, each_s = self._model.start_s, self._model.create_s
        each_s = _START_EACH_S * row.allow.start if each_s is None else each_s
        if start_s is None or before == 0:
            return (_START_S + self._fresh_s(row)) * row.allow.start + each_s * workers
        # made one after the other; what each does first, they do beside each other
        return max(0.0, start_s + each_s * (workers - before))

    def _fresh_s(self, row: _Row) -> float:
        """What new interpreters do before their first batch: beside each other, on the cores."""
        beside = max(1.0, row.setting.workers / self._cores(row.setting))
        return (self._model.fresh_s or 0.0) * beside

    def _end_s(self, row: _Row) -> float:
        """Waiting for workers to end."""
        workers, before = row.setting.workers, self._model.workers
        if workers == 0:
            return 0.0
        each_s, end_s = _END_EACH_S * row.allow.start, self._model.end_s
        if end_s is None or before == 0:
            return _END_S * row.allow.start + each_s * workers
        return max(0.0, end_s + each_s * (workers - before))

    # -- ranks -------------------------------------------------------------------------------

    def _slowest(self, stretch: Floats) -> Floats:
        """One element a setting: the step where all ranks wait for the slowest ÷ one rank's own."""
        factors = np.ones(len(self._settings))
        for ranks in {self._ranks(s) for s in self._settings} - {1}:
            index = np.flatnonzero([self._ranks(s) == ranks for s in self._settings])
            beside = min(_MOST_RANKS, ranks)
            factors[index] = self._waiting_for_slowest(index, beside, stretch)
        return factors

    def _waiting_for_slowest(self, index: Ints, ranks: int, stretch: Floats) -> Floats:
        """Ranks beside each other, each with batches and steps drawn for itself."""
        rows = np.repeat(index, ranks)
        used = drawn(self._model.consume_s * self._model.work.step, ranks, self._steps)
        settings = [self._settings[int(i)] for i in index]
        made = {ratio: self._batches(ratio, ranks) for ratio in {s.batch for s in settings}}
        of_rows = [self._rows[int(i)] for i in index]
        load = np.repeat([self._load(row) for row in of_rows], ranks) * stretch[0, rows]
        compute = np.repeat([self._compute(row) for row in of_rows], ranks) * stretch[1, rows]
        made_s = np.concatenate([made[s.batch] for s in settings]) * load[:, None]
        used_s = np.tile(used, (index.size, 1)) * compute[:, None]
        in_loop = (self._workers[rows] == 0)[:, None]
        used_s, made_s = np.where(in_loop, used_s + made_s, used_s), np.where(in_loop, 0.0, made_s)
        workers, ahead = (np.maximum(n[rows], 1) for n in (self._workers, self._ahead))
        own_s, together_s = (
            in_step(made_s, used_s, workers, ahead, beside)[:, -1].reshape(-1, ranks)
            for beside in (1, ranks)
        )
        own, slowest = own_s.mean(axis=1), together_s.mean(axis=1)
        factors: Floats = np.divide(slowest, own, out=np.ones(own.size), where=own > 0)
        return factors
