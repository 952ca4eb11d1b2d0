"""Memory that does not do: what it refutes, and what it only keeps from being tried."""

from __future__ import annotations

import pytest
from builders import make_recommendation, make_report
from fake_arm import GIB, FakeArm

from perfdoctor.collect.arm import ArmSpec
from perfdoctor.collect.options import no_progress
from perfdoctor.collect.out_of_memory import no_room
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments.trials import Laboratory
from perfdoctor.experiments.verify import verify
from perfdoctor.report import Prediction

SPEC = ArmSpec(workload={"script": "train.py"})
GAIN = Prediction(speedup=1.2, low=1.1, high=1.3, model="made up")
FULL = PerfdoctorError("ended by signal 9; it may have run out", slug="out-of-memory")
FUSED, LARGER, CHANNELS = {"optimizer_fused": True}, {"batch_size": 64}, {"channels_last": True}


def trial_of(change, rule="PD401"):
    advice = make_recommendation(rule=rule, change=change, predicted=GAIN, snippet="", name="x")
    done = verify(make_report(recommendations=(advice,)), SPEC, 120.0, no_progress, lambda _: None)
    return done.recommendations[0].verified


def failing_in(monkeypatch, wanted, error=FULL):
    """The arm fails in chunks of this mode, from the trial's first ones on."""
    made = FakeArm.chunk

    def chunk(arm, steps, mode=None):
        found = made(arm, steps, mode)
        if mode == wanted and "trial" in arm.modes:
            raise error
        return found

    monkeypatch.setattr(FakeArm, "chunk", chunk)


def peaking(monkeypatch, gib, **more):
    """The training as it is needs so much of the 8 GiB."""
    facts = FakeArm.facts

    def told(arm, mode=None):
        found = facts(arm, mode)
        object.__setattr__(found, "peak_bytes", int(gib * GIB))
        for name, value in more.items():
            object.__setattr__(found, name, value)
        return found

    monkeypatch.setattr(FakeArm, "facts", told)


def test_memory_that_runs_out_in_steps_with_the_change_refutes_it(world, monkeypatch):
    failing_in(monkeypatch, "trial")
    trial = trial_of(FUSED)
    assert trial.outcome == "refuted" and "it does not fit in memory" in trial.reason


def test_elsewhere_it_refutes_nothing(world, monkeypatch):
    failing_in(monkeypatch, None)
    trial = trial_of(FUSED)
    assert trial.outcome == "not_testable" and "with more in it than the training" in trial.reason


def test_in_a_pair_of_processes_it_refutes_nothing(world):
    world.failing["channels_last"], world.gains["channels_last"] = FULL, 1.0
    trial = trial_of(CHANNELS, "PD217")
    assert trial.outcome == "not_testable"


def test_what_holds_two_of_something_refutes_nothing(world, monkeypatch):
    failing_in(monkeypatch, "trial", no_room("two optimizers' states"))
    trial = trial_of(FUSED)
    assert (trial.outcome, trial.reason) == (
        "not_testable",
        "memory would not do for two optimizers' states beside each other",
    )


@pytest.mark.parametrize("error", [FULL, no_room("two processes of the script")])
def test_losses_that_do_not_fit_beside_the_training_are_not_compared(world, monkeypatch, error):
    def first_losses(arm, steps, mode=None):
        raise error

    world.gains["optimizer_fused"] = 1.3
    monkeypatch.setattr(FakeArm, "first_losses", first_losses)
    trial = trial_of(FUSED)
    assert trial.outcome == "verified" and trial.loss_parity.startswith("not compared: memory")


@pytest.mark.parametrize(
    ("gib", "device", "script", "compared"),
    [
        (3.1, "cpu", False, True),
        (3.3, "cpu", False, False),
        (3.3, "cuda:0", False, True),  # an error there is no harm
        (3.3, "cuda:0", True, False),
    ],
)
def test_where_it_might_not_fit_no_second_training_is_begun(
    world, monkeypatch, gib, device, script, compared
):
    world.gains["optimizer_fused"] = 1.3
    world.extra["losses_by_process"] = script
    peaking(monkeypatch, gib, device=device)
    trial = trial_of(FUSED)
    assert trial.outcome == "verified"
    assert (trial.loss_parity == "exact") == compared


@pytest.mark.parametrize(("gib", "tried"), [(2.0, True), (2.2, False)])
def test_no_pair_of_processes_is_begun_where_three_might_not_fit(world, monkeypatch, gib, tried):
    world.gains["channels_last"] = 1.3
    peaking(monkeypatch, gib)
    trial = trial_of(CHANNELS, "PD217")
    assert (trial.outcome == "verified") == tried
    assert tried or "three processes" in trial.reason
    assert (len(world.started) > 1) == tried


@pytest.mark.parametrize(
    ("gib", "device", "script", "tried"),
    [(3.1, "cpu", True, True), (3.3, "cpu", True, False), (3.3, "cuda:0", True, False),
     (3.3, "cuda:0", False, True)],
)  # fmt: skip
def test_a_larger_batch_that_might_not_fit_is_not_tried_where_that_ends_a_process(
    world, monkeypatch, gib, device, script, tried
):
    world.gains["batch_size"] = 1.3
    world.extra["losses_by_process"] = script
    peaking(monkeypatch, gib, device=device)
    trial = trial_of(LARGER, "PD205")
    assert (trial.outcome == "verified") == tried
    assert tried or trial.reason == "not tried: memory might not do for batches of 64"


def test_a_process_that_a_larger_batch_kills_ends_the_curve_and_no_trial(world, monkeypatch):
    made = FakeArm.chunk

    def chunk(arm, steps, mode=None):
        if mode == "batch size 128":
            arm.alive = False
            raise FULL
        return made(arm, steps, mode)

    world.gains["batch_size"] = 1.3
    monkeypatch.setattr(FakeArm, "chunk", chunk)
    trial = trial_of(LARGER, "PD205")
    assert trial.outcome == "verified" and len(world.started) == 2
    assert "further sizes were not measured: ended by signal 9" in trial.curve[-1].error


def test_nothing_is_said_of_room_where_no_memory_was_measured(world, monkeypatch):
    peaking(monkeypatch, 0.0)
    with Laboratory(SPEC, 60.0, no_progress) as laboratory:
        from perfdoctor.experiments import room

        assert room.for_second(laboratory.facts)
        assert room.not_for_pair(laboratory.facts) is None
