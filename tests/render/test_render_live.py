"""A run while it lasts, as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from render_cases import healthy, input_bound
from rich.cells import cell_len

from perfdoctor.live_view import LiveStage, LiveView
from perfdoctor.render.live import conclusion, live_lines

VERDICT, ADVICE = conclusion(input_bound())


def view(**changes) -> LiveView:
    stages = (
        LiveStage("start_up", 0.0, 0.05),
        LiveStage("data_loading", 0.71, 0.65),
        LiveStage("h2d_copy", 0.003, 0.003),
        LiveStage("forward", 0.09, 0.1),
        LiveStage("loss", 0.005, 0.005),
        LiveStage("backward", 0.16, 0.15),
        LiveStage("optimizer", 0.02, 0.02),
        LiveStage("图构建", 0.012, 0.022),
    )
    made = LiveView(
        name="train.py",
        elapsed_s=252.0,
        steps=1240,
        recent_s=10.2,
        stages=stages,
        recent_step_s=0.115,
        whole_step_s=0.112,
        recent_rate=278.0,
        whole_rate=281.0,
        rates=(100, 200, 280, 281, 250, 0, 279, 280, 281),
        machine={"cpu": 93, "gpu": 41, "gpu_memory": 10.2, "resident_bytes": 3.2e9},
    )
    return replace(made, **changes)


CONCLUDED = view(verdict=VERDICT, advice=ADVICE, verdict_age_s=125.0)
#: A step and no more: no samples, no counters yet, nothing measured twice.
FIRST = LiveView(
    name="train.py",
    elapsed_s=0.7,
    steps=1,
    recent_s=0.1,
    stages=(LiveStage("start_up", 0.0, 0.9), LiveStage("forward", 1.0, 0.1)),
)


@pytest.mark.parametrize(
    ("name", "shown", "width", "height"),
    [
        ("usual", CONCLUDED, 79, 12),
        ("wide", CONCLUDED, 119, 20),
        ("smallest", CONCLUDED, 39, 6),
        ("no_verdict", view(), 79, 12),
        ("first_step", FIRST, 79, 12),
    ],
)
def test_the_view_is_what_the_golden_file_shows(
    name: str, shown: LiveView, width: int, height: int, golden: Callable[[str, str], None]
):
    golden(f"live_{name}.txt", "\n".join(live_lines(shown, width, height, False)) + "\n")


@pytest.mark.parametrize("shown", [CONCLUDED, view(), FIRST], ids=["concluded", "view", "first"])
def test_no_line_is_too_wide_and_there_are_never_too_many(shown):
    for height in range(1, 22):
        for width in range(19, 130):
            lines = live_lines(shown, width, height, False)
            assert len(lines) <= height
            assert max(map(cell_len, lines)) <= width


def test_colours_change_no_character():
    plain = live_lines(CONCLUDED, 79, 12, False)
    painted = live_lines(CONCLUDED, 79, 12, True)
    assert not any("\x1b" in line for line in plain)
    assert any("\x1b[1;31m" in line for line in painted)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in painted] == plain


def test_the_stage_that_leads_now_is_marked():
    lines = live_lines(view(), 79, 12, True)
    (marked,) = [line for line in lines if "\x1b[1;31m" in line]
    assert "data_loading" in marked


def test_text_from_outside_reaches_the_terminal_without_control_characters():
    hostile = "a\x1b[2Jb\r\n\x1b]0;title\x07c"
    shown = view(
        name=hostile,
        stages=(LiveStage(hostile, 1.0, 1.0),),
        verdict=f"X  {hostile}",
        advice=hostile,
    )
    for line in live_lines(shown, 79, 12, False):
        assert not re.search(r"[\x00-\x1f]", line)


def test_the_course_starts_at_zero_and_has_gaps_where_nothing_was_trained():
    lines = live_lines(view(rates=(8.0, 4.0, 0.0, 1.0)), 119, 12, False)
    assert any(line.endswith("█▅ ▂") for line in lines)


def test_a_course_that_is_too_long_is_averaged_not_cut():
    rates = (1.0, 3.0) * 16
    (line,) = [x for x in live_lines(view(rates=rates), 79, 12, False) if x.startswith(" step")]
    assert line.endswith("  " + "█" * 8)


def test_a_verdict_that_just_came_has_no_age_and_an_old_one_has():
    assert not any(
        "ago" in x for x in live_lines(replace(CONCLUDED, verdict_age_s=20), 79, 12, False)
    )
    assert any("(2 min ago)" in line for line in live_lines(CONCLUDED, 79, 12, False))


def test_an_inconclusive_report_gives_no_verdict():
    report = input_bound()
    doubtful = replace(report.diagnosis, verdict="inconclusive")
    assert conclusion(replace(report, diagnosis=doubtful)) == (None, None)
    assert conclusion(replace(report, diagnosis=None)) == (None, None)
    assert (VERDICT or "").startswith("INPUT-BOUND  71 %")
    assert ADVICE == "The training process loads every batch itself"


def test_what_is_optional_is_no_advice():
    assert conclusion(healthy())[1] is None
