"""A script that trains where nobody looks: the verdict says where, and nothing is advised."""

from __future__ import annotations

from dataclasses import replace

import pytest
from run_bases import line, prepares_long

from perfdoctor import schema
from perfdoctor.record import Hotspot
from perfdoctor.report import Report, Wall, WallPart
from perfdoctor.rules.elsewhere import waits
from perfdoctor.rules.engine import diagnose
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import hot_lines
from perfdoctor.settings import Settings

STAGES = ("start_up", "validation", "other", "logging", "checkpoint", "data_loading", "metrics")


def without_steps(*hotspots: Hotspot, **settings: int) -> Report:
    """A minute, as much of it in each stage, and no step."""
    share = 1 / len(STAGES)
    parts = (WallPart(name=n, seconds=60 * share, share=share, count=9) for n in STAGES)
    wall = Wall(total_s=60.0, parts=tuple(parts))
    made = replace(
        prepares_long(),
        steps=None,
        epochs=None,
        stages={},
        throughput=None,
        loader=None,
        series={},
        configuration=settings,
        wall=wall,
        hotspots=hotspots,
    )
    return diagnose(made, Settings())


def said(seen: Report) -> str:
    assert seen.diagnosis is not None
    assert seen.diagnosis.verdict == "inconclusive"
    return seen.diagnosis.summary


def test_only_the_main_thread_of_this_process_was_looked_at() -> None:
    text = said(without_steps())
    assert "in the main thread of this process" in text
    assert "waited" not in text and "Other threads" not in text


def test_steps_of_other_threads_are_told() -> None:
    joins = line("ui.py:9", "<module>", "Thread.join", "start_up", 0.9)
    text = said(without_steps(joins, steps_in_other_threads=800))
    assert "Other threads made 800 steps" in text
    assert "perfdoctor.TrainingMonitor" in text
    assert "waited" not in text


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("BaseProcess.join", "process"),
        ("ProcessContext.join", "process"),
        ("run", "process"),
        ("Popen.wait", "process"),
        ("os.waitpid", "process"),
        ("Thread.join", "thread"),
    ],
)
def test_what_it_waited_for_is_named(call: str, what: str) -> None:
    text = said(without_steps(line("go.py:7", "<module>", call, "start_up", 0.55)))
    assert f"waited for another {what} for 55 % of the run, in go.py:7 `{call}`" in text


def test_the_end_of_a_script_whose_threads_go_on_is_a_wait_too() -> None:
    end = line("threading.py:1590", "_shutdown", "stdlib", "shut_down", 0.8)
    assert "waited for another thread for 80 %" in said(without_steps(end))


def test_nothing_is_advised_where_nothing_trained() -> None:
    told = [line(f"t.py:{n}", "main", None, stage, 0.14) for n, stage in enumerate(STAGES, 1)]
    seen = without_steps(*told)
    assert seen.recommendations == ()
    assert {"PD502", "PD503", "PD505"} <= {a.rule for a in seen.abstained if a.missing == "steps"}


@pytest.mark.parametrize(
    "call",
    [
        "join",
        "os.path.join",
        "Pool.map",
        "DataFrame.get",
        "Runner.go",
        "x.select",
        "DataFrame.select",
        "np.select",
        "self.input",
    ],
)
def test_what_does_the_work_itself_does_not_wait(call: str) -> None:
    made = replace(prepares_long(), hotspots=(line("t.py:1", "wait", call, "start_up", 0.4),))
    assert not any(waits(one) for one in hot_lines(Facts(schema.to_dict(made)), "start_up"))


@pytest.mark.parametrize(
    "call", ["select.select", "EpollSelector.select", "input", "Event.wait", "time.sleep"]
)
def test_what_waits_for_a_file_a_person_or_a_time_does(call: str) -> None:
    made = replace(prepares_long(), hotspots=(line("t.py:1", "wait", call, "start_up", 0.4),))
    lines = hot_lines(Facts(schema.to_dict(made)), "start_up")
    assert [waits(one) for one in lines] == [True]
