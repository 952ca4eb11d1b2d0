"""Boxes of names and values, as reinforcement learning prints them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perfdoctor.record import Run

RunOf = Callable[..., Run]


def box(i: int, fps: int = 250) -> str:
    rows = [
        ("rollout/", ""), ("   ep_len_mean", "3.25e+03"), ("   ep_rew_mean", "406"),
        ("time/", ""), ("   fps", str(fps)), ("   iterations", str(i)),
        ("   time_elapsed", str(4 * i)), ("   total_timesteps", str(1000 * i)),
        ("train/", ""), ("   loss", "0.0262"), ("   n_updates", str(64 * i)),
    ]  # fmt: skip
    rule = "-" * 34 + "\n"
    return rule + "".join(f"| {name:<19}| {value:<9}|\n" for name, value in rows) + rule


def test_boxes_tell_steps_of_the_game_and_none_of_the_training(run_of: RunOf) -> None:
    run = run_of("Using cuda device\n" + "".join(box(i) for i in range(1, 12)))
    assert run.source.format == "baselines_table"
    assert run.rates["samples_per_s"].tolist() == [250] * 11
    assert not run.step_s.size or not (run.step_s > 0).any()
    assert run.wall_s == pytest.approx(44)
    assert any("of the game" in note for note in run.notes)


def test_old_boxes_have_no_sections(run_of: RunOf) -> None:
    one = "| fps | {} |\n| nupdates | {} |\n| time_elapsed | {} |\n| total_timesteps | {} |\n---\n"
    run = run_of("".join(one.format(11 + i, i, 340 * i, 4096 * i) for i in range(1, 9)))
    assert run.rates["samples_per_s"].tolist() == [12, 13, 14, 15, 16, 17, 18, 19]


def test_other_tables_with_bars_are_no_boxes(run_of: RunOf) -> None:
    text = "".join(f"| step {i} | 0.4 s | loss 2.3 |\n" for i in range(20))
    assert run_of(text).source.format == "generic"


def test_a_box_that_is_cut_off_tells_what_it_has(run_of: RunOf) -> None:
    text = "".join(box(i) for i in range(1, 5)) + "| time/ | |\n|    fps   | 99 |\n| total_"
    assert run_of(text).rates["samples_per_s"].tolist()[-1] == 99
