"""A check as people, GitHub, GitLab and JUnit readers get it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import check_cases as cases
import matplotlib.pyplot as plt
import pytest
from rich.console import Console

from perfdoctor.compare.differences import IN_WORKER, Difference
from perfdoctor.render import (
    check_words,
    github,
    gitlab,
    junit,
    markdown,
    sides_picture,
    sides_words,
)
from perfdoctor.render.check_console import print_check


def shown(result, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_check(result, console)
    return " ".join(console.file.getvalue().split())


def suite(result) -> ElementTree.Element:
    (found,) = ElementTree.fromstring(junit.of_check(result))
    return found


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_console_tells_outcome_change_margin_power_and_why(width):
    text = shown(cases.result("regression"), width)
    for part in ("REGRESSION", "+8.0 %", "5 %", "4.0 %", "loader workers 4 → 0", "train.py:36 f"):
        assert part in text


def test_an_improvement_is_told_though_it_passes():
    result = cases.result("pass", judged=(cases.judged("improved"),))
    assert "PASS, IMPROVED" in shown(result)
    assert "::notice" in "".join(github.workflow_commands(result))


def test_a_regression_is_a_failure_in_junit_and_what_is_inconclusive_is_skipped():
    failed = suite(cases.result("regression"))
    assert (failed.get("failures"), failed.get("skipped")) == ("1", "0")
    failure = failed.find("testcase/failure")
    assert failure is not None and "loader workers 4 → 0" in str(failure.text)
    unclear = suite(cases.result("inconclusive"))
    assert (unclear.get("failures"), unclear.get("skipped")) == ("0", "1")
    assert unclear.find("testcase/skipped") is not None


def test_where_what_is_inconclusive_fails_all_outputs_say_so():
    result = cases.result("inconclusive")
    failed = ElementTree.fromstring(junit.of_check(result, strict=True))[0]
    assert (failed.get("failures"), failed.get("skipped")) == ("1", "0")
    assert failed.find("testcase/failure").get("type") == "inconclusive"
    (line,) = github.workflow_commands(result, strict=True)
    assert line.startswith("::error title=Performance::")


def test_a_criterion_that_only_warns_is_no_regression_in_markdown_either():
    judged = (cases.judged("pass"), cases.judged("regression", cases.FORWARD))
    text = markdown.check(cases.result("pass", judged=judged))
    assert "⚠️ warning" in text and "❌" not in text


def test_intervals_say_of_what_they_are_and_how_sure():
    result = cases.result("regression")
    text = markdown.check(result)
    assert "typical change of a pair, not that of the typical values" in text
    assert "its 98 % interval" in text and "with 99 % intervals" in text
    assert "not that of the typical values" in " ".join(shown(result, 200).split())


def test_a_change_of_nothing_has_no_minus_and_power_has_a_limit():
    assert sides_words.relative_change(0.9999) == "+0.0 %"
    assert check_words.power(cases.judged("pass", seen=1.076)) == "could have seen >100 %"


def test_an_interval_that_goes_on_beyond_the_picture_has_an_arrow():
    figure, ax = plt.subplots()
    sides_picture._point(ax, 0, replace(cases.result("pass").shifts[0], ratio_ci=(0.1, 9.0)))
    assert {line.get_marker() for line in ax.lines} >= {"<", ">"}
    plt.close(figure)


def test_a_warning_is_no_test_case():
    judged = (cases.judged("pass"), cases.judged("regression", cases.FORWARD))
    found = suite(cases.result("pass", judged=judged))
    assert (found.get("tests"), found.get("failures")) == ("1", "0")


def test_junit_stays_xml_whatever_the_file_is_called():
    result = cases.result("regression", measured='a\x00\x1b<b>&"\ud800.py')
    assert suite(result).find("testcase") is not None


def test_github_gets_one_error_for_all_regressions():
    judged = (cases.judged("regression"), cases.judged("regression", cases.MEMORY))
    lines = list(github.workflow_commands(cases.result("regression", judged=judged)))
    assert len(lines) == 1
    assert lines[0].startswith("::error title=Slower::step p25 got worse")
    assert "%0Amemory peak got worse" in lines[0] and "\n" not in lines[0]
    assert "8.0 %25" in lines[0]


def test_a_name_cannot_smuggle_a_workflow_command_or_markup():
    result = cases.result("regression", measured="x\n::add-mask::y|<script>[a](b)")
    assert all(line.startswith("::error") for line in github.workflow_commands(result))
    text = markdown.check(result)
    assert "\n::add-mask::" not in text
    assert "<script>" not in text and "[a](b)" not in text


def test_the_job_summary_is_appended(tmp_path, capsys):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    github.tell(cases.result("pass"), {"GITHUB_STEP_SUMMARY": str(summary)})
    assert summary.read_text().startswith("before\n## ✅ pass: bench.py")
    assert capsys.readouterr().out == ""


def test_a_summary_that_cannot_be_written_does_not_change_the_outcome(tmp_path, capsys):
    github.tell(cases.result("pass"), {"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert "cannot write the job summary" in capsys.readouterr().err


def test_gitlab_knows_a_regression_again():
    first, second = (
        json.loads(gitlab.code_quality(replace(cases.result("regression"), seconds=s)))
        for s in (1.0, 2.0)
    )
    assert first[0]["fingerprint"] == second[0]["fingerprint"]
    assert first[0]["severity"] == "major"
    assert first[0]["location"] == {"path": "bench.py", "lines": {"begin": 1}}
    assert json.loads(gitlab.code_quality(cases.result("pass"))) == []


def test_metrics_are_open_metrics_text():
    lines = gitlab.metrics(cases.result("pass")).decode().splitlines()
    assert 'perfdoctor_seconds{metric="step",statistic="p25"} 0.0054' in lines
    assert lines[-1] == "# EOF"


def test_the_picture_is_drawn_with_and_without_measurements():
    for result in (cases.result("regression"), cases.result("inconclusive", shifts=())):
        assert sides_picture.of_check(result).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("outcome", "wish", "code"),
    [
        ("pass", None, 0), ("regression", None, 1), ("inconclusive", None, 3),
        ("inconclusive", "pass", 0), ("inconclusive", "fail", 1), ("regression", "pass", 1),
        ("pass", "fail", 0),
    ],
)  # fmt: skip
def test_exit_codes(outcome, wish, code):
    assert cases.result(outcome).exit_code(wish) == code


def test_a_criterion_without_numbers_says_why_and_makes_none_up():
    bare = cases.judged("inconclusive", before=None, after=None, change=None, interval=None,
                        seen=None, reason="nothing was measured")  # fmt: skip
    assert check_words.verdict(bare) == "step p25 is inconclusive: nothing was measured"
    assert check_words.change(bare) == "–"


def test_the_share_of_a_line_in_a_worker_is_of_the_workers_time():
    line = Difference(kind="hot_line", name=f"data.py:3 read{IN_WORKER}", before=None, after=0.9)
    assert sides_words.difference(line).endswith("90 % of the workers' time")
    assert sides_words.difference(replace(line, name="data.py:3 read")).endswith("of the run")


def test_what_is_shown_of_power_is_known():
    unknown = replace(cases.judged("inconclusive"), seen=None, interval=None, reason="too few")
    assert "power: the change" not in shown(cases.result("inconclusive", judged=(unknown,)))
    assert "power: the change" in shown(cases.result("pass"))


def test_what_fails_below_its_margin_says_why():
    found = replace(cases.judged("regression"), change=0.03)
    assert check_words.verdict(found).endswith("(more than half of 5 %, from where it fails)")
    assert "half of" not in check_words.verdict(cases.judged("regression"))
    assert "by more than half of it" in shown(cases.result("regression"))
    assert "by more than half of it" not in shown(cases.result("regression", way="history"))
