"""What a loader's change does to the start of epochs is in its trial."""

from __future__ import annotations

import numpy as np
import pytest
from builders import make_recommendation, make_report, make_stat
from fake_arm import FakeArm

from perfdoctor.collect.arm import ArmSpec, Chunk
from perfdoctor.collect.options import no_progress
from perfdoctor.experiments.starts import EpochPlan, epoch_s, plan_for, too_few
from perfdoctor.experiments.trials import Laboratory
from perfdoctor.experiments.turns import Decision
from perfdoctor.experiments.verify import verify
from perfdoctor.report import Epochs, Prediction
from perfdoctor.sequential import Claim

SPEC = ArmSpec(workload={"script": "train.py"})
GAIN = Prediction(speedup=1.8, low=1.6, high=2.0, model="made up")
KEPT, MORE = {"persistent_workers": True}, {"num_workers": 4}
SLOW_START_S = 1.1


@pytest.fixture
def script(world):
    """60 steps of 20 ms an epoch, whose two workers take 1.1 s to start."""
    world.step_s = 0.02
    world.configuration |= {"num_workers": 2, "prefetch_factor": 2, "persistent_workers": False}
    world.extra |= {"steps_per_epoch": 60, "turn": 2}
    world.start_of_epoch_s = lambda used: (
        SLOW_START_S if used["num_workers"] and not used["persistent_workers"] else 0.0
    )
    return world


def trial_of(change, budget_s=120.0, **report):
    advised = make_recommendation(
        rule="PD104", change=change, predicted=GAIN, snippet="", name="made-up"
    )
    used = dict(FakeArm.world.configuration)
    given = make_report(recommendations=(advised,), configuration=used, **report)
    done = verify(given, SPEC, budget_s, no_progress, lambda line: None)
    return done.recommendations[0].verified, done.verification


def test_workers_that_are_kept_save_their_start_in_each_epoch(script):
    trial, _ = trial_of(KEPT)
    assert trial.outcome == "verified"
    assert trial.speedup == pytest.approx((60 * 0.02 + SLOW_START_S) / (60 * 0.02), rel=0.03)
    assert trial.change == KEPT


def test_the_start_counts_as_often_as_it_comes(script):
    script.extra["steps_per_epoch"] = 1000
    trial, _ = trial_of(KEPT)
    assert trial.speedup == pytest.approx((20 + SLOW_START_S) / 20, rel=0.02)
    assert script.time.now_s < 250.0  # five whole epochs of both sides would be 211 s


def test_workers_that_are_added_pay_for_their_start(script):
    script.configuration["num_workers"] = 0
    script.gains["num_workers"] = 2.0
    trial, _ = trial_of(MORE)
    assert trial.outcome == "refuted"
    assert trial.speedup == pytest.approx(1.2 / (0.6 + SLOW_START_S), rel=0.03)


def test_what_loading_costs_at_most_holds_the_starts(script):
    epochs = Epochs(count=3, steps_per_epoch=60, start=make_stat(SLOW_START_S))
    script.gains["free_loading"] = 1.07
    used = script.start_of_epoch_s
    script.start_of_epoch_s = lambda now: 0.0 if now.get("free_loading") else used(now)
    _, verification = trial_of(KEPT, budget_s=240.0, epochs=epochs)
    free = verification.ceilings["free-loading"]
    assert free.speedup == pytest.approx((1.2 + SLOW_START_S) / (1.2 / 1.07), rel=0.03)


def test_it_is_never_refuted_without_starts(script):
    del script.extra["steps_per_epoch"]
    script.start_of_epoch_s = None
    trial, _ = trial_of(KEPT)
    assert trial.outcome == "not_testable"
    assert "after how many steps there is one is not known" in trial.reason


def test_too_short_a_budget_names_another_one(script):
    script.start_of_epoch_s = lambda used: 0.0 if used["persistent_workers"] else 8.0
    epochs = Epochs(count=3, steps_per_epoch=60, start=make_stat(8.0))
    trial, _ = trial_of(KEPT, budget_s=45.0, epochs=epochs)
    assert trial.outcome == "inconclusive" and "--budget" in trial.reason
    needed = float(trial.reason.rsplit(" ", 1)[1].rstrip("s"))
    assert 45.0 < needed < 600.0
    again, _ = trial_of(KEPT, budget_s=needed, epochs=epochs)
    assert again.outcome == "verified"


def test_other_changes_of_a_loader_are_measured_by_steps_where_epochs_begin_at_once(script):
    with Laboratory(SPEC, 120.0, no_progress, start_s=0.03) as laboratory:
        assert plan_for(laboratory, {"prefetch_factor": 4}) is None
        assert plan_for(laboratory, {"prefetch_factor": 4}, SLOW_START_S) is not None
        assert plan_for(laboratory, {"optimizer_fused": True}) is None
        assert plan_for(laboratory, {"batch_size": 64, "num_workers": 4}) is None
        laboratory.start_s = SLOW_START_S
        assert plan_for(laboratory, {"prefetch_factor": 4}) is not None


@pytest.mark.parametrize("epoch", [1, 4, 60, 5000])
@pytest.mark.parametrize("workers", [0, 1, 3, 16])
def test_short_epochs_are_whole_turns_longer_than_their_queue(script, epoch, workers):
    script.extra |= {"steps_per_epoch": epoch, "turn": 2}
    with Laboratory(SPEC, 120.0, no_progress, start_s=200.0) as laboratory:
        plan = plan_for(laboratory, {"num_workers": workers})
    assert plan.short <= plan.epoch == epoch and plan.steps % plan.short == 0
    if plan.short < epoch:
        assert plan.short % max(1, workers) == 0 and plan.short % 2 == 0
        assert plan.short - 2 * plan.queue >= 16


def chunk_of(step_s, starts, own_starts=()):
    size = len(step_s)
    return Chunk(
        step_s=np.array(step_s, dtype=np.float64),
        stages_s={},
        samples=np.full(size, 8.0),
        starts=np.isin(np.arange(size), starts),
        wall_s=1.0,
        cpu_s=1.0,
        own_starts=own_starts,
    )


def test_an_epoch_is_a_short_one_and_steps_of_its_middle():
    plan = EpochPlan(8, epoch=100, short=8, queue=2)
    one = chunk_of([9, 3, 1, 1, 1, 1, 0.5, 0.5], [0])
    assert epoch_s(one, plan) == pytest.approx(17 + 92 * 1)
    later = chunk_of([1, 1, 0.5, 0.5, 9, 3, 1, 1], [4])
    assert epoch_s(later, plan) == pytest.approx(17 + 92 * 1)
    assert plan.seconds_per_sample(one) == pytest.approx(109 / 800)
    assert epoch_s(chunk_of([1.0] * 8, []), plan) == pytest.approx(100)


def test_what_a_script_does_between_its_epochs_is_not_of_its_loader():
    plan = EpochPlan(8, epoch=100, short=8, queue=1)
    validated = chunk_of([9, 1, 1, 50, 1, 1, 1, 1], [0, 3], [(3, 0.0)])
    assert epoch_s(validated, plan) == pytest.approx(16 + 92)
    both = chunk_of([59, 1, 1, 1, 1, 1, 1, 1], [0], [(0, 9.0)])
    assert epoch_s(both, plan) == pytest.approx(16 + 92)


def test_enough_pairs_lack_none(script):
    with Laboratory(SPEC, 120.0, no_progress, start_s=SLOW_START_S) as laboratory:
        plan = plan_for(laboratory, KEPT)
        decision = Decision(Claim())
        assert too_few(plan, laboratory, decision) is not None
        decision.differences += [0.0] * 5
        assert too_few(plan, laboratory, decision) is None


def test_both_modes_are_forgotten_afterwards(script):
    trial_of(KEPT)
    assert set(script.started[0].modes) == {"control"}
