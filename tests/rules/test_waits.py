"""Waiting for data: the usual wait, that of stalls, and what is no wait at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from log_bases import STEP_S, bare, loading_log, times, wall, with_steps

from perfdoctor.report import Report, Stalls
from perfdoctor.rules.engine import diagnose
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.logs import data_share
from perfdoctor.rules.waits import waiting
from perfdoctor.schema import to_dict
from perfdoctor.settings import Settings


def jumping(**stalls: Any) -> Report:
    """Hardly a wait, but for 6 s in every twentieth record: 43 % of the time of all steps."""
    step_s, wait_s = times(STEP_S, 1), 0.01 * times(STEP_S, 2)
    step_s[::20] += 6.0
    wait_s[::20] += 6.0
    report = with_steps(bare(), step_s, {"data_loading": wait_s})
    return replace(report, stalls=Stalls(count=10, excess_s=6.0, share=0.42, **stalls))


def rules_of(report: Report) -> list[str]:
    return [advice.rule for advice in diagnose(report, Settings()).recommendations]


def test_jumps_are_told_apart_from_the_usual_wait() -> None:
    wait = waiting(Facts(to_dict(jumping(period_steps=1000.0))))
    assert wait.stalled == pytest.approx(0.42, abs=0.01)
    assert wait.usual < 0.05
    assert wait.mostly_stalls


def test_without_stalls_all_of_the_wait_is_usual() -> None:
    wait = waiting(Facts(to_dict(loading_log(0.3))))
    assert (wait.stalled, wait.mostly_stalls) == (0.0, False)


def test_jumps_that_only_averages_show_are_stalls_as_well() -> None:
    report = loading_log(0.01)
    stage = replace(report.stages["data_loading"], share=0.13)  # by the averages
    report = replace(
        report,
        stages=report.stages | {"data_loading": stage},
        stalls=Stalls(count=10, excess_s=6.0, share=0.09, period_steps=1000.0),
    )
    assert waiting(Facts(to_dict(report))).usual == pytest.approx(0.04, abs=0.001)
    assert rules_of(report) == ["PD703"]


@pytest.mark.parametrize(
    ("stalls", "rules"),
    [({"period_steps": 1000.0}, ["PD703"]), ({"at_epoch_start": True}, ["PD104"])],
)
def test_the_same_seconds_are_told_once(stalls: dict[str, Any], rules: list[str]) -> None:
    assert rules_of(jumping(**stalls)) == rules


def test_irregular_jumps_are_long_waits_and_no_call_for_workers() -> None:
    report = replace(jumping(), configuration={"num_workers": 4})
    advice = next(
        a for a in diagnose(report, Settings()).recommendations if a.rule in ("PD106", "PD704")
    )
    assert "num_workers" not in advice.change
    assert rules_of(report).count("PD106") + rules_of(report).count("PD704") == 1


def test_stalls_as_long_as_validation_in_all_are_called_so() -> None:
    report = replace(jumping(period_steps=1000.0), wall=wall(total_s=1000.0, validation=0.07))
    parts = tuple(replace(part, count=1) for part in report.wall.parts) if report.wall else ()
    report = replace(report, wall=replace(report.wall, parts=parts))  # type: ignore[type-var]
    found = diagnose(report, Settings()).recommendations
    assert ["validations take as long in all" in a.title for a in found] == [True]


def test_a_wait_that_overlaps_the_step_is_abstained_from_with_that_reason() -> None:
    report = replace(loading_log(0.5), stages={})
    with pytest.raises(Missing) as missing:
        data_share(Facts(to_dict(report)))
    assert "overlaps them" in str(missing.value.reason)
    for settings in ({}, {"num_workers": 0}):
        judged = diagnose(replace(report, configuration=settings), Settings())
        reasons = {a.rule: a.reason for a in judged.abstained if a.reason is not None}
        assert set(reasons) & {"PD101", "PD106"}
        assert not judged.recommendations


def test_the_stages_of_a_profile_are_all_of_the_step() -> None:
    parts = wall(data_loading=0.2, forward=0.3, backward=0.3, validation=0.1)
    assert data_share(Facts(to_dict(replace(bare(), wall=parts)))) == pytest.approx(0.2 / 0.9)
