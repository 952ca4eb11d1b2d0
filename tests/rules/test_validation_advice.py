"""PD501 of observed scripts: counts, shares that agree, and the code of their framework."""

from __future__ import annotations

import json
from typing import Any

import pytest
from run_bases import PARTS_S, STEPS, line, script, seldom

from perfdoctor import schema
from perfdoctor.record import Hotspot
from perfdoctor.report import Recommendation
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings

EVERY = 50
EVAL = line("train.py:95", "evaluate", "Linear.forward", "validation", 0.3)


def advice_of(
    *hotspots: Hotspot, after_s: float = 0.0, epochs: int | None = None, whole: bool = True
) -> Recommendation:
    """A second of validation every fifty steps, and `after_s` of it after the last step."""
    report = script(
        parts_s={**PARTS_S, "validation": seldom(1.0, EVERY)}, hotspots=hotspots or (EVAL,)
    )
    facts: dict[str, Any] = schema.to_dict(report)
    facts["wall"]["total_s"] += after_s
    for part in facts["wall"]["parts"]:
        part["seconds"] += after_s if part["name"] == "validation" else 0.0
        part["share"] = part["seconds"] / facts["wall"]["total_s"]
    if whole:
        facts["ending"] = {"how": "finished", "detail": "", "code": 0}
    if epochs is not None:
        facts["epochs"]["count"] = epochs
    found = diagnose(schema.from_json(json.dumps(facts).encode()), Settings()).recommendations
    return next(advice for advice in found if advice.stage == "validation")


def test_the_validation_after_the_last_step_is_counted() -> None:
    times = STEPS // EVERY
    assert f"about {times} times" in advice_of().title
    advice = advice_of(after_s=1.1, epochs=times + 1)
    assert f"about {times + 1} times" in advice.title
    assert "instead of every one" in advice.advice


def test_the_text_says_what_the_prediction_says() -> None:
    advice = advice_of()
    saved = float(advice.advice.split("% of the run")[0].split()[-1]) / 100
    assert advice.predicted is not None
    assert 1 / (1 - saved) == pytest.approx(advice.predicted.speedup, rel=0.03)


def test_of_a_script_that_was_stopped_it_speaks_of_the_training() -> None:
    assert "of the training" in advice_of(whole=False).title


def test_code_and_text_name_the_same_interval() -> None:
    advice = advice_of(epochs=2 * STEPS // EVERY)
    assert "epochs instead of every 2)" in advice.advice
    rare = 2 * advice.change["validate_every_times"]
    assert advice.snippet.startswith(f"if epoch % {rare} == {rare - 1} or")


@pytest.mark.parametrize(
    ("files", "code"),
    [
        (("site-packages/lightning/pytorch/core/module.py",), "check_val_every_n_epoch="),
        (("site-packages\\pytorch_lightning\\core\\module.py",), "check_val_every_n_epoch="),
        (
            ("site-packages/accelerate/accelerator.py", "site-packages/transformers/a.py"),
            "eval_steps=",
        ),
        (("site-packages/accelerate/accelerator.py",), "validate(model)"),
        ((), "validate(model)"),
    ],
)
def test_the_code_is_that_of_the_framework_which_was_seen(
    files: tuple[str, ...], code: str
) -> None:
    lines = [line(f"{file}:7", "run", None, "backward", 0.1) for file in files]
    assert code in advice_of(EVAL, *lines).snippet


@pytest.mark.parametrize(
    ("times_an_epoch", "code"),
    [
        (4.0, "Trainer(val_check_interval=0.5)"),
        (2.0, "val_check_interval=1.0, check_val_every_n_epoch="),
        (1.0, "check_val_every_n_epoch="),
    ],
)
def test_lightning_s_interval_within_an_epoch_is_what_makes_validation_within_it_rarer(
    times_an_epoch: float, code: str
) -> None:
    seen = line("site-packages/lightning/pytorch/core/module.py:7", "run", None, "backward", 0.1)
    times = STEPS // EVERY
    advice = advice_of(EVAL, seen, epochs=round(times / times_an_epoch) or 1)
    assert code in advice.snippet
    assert ("val_check_interval" in advice.snippet) is (times_an_epoch > 1)


def test_nothing_is_said_of_gradients_that_may_be_off_already() -> None:
    assert "inference_mode" not in advice_of().advice


@pytest.mark.parametrize(("share", "said"), [(0.25, True), (0.15, False), (0.05, False)])
def test_a_line_that_makes_the_trainings_batches_too_is_mended_first(
    share: float, said: bool
) -> None:
    seen = (
        line("data.py:26", "Rows.__getitem__", "decode", "validation", share),
        line("data.py:26", "Rows.__getitem__", "decode", "data_loading", 0.1),
        line("train.py:95", "evaluate", "Linear.forward", "validation", 0.10),
        line("train.py:96", "evaluate", "Linear.forward", "validation", 0.10),
    )
    assert ("begin there" in advice_of(*seen).advice) is said


def test_python_of_the_scripts_own_is_mended_first_and_rarer_validation_is_the_other_choice() -> (
    None
):
    advice = advice_of(line("train.py:95", "c_index", None, "validation", 0.3))
    assert (advice.rule, [choice.rule for choice in advice.choices]) == ("PD508", ["PD501"])
    assert advice_of().rule == "PD501"


@pytest.mark.parametrize(("start_up_s", "verdict"), [(1.0, "evaluation-bound"), (25.0, "healthy")])
def test_what_the_whole_run_would_hardly_notice_is_no_bottleneck(
    start_up_s: float, verdict: str
) -> None:
    report = script(parts_s={**PARTS_S, "validation": seldom(0.35, EVERY)}, hotspots=(EVAL,))
    facts: dict[str, Any] = schema.to_dict(report)
    for part in facts["wall"]["parts"]:
        part["seconds"] = start_up_s if part["name"] == "start_up" else part["seconds"]
    facts["wall"]["total_s"] = sum(part["seconds"] for part in facts["wall"]["parts"])
    for part in facts["wall"]["parts"]:
        part["share"] = part["seconds"] / facts["wall"]["total_s"]
    facts["ending"] = {"how": "finished", "detail": "", "code": 0}
    found = diagnose(schema.from_json(json.dumps(facts).encode()), Settings())
    assert found.diagnosis is not None
    assert found.diagnosis.verdict == verdict
    advice = next(one for one in found.recommendations if one.stage == "validation")
    assert advice.optional == (verdict == "healthy")
