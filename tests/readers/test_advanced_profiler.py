"""Reports of Lightning's AdvancedProfiler."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from perfdoctor.readers.advanced_profiler import LightningAdvancedProfiler
from perfdoctor.readers.profilers import LightningSimpleProfiler

SIMPLE, ADVANCED = LightningSimpleProfiler(), LightningAdvancedProfiler()


def listing(name: str, seconds: float, rows: Sequence[tuple[str, float, str]]) -> str:
    lines = [
        f"Profile stats for: {name}",
        f"         90 function calls (80 primitive calls) in {seconds:.3f} seconds",
        "",
        "   Ordered by: cumulative time",
        "",
        "   ncalls  tottime  percall  cumtime  percall filename:lineno(function)",
    ]
    for calls, own, where in rows:
        lines.append(f"{calls:>9} {own:8.3f}    0.000    {own:.3f}    0.000 {where}")
    return "\n".join([*lines, "", "", "", ""])


ENABLE = "{method 'enable' of '_lsprof.Profiler' objects}"
START, STOP = "advanced.py:61(start)", "advanced.py:66(stop)"
ITEM, OPEN = "voc.py:12(__getitem__)", "Image.py:1(open)"
LINEAR, RUN = "{built-in method torch._C._nn.linear}", "{method 'run_backward' of torch}"


def nested() -> str:
    """As long as an outer profile counts what runs inside it."""
    ends = ("30", 0.0, STOP)
    return "FIT Profiler Report\n" + "".join(
        listing(name, seconds, rows)
        for name, seconds, rows in (
            ("run_training_epoch", 9.0, [("3", 0.0, START), ("3", 9.0, ENABLE)]),
            (
                "[_TrainingEpochLoop].train_dataloader_next",
                2.0,
                [("30", 1.5, ITEM), ("30", 0.5, OPEN), ends],
            ),
            (
                "run_training_batch",
                6.0,
                [("20", 0.0, START), ("20", 6.0, ENABLE), ("10", 0.0, STOP)],
            ),
            (
                "[LightningModule]N.optimizer_step",
                5.5,
                [("30", 0.0, START), ("30", 5.5, ENABLE)],
            ),
            (
                "[Strategy]S.training_step",
                2.0,
                [("60/30", 1.5, LINEAR), ("30", 0.5, OPEN), ends],
            ),
            ("[Strategy]S.backward", 3.0, [("30", 3.0, RUN), ends]),
        )
    )


def test_listings_become_the_same_stages() -> None:
    assert ADVANCED.score("fit-perf.txt", nested()) > 0.9
    facts = ADVANCED.read("fit-perf.txt", nested()).facts
    assert facts == pytest.approx(
        {
            "epochs": 3,
            "epoch_mean_s": 3.0,
            "steps": 30,
            "step_mean_s": 0.2,
            "data_loading_s": 2.0,
            "forward_s": 2.0,
            "backward_s": 3.0,
            "optimizer_s": 0.5,
        }
    )


def test_hotspots_are_functions_by_their_own_time_over_all_listings() -> None:
    hotspots = ADVANCED.read("p.txt", nested()).hotspots
    assert [(each.file, each.line, each.function) for each in hotspots] == [
        ("", 0, "{method 'run_backward' of torch}"),
        ("voc.py", 12, "__getitem__"),
        ("", 0, "{built-in method torch._C._nn.linear}"),
        ("Image.py", 1, "open"),
    ]
    assert [each.share for each in hotspots] == pytest.approx([3 / 7, 1.5 / 7, 1.5 / 7, 1 / 7])
    assert [each.stage for each in hotspots][:3] == ["backward", "data_loading", "forward"]
    assert [each.library for each in hotspots][:3] == ["torch", None, "torch"]


def test_where_an_inner_profile_ends_the_outer_one_the_outer_has_no_time() -> None:
    forward = [("30", 2.0, "net.py:1(f)"), ("30", 0.0, STOP)]
    text = "".join(
        [
            listing("run_training_epoch rank: 0", 0.1, [("3", 0.1, START)]),
            listing("run_training_batch rank: 0", 0.1, [("30", 0.1, START)]),
            listing("[LightningModule]N.optimizer_step rank: 0", 0.2, [("30", 0.2, START)]),
            listing("[Strategy]S.training_step rank: 0", 2.0, forward),
            listing("[Strategy]S.backward rank: 0", 0.01, [("30", 0.01, START)]),
        ]
    )  # fmt: skip
    reading = ADVANCED.read("p.txt", text)
    assert reading.facts == pytest.approx({"epochs": 3, "steps": 30, "forward_s": 2.0})
    assert any("ends where an inner one begins" in note for note in reading.notes)


def test_listings_logged_twice_count_once() -> None:
    assert ADVANCED.read("p.txt", nested() * 2).facts == ADVANCED.read("p.txt", nested()).facts


def test_the_simple_profilers_reader_does_not_take_it() -> None:
    assert SIMPLE.score("p.txt", nested()) == 0


def test_a_report_of_the_pytorch_profiler_is_neither() -> None:
    text = "FIT Profiler Report\nProfile stats for: records\n-----  ----\nName  Self CPU %\n"
    assert ADVANCED.score("p.txt", text) == 0
    assert SIMPLE.score("p.txt", text) == 0
