"""Two sides of reports: what changed, and how surely."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import COMPUTE_BOUND_S, make_diagnosis, make_recommendation, make_report
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.compare.shifts import compare_sides
from perfdoctor.facts_measured import MEASURED
from perfdoctor.record import Hotspot
from perfdoctor.render.setting_words import _UNSAID

LABELS = ("old", "new")


def reports(*step_s: float, minute: int = 0, every: int = 2):
    """One report a step time, made every `every` minutes."""
    return [
        make_report(
            stage_s={"forward": s, "other": s / 100},
            created_at=f"2026-01-02T03:{minute + every * n:02d}:00+00:00",
        )
        for n, s in enumerate(step_s)
    ]


def shift(sides, name: str, statistic: str = "p50"):
    (found,) = [s for s in sides.shifts if (s.name, s.statistic) == (name, statistic)]
    return found


def test_one_report_a_side_tells_only_large_changes_and_says_that_runs_may_differ():
    small = compare_sides(reports(0.100), reports(0.104), LABELS)
    large = compare_sides(reports(0.100), reports(0.150), LABELS)
    assert not small.between_runs
    assert shift(small, "step").direction == "unclear"
    assert shift(large, "step").direction == "slower"


def test_with_one_report_a_side_nothing_is_called_the_same():
    assert shift(compare_sides(reports(0.1), reports(0.1), LABELS), "step").direction == "unclear"


def test_runs_that_took_turns_tell_small_changes():
    old = reports(0.1000, 0.1001, 0.0999, 0.1002)
    new = reports(0.1060, 0.1061, 0.1058, 0.1062, minute=1)
    found = compare_sides(old, new, LABELS)
    assert found.took_turns and found.between_runs
    assert shift(found, "step").direction == "slower"
    assert shift(found, "throughput", "mean").direction == "slower"
    same = compare_sides(old, reports(0.1, 0.1002, 0.0998, 0.1, minute=1), LABELS)
    assert shift(same, "step").direction == "same"


def test_runs_of_one_side_after_all_of_the_other_may_have_drifted():
    old, new = reports(0.1000, 0.1001, 0.0999), reports(0.1060, 0.1061, 0.1058, minute=30)
    found = compare_sides(old, new, LABELS)
    assert not found.took_turns
    assert shift(found, "step").direction == "unclear"


def test_a_busy_machine_tells_nothing_from_one_report_a_side():
    noisy = make_recommendation(rule="PD901", name="noisy-measurement")
    old = [replace(reports(0.1)[0], recommendations=(noisy,))]
    found = compare_sides(old, reports(0.9), LABELS)
    assert found.busy
    assert shift(found, "step").direction == "unclear"


def test_a_stage_that_only_one_side_has_is_shown_without_a_ratio():
    new = make_report(stage_s={"forward": 0.1, "graph_build": 0.02, "other": 0.001})
    found = shift(compare_sides(reports(0.1), [new], LABELS), "graph_build")
    assert (found.before, found.ratio, found.direction) == (None, None, None)


def test_another_batch_size_is_told_to_make_steps_incomparable():
    new = [make_report(batch_size=64)]
    notes = compare_sides([make_report()], new, LABELS).notes
    assert any("batch size is 32 on one side and 64 on the other" in note for note in notes)


def test_another_machine_is_told():
    old = make_report()
    new = replace(old, environment=replace(old.environment, cpu="another"))
    assert any("machines differ" in n for n in compare_sides([old], [new], LABELS).notes)


@settings(deadline=None)
@given(st.floats(1e-6, 10), st.floats(0.2, 5))
def test_swapping_the_sides_turns_every_ratio_around(step_s, factor):
    forth = shift(compare_sides(reports(step_s), reports(step_s * factor), LABELS), "step")
    back = shift(compare_sides(reports(step_s * factor), reports(step_s), LABELS), "step")
    assert forth.ratio == pytest.approx(1 / back.ratio)
    opposite = {"slower": "faster", "faster": "slower", "unclear": "unclear"}
    assert opposite[forth.direction] == back.direction


def test_settings_verdict_hot_lines_and_faults_that_differ_are_found():
    spot = Hotspot(file="a/train.py", line=36, function="metric", share=0.3, library="ap_score")
    cold = Hotspot(file="b/train.py", line=20, function="step", share=0.2, library="Adam.step")
    old = make_report(
        stage_s=COMPUTE_BOUND_S,
        configuration={"batch_size": 32, "num_workers": 4},
        diagnosis=make_diagnosis(verdict="healthy", bottleneck="none"),
        hotspots=(cold,),
    )
    new = make_report(
        configuration={"batch_size": 32, "num_workers": 0},
        diagnosis=make_diagnosis(),
        recommendations=(make_recommendation(),),
        hotspots=(replace(cold, line=22), spot),
    )
    found = compare_sides([old], [new], LABELS).differences
    told = {(d.kind, d.name): (d.before, d.after) for d in found}
    assert told == {
        ("verdict", "verdict"): ("healthy", "input-bound"),
        ("bottleneck", "bottleneck"): ("none", "data_loading"),
        ("configuration", "num_workers"): (4, 0),
        ("hot_line", "train.py:36 ap_score"): (None, 0.3),
        ("advice", "PD101 synchronous-data-loading"): (
            None, "The training process loads every batch itself",
        ),
    }  # fmt: skip


def test_what_was_measured_among_the_settings_is_no_difference_of_the_same_code():
    first = make_report(configuration=dict.fromkeys(MEASURED, 0.0457) | {"seed": 1})
    again = make_report(configuration=dict.fromkeys(MEASURED, 0.176) | {"seed": 2})
    assert differences(first, again, "configuration") == {}


def test_what_is_unsaid_and_no_choice_is_known_as_measured():
    chosen = {
        "device", "loader_kind", "seed", "tensors", "misaligned_share", "openmp_waiting",
        "optimizer_home", "start_method", "dataset", "convolutions", "drop_last", "collate",
        "dataset_in_memory", "epoch_batches",
    }  # fmt: skip
    assert chosen == _UNSAID - MEASURED, "what two runs of one code differ by belongs to MEASURED"


def test_what_a_log_does_not_tell_of_its_machine_is_no_difference():
    old = make_report()
    bare = replace(old, environment=replace(old.environment, cpu=None, torch=None, packages={}))
    kinds = {d.kind for d in compare_sides([old], [bare], LABELS).differences}
    assert "machine" not in kinds and "software" not in kinds


def differences(before, after, kind: str):
    found = compare_sides([before], [after], LABELS).differences
    return {d.name: (d.before, d.after) for d in found if d.kind == kind}


def test_what_a_log_does_not_tell_is_no_difference():
    new = make_report(configuration={"batch_size": 32, "num_workers": 2})
    old = replace(new, configuration={"batch_size": 16})
    assert differences(old, new, "configuration")["num_workers"] == (None, 2)
    logged = replace(old, source=replace(old.source, kind="log"))
    assert differences(logged, new, "configuration") == {"batch_size": (16, 32)}


def test_what_a_log_cannot_know_has_neither_come_nor_gone():
    seen = make_report(diagnosis=make_diagnosis(), recommendations=(make_recommendation(),))
    log = replace(
        make_report(diagnosis=make_diagnosis(verdict="inconclusive", bottleneck="none")),
        source=replace(seen.source, kind="log"),
    )
    kinds = {"verdict", "bottleneck", "advice"}
    for sides in (([seen], [log]), ([log], [seen])):
        found = compare_sides(*sides, LABELS).differences
        told = {(d.kind, d.before is None) for d in found if d.kind in kinds}
        assert told == set(), sides


def test_a_batch_size_that_is_not_known_is_no_warning():
    new = make_report(configuration={"batch_size": 32})
    notes = compare_sides([replace(new, configuration={})], [new], LABELS).notes
    assert not any("batch size" in note for note in notes)


def test_lines_of_a_script_that_was_renamed_are_the_same_lines():
    spot = Hotspot(file="/a/old.py", line=3, function="work", share=0.5)
    old = make_report(name="old.py", hotspots=(spot,))
    new = replace(old, name="new.py", hotspots=(replace(spot, file="/a/new.py", line=4),))
    assert differences(old, new, "hot_line") == {}
    other = replace(new, hotspots=(replace(spot, file="/a/helper.py"),))
    assert len(differences(old, other, "hot_line")) == 2
