"""A visible part of the steps in which nothing can be gained is no bottleneck."""

from __future__ import annotations

from typing import Any

import pytest
from run_bases import script
from test_verdict import facts, gain, judge

from perfdoctor.report import Diagnosis
from perfdoctor.rules.engine import diagnose
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.verdict import verdict
from perfdoctor.settings import Settings

FUSED = {"configuration": {"optimizer_home": "torch", "optimizer_fused": True}}
UPDATING = {"optimizer": 0.28, "forward": 0.3, "backward": 0.4}
HOT = {"file": "t.py", "line": 7, "stage": "forward", "share": 0.3, "process": "main"}
LINE = {**HOT, "stage": "other", "share": 0.12}
BETWEEN = {"forward": 0.35, "backward": 0.43}


def seen(shares: dict[str, float], *found: Any, **changes: Any) -> Diagnosis:
    """Of a script whose lines were looked at."""
    changes = {"source": {"kind": "run"}, "hotspots": [HOT, LINE], **changes}
    return verdict(Facts(facts(shares, **changes)), found)


def test_an_update_that_is_fused_already_holds_no_healthy_training_up() -> None:
    fine = seen(UPDATING, **FUSED)
    assert (fine.verdict, fine.bottleneck, fine.share) == ("healthy", "none", 0.0)
    assert fine.summary == (
        "No bottleneck found: 70 % of each step (70 ms of 100 ms) is the model's own computation, "
        "28 % goes into updating the weights, as fast as torch does it."
    )


@pytest.mark.parametrize(
    "optimizer",
    [
        {},
        {"optimizer_home": "torch", "optimizer_fused": False},
        {"optimizer_home": "torch", "optimizer_fused": None},
        {"optimizer_home": "__main__", "optimizer_fused": True},
    ],
)
def test_an_update_that_may_be_faster_stays_the_bottleneck(optimizer: dict[str, Any]) -> None:
    assert seen(UPDATING, configuration=optimizer).verdict == "optimizer-bound"


def test_so_does_one_with_a_fault_and_one_that_takes_much_beside_the_computation() -> None:
    assert seen(UPDATING, gain("optimizer", 1.1), **FUSED).verdict == "optimizer-bound"
    assert seen(UPDATING, gain("optimizer", 1.02), **FUSED).verdict == "healthy"
    large = {"optimizer": 0.36, "forward": 0.3, "backward": 0.33}
    assert seen(large, **FUSED).verdict == "optimizer-bound"


def test_what_else_takes_much_is_the_bottleneck_then() -> None:
    shares = {"optimizer": 0.25, "data_loading": 0.21, "forward": 0.25, "backward": 0.28}
    other = seen(shares, **FUSED)
    assert (other.verdict, other.bottleneck) == ("input-bound", "data_loading")
    made = seen(UPDATING, gain("forward", 1.3), **FUSED)
    assert (made.verdict, made.bottleneck) == ("compute-bound", "forward")
    assert made.share == pytest.approx(0.7)


def test_time_between_the_stages_in_no_line_worth_changing_is_healthy() -> None:
    fine = seen(BETWEEN)
    assert (fine.verdict, fine.bottleneck) == ("healthy", "none")
    assert "22 % lies between the stages, in no line worth changing" in fine.summary
    assert seen(BETWEEN, gain("other", 1.08)).verdict == "overhead-bound"
    assert seen({"forward": 0.3, "backward": 0.3}).verdict == "overhead-bound"


def test_where_nobody_looked_at_lines_it_may_be_any_of_them() -> None:
    assert judge(BETWEEN).verdict == "overhead-bound"
    assert seen(BETWEEN, hotspots=None).verdict == "overhead-bound"
    assert seen(BETWEEN, hotspots=[]).verdict == "overhead-bound"
    assert seen(BETWEEN, hotspots=[HOT]).verdict == "overhead-bound"


@pytest.mark.parametrize(("known", "word"), [(0.09, "overhead-bound"), (0.12, "healthy")])
def test_lines_of_the_smaller_part_of_it_do_not_tell_what_it_is(known: float, word: str) -> None:
    lines = [{**LINE, "share": known / 3, "line": n} for n in range(1, 4)]
    assert seen(BETWEEN, hotspots=[HOT, *lines]).verdict == word


def test_a_gain_counts_as_in_the_training_however_short_the_run_was() -> None:
    """The findings are of the whole run, of which the training was a tenth."""
    parts = [{"name": "start_up", "share": 0.9}, {"name": "forward", "share": 0.1}]
    short = {"wall": {"total_s": 10.0, "parts": parts}, "ending": {"how": "finished"}}
    assert seen(BETWEEN, gain("other", 1.02), **short).verdict == "overhead-bound"
    assert seen(BETWEEN, gain("other", 1.002), **short).verdict == "healthy"


def test_waiting_between_the_stages_is_called_so() -> None:
    waits = {**HOT, "library": "os.waitpid", "stage": "other"}
    held = seen({"forward": 0.2, "backward": 0.2}, hotspots=[waits])
    assert held.summary.endswith("between the stages, mostly waiting in t.py:7 `os.waitpid`.")
    busy = seen({"forward": 0.2, "backward": 0.2})
    assert busy.summary.endswith("between the stages, in Python code of the training loop.")


class Says:
    """A rule that always finds the same."""

    code, name, needs, verify_with, cause, thresholds = "XX1", "always", (), None, "a-cause", {}
    sources = ()

    def __init__(self, stage: str, speedup: float) -> None:
        self._finding = gain(stage, speedup)

    def evaluate(self, facts: Facts) -> Any:
        """The same for all."""
        return self._finding


@pytest.mark.parametrize(
    ("stage", "speedup", "optional"),
    [("logging", 1.04, True), ("logging", 1.2, False), ("data_loading", 1.04, False)],
)
def test_what_the_run_would_hardly_notice_is_an_option_unless_it_holds_it_up(
    stage: str, speedup: float, optional: bool
) -> None:
    waiting = script(batch_s=0.3, workers=0)
    result = diagnose(waiting, Settings(), [Says(stage, speedup)])  # type: ignore[list-item]
    assert result.diagnosis is not None
    assert result.diagnosis.verdict == "input-bound"
    assert [one.optional for one in result.recommendations] == [optional]
