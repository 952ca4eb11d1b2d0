"""From recommendations to outcomes, on a machine whose noise is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import COMPUTE_BOUND_S, make_recommendation, make_report
from fake_arm import GIB, FakeArm

from perfdoctor.collect.arm import ArmSpec
from perfdoctor.collect.options import no_progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments import EXPERIMENTS, trials
from perfdoctor.experiments.findings import merged
from perfdoctor.experiments.plan import load, plan, situation_of
from perfdoctor.experiments.verify import verify
from perfdoctor.report import Prediction, Together
from perfdoctor.schema import from_json, to_json
from perfdoctor.settings import tomllib

SPEC = ArmSpec(workload={"demo": "images"})
GAIN = Prediction(speedup=1.2, low=1.1, high=1.3, model="made up")


def advice(rule, change, **more):
    fields = {"predicted": GAIN, "snippet": f"use({change})", "name": "made-up", **more}
    return make_recommendation(rule=rule, change=change, **fields)


FUSED = advice("PD401", {"optimizer_fused": True})
BF16 = advice("PD202", {"precision": "bf16"}, safety="numerics")
LARGER = advice("PD205", {"batch_size": 64}, safety="semantics")
CHANNELS = advice("PD217", {"channels_last": True})


def tried(*recommendations, budget_s=120.0, tell=None, guarded=True, **report):
    fields = {"stage_s": COMPUTE_BOUND_S} | report
    given = make_report(recommendations=recommendations, **fields)
    tell = tell or (lambda line: None)
    return verify(given, SPEC, budget_s, no_progress, tell, guarded=guarded)


def trial_of(report, rule):
    return next(one.verified for one in report.recommendations if one.rule == rule)


def test_a_change_that_helps_is_verified_with_what_it_brings(world):
    world.gains["optimizer_fused"] = 1.25
    report = tried(FUSED)
    trial = trial_of(report, "PD401")
    assert trial.outcome == "verified"
    assert trial.low < 1.25 < trial.high and trial.high - trial.low < 0.05
    assert trial.pairs == 5 and trial.loss_parity == "exact"
    assert trial.experiment == "optimizer-fused" and trial.change == {"optimizer_fused": True}
    assert report.verification.scored == 1 and report.verification.within_interval == 1
    assert report.verification.error == pytest.approx(math.log(1.25 / 1.2), abs=0.02)


def test_a_change_that_was_predicted_to_help_and_does_not_is_refuted(world):
    trial = trial_of(tried(FUSED), "PD401")
    assert trial.outcome == "refuted"
    assert trial.speedup == pytest.approx(1.0, abs=0.02)


def test_a_change_that_harms_is_refuted_even_without_a_prediction(world):
    world.gains["optimizer_fused"] = 0.8
    assert trial_of(tried(replace(FUSED, predicted=None)), "PD401").outcome == "refuted"


def test_nothing_without_a_prediction_stays_inconclusive_and_says_what_would_have_been_seen(world):
    trial = trial_of(tried(replace(FUSED, predicted=None)), "PD401")
    assert trial.outcome == "inconclusive"
    assert "would have been seen" in trial.reason and trial.pairs == 30


def test_too_small_a_budget_is_inconclusive_and_says_so(world):
    world.noise, world.step_s = 0.5, 0.2
    world.gains["optimizer_fused"] = 1.05
    report = tried(FUSED, BF16, budget_s=20.0)
    reasons = [one.verified.reason for one in report.recommendations]
    assert {one.verified.outcome for one in report.recommendations} == {"inconclusive"}
    assert any("the budget was spent" in reason for reason in reasons)
    assert report.verification.spent_s < 40


def test_steps_too_slow_for_the_budget_are_not_begun_and_a_budget_is_named(world):
    world.step_s = 10.0
    report = tried(FUSED, BF16, budget_s=60.0)
    assert report.verification.spent_s < 80
    for one in report.recommendations:
        assert one.verified.outcome == "inconclusive" and one.verified.pairs == 0
        assert "the shortest trial, of steps of 10 s, takes" in one.verified.reason
        assert "--budget 3176s" in one.verified.reason


def test_what_is_clear_beside_other_programs_says_so(world):
    world.foreign = 0.6
    world.gains["optimizer_fused"] = 1.5
    trial = trial_of(tried(FUSED), "PD401")
    assert trial.outcome == "verified"
    assert trial.reason == "measured while other programs used 60 % of the cores"


def test_a_gain_that_the_whole_training_does_not_notice_is_not_verified(world):
    world.gains["optimizer_fused"] = 1.2
    given = make_report(recommendations=(FUSED,), stage_s=COMPUTE_BOUND_S)

    def a_hundredth(trial):
        return replace(trial, speedup=1.002, low=1.001, high=1.003)

    report = verify(given, SPEC, 120.0, no_progress, lambda line: None, a_hundredth)
    trial = trial_of(report, "PD401")
    assert trial.outcome == "refuted"
    assert "the whole training by less than 2 %" in trial.reason
    assert report.verification.patch == ""


def test_what_was_predicted_of_several_is_dropped_where_one_is_refuted(world):
    both = Together(
        speedup=1.4, low=1.2, high=1.6, model="x", rules=("PD401", "PD202"), product=1.5
    )
    world.gains |= {"precision": 1.5, "optimizer_fused": 1.2}
    given = make_report(recommendations=(FUSED, BF16), stage_s=COMPUTE_BOUND_S)
    given = replace(given, together=both)

    def kept():
        return verify(given, SPEC, 120.0, no_progress, lambda line: None).together

    assert kept() == both
    world.gains["optimizer_fused"] = 0.8
    assert kept() is None


def test_a_busy_machine_is_blamed_for_what_stays_unclear(world):
    world.noise, world.foreign = 1.0, 0.6
    world.gains["optimizer_fused"] = 1.05
    trial = trial_of(tried(FUSED), "PD401")
    assert trial.outcome == "inconclusive"
    assert "the machine is unfit: other programs used 60 % of the cores" in trial.reason


def test_nothing_is_concluded_where_nothing_changed_makes_a_difference(world):
    world.control_gain, world.gains["optimizer_fused"] = 1.2, 1.5
    report = tried(FUSED)
    trial = trial_of(report, "PD401")
    assert trial.outcome == "inconclusive"
    assert "the machine is unfit: the same training" in trial.reason
    assert report.verification.patch == "" and report.verification.together is None


def test_the_most_promising_comes_first_and_it_is_told_beforehand(world):
    small = replace(FUSED, predicted=replace(GAIN, speedup=1.05))
    lines = []
    tried(small, BF16, tell=lambda line: lines.append((line, world.chunks)))
    assert "PD202 precision=bf16; PD401 optimizer_fused=True; at the end what" in lines[0][0]
    assert "trying 2 changes" in lines[0][0]
    assert all("up to 120 s" in line and not made for line, made in lines)
    assert "no file of yours is changed" in lines[1][0]


def test_verified_changes_are_tried_together_without_those_that_change_the_training(world):
    world.gains |= {"optimizer_fused": 1.2, "precision": 1.5, "batch_size": 1.3}
    report = tried(FUSED, BF16, LARGER)
    found = report.verification
    assert set(found.together.change) == {"optimizer_fused", "precision"}
    assert found.together.outcome == "verified"
    assert found.together.speedup == pytest.approx(1.8, rel=0.02)
    assert found.alone_product == pytest.approx(1.8, rel=0.02)


def test_the_verified_configuration_can_be_used_again(world, tmp_path, monkeypatch):
    from perfdoctor import settings

    world.gains |= {"optimizer_fused": 1.2, "precision": 1.5, "threads": 1.1}
    world.configuration["threads"] = 1
    report = tried(FUSED, BF16, advice("PD204", {"threads": 4}))
    found = report.verification
    assert "use({'optimizer_fused': True})" in found.patch and "PD401 made-up" in found.patch
    assert found.environment == {"OMP_NUM_THREADS": "4"}
    assert tomllib.loads(found.profile)["tool"]["perfdoctor"]["profiles"] == {
        "verified": {"precision": "bf16"}
    }
    (tmp_path / "pyproject.toml").write_text(found.profile)
    loaded = settings.load(tmp_path)
    given = {"precision": None, "batch_size": (8,)}
    assert loaded.with_profile(given, "verified") == {"precision": ("bf16",), "batch_size": (8,)}


def test_what_changes_the_training_says_so_in_the_profile(world):
    world.gains |= {"precision": 1.5, "batch_size": 1.3}
    found = tried(BF16, LARGER).verification
    (line,) = [one for one in found.profile.splitlines() if one.startswith("batch_size")]
    assert line == "batch_size = 64  # changes the training"
    assert 'precision = "bf16"\n' in found.profile


def test_several_environments_are_one():
    first, second = {"A": "1", "B": "1"}, {"B": "2", "C": "2"}
    changes = merged([{"environment": first, "threads": 2}, {"environment": second, "threads": 4}])
    assert changes == {"environment": {"A": "1", "B": "1", "C": "2"}, "threads": 2}


def test_a_faster_change_whose_losses_diverge_is_refuted(world):
    world.gains["precision"] = 1.5
    for losses in ((2.0, 9.0, 400.0), (2.0, None, None)):
        world.losses["precision"] = losses
        trial = trial_of(tried(BF16), "PD202")
        assert trial.outcome == "refuted"
        assert "faster, but the losses" in trial.reason


def test_a_change_that_does_not_fit_in_memory_is_refuted_and_the_others_go_on(world):
    world.failing["precision"] = PerfdoctorError("out of memory", slug="out-of-memory")
    world.gains["optimizer_fused"] = 1.3
    report = tried(BF16, FUSED)
    assert trial_of(report, "PD202").outcome == "refuted"
    assert "does not fit in memory" in trial_of(report, "PD202").reason
    assert trial_of(report, "PD401").outcome == "verified"


def test_a_change_that_leaves_no_memory_is_not_recommended(world):
    world.gains["precision"], world.peaks["precision"] = 1.5, int(7.9 * GIB)
    trial = trial_of(tried(BF16), "PD202")
    assert trial.outcome == "refuted" and "no memory is left" in trial.reason
    assert trial.peak_bytes_before == GIB and trial.peak_bytes_after == int(7.9 * GIB)


def test_a_change_that_kills_its_process_is_no_reason_to_stop(world):
    world.failing["precision"] = PerfdoctorError("ended by signal 11", slug="arm-ended")
    world.gains["optimizer_fused"] = 1.3
    report = tried(BF16, FUSED)
    assert trial_of(report, "PD202").outcome == "not_testable"
    assert trial_of(report, "PD401").outcome == "verified"
    assert len(world.started) == 2


def test_a_mode_that_cannot_be_forgotten_takes_its_process_with_it_and_no_trial(world, monkeypatch):
    world.failing["precision"] = PerfdoctorError("with it it raised", slug="script-failed")
    world.gains["optimizer_fused"] = 1.3
    forget = FakeArm.forget

    def fails(arm, mode):
        if "precision" in arm.modes.get(mode, ()):
            raise PerfdoctorError("KeyError: 'trial'", slug="user-code")
        forget(arm, mode)

    monkeypatch.setattr(FakeArm, "forget", fails)
    report = tried(BF16, FUSED)
    assert "with it it raised" in trial_of(report, "PD202").reason
    assert trial_of(report, "PD401").outcome == "verified"
    assert len(world.started) == 2


def test_ctrl_c_keeps_what_is_known_and_ends_every_process(world):
    world.gains |= {"precision": 1.5}
    tried(BF16, FUSED)
    whole = world.chunks
    for chunks in (1, 10, whole // 4, whole // 2, whole - 60):
        world.chunks, world.interrupt_after = 0, chunks
        world.rng = np.random.default_rng(0)
        report = tried(BF16, FUSED)
        assert report.verification.interrupted
        assert all(not arm.open for arm in world.started)
        outcomes = [one.verified.outcome for one in report.recommendations if one.verified]
        assert set(outcomes) <= {"verified", "inconclusive"}
    assert "verified" in outcomes
    begun = trial_of(report, "PD401")
    assert begun.reason == "interrupted" and begun.pairs > 0


def test_every_process_is_ended_in_the_end(world):
    world.gains |= {"channels_last": 1.2}
    tried(FUSED, CHANNELS)
    assert len(world.started) > 2
    assert all(not arm.open for arm in world.started)


def test_what_needs_a_restart_is_measured_in_pairs_of_processes(world):
    world.gains["channels_last"] = 1.2
    trial = trial_of(tried(CHANNELS), "PD217")
    assert trial.outcome == "verified" and trial.pairs == 5
    assert trial.speedup == pytest.approx(1.2, rel=0.02)
    assert trial.loss_parity == "exact"


def test_a_restart_that_does_not_fit_the_budget_says_which_would_do(world):
    trial = trial_of(tried(CHANNELS, budget_s=10.0), "PD217")
    assert trial.outcome == "inconclusive"
    assert "use --budget" in trial.reason


def test_compiling_says_when_it_pays_back(world):
    world.gains["compile"] = 1.25
    trial = trial_of(tried(advice("PD208", {"compile": "default"})), "PD208")
    assert trial.outcome == "verified"
    assert trial.compile_s is not None and trial.pays_back_steps is not None
    assert trial.pays_back_steps >= trial.compile_s / (0.01 * 0.21)


def test_batch_sizes_are_measured_as_far_as_memory_allows(world):
    world.gains["batch_size"], world.peaks["batch_size"] = 1.3, 7 * GIB
    world.configuration["dataset_size"] = 10_000
    curve = trial_of(tried(LARGER), "PD205").curve
    assert [point.batch_size for point in curve] == [32, 64]
    assert curve[0].samples_per_s == pytest.approx(32 * 1.3 / 0.01, rel=0.1)
    assert curve[-1].error == "not tried: memory might not do"


@pytest.mark.parametrize(
    ("samples", "budget_s", "sizes", "told"),
    [
        (100, 120.0, [32, 64, 128], "not tried: the dataset has 100 samples"),
        (None, 120.0, [32, 64, 128, 256, 512, 1024], "not tried: no more than 5 sizes are"),
        (None, 13.0, [32, 64, 128, 256], "too little of the budget was left for it: --budget "),
    ],
)
def test_a_curve_says_why_it_ends(world, samples, budget_s, sizes, told):
    world.configuration["dataset_size"] = samples
    world.gains["batch_size"] = 1.3
    curve = trial_of(tried(LARGER, budget_s=budget_s), "PD205").curve
    assert [point.batch_size for point in curve] == sizes
    assert told in curve[-1].error and "no more that was" not in curve[-1].error
    assert all(point.samples_per_s for point in curve[:-1])


def test_a_curve_says_where_doubling_brings_nothing(world):
    world.configuration["dataset_size"] = 100
    world.samples = 32
    curve = trial_of(tried(LARGER), "PD205").curve
    assert curve[-1].error.endswith("; the last doubling brought no more that was measured")


def test_ctrl_c_while_batch_sizes_are_measured_keeps_the_outcome(world, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    world.gains["batch_size"] = 1.3
    monkeypatch.setattr("perfdoctor.experiments.curve.measured", pressed)
    report = tried(LARGER)
    trial = trial_of(report, "PD205")
    assert report.verification.interrupted
    assert trial.outcome == "verified" and trial.change == {"batch_size": 64}
    assert "use({'batch_size': 64})" in report.verification.patch


def test_ctrl_c_keeps_the_pairs_of_processes_that_were_made(world):
    tried(CHANNELS)
    whole, world.chunks = world.chunks, 0
    world.interrupt_after = whole - 10
    trial = trial_of(tried(CHANNELS), "PD217")
    assert (trial.outcome, trial.reason) == ("inconclusive", "interrupted")
    assert trial.pairs > 1 and trial.experiment == "channels-last"


def test_threads_that_read_samples_may_draw_random_numbers_in_another_order(world):
    world.gains["reads_at_once"] = 1.5
    world.losses["reads_at_once"] = (2.02, 1.88, 1.81)
    trial = trial_of(tried(advice("PD108", {"reads_at_once": 8})), "PD108")
    assert trial.outcome == "verified"
    assert "other random numbers" in trial.loss_parity


def test_a_changed_loader_says_whether_its_batches_are_the_same(world):
    world.gains["num_workers"], world.relation = 1.5, "redrawn"
    world.losses["num_workers"] = (2.02, 1.88, 1.81)
    workers = advice("PD101", {"num_workers": 3})
    assert "same samples from the same seed, other random augm" in parity_of(tried(workers, FUSED))
    world.extra["redrawn"], world.relation = ["num_workers"], "same"
    assert parity_of(tried(workers)) == "not compared; the same batches from the same seed"
    world.step_s = 0.5  # no time for it
    assert parity_of(tried(workers)) == "not comparable: other batches"


def parity_of(report):
    return trial_of(report, "PD101").loss_parity


def test_only_the_trial_beside_other_programs_says_so(world, monkeypatch):
    world.gains |= {"optimizer_fused": 1.3, "precision": 1.5}
    begun = []
    monkeypatch.setattr(trials.Fitness, "begin", lambda self: begun.append(self))
    monkeypatch.setattr(
        trials.Fitness,
        "foreign_share",
        lambda self: 0.6 if begun.count(self) == 3 else 0.02,  # the second trial's burst
    )
    report = tried(BF16, FUSED)
    assert trial_of(report, "PD202").reason is None
    assert (
        trial_of(report, "PD401").reason == "measured while other programs used 60 % of the cores"
    )
    assert report.verification.foreign_cpu_share == 0.02


def test_a_process_that_hangs_ends_its_trial_and_not_the_others(world, monkeypatch):
    world.gains["optimizer_fused"] = 1.3
    chunk = FakeArm.chunk

    def hangs(arm, steps, mode=None):
        if "precision" in arm.modes.get(mode, ()):
            arm.trying, arm.alive = mode, False
            world.time.now_s += arm.spec.patient_until_s - world.time.now_s - 60.0
            raise PerfdoctorError("it gave no answer", slug="arm-hangs")
        return chunk(arm, steps, mode)

    monkeypatch.setattr(FakeArm, "chunk", hangs)
    report = tried(BF16, FUSED)
    assert trial_of(report, "PD202").outcome == "not_testable"
    assert "hangs, or takes too long: it gave no answer" in trial_of(report, "PD202").reason
    assert trial_of(report, "PD401").outcome == "verified"
    assert all(arm.spec.patience_s == 60.0 for arm in world.started) and len(world.started) == 2
    assert world.started[0].spec.patient_until_s == pytest.approx(100.0 + 120.0, abs=1.0)


def test_what_is_told_has_values_and_is_corrected_where_it_turns_out_otherwise(world):
    lines = []
    tried(CHANNELS, advice("PD208", {"compile": "default"}), tell=lines.append)
    both = "PD208 compile=default (then compile=max-autotune-no-cudagraphs, if time is left)"
    assert both in lines[0] and "PD217 channels_last=True" in lines[0] and len(lines) == 2
    world.extra["traits"] = []
    tried(CHANNELS, FUSED, tell=lines.append)
    assert lines[-1] == "verify: as it turns out, in this order: PD401 optimizer_fused=True"
    tried(CHANNELS, tell=lines.append)
    assert lines[-1] == "verify: none of the advice can be tried here"


def test_the_documentation_shows_what_is_told(world):
    lines = []
    tried(advice("PD101", {"num_workers": 4}), FUSED, tell=lines.append)
    shown = (Path(__file__).parents[2] / "docs" / "verify.md").read_text()
    assert len(lines) == 2 and all(f"perfdoctor: {line}\n" in shown for line in lines)


def test_a_variable_is_told_as_it_is_set(world):
    lines = []
    variable = {"environment": {"OMP_WAIT_POLICY": "passive"}}
    tried(advice("PD999", variable), tell=lines.append)
    assert lines[0].endswith("in this order: PD999 OMP_WAIT_POLICY=passive")


def test_the_bar_goes_on_while_an_answer_is_waited_for(world):
    shown = []
    with trials.Laboratory(SPEC, 120.0, lambda *seen: shown.append(seen)) as laboratory:
        laboratory.tell("something")
        world.time.now_s += 7.0
        laboratory.arm.spec.waiting()
    assert [what for what, _, _ in shown[-2:]] == ["verify: something"] * 2
    assert shown[-1][1] == pytest.approx(shown[-2][1] + 7.0)


def test_waiting_for_a_core_beside_other_programs_makes_a_machine_unfit(world):
    world.noise, world.foreign, world.waits = 1.0, 0.1, 0.4
    world.gains["optimizer_fused"] = 1.05
    report = tried(FUSED)
    reason = trial_of(report, "PD401").reason
    assert reason.startswith("the machine is unfit: other programs used 10 % of the cores and the ")
    assert "waited 40 % of its time for one" in reason
    assert report.verification.core_wait_share == pytest.approx(0.4)


def test_waiting_for_a_core_is_told_with_what_is_clear(world):
    world.gains["optimizer_fused"], world.foreign, world.waits = 1.5, 0.1, 0.4
    told = "measured while other programs used 10 % of the cores and the training waited 40 % of"
    assert trial_of(tried(FUSED), "PD401").reason.startswith(told)
    world.waits = 0.1
    assert trial_of(tried(FUSED), "PD401").reason is None


def test_a_training_that_waits_for_itself_is_no_unfit_machine(world):
    world.noise, world.foreign, world.waits = 1.0, 0.01, 0.4
    world.gains["optimizer_fused"] = 1.05
    reason = trial_of(tried(FUSED), "PD401").reason
    assert "unfit" not in reason
    assert "waited 40 % of its time for a core, and not for other programs" in reason
    world.gains["optimizer_fused"], world.noise = 1.5, 0.01
    assert trial_of(tried(FUSED), "PD401").reason is None


def test_ceilings_are_tried_where_the_loop_waits_and_verify_nothing(world):
    from builders import INPUT_BOUND_S

    world.gains |= {"free_loading": 3.0, "cache_samples": 2.0}
    report = tried(stage_s=INPUT_BOUND_S)
    assert set(report.verification.ceilings) == {"free-loading", "cached-dataset"}
    assert report.verification.ceilings["free-loading"].speedup == pytest.approx(3.0, rel=0.05)
    assert report.verification.ceilings["free-loading"].loss_parity is None
    caching = advice("PD109", {"cache_samples": True})
    trial = trial_of(tried(caching, stage_s=INPUT_BOUND_S), "PD109")
    assert trial.outcome == "not_testable"
    assert trial.speedup == pytest.approx(2.0, rel=0.05)
    assert trial.reason == "only its ceiling can be tried"


def test_where_not_even_the_ceiling_helps_the_advice_is_refuted(world):
    trial = trial_of(tried(advice("PD109", {"cache_samples": True})), "PD109")
    assert trial.outcome == "refuted"


def test_nothing_to_try_takes_no_time_and_says_so(world):
    lines = []
    report = tried(tell=lines.append)
    assert lines == ["verify: none of the advice can be tried here"] and not world.started
    assert report.verification.control is None


def test_a_training_that_cannot_be_set_up_again_leaves_the_report(world, monkeypatch):
    def start(spec):
        raise PerfdoctorError("cannot import it", slug="user-code")

    monkeypatch.setattr("perfdoctor.experiments.trials.Arm.start", start)
    report = tried(FUSED)
    assert report.warnings[-1] == "the trials ended early: cannot import it"
    assert report.recommendations


def test_the_verification_survives_being_written_and_read(world):
    world.gains |= {"precision": 1.5, "optimizer_fused": 1.3}
    report = tried(BF16, FUSED)
    assert from_json(to_json(report)) == report


# -- the plan --------------------------------------------------------------------------------


def planned(*recommendations, extra=None, **configuration):
    report = make_report(stage_s=COMPUTE_BOUND_S, recommendations=recommendations)
    report = replace(report, configuration={**report.configuration, **configuration})
    return plan(report, situation_of(report, extra or {"cores": 4.0}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"precision": "fp16"}, "there is no GPU here"),
        ({"precision": "fp32"}, "it computes in fp32 already"),
        ({"pin_memory": True}, "there is no GPU to copy to"),
        ({"channels_last": True}, "no 2-d convolutions"),
        ({"arch_every": 4}, "no architecture is searched"),
        ({"persistent_workers": True}, "there are no workers to keep"),
        ({"gradient_checkpointing": False}, "no switch for gradient checkpointing"),
        ({"anomaly_detection": False}, "off already"),
        ({"cudnn_benchmark": True}, "there is no GPU here"),
        ({"loss": "vectorised"}, "a change of your code"),
    ],
)
def test_what_cannot_be_tried_here_says_why(change, reason):
    given = make_recommendation(rule="PD999", change=change)
    trial = planned(given).not_testable[given.rule]
    assert trial.outcome == "not_testable"
    assert reason in trial.reason


def test_advice_without_a_change_is_nothing_to_try():
    work = planned(make_recommendation(rule="PD901", change={}))
    assert not work.candidates and not work.not_testable


def test_workers_are_changed_with_what_was_recommended_beside_them():
    given = make_recommendation(change={"num_workers": 3, "persistent_workers": True})
    (one,) = planned(given).candidates
    assert one.changes == {"num_workers": 3, "persistent_workers": True}
    assert planned(given, num_workers=3).not_testable["PD101"].reason == "it has 3 workers already"
    assert "iterable" in planned(given, loader_kind="iterable").not_testable["PD101"].reason


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_in_the_table_is_whole(name):
    experiment = load(name)
    assert experiment.name == name
    assert experiment.safety in ("exact", "numerics", "semantics", "random")
    assert EXPERIMENTS[name][1].endswith(".")
    report = make_report()
    situation = situation_of(report, {"cores": 2.0})
    reason = experiment.why_not(situation)
    assert reason is None or reason
    changed = experiment.changes(situation)
    assert changed and set(changed) & set(experiment.keys)


def test_every_change_can_be_made():
    from perfdoctor.collect.modes import CHANGES, NEEDS_RESTART
    from perfdoctor.collect.options import BenchOptions
    from perfdoctor.collect.rerun.modes import SUPPORTED

    known = set(CHANGES) | NEEDS_RESTART | set(BenchOptions.__dataclass_fields__) | SUPPORTED
    for name in EXPERIMENTS:
        experiment = load(name)
        changes = set(experiment.changes(situation_of(make_report(), {})))
        assert changes <= known
        assert experiment.restart == bool(changes & NEEDS_RESTART)


SCRIPT = {"changes": ["anomaly_detection", "deterministic", "gradient_checkpointing"], "traits": []}


@pytest.mark.parametrize(
    ("change", "extra", "configuration", "made"),
    [
        ({"anomaly_detection": False}, SCRIPT, {"anomaly_detection": True}, None),
        ({"deterministic": False}, SCRIPT, {"deterministic": True}, None),
        ({"gradient_checkpointing": False}, SCRIPT, {"gradient_checkpointing": True}, None),
        (
            {"launch_blocking": False},
            SCRIPT,
            {"launch_blocking": True, "device": "cuda:0"},
            {"environment": {"CUDA_LAUNCH_BLOCKING": "0"}},
        ),
        ({"compile": "off"}, {}, {"compile": "default"}, None),
    ],
)
def test_what_is_on_in_the_training_can_be_switched_off(change, extra, configuration, made):
    given = make_recommendation(rule="PD999", change=change)
    (one,) = planned(given, extra=extra, **configuration).candidates
    assert one.changes == (made or change)


def test_a_script_that_compiles_its_model_keeps_it_compiled():
    given = make_recommendation(rule="PD999", change={"compile": "off"})
    work = planned(given, extra={"changes": ["compile"]}, compile="default")
    assert "itself compiles" in work.not_testable["PD999"].reason


# -- what is made of it ----------------------------------------------------------------------


def test_other_random_numbers_in_a_part_are_no_divergence_of_all_together(world):
    world.gains |= {"num_workers": 1.5, "optimizer_fused": 1.2}
    world.losses["num_workers"] = (2.02, 1.88, 1.81)
    report = tried(FUSED, advice("PD101", {"num_workers": 3}))
    assert report.verification.together.outcome == "verified"
    assert "other random numbers" in report.verification.together.loss_parity


def test_without_a_sandbox_the_announcement_does_not_promise_one(world):
    lines = []
    tried(FUSED, tell=lines.append, guarded=False)
    assert "what your code writes is written" in lines[1]
    assert not any("no file of yours" in line for line in lines)
