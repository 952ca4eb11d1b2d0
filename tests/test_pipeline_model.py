"""The simulation of the DataLoader against what is known of it in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.pipeline_model import LoaderModel, best_workers, predict, simulate

STEPS = 160
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


@given(series, series, st.integers(0, 8), depths)
def test_a_wait_is_never_negative(
    made: list[float], used: list[float], count: int, depth: int
) -> None:
    steps = min(len(made), len(used))
    waits = simulate(made[:steps], used[:steps], count, depth)
    assert (waits >= 0).all()


@given(times, times, workers, st.integers(2, 8))  # one ahead: a worker waits to be asked
def test_a_steady_step_is_the_slower_of_model_and_workers(
    batch_s: float, consume_s: float, count: int, depth: int
) -> None:
    waits = simulate(constant(batch_s), constant(consume_s), count, depth)
    turns = waits[count * depth :]
    whole_turns = turns[: turns.size // count * count]
    step_s = float(whole_turns.mean()) + consume_s
    assert step_s == pytest.approx(max(consume_s, batch_s / count), rel=0.01)


@given(series, times, workers, depths)
def test_no_worker_makes_more_than_its_part(
    made: list[float], consume_s: float, count: int, depth: int
) -> None:
    waits = simulate(made, constant(consume_s, len(made)), count, depth)
    total_s = waits.sum() + consume_s * (len(made) - 1)  # up to where the last batch is taken
    assert total_s >= sum(made) / count - 1e-9


@given(times, times, workers, depths)
def test_one_more_worker_never_hurts(
    batch_s: float, consume_s: float, count: int, depth: int
) -> None:
    fewer, more = (
        simulate(constant(batch_s), constant(consume_s), n, depth).sum() for n in (count, count + 1)
    )
    assert more <= fewer + 1e-9


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
    assert predicted.optimistic_s == pytest.approx(0.130)
    assert predicted.estimate_s == pytest.approx(0.134, rel=0.01)  # 5 % longer in a worker


def test_one_core_gains_while_batches_wait_for_a_disk() -> None:
    predicted = predict(model(cores=1.0, batch_cpu_s=0.001), 1)
    assert predicted.estimate_s == pytest.approx(0.084, rel=0.01)


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
    assert predicted.estimate_s == pytest.approx(measured_s, rel=0.12)


@given(times, times, st.floats(0.1, 4), st.floats(1, 8), workers)
def test_no_prediction_does_more_work_than_the_cores_can(
    batch_s: float, consume_s: float, threads: float, cores: float, count: int
) -> None:
    some = model(
        batch_s=np.array([batch_s]),
        consume_s=np.array([consume_s]),
        batch_cpu_s=batch_s,
        compute_cpu_s=threads * consume_s,
        cores=cores,
    )
    assert predict(some, count).optimistic_s >= (threads * consume_s + batch_s) / cores - 1e-9


def test_more_workers_than_cores_make_each_batch_slower() -> None:
    busy = model(consume_s=np.array([0.001]), compute_cpu_s=0.001, cores=2.0)
    assert predict(busy, 8).estimate_s == pytest.approx(predict(busy, 2).estimate_s, rel=0.05)


def test_restarting_workers_is_paid_once_an_epoch() -> None:
    short = model(workers=2, steps_per_epoch=20, start_s=1.0)
    kept, restarted = (predict(short, 2, persistent=p).estimate_s for p in (True, False))
    assert restarted - kept == pytest.approx(1.0 / 20)


def test_an_epoch_begins_with_an_empty_queue() -> None:
    short = model(workers=2, steps_per_epoch=10)
    assert predict(short, 2).estimate_s == pytest.approx(0.050 + 0.080 / 10)


def test_long_epochs_need_not_be_simulated_to_their_end() -> None:
    long = model(workers=2, steps_per_epoch=1_000_000, start_s=10.0)
    assert predict(long, 2, persistent=False).estimate_s == pytest.approx(0.050, rel=0.001)


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
    assert now > 0 or predicted.optimistic_s >= float(np.mean(used)) - 1e-9


def test_the_fewest_workers_near_the_best_are_chosen() -> None:
    slow = model(batch_s=np.array([0.200]), batch_cpu_s=0.200, cores=16.0)
    assert best_workers(slow, range(1, 17)) == 5  # 4 would do, but for 5 % longer in a worker
    assert best_workers(slow, range(1, 4)) == 3
    assert best_workers(model(cores=1.0), range(1, 5)) == 1
