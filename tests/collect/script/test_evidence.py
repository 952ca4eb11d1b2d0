"""What looks make of the time that the recorder measured: lines, and parts of other stages."""

from __future__ import annotations

import pathlib
import threading
import weakref
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import at, found_loops, library, line_with, script, seen, user

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.assembly import (
    Observed,
    assemble,
    divided,
    seconds_by_stage,
)
from perfdoctor.collect.script.evidence import Explained, explained, loader_record
from perfdoctor.collect.script.loaders_seen import LoaderFacts
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.search_lines import Lines
from perfdoctor.collect.script.stacks import Frame, Sampled
from perfdoctor.collect.script.worker_totals import LoaderObserved
from perfdoctor.ending import Ending
from perfdoctor.record import Environment, Source

STAGES = list(Recorder().names)

STAGES[r.AFTER_FORWARD] = "other"

SCRIPT = """
    def between(out):
        return out

    scores = logged = between

    def training_step(x):
        out = model(x)
        loss = between(out) or between(x)
        scores(out)
        logged(out)
        return loss

    def main():
        for x in [1, 2, 3, 4]:
            loss = training_step(x)
            backward()
            optimizer()
"""
FILE = "/home/me/after_forward.py"


@pytest.fixture(scope="module")
def step():
    """Frames of what follows the forward in the function that makes the loss."""
    loops = found_loops(SCRIPT, FILE)
    names = script(SCRIPT, FILE)
    outer = at(names["main"].__code__, "loss = training_step")
    lines = ("loss = between", "scores(out)", "logged(out)")
    loss, scores, logged = ((at(names["training_step"].__code__, text), outer) for text in lines)
    metrics = (library("torchmetrics/metric.py", "Metric.update"), *scores)
    logs = (library("torch/utils/tensorboard/writer.py", "SummaryWriter.add_scalar"), *logged)
    return loops, loss, metrics, logs


SECONDS = {"forward": 4.0, "loss": 2.0, "backward": 3.0, "other": 1.0}


def _looks(step, count: int = 10) -> list[Sampled]:
    _, loss, metrics, logs = step
    stacks = ((loss, 0.2), (metrics, 1.2), (logs, 0.6))
    found = [seen(*s, label=r.AFTER_FORWARD, seconds=t, count=count) for s, t in stacks]
    return [*found, seen(user("main"), label=r.FORWARD, seconds=4.0)]


def _explained(step, looks: list[Sampled]) -> Explained:
    return explained(looks, STAGES, step[0], SECONDS)


def test_metrics_and_logs_between_the_forward_and_the_backward_are_no_loss(step) -> None:
    found = _explained(step, _looks(step))
    assert found.split["loss"] == pytest.approx({"metrics": 0.6, "logging": 0.3})
    took = divided(SECONDS, found.split)
    assert took == pytest.approx(
        {"forward": 4.0, "loss": 0.2, "metrics": 1.2, "logging": 0.6, "backward": 3.0, "other": 1.0}
    )


def test_lines_are_shares_of_what_their_stage_took_after_the_division(step) -> None:
    found = _explained(step, _looks(step))
    shares = {spot.stage: (spot.line, spot.share) for spot in found.hotspots if spot.file == FILE}
    assert shares == {
        "metrics": (line_with(FILE, "scores(out)"), pytest.approx(0.12)),
        "logging": (line_with(FILE, "logged(out)"), pytest.approx(0.06)),
        "loss": (line_with(FILE, "loss = between"), pytest.approx(0.02)),
    }


@pytest.mark.parametrize(
    ("label", "stage"),
    [(r.FORWARD, "forward"), (r.BACKWARD, "backward"), (r.OPTIMIZER, "optimizer")],
)
def test_what_a_hook_logs_in_the_midst_of_a_stage_is_logging(step, label, stage) -> None:
    writes = library("torch/utils/tensorboard/writer.py", "SummaryWriter.add_histogram")
    hook = seen(writes, user("Watch.hook", 8), user("main", 20), label=label, seconds=3.0, count=9)
    rest = seen(user("main", 20), label=label, seconds=1.0, count=3)
    found = explained([hook, rest], STAGES, step[0], {stage: 4.0, "other": 1.0})
    assert found.split[stage] == pytest.approx({"logging": 0.75})
    told = {(spot.stage, spot.line): spot.share for spot in found.hotspots}
    assert told == {("logging", 8): pytest.approx(0.6), (stage, 20): pytest.approx(0.2)}


def test_figures_that_are_drawn_where_a_model_was_asked_are_no_validation(step) -> None:
    draws = library("matplotlib/figure.py", "Figure.savefig")
    figure = seen(draws, user("plot", 8), user("main", 20), label=r.VALIDATION, seconds=3, count=9)
    rest = seen(user("evaluate", 5), user("main", 19), label=r.VALIDATION, seconds=1, count=3)
    found = explained([figure, rest], STAGES, step[0], {"validation": 4.0, "other": 1.0})
    assert found.split["validation"] == pytest.approx({"logging": 0.75})


@pytest.mark.parametrize(
    "inside",
    [
        library("sklearn/metrics/_ranking.py", "roc_auc_score"),
        library("transformers/integrations/sdpa_attention.py", "sdpa_attention_forward"),
        library("torch/utils/checkpoint.py", "checkpoint"),
    ],
)
def test_what_else_runs_in_the_midst_of_a_forward_is_of_the_forward(step, inside) -> None:
    looks = [seen(inside, user("Net.forward", 8), label=r.FORWARD, count=9)]
    assert explained(looks, STAGES, step[0], {"forward": 4.0}).split["forward"] == {}


def test_what_an_environment_does_between_two_forwards_is_no_loss(step) -> None:
    moves = library("gymnasium/core.py", "Wrapper.step")
    env = seen(moves, user("main", 20), label=r.AFTER_FORWARD, seconds=3.0, count=9)
    rest = seen(user("main", 21), label=r.AFTER_FORWARD, seconds=1.0, count=3)
    found = explained([env, rest], STAGES, step[0], {"loss": 4.0, "other": 1.0})
    assert found.split["loss"] == pytest.approx({"other": 0.75})
    assert divided({"loss": 4.0, "other": 1.0}, found.split) == {"loss": 1.0, "other": 4.0}


def test_few_looks_leave_the_loss_whole(step) -> None:
    found = _explained(step, _looks(step, count=4))
    assert found.split["loss"] == {}
    assert divided(SECONDS, found.split) == pytest.approx(SECONDS)


def test_lines_of_parts_that_are_left_in_the_loss_are_lines_of_the_loss(step) -> None:
    found = _explained(step, _looks(step, count=4))
    shares = {(spot.stage, spot.line): spot.share for spot in found.hotspots if spot.file == FILE}
    assert shares == {
        ("loss", line_with(FILE, "scores(out)")): pytest.approx(0.12),
        ("loss", line_with(FILE, "logged(out)")): pytest.approx(0.06),
        ("loss", line_with(FILE, "loss = between")): pytest.approx(0.02),
    }


def test_looks_in_what_follows_a_forward_do_not_divide_what_no_hook_explains(step) -> None:
    logs = seen(*step[3], label=r.OTHER, seconds=1.0)
    rest = seen(user("main"), label=r.OTHER, seconds=3.0)
    found = _explained(step, [*_looks(step), logs, rest])
    assert found.split["other"] == pytest.approx({"logging": 0.25})
    took = divided(SECONDS, found.split)
    assert took["logging"] == pytest.approx(0.6 + 0.25)
    assert sum(took.values()) == pytest.approx(sum(SECONDS.values()))


_KINDS = ("metrics", "logging", "checkpoint", "data_loading", "loss", "other")
_PARTS = st.dictionaries(st.sampled_from(_KINDS[:4]), st.floats(0.0, 0.25))


@given(
    st.dictionaries(st.sampled_from(_KINDS), st.floats(0.0, 1e6)),
    st.fixed_dictionaries({}, optional={"other": _PARTS, "loss": _PARTS}),
)
def test_dividing_loses_nothing_and_makes_nothing_negative(
    seconds: dict[str, float], split: dict[str, dict[str, float]]
) -> None:
    took = divided(seconds, split)
    whole = sum(seconds.values())
    assert sum(took.values()) == pytest.approx(whole, abs=1e-9 * max(1.0, whole))
    assert min(took.values(), default=0.0) >= 0.0


def test_shares_of_all_stages_still_sum_to_one_in_steps_and_in_the_whole() -> None:
    clock = iter(range(0, 10_000_000, 1000))
    recorder = Recorder(lambda: next(clock))
    recorder.switch(r.OTHER)
    for _ in range(5):
        for label in (r.FORWARD, r.LOSS, r.BACKWARD):
            recorder.enter(label)
            recorder.leave()
        recorder.end_step()
    recorder.end()
    split = {"loss": {"metrics": 0.5, "logging": 0.25}, "other": {"logging": 0.5}}
    source = Source(kind="script", command="python train.py", path="train.py")
    made = [
        assemble(
            recorder,
            STAGES,
            Observed(
                name="train.py",
                source=source,
                environment=Environment(),
                configuration={},
                ending=Ending("finished"),
                split=parts,
            ),
        )
        for parts in (split, {})
    ]
    run, whole = made
    np.testing.assert_allclose(run.step_s, whole.step_s)
    assert sum(span.seconds for span in run.spans) == pytest.approx(run.wall_s)
    steps = {stage.name: stage.exposed_s for stage in run.stages}
    np.testing.assert_allclose(sum(np.nan_to_num(s) for s in steps.values()), run.step_s)
    loss = {stage.name: stage.exposed_s for stage in whole.stages}["loss"]
    np.testing.assert_allclose(steps["loss"], 0.25 * loss)
    np.testing.assert_allclose(steps["metrics"], 0.5 * loss)
    before = seconds_by_stage(recorder, STAGES)
    assert {s.name: s.seconds for s in run.spans}["metrics"] == pytest.approx(0.5 * before["loss"])


BESIDE = """
    import pathlib

    def validate(out):
        return out

    def save(out):
        return out

    def architect():
        return validate(1)

    def main():
        for x in [1, 2, 3, 4]:
            loss = model(x)
            backward()
            optimizer()
            validate(x)
            save(x)
            architect()
"""


def test_what_is_no_validation_is_told_apart_by_its_lines() -> None:
    file = "/home/me/validates.py"
    loops, names = found_loops(BESIDE, file), script(BESIDE, file)
    inside = at(names["validate"].__code__, "return out")
    main = names["main"].__code__
    validates = (inside, at(main, "validate(x)"))
    rename = Frame(pathlib.__file__, 7, "Path.replace", 1)
    saves = (rename, at(names["save"].__code__, "return out"), at(main, "save(x)"))
    architect = names["architect"].__code__
    searches = (inside, at(architect, "return validate"), at(main, "architect()"))
    looks = [
        seen(*stack, label=r.VALIDATION, seconds=s)
        for stack, s in ((validates, 3.0), (saves, 2.0), (searches, 5.0))
    ]
    seconds = {"forward": 1.0, "validation": 20.0}
    lines = Lines(file, architect.co_firstlineno, 0, architect.co_firstlineno + 9)
    same = {(file, architect.co_firstlineno): "architect"}
    found = explained(looks, STAGES, loops, seconds, [lines], same)
    assert {s.stage for s in found.hotspots if s.same_in} == {"arch_step"}
    assert found.split["validation"] == pytest.approx({"checkpoint": 0.2, "arch_step": 0.5})
    took = divided(seconds, found.split)
    assert took["validation"] == pytest.approx(6.0)
    assert sum(took.values()) == pytest.approx(21.0)
    shares = {spot.stage: spot.share for spot in found.hotspots}
    assert shares == pytest.approx(
        {"arch_step": 10 / 21, "validation": 6 / 21, "checkpoint": 4 / 21}
    )


def test_what_the_interpreter_does_at_its_end_is_no_line_of_the_training() -> None:
    end = (
        library("torch/library.py", "_del_library", 665),
        Frame(weakref.__file__, 585, "finalize.__call__", 580),
        Frame(weakref.__file__, 667, "finalize._exitfunc", 640),
    )
    work = (library("torch/x.py", "go"), user("main", 9))
    for label in (r.OTHER, r.START_UP):
        name = STAGES[label]
        looks = [seen(*work, seconds=3.0, label=label), seen(*end, seconds=1.0, label=label)]
        found = explained(looks, STAGES, [], {name: 4.0, "forward": 6.0}).hotspots
        assert {s.stage: s.share for s in found} == pytest.approx({name: 0.3, "shut_down": 0.1})


def test_a_finalizer_that_runs_amid_the_training_is_of_the_training() -> None:
    called = Frame(weakref.__file__, 585, "finalize.__call__", 580)
    looks = [seen(called, user("main", 9), seconds=1.0)]
    found = explained(looks, STAGES, [], {"other": 4.0}).hotspots
    assert [s.stage for s in found] == ["other"]


def test_the_end_does_not_change_how_the_time_before_is_divided() -> None:
    end = Frame(threading.__file__, 1590, "_shutdown", 1550)
    logs = (library("torch/utils/tensorboard/writer.py", "SummaryWriter.add"), user("main", 9))
    other = (library("torch/x.py", "go"), user("main", 8))
    looks = [seen(*logs, seconds=2.0), seen(*other, seconds=2.0)]
    alone = explained(looks, STAGES, [], {"other": 4.0})
    ended = explained([*looks, seen(end, seconds=4.0)], STAGES, [], {"other": 8.0})
    assert ended.split == alone.split
    assert ended.split["other"] == {"logging": 0.5}
    shares = {s.stage: s.share for s in ended.hotspots}
    assert shares == pytest.approx({"logging": 0.25, "other": 0.25, "shut_down": 0.5})


@pytest.mark.parametrize(("ended_ns", "expected"), [([], None), ([2_000_000], [0.002])])
def test_the_record_of_a_loader_tells_how_long_its_workers_took_to_end(
    ended_ns: list[int], expected: list[float] | None
) -> None:
    values = {f.name: np.ones(3) if f.type == "Floats" else 1 for f in fields(LoaderObserved)}
    facts = LoaderFacts(0, 0, weakref.ref(LoaderFacts), ended_ns=ended_ns)
    record = loader_record(facts, LoaderObserved(**values))
    assert record is not None
    assert (None if record.end_s is None else list(record.end_s)) == expected
