"""The simulation of the DataLoader against what is known of it in closed form."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.pipeline_events import Demand, in_step, run
from perfdoctor.pipeline_model import (
    LoaderModel,
    Setting,
    best_workers,
    gains,
    predict,
    predict_all,
    simulate,
)
from perfdoctor.pipeline_series import drawn, mean_error, rebatched

STEPS = 160
#: Other programs may take the cores; for properties that take a simulation each.
unhurried = settings(deadline=None)
few = settings(max_examples=20, deadline=None)
times = st.floats(0.001, 1.0)
workers = st.integers(1, 8)
depths = st.integers(1, 8)
series = st.lists(times, min_size=1, max_size=80)


def constant(value_s: float, steps: int = STEPS) -> list[float]:
    return [value_s] * steps


def model(**changes: object) -> LoaderModel:
    """80 ms a batch beside 50 ms of computing in one thread, four cores."""
    settings: dict[str, object] = {
        "batch_s": np.full(100, 0.080),
        "consume_s": np.full(100, 0.050),
        "batch_cpu_s": 0.080,
        "compute_cpu_s": 0.050,
        "cores": 4.0,
        "workers": 0,
        "handover_s": 0.0,
    }
    return LoaderModel(**{**settings, **changes})  # type: ignore[arg-type]


# -- the simulation ---------------------------------------------------------------------------


def test_without_workers_every_batch_is_waited_for() -> None:
    waits = simulate([0.1, 0.3, 0.2], [0.5, 0.5, 0.5], workers=0)
    assert waits.tolist() == [0.1, 0.3, 0.2]


def test_a_worker_is_asked_for_the_next_batch_when_one_is_taken() -> None:
    # one worker, one batch ahead: batch 1 is begun when batch 0 is taken, at 1.0
    waits = simulate(constant(1.0, 3), constant(0.25, 3), workers=1, prefetch_factor=1)
    assert waits.tolist() == [1.0, 0.75, 0.75]


def test_two_workers_take_turns_so_waits_alternate() -> None:
    waits = simulate(constant(0.16, 6), constant(0.05, 6), workers=2, prefetch_factor=2)
    assert waits == pytest.approx([0.16, 0.0, 0.06, 0.0, 0.06, 0.0])


def test_workers_that_start_late_delay_the_first_batch() -> None:
    waits = simulate(constant(0.1, 3), constant(1.0, 3), workers=1, start_s=2.0)
    assert waits == pytest.approx([2.1, 0.0, 0.0])


def test_series_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 batches but 1 steps"):
        simulate([0.1, 0.1], [0.1], workers=1)


@unhurried
@given(series, series, st.integers(0, 8), depths)
def test_a_wait_is_never_negative(
    made: list[float], used: list[float], count: int, depth: int
) -> None:
    steps = min(len(made), len(used))
    waits = simulate(made[:steps], used[:steps], count, depth)
    assert (waits >= 0).all()


@unhurried
@given(times, times, workers, st.integers(2, 8))  # one ahead: a worker waits to be asked
def test_a_steady_step_is_the_slower_of_model_and_workers(
    batch_s: float, consume_s: float, count: int, depth: int
) -> None:
    waits = simulate(constant(batch_s), constant(consume_s), count, depth)
    turns = waits[count * depth :]
    whole_turns = turns[: turns.size // count * count]
    step_s = float(whole_turns.mean()) + consume_s
    assert step_s == pytest.approx(max(consume_s, batch_s / count), rel=0.01)


@unhurried
@given(series, times, workers, depths)
def test_no_worker_makes_more_than_its_part(
    made: list[float], consume_s: float, count: int, depth: int
) -> None:
    waits = simulate(made, constant(consume_s, len(made)), count, depth)
    total_s = waits.sum() + consume_s * (len(made) - 1)  # up to where the last batch is taken
    assert total_s >= sum(made) / count - 1e-9


@unhurried
@given(times, times, workers, depths)
def test_one_more_worker_never_hurts(
    batch_s: float, consume_s: float, count: int, depth: int
) -> None:
    fewer, more = (
        simulate(constant(batch_s), constant(consume_s), n, depth).sum() for n in (count, count + 1)
    )
    assert more <= fewer + 1e-9


@unhurried
@given(series, times, workers, depths)
def test_a_longer_queue_never_hurts(
    made: list[float], consume_s: float, count: int, depth: int
) -> None:
    used = constant(consume_s, len(made))
    shorter, longer = (simulate(made, used, count, d).sum() for d in (depth, depth + 1))
    assert longer <= shorter + 1e-9


# -- predictions ------------------------------------------------------------------------------


def test_without_workers_the_step_is_loading_and_computing() -> None:
    predicted = predict(model(), 0)
    assert predicted.estimate_s == pytest.approx(0.130)
    assert predicted.optimistic_s == predicted.pessimistic_s == predicted.estimate_s


def test_with_idle_cores_two_workers_hide_the_loading() -> None:
    predicted = predict(model(), 2)
    assert predicted.estimate_s == pytest.approx(0.050, rel=0.01)


def test_one_core_that_is_full_gains_nothing() -> None:
    predicted = predict(model(cores=1.0), 1)
    assert predicted.optimistic_s == pytest.approx(0.130, rel=0.01)
    assert predicted.estimate_s == pytest.approx(0.134, rel=0.01)  # 5 % longer in a worker


def test_one_core_gains_while_batches_wait_for_a_disk() -> None:
    predicted = predict(model(cores=1.0, batch_cpu_s=0.001), 1)
    assert predicted.estimate_s == pytest.approx(0.080, rel=0.01)


@pytest.mark.parametrize(
    ("batch_s", "consume_s", "count", "measured_s"),
    [
        (0.0666, 0.0146, 1, 0.083),
        (0.0666, 0.0146, 2, 0.071),
        (0.0324, 0.0116, 1, 0.047),
        (0.0324, 0.0116, 2, 0.037),
        (0.0150, 0.0468, 1, 0.065),
        (0.0150, 0.0468, 2, 0.062),
    ],
)
def test_threads_that_fill_the_cores_gain_little_from_workers(
    batch_s: float, consume_s: float, count: int, measured_s: float
) -> None:
    # sweeps on two quiet cores: computing in two threads, loading without any waiting
    full = model(
        batch_s=np.array([batch_s]),
        consume_s=np.array([consume_s]),
        batch_cpu_s=batch_s,
        compute_cpu_s=2 * consume_s,
        cores=2.0,
        handover_s=0.001,
    )
    predicted = predict(full, count)
    assert predicted.optimistic_s < measured_s < predicted.pessimistic_s
    assert predicted.estimate_s == pytest.approx(measured_s, rel=0.15)


@few
@given(times, times, st.floats(0.1, 1), st.floats(1, 8), workers)
def test_no_prediction_does_more_work_than_the_cores_can(
    batch_s: float, consume_s: float, used: float, cores: float, count: int
) -> None:
    threads = used * cores
    some = model(
        batch_s=np.array([batch_s]),
        consume_s=np.array([consume_s]),
        batch_cpu_s=batch_s,
        compute_cpu_s=threads * consume_s,
        cores=cores,
    )
    # batches made before the first step that counts, a part of the queue, may be used in it
    least_s = (threads * consume_s + batch_s) / cores
    assert predict(some, count).optimistic_s >= 0.97 * least_s


def test_more_workers_than_cores_make_each_batch_slower() -> None:
    busy = model(consume_s=np.array([0.001]), compute_cpu_s=0.001, cores=2.0)
    assert predict(busy, 8).estimate_s == pytest.approx(predict(busy, 2).estimate_s, rel=0.05)


def test_restarting_workers_is_paid_once_an_epoch() -> None:
    short = model(workers=2, steps_per_epoch=20, start_s=1.0)
    kept, restarted = (predict(short, 2, persistent=p).estimate_s for p in (True, False))
    ended_s = 0.022  # two workers, as ends of workers were measured
    assert restarted - kept == pytest.approx((1.0 + ended_s) / 20)


def test_more_workers_start_later_by_what_creating_each_of_them_takes() -> None:
    short = model(workers=2, steps_per_epoch=20, start_s=1.0, create_s=0.1, cores=16.0)
    two, five = (predict(short, n, persistent=False).estimate_s for n in (2, 5))
    ended_s = 3 * 0.006
    assert (five - two) * 20 == pytest.approx(0.3 + ended_s)


def test_ends_of_workers_count_as_they_were_measured() -> None:
    short = model(workers=2, steps_per_epoch=20, start_s=1.0, create_s=0.0, end_s=0.5, cores=16.0)
    kept, two = (predict(short, 2, persistent=p).estimate_s for p in (True, False))
    assert (two - kept) * 20 == pytest.approx(1.0 + 0.5)
    four = predict(short, 4, persistent=False).estimate_s
    assert (four - two) * 20 == pytest.approx(2 * 0.006)


def test_workers_that_last_are_paid_once_in_a_run_of_known_length() -> None:
    forked_s = 0.015 + 2 * 0.012 + 0.010 + 2 * 0.006
    for steps in (None, 1000):
        endless, run = (model(steps_per_epoch=steps, steps_in_all=n) for n in (None, 100))
        more_s = predict(run, 2).estimate_s - predict(endless, 2).estimate_s
        assert more_s * 100 == pytest.approx(forked_s)
        assert predict(run, 0) == predict(endless, 0)


def test_in_a_known_run_only_workers_beyond_those_of_before_are_paid() -> None:
    endless, run = (
        model(workers=2, start_s=9.0, create_s=0.5, end_s=1.0, cores=16.0, steps_in_all=n)
        for n in (None, 100)
    )
    more_s = [predict(run, n).estimate_s - predict(endless, n).estimate_s for n in (1, 2, 4)]
    assert more_s == pytest.approx([0.0, 0.0, 2 * (0.5 + 0.006) / 100])


def test_new_interpreters_start_beside_each_other_on_the_cores() -> None:
    forked, fresh = (model(steps_per_epoch=20, fresh_s=s) for s in (None, 2.0))

    def longer_s(workers: int, end: str) -> float:
        two = (predict(one, workers, persistent=False) for one in (forked, fresh))
        less_s, more_s = (float(getattr(one, end)) for one in two)
        return (more_s - less_s) * 20

    assert longer_s(1, "estimate_s") == pytest.approx(2.0)
    assert longer_s(4, "estimate_s") == pytest.approx(2.0)  # on four cores
    assert longer_s(8, "estimate_s") == pytest.approx(4.0)
    assert longer_s(4, "optimistic_s") == pytest.approx(1.0)
    assert longer_s(4, "pessimistic_s") == pytest.approx(6.0)


def test_an_epoch_begins_with_an_empty_queue() -> None:
    short = model(workers=2, steps_per_epoch=10)
    assert predict(short, 2).estimate_s == pytest.approx(0.050 + 0.080 / 10)


def test_long_epochs_need_not_be_simulated_to_their_end() -> None:
    long = model(workers=2, steps_per_epoch=1_000_000, start_s=10.0)
    assert predict(long, 2, persistent=False).estimate_s == pytest.approx(0.050, rel=0.001)


@few
@given(
    st.lists(times, min_size=1, max_size=30),
    st.lists(times, min_size=1, max_size=30),
    st.floats(0, 1),
    st.floats(0, 8),
    st.floats(0.5, 16),
    st.integers(0, 6),
    workers,
    st.one_of(st.none(), st.integers(1, 2000)),
)
def test_the_estimate_lies_between_its_ends(
    made: list[float],
    used: list[float],
    cpu_share: float,
    threads: float,
    cores: float,
    now: int,
    count: int,
    epoch: int | None,
) -> None:
    some = model(
        batch_s=np.array(made),
        consume_s=np.array(used),
        batch_cpu_s=cpu_share * float(np.mean(made)),
        compute_cpu_s=threads * float(np.mean(used)),
        cores=cores,
        workers=now,
        steps_per_epoch=epoch,
    )
    predicted = predict(some, count)
    assert 0 < predicted.optimistic_s <= predicted.estimate_s <= predicted.pessimistic_s


def test_the_fewest_workers_near_the_best_are_chosen() -> None:
    slow = model(batch_s=np.array([0.200]), batch_cpu_s=0.200, cores=16.0)
    assert best_workers(slow, range(1, 17)) == 5  # 4 would do, but for 5 % longer in a worker
    assert best_workers(slow, range(1, 4)) == 3
    assert best_workers(model(cores=1.0), range(1, 5)) == 1


# -- properties of the whole model ------------------------------------------------------------

SERIES = st.lists(st.floats(0.005, 0.2), min_size=1, max_size=40)
SETTINGS = [Setting(0), *(Setting(n, depth) for n in (1, 2, 3, 5, 8) for depth in (1, 2, 4))]


@few
@given(SERIES, SERIES, st.floats(0, 1), st.sampled_from([0, 1, 3]))
def test_more_cores_are_never_slower(
    made: list[float], used: list[float], share: float, now: int
) -> None:
    some = model(
        batch_s=np.array(made),
        consume_s=np.array(used),
        batch_cpu_s=share * float(np.mean(made)),
        compute_cpu_s=2 * float(np.mean(used)),
        workers=now,
    )
    cores = [1.0, 2.0, 4.0, 8.0, 16.0]
    found = predict_all(some, [Setting(3, cores=c) for c in cores])
    steps = [one.estimate_s for one in found]
    assert all(more <= fewer * 1.005 for fewer, more in pairwise(steps))


@few
@given(SERIES, st.sampled_from([0, 2]))
def test_batches_that_cost_nothing_leave_the_computing(used: list[float], now: int) -> None:
    some = model(batch_s=np.zeros(1), batch_cpu_s=0.0, consume_s=np.array(used), workers=now)
    for one in predict_all(some, SETTINGS):
        assert one.estimate_s == pytest.approx(float(np.mean(used)), rel=0.25)
    assert predict(some, 0).estimate_s == pytest.approx(float(np.mean(used)))


@few
@given(SERIES, SERIES)
def test_a_step_takes_as_long_as_computing_and_as_its_part_of_loading(
    made: list[float], used: list[float]
) -> None:
    some = model(
        batch_s=np.array(made),
        consume_s=np.array(used),
        batch_cpu_s=0.0,
        compute_cpu_s=0.0,
        steps_per_epoch=150,
    )
    drawn_s = drawn(some.batch_s, 4, 150).mean(axis=1).max()
    for asked, one in zip(SETTINGS, predict_all(some, SETTINGS), strict=True):
        least_s = float(np.mean(used)) * (0.0 if asked.workers == 0 else 1.0)
        assert one.pessimistic_s >= least_s * 0.999
        assert one.pessimistic_s >= drawn_s / max(1, asked.workers) * 0.97


def test_the_same_question_has_the_same_answer() -> None:
    chance = np.random.default_rng(3)
    some = model(batch_s=chance.gamma(2, 0.04, 300), consume_s=chance.gamma(9, 0.005, 300))
    assert predict_all(some, SETTINGS) == predict_all(some, SETTINGS)


def test_an_answer_does_not_depend_on_what_else_is_asked() -> None:
    chance = np.random.default_rng(4)
    some = model(batch_s=chance.gamma(2, 0.04, 300), consume_s=chance.gamma(9, 0.005, 300))
    alone = predict(some, 2).estimate_s
    assert predict_all(some, SETTINGS)[SETTINGS.index(Setting(2, 2))].estimate_s == alone


def test_batches_that_wait_are_not_charged_for_cores() -> None:
    waiting = model(cores=1.0, batch_s=np.array([0.4]), batch_cpu_s=0.0, compute_cpu_s=0.0)
    assert predict(waiting, 8).estimate_s == pytest.approx(0.050, rel=0.03)


def test_times_measured_beside_busy_workers_are_freed_of_the_sharing() -> None:
    work = np.full((1, 200), 0.080), np.full((1, 200), 0.050)
    two_cores = Demand(np.ones(1), np.ones(1), np.full(1, 2.0), np.ones(1)).sharing(4)
    course = run(*work, np.array([4]), np.array([8]), two_cores)
    batch_s, consume_s = 0.080 * course.worker_stretch, 0.050 * course.main_stretch
    assert batch_s > 1.3 * 0.080
    crowded = model(cores=2.0, workers=4, batch_s=batch_s, consume_s=consume_s)
    assert crowded.work.batch * batch_s == pytest.approx(0.080, rel=0.15)
    assert crowded.work.step * consume_s == pytest.approx(0.050, rel=0.15)


def test_a_gain_compares_like_with_like() -> None:
    chance = np.random.default_rng(5)
    some = model(batch_s=chance.gamma(2, 0.04, 300), workers=2)
    same = gains(some, Setting(2), [Setting(2)])[0]
    assert (same.low, same.speedup, same.high) == pytest.approx((1.0, 1.0, 1.0))


def test_what_the_model_does_not_explain_stays() -> None:
    some = model(cores=8.0)  # 130 ms by the model
    explained, unexplained = (gains(some, Setting(0), [Setting(4)], s)[0] for s in (0.13, 0.26))
    assert explained.speedup == pytest.approx(0.130 / 0.050, rel=0.02)
    assert unexplained.speedup == pytest.approx(0.260 / 0.180, rel=0.02)


def test_twice_the_batch_takes_twice_the_loading() -> None:
    some = model(cores=64.0, consume_s=np.full(50, 0.001), compute_cpu_s=0.0)
    one, two = (predict_all(some, [Setting(2, batch=b)])[0].estimate_s for b in (1.0, 2.0))
    assert two == pytest.approx(2 * one, rel=0.02)


def test_ranks_share_the_cores_and_wait_for_the_slowest() -> None:
    chance = np.random.default_rng(6)
    some = model(batch_s=chance.gamma(1, 0.08, 400), cores=4.0)
    one, plenty, few_cores = predict_all(
        some, [Setting(2), Setting(2, ranks=4, cores=64.0), Setting(2, ranks=4, cores=4.0)]
    )
    assert plenty.estimate_s > 1.02 * one.estimate_s
    assert few_cores.estimate_s > 1.5 * plenty.estimate_s


# -- the events -------------------------------------------------------------------------------


@few
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**16))
def test_with_plenty_of_cores_the_events_are_those_of_the_recursion(
    count: int, depth: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    made, used = chance.exponential(0.1, (3, 40)), chance.exponential(0.05, (3, 40))
    queue = np.full(3, count), np.full(3, count * depth)
    demand = Demand(np.full(3, 0.5), np.ones(3), np.full(3, 99.0), np.ones(3))
    found = run(made, used, *queue, demand.sharing(count))
    assert found.done_s == pytest.approx(in_step(made, used, *queue))
    assert found.worker_stretch == pytest.approx(np.ones(3))


def test_three_threads_on_two_cores_get_two_thirds_of_one_each() -> None:
    demand = Demand(np.ones(1), np.ones(1), np.full(1, 2.0), np.zeros(1))
    sharing = demand.sharing(2)
    assert sharing.worker[0, 2, 1] == pytest.approx(2 / 3, rel=1e-4)
    assert sharing.main[0, 2, 1] == pytest.approx(2 / 3, rel=1e-4)
    assert sharing.worker[0, 2, 0] == 1.0


# -- the series -------------------------------------------------------------------------------


@unhurried
@given(st.lists(times, min_size=1, max_size=60), st.integers(1, 100))
def test_drawn_series_have_the_measured_mean(measured: list[float], length: int) -> None:
    found = drawn(np.array(measured), 3, length)
    assert found.shape == (3, length)
    assert found.mean(axis=1) == pytest.approx(np.full(3, np.mean(measured)))


@unhurried
@given(st.lists(times, min_size=4, max_size=60), st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0]))
def test_other_batch_sizes_take_their_part_of_the_time(made: list[float], ratio: float) -> None:
    batches = np.array([made])
    found = rebatched(batches, ratio, 0.2)
    assert found.mean() == pytest.approx(batches.mean() * ratio)
    assert found.shape[1] == int(len(made) / ratio + 1e-9)


def test_slow_batches_that_come_together_still_do() -> None:
    bursts = np.where(np.arange(400) % 40 < 5, 0.2, 0.03)
    again = drawn(bursts, 4, 200)[1]
    slow = again > again.mean()
    assert 0.5 < (slow[1:] & slow[:-1]).sum() / slow.sum() < 1.0


def test_the_mean_of_a_steady_series_is_known() -> None:
    assert mean_error(np.full(50, 0.1)) == pytest.approx(0.0)
    noisy = np.random.default_rng(0).normal(1.0, 0.2, 4000)
    assert mean_error(noisy) == pytest.approx(1.96 * 0.2 / np.sqrt(4000), rel=0.5)
