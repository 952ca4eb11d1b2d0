from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import log_cases as cases
import pytest
from builders import make_log_file, make_log_report
from printing import one_line, piped
from rich.cells import cell_len

from perfdoctor.render.lines import origins, show_lines
from perfdoctor.report import Report


def places(report: Report) -> dict[str, str]:
    """Name → "value | from"; of several with one name the first."""
    found: dict[str, str] = {}
    for origin in origins(report):
        found.setdefault(origin.name, f"{origin.value} | {origin.where}")
    return found


def test_percentiles_and_the_slowest_steps_have_the_line_of_their_record() -> None:
    step_s = [0.1] * 60 + [0.2] * 5 + [0.9]
    report = make_log_report()
    assert report.steps is not None
    time = replace(report.steps.time, p50_s=0.1004, p95_s=0.2, p99_s=0.9)
    report = replace(
        report,
        steps=replace(report.steps, count=66, time=time),
        series={
            "step_s": tuple(step_s),
            "line": tuple(float(3 * n) for n in range(66)),
            "step": tuple(float(n) for n in range(66)),
        },
    )
    found = places(report)
    assert found["step time p50"] == "100 ms at step 0 | train.log:0"
    assert found["step time p95"] == "200 ms at step 60 | train.log:180"
    assert found["slowest step"] == "900 ms at step 65 | train.log:195"


def test_changes_epochs_evidence_and_unread_lines_have_their_places() -> None:
    found = places(cases.imagenet_slow_down())
    assert found["change of speed"] == "2,052 → 900 samples/s at step 4,110 | train.log:423"
    assert found["best epoch"] == "acc1 71.32 in epoch 6 | train.log:280"
    assert found["slowest epoch"] == "epoch 11: 15 min 20 s | train.log:480"
    assert found["PD101"] == "stages.data_loading.share 62 % | train.log"
    assert found["not read"] == "Epoch: [3][512/750]  Time  0.1 | train.log:512"
    assert found["settings"] == "batch size 256, 4 workers, arch resnet50 | train.log"


def test_of_several_files_the_one_of_the_record_is_named() -> None:
    logs = (make_log_file("rank0.log"), make_log_file("rank1.log"))
    report = make_log_report(logs=logs)
    files = {"file": (1.0,) * 400}
    known = replace(report, series=dict(report.series) | files)
    assert "rank1.log:" in places(known)["step time p50"]
    assert "| line " in places(report)["step time p50"]


def test_a_thinned_report_says_that_it_is() -> None:
    text = one_line(piped(partial(show_lines, cases.hundred_thousand_records())))
    assert "from the 2,000 of 100,000 records that the report keeps" in text
    assert "records that the report keeps" not in piped(partial(show_lines, make_log_report()))


def test_where_nothing_has_a_line_that_is_said() -> None:
    text = piped(partial(show_lines, cases.no_timing()))
    assert "nothing in this report has a line that it comes from" in text


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("case", cases.ALL)
def test_no_line_is_wider_than_the_console(case: Callable[[], Report], width: int) -> None:
    text = piped(partial(show_lines, case()), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
