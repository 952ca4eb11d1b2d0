"""Reports of several ranks become one; all of it with built runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from perfdoctor import ranks
from perfdoctor.ending import Ending
from perfdoctor.ranks import DIED, NEVER_BEGAN, RankPart, from_bytes, merge, part_of_run, to_bytes
from perfdoctor.record import Environment, Memory, Run, Source, StageSeries, Track
from perfdoctor.report import Economics, Epochs, Report
from perfdoctor.schema import from_json, to_json
from perfdoctor.summarise import summarise

STEPS = 240
OWN_S = {
    "data_loading": 0.002,
    "forward": 0.010,
    "loss": 0.001,
    "optimizer": 0.002,
    "other": 0.001,
}
BACKWARD_S = 0.020
BETWEEN = ("validation", "checkpoint")
DONE = Ending("finished", "", 0)
FAILED = Ending("exception", "ValueError: planted", 1)
KILLED = Ending("signal", "SIGTERM", 143)


def own_times(rank: int, steps: int, changed: Mapping[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(rank)
    return {
        name: np.asarray(value) * np.exp(rng.normal(0, 0.02, steps))
        for name, value in {**OWN_S, **changed}.items()
    }


def training(
    world: int,
    changed: Mapping[int, Mapping[str, Any]] | None = None,
    *,
    steps: int = STEPS,
    stride: int = 1,
    settings: Mapping[str, Any] | None = None,
    endings: Mapping[int, Ending] | None = None,
    together: bool = True,
) -> list[RankPart]:
    """Ranks that wait for each other at the end of the backward pass, as DDP makes them."""
    times = [own_times(rank, steps, (changed or {}).get(rank, {})) for rank in range(world)]
    own = np.stack([np.sum(list(stages.values()), axis=0) for stages in times])
    waits = own.max(axis=0) - own if together else np.zeros_like(own)
    settings = {"world_size": world if together else None, "device": "cpu", **(settings or {})}
    return [
        part(rank, stages, BACKWARD_S + waits[rank], stride, settings, (endings or {}).get(rank))
        for rank, stages in enumerate(times)
    ]


def part(
    rank: int,
    stages: Mapping[str, Any],
    backward_s: Any,
    stride: int,
    settings: Mapping[str, Any],
    ending: Ending | None,
) -> RankPart:
    series = {**stages, "backward": backward_s}
    count = len(backward_s)
    run = Run(
        name="train.py",
        source=Source(kind="run", path="train.py"),
        environment=Environment(device="cpu", cores_usable=2.0),
        configuration=dict(settings),
        step_s=np.sum([v for n, v in series.items() if n not in BETWEEN], axis=0),
        samples=np.full(count, 32.0),
        stages=tuple(
            StageSeries(
                name=name,
                exposed_s=values,
                mean_s=values if stride > 1 else None,
                between=name in BETWEEN,
            )
            for name, values in series.items()
        ),
        epoch_start=np.arange(count) == 0,
        warmup=0,
        memory=Memory(training_peak_bytes=(rank + 1) * 2**20),
        mean_step_s=np.sum([v for n, v in series.items() if n not in BETWEEN], axis=0)
        if stride > 1
        else None,
        sampled=stride > 1,
        track=Track(
            files=(),
            file=np.zeros(0, dtype=np.int32),
            line=np.zeros(0, dtype=np.int64),
            step=np.arange(1, count + 1) * float(stride),
            steps=np.full(count, float(stride)),
            at_s=np.arange(1, count + 1) * 0.05,
        ),
        ending=ending or DONE,
    )
    return part_of_run(rank, run, summarise(run), ended_at=100.0 + rank)


def merged(parts: list[RankPart], **absent: str) -> Report:
    report = merge(parts, len(parts) + len(absent), {int(k[1:]): v for k, v in absent.items()})
    assert report is not None
    return report


def test_equal_ranks_are_balanced() -> None:
    report = merged(training(4))
    assert report.ranks == 4
    assert report.rank_skew is not None
    assert report.rank_skew.skew < 0.03
    assert report.rank_skew.slowest_in < 0.6
    assert report.rank_skew.speedup == pytest.approx(1.0, abs=0.02)


def test_the_slow_rank_is_named_with_its_stage_although_all_steps_take_as_long() -> None:
    report = merged(training(4, {2: {"data_loading": 0.030}}))
    skew = report.rank_skew
    assert skew is not None
    medians = [row.step_p50_s for row in report.rank_table]
    assert max(medians) / min(medians) < 1.01  # type: ignore[type-var, operator]
    assert (skew.slowest, skew.stage) == (2, "data_loading")
    assert skew.slowest_in == 1.0
    assert skew.stage_excess_s == pytest.approx(0.028, rel=0.05)


def test_what_a_rank_needs_by_itself_and_what_it_waits_are_told_apart() -> None:
    rows = merged(training(2, {1: {"forward": 0.030}})).rank_table
    assert rows[0].own_s == pytest.approx(0.036, rel=0.03)
    assert rows[0].wait_s == pytest.approx(0.020, rel=0.05)
    assert rows[1].own_s == pytest.approx(0.056, rel=0.03)
    assert rows[1].wait_s == pytest.approx(0.0, abs=1e-4)


def test_as_fast_as_the_median_rank_is_what_the_run_without_the_straggler_takes() -> None:
    slow, even = training(4, {2: {"data_loading": 0.030}}), training(4)
    skew = merged(slow).rank_skew
    assert skew is not None and skew.speedup_ci is not None
    truth = merged(slow).steps.time.mean_s / merged(even).steps.time.mean_s  # type: ignore[union-attr]
    assert skew.speedup == pytest.approx(truth, rel=0.03)
    assert skew.speedup_ci[0] <= skew.speedup <= skew.speedup_ci[1]


def test_steps_and_stages_are_those_of_the_rank_that_waits_least() -> None:
    parts = training(2, {1: {"data_loading": 0.030}})
    report = merged(parts)
    assert report.stages == parts[1].report.stages  # type: ignore[union-attr]
    assert "rank 1" in report.notes[-1]


@pytest.mark.parametrize(
    ("together", "count", "told"), [(True, 3, True), (True, 4, False), (False, 3, False)]
)
def test_what_the_epochs_brought_is_told_by_the_rank_that_printed_it(
    together: bool, count: int, told: bool
) -> None:
    parts = training(2, {1: {"data_loading": 0.030}}, together=together)
    chosen = next(p for p in parts if p.report and p.report.stages == merged(parts).stages)
    brought = Economics(metric="val_acc", lower_is_better=False, best=0.8, best_epoch=1)
    parts = [
        with_epochs(p, Epochs(count=3) if p is chosen else Epochs(count=count, economics=brought))
        for p in parts
    ]
    assert merged(parts).epochs == Epochs(count=3, economics=brought if told else None)


def with_epochs(part: RankPart, epochs: Epochs) -> RankPart:
    assert part.report is not None
    return replace(part, report=replace(part.report, epochs=epochs))


def test_rates_are_of_all_ranks_together() -> None:
    parts = training(4)
    report, one = merged(parts), parts[0].report
    assert report.throughput is not None and one is not None and one.throughput is not None
    assert report.throughput.samples_per_s == pytest.approx(
        4 * one.throughput.samples_per_s,
        rel=0.01,  # type: ignore[operator]
    )
    assert report.throughput.steps_per_s == pytest.approx(one.throughput.steps_per_s, rel=0.01)  # type: ignore[arg-type]
    assert report.series["samples"][0] == pytest.approx(128.0, rel=0.01)
    low, high = report.throughput.samples_per_s_ci  # type: ignore[misc]
    assert low <= report.throughput.samples_per_s <= high  # type: ignore[operator]


def test_time_in_collectives_is_waiting() -> None:
    settings = {"ddp": True}
    parts = training(
        2, {0: {"communication": 0.020}, 1: {"communication": 0.005}}, settings=settings
    )
    rows, skew = merged(parts).rank_table, merged(parts).rank_skew
    assert skew is not None
    assert rows[0].wait_s == pytest.approx(0.020, rel=0.1)
    assert skew.communication_s == pytest.approx(0.005, rel=0.05)
    assert skew.stage != "communication"


def test_shared_buffers_make_the_forward_pass_a_place_to_wait_in() -> None:
    late = {0: {"forward": 0.010, "data_loading": 0.030}, 1: {"forward": 0.038}}
    alone = merged(training(2, late)).rank_skew
    shared = merged(training(2, late, settings={"ddp_log": {"broadcast_buffers": True}})).rank_skew
    assert alone is not None and shared is not None
    assert alone.skew < 0.05
    assert (shared.slowest, shared.stage) == (0, "data_loading")


def test_on_a_gpu_only_the_wait_for_data_is_a_rank_s_own_beyond_the_common() -> None:
    parts = training(
        2, {0: {"data_loading": 0.030}, 1: {"other": 0.029}}, settings={"device": "cuda:0"}
    )
    skew = merged(parts).rank_skew
    assert skew is not None
    assert (skew.slowest, skew.stage) == (0, "data_loading")


def test_what_ddp_s_clock_says_of_communication_counts_for_each_time_it_happens() -> None:
    log = {"ddp_log": {"exposed_s": 0.004, "syncs_per_step": 2.0}}
    skew = merged(training(2, settings=log)).rank_skew
    assert skew is not None
    assert skew.communication_s == pytest.approx(0.008)


def test_a_rank_that_validates_alone_is_named() -> None:
    validation = np.where(np.arange(STEPS) % 60 == 59, 6.0, 0.0)
    parts = training(4, {0: {"validation": validation}})
    report = merged(parts)
    assert report.rank_skew is not None
    assert report.rank_skew.between_rank == 0
    assert report.rank_skew.between_stage == "validation"
    assert report.rank_skew.between_s == pytest.approx(0.1, rel=0.05)
    assert report.rank_skew.slowest_in < 0.6
    assert report.stages == parts[0].report.stages  # type: ignore[union-attr]
    assert report.throughput is not None and report.steps is not None
    rate = 4 * 32 / report.steps.time.mean_s  # of the steps, as in a report of one process
    assert report.throughput.samples_per_s == pytest.approx(rate, rel=0.01)


def test_ranks_that_train_each_for_itself_are_not_compared() -> None:
    report = merged(training(2, {1: {"data_loading": 0.030}}, together=False))
    assert report.rank_skew is None
    assert [row.wait_s for row in report.rank_table] == [None, None]
    assert all(row.step_p50_s for row in report.rank_table)
    rates = [row.samples_per_s for row in report.rank_table]
    assert report.throughput is not None
    assert report.throughput.samples_per_s == pytest.approx(sum(rates))  # type: ignore[arg-type]


def test_steps_thinned_differently_are_laid_side_by_side() -> None:
    short = training(2, {1: {"data_loading": 0.030}}, steps=4096)
    long = training(2, {1: {"data_loading": 0.030}}, steps=2048, stride=2)
    assert (short[0].stretch, long[0].stretch) == (4, 4)
    mixed = [short[0], replace(long[1], stretch=8, columns=halved(long[1].columns))]
    skew = merged(mixed).rank_skew
    assert skew is not None
    assert (skew.slowest, skew.stretches) == (1, 512)


def halved(columns: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    return {
        n: tuple(np.asarray(v).reshape(-1, 2).mean(axis=1).tolist()) for n, v in columns.items()
    }


def test_what_is_handed_in_stays_small() -> None:
    handed = training(2, steps=12_000)[0]
    assert max(len(values) for values in handed.columns.values()) <= ranks.MOST_STRETCHES
    assert handed.steps == 12_000


# -- ranks that are not there -------------------------------------------------------------------


def test_a_rank_that_died_is_named_and_the_others_are_reported() -> None:
    report = merged(training(3), r3=DIED)
    assert report.ranks == 4
    assert report.rank_table[3].note == DIED
    assert report.rank_table[3].steps is None
    assert report.warnings == (
        "Rank 3 left no report at its end: it died. The others are reported.",
    )
    assert report.rank_skew is not None
    assert "3 ranks together" in report.notes[-1]


def test_what_a_dead_rank_handed_in_before_counts() -> None:
    parts = training(2, endings={1: Ending("running")})
    report = merge(parts, 2, {1: DIED})
    assert report is not None
    assert report.rank_table[1].steps == STEPS
    assert report.rank_table[1].note == DIED
    assert report.rank_table[1].ending is None
    assert "What it handed in before counts." in report.warnings[0]


def test_the_first_failure_is_told_and_what_it_brought_down_in_short() -> None:
    lost = Ending("exception", "RuntimeError: Connection closed by peer", 1)
    parts = training(4, endings={0: lost, 1: FAILED, 2: KILLED})
    parts[0] = replace(parts[0], ended_at=102.0)
    report = merged(parts)
    assert report.warnings == (
        "Rank 1 ended early: ValueError: planted.",
        "Ranks 0, 2 ended early after that.",
    )
    assert report.ending == FAILED


def test_the_signal_that_follows_an_error_is_not_the_first_failure() -> None:
    parts = training(2, endings={0: KILLED, 1: FAILED})
    assert merged(parts).ending == FAILED


def test_a_lost_connection_after_a_death_is_no_cause() -> None:
    lost = Ending("exception", "RuntimeError: Connection reset by peer", 1)
    report = merged(training(2, endings={0: lost, 1: KILLED}), r2=DIED)
    assert report.warnings[1:] == ("Ranks 0, 1 ended early after that.",)


def test_an_error_of_its_own_is_told_although_another_rank_died() -> None:
    report = merged(training(1, endings={0: FAILED}, together=False), r1=NEVER_BEGAN)
    assert report.warnings[1] == "Rank 0 ended early: ValueError: planted."
    assert "the only one" in report.notes[-1]


def test_a_rank_that_fell_far_behind_is_shown_but_not_compared() -> None:
    parts = [*training(2), replace(training(3, steps=50)[2], ending=FAILED)]
    report = merged(parts)
    assert report.rank_table[2].steps == 50
    assert report.rank_table[2].own_s is None
    assert report.rank_table[0].own_s is not None


def test_a_rank_without_torch_is_told_and_ranks_without_any_give_no_report() -> None:
    without = RankPart(rank=1, ending=DONE, ended_at=1.0)
    report = merged([training(1)[0], without])
    assert report.rank_table[1].note == "it did not import torch"
    assert merge([without], 2, {}) is None


def test_warnings_of_all_ranks_are_there_once() -> None:
    parts = [
        replace(p, report=replace(p.report, warnings=("the same",)))  # type: ignore[arg-type]
        for p in training(3)
    ]
    assert merged(parts).warnings == ("the same",)


def test_parts_travel_as_bytes_and_others_are_ignored() -> None:
    sent = training(2)[1]
    assert from_bytes(to_bytes(sent)) == sent
    assert from_bytes(b"\x00nonsense") is None
    assert from_bytes(b"") is None


def test_a_merged_report_survives_json() -> None:
    report = merged(training(2, {1: {"data_loading": 0.030}}), r2=DIED)
    assert from_json(to_json(report)).rank_table == report.rank_table
    assert from_json(to_json(report)).rank_skew == report.rank_skew
