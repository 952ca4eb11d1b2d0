from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import render_cases as cases
from builders import make_diagnosis, make_recommendation, make_report
from printing import on_terminal, one_line, printed, widest
from rich.console import Console

from perfdoctor.ending import Ending
from perfdoctor.record import Gpu, Source
from perfdoctor.render.console import print_report
from perfdoctor.report import Abstained, MemoryUse, Report, Trial, Usage

WIDTHS = (80, 100, 140)


@pytest.mark.parametrize("case", [cases.input_bound, cases.healthy, cases.compared])
def test_the_console_shows_what_the_golden_file_shows(
    case: Callable[[], Report], golden: Callable[[str, str], None]
) -> None:
    files = (Path("performance_report_20260102_030405.json"), Path("graph_benchmark.png"))
    golden(f"{case.__name__}.txt", printed(case(), files=files))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", cases.ALL)
def test_no_line_is_wider_than_the_console(case: Callable[[], Report], width: int) -> None:
    assert widest(case(), width) <= width


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", cases.ALL)
def test_no_number_is_cut_short(case: Callable[[], Report], width: int) -> None:
    assert "…" not in printed(case(), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_stage_names_are_on_one_line_where_they_are_short(width: int) -> None:
    text = printed(cases.dominant_stage(), width)
    assert re.search(r"^ data_loading +█", text, re.MULTILINE)


def test_text_from_outside_is_never_markup_nor_an_escape_sequence() -> None:
    text = printed(cases.foreign_names())
    assert "\x1b" not in text
    for kept in (
        "模型 $\\nomacro$ \\frac{1}{0} [bold]net[/bold] red",
        "[red]own[/red]",
        "图_$a_b$",
        "[link=x]y[/link]",
        "[bold red]标题[/] y",
        '"[bold]x[/bold]"',
        "[/] unbalanced :smile:",
    ):
        assert kept in text


def test_on_a_terminal_the_only_escape_sequences_are_colours() -> None:
    text = on_terminal(partial(print_report, cases.foreign_names()))
    assert "\x1b[" in text
    assert not re.search(r"\x1b(?!\[[0-9;]*m)|[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f]", text)


def test_no_color_leaves_the_words_and_takes_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = on_terminal(partial(print_report, cases.input_bound()))
    codes = {c for seq in re.findall(r"\x1b\[([0-9;]*)m", text) for c in seq.split(";")}
    assert codes <= {"", "0", "1", "2", "3", "4", "7"}  # bold, dim and the like; no colour
    assert "INPUT-BOUND" in text


def test_a_pipe_that_takes_only_ascii_gets_ascii() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    print_report(cases.input_bound(), Console(file=file, width=100))
    assert file.errors == "strict"
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert "verified 1.38x (1.30-1.45x)" in text
    assert "|data_loading |####" in text


def test_what_was_not_measured_is_a_dash_and_explained_once() -> None:
    text = printed(cases.healthy())
    row = next(line for line in text.splitlines() if line.startswith(" forward "))
    assert row.endswith("      –      –")
    assert text.count("not measured") == 1
    everything = {name: replace(s, hidden_s=0.0) for name, s in cases.healthy().stages.items()}
    whole = replace(cases.healthy(), stages=everything, alone=dict(everything))
    assert "not measured" not in printed(whole)


def test_a_healthy_run_is_told_that_nothing_needs_changing() -> None:
    assert "Nothing needs changing" in printed(cases.healthy())
    assert "Nothing needs changing" not in printed(cases.one_step())
    assert "Nothing needs changing" not in printed(make_report(diagnosis=make_diagnosis()))


def test_only_optional_advice_comes_after_the_word_that_nothing_needs_changing() -> None:
    report = replace(cases.healthy(), recommendations=(make_recommendation(optional=True),))
    text = printed(report)
    assert text.index("Nothing needs") < text.index("Headroom (optional)") < text.index("PD101")


def test_a_refuted_trial_is_shown_as_refuted() -> None:
    trial = Trial(outcome="refuted", speedup=1.01, low=0.98, high=1.03, loss_parity="same")
    recommendation = make_recommendation(verified=trial, predicted=None)
    text = printed(make_report(diagnosis=make_diagnosis(), recommendations=(recommendation,)))
    assert "refuted: measured 1.01× (0.98–1.03×) · gain not predicted · loss: same" in text


def test_rules_that_could_not_decide_are_counted_and_their_needs_named_once() -> None:
    abstained = tuple(Abstained(rule=f"PD{n}", missing=f"need {n % 6}") for n in range(12))
    text = " ".join(printed(make_report(abstained=abstained)).split())
    assert (
        "12 rules could not decide (perfdoctor bench --json shows why); missing: "
        "need 0; need 1; need 2; need 3; and 2 more" in text
    )


def _undecided(*missing: str, **overrides: Any) -> str:
    abstained = tuple(Abstained(rule=f"PD{n}", missing=path) for n, path in enumerate(missing))
    text = one_line(printed(make_report(abstained=abstained, **overrides)))
    return text.partition("missing: ")[2]


def test_where_there_is_no_gpu_nobody_misses_what_it_would_tell() -> None:
    of_gpu, gpu = ("utilisation.gpu.mean", "environment.gpu.0"), Gpu(name="H100")
    assert _undecided(*of_gpu) == ""
    assert _undecided(*of_gpu, "steps.cpu_s") == "the processor time of each step"
    with_gpu = replace(make_report().environment, gpu=(gpu,))
    assert "how busy the GPU is" in _undecided(*of_gpu, environment=with_gpu)


def test_a_script_that_makes_its_own_batches_misses_a_dataloader_and_no_settings_of_it() -> None:
    of_loader = ("configuration.num_workers", "loader.batch.p50_s", "configuration.batch_size")
    observed = replace(make_report().source, kind="run")
    shown = _undecided(*of_loader, source=observed, configuration={})
    assert shown == "a DataLoader (none was seen); the batch size"
    seen = {"num_workers": 0}
    assert "a DataLoader" not in _undecided(*of_loader, source=observed, configuration=seen)


def test_code_that_is_wider_than_the_console_can_be_copied() -> None:
    line = f"loader = DataLoader(dataset, {', '.join(f'option_{n}={n}' for n in range(20))})"
    snippet = f"if True:\n    {line}  # and your others"
    advised = (make_recommendation(snippet=snippet),)
    text = printed(make_report(diagnosis=make_diagnosis(), recommendations=advised), width=60)
    assert f"        if True:\n            {line}  # and your others\n" in text


def test_counters_of_what_is_not_there_are_left_out() -> None:
    none = ("cpu", "cpu_workers", "cpu_foreign", "cpu_throttled", "disk_read_bytes_per_s", "gpu")
    unused = {name: Usage(mean=0.0, p50=0.0, p95=0.0) for name in none}
    text = printed(make_report(utilisation=unused))
    assert re.search(r"utilisation +CPU 0 % · GPU 0 % \(mean\)", text)
    used = {name: Usage(mean=7.0, p50=7.0, p95=7.0) for name in none}
    text = one_line(printed(make_report(utilisation=used)))
    assert "workers 7 % of a core · other programs 7 % of a core · throttled" in text
    assert "disk reads 7 B/s" in text


@pytest.mark.parametrize(
    ("step_bytes", "shown"), [(None, ""), (-9e6, ""), (19.9, ""), (20.1, "grows by 20.1 B a step")]
)
def test_growth_is_told_where_something_comes_of_it(step_bytes: float | None, shown: str) -> None:
    steps = replace(make_report().steps, count=1000)
    memory = MemoryUse(peak_bytes=1_000_000, trend_bytes_per_step=step_bytes)
    text = printed(make_report(steps=steps, memory=memory))
    assert ("grows by" in text) == bool(shown)
    assert shown in text


def test_five_skipped_files_are_named_and_the_rest_counted() -> None:
    text = printed(cases.input_bound())
    assert "7 files skipped" in text
    assert text.count("truncated JPEG") == 5
    assert "and 2 more" in text


def test_the_failed_configuration_shows_its_error_and_the_best_are_marked() -> None:
    lines = printed(cases.compared()).splitlines()
    assert sum(line.startswith(" ★ ") for line in lines) == 2
    assert any("not distinguishable" in line for line in lines)
    assert any("failed" in line and line.startswith("    8 ") for line in lines)
    assert any("DataLoader worker (pid 4711) is killed" in line for line in lines)


def test_a_narrow_console_names_the_columns_that_it_leaves_out() -> None:
    assert "a wider terminal also shows: step p50, bottleneck" in printed(cases.many_rows(), 80)
    assert "a wider terminal" not in printed(cases.many_rows(), 140)


def test_a_report_without_diagnosis_makes_no_claims() -> None:
    text = printed(make_report())
    assert "Diagnosis" not in text
    assert "What to change" not in text


def test_a_drift_is_told_and_a_steady_run_is_not() -> None:
    assert "901 samples/s at the start, 402 samples/s at the end (-55 %, drift)" in printed(
        cases.long_run()
    )
    assert "at the start" not in printed(cases.input_bound())


def test_a_stage_that_runs_now_and_then_says_how_often():
    sometimes = replace(make_report().stages["optimizer"], calls_per_step=0.25)
    report = make_report(stages={**make_report().stages, "arch_step": sometimes})
    assert "arch_step ran in 25 % of the steps" in printed(report)


@pytest.mark.parametrize(
    ("kind", "how", "whole"),
    [
        ("run", "finished", True),
        ("run", "os._exit", True),
        ("run", "exception", False),
        ("run", "stopped", False),
        ("bench", None, True),
    ],
)
def test_gains_of_a_script_that_was_cut_short_are_without_its_start_up(
    kind: str, how: str | None, whole: bool
) -> None:
    ending = None if how is None else Ending(how)
    report = replace(cases.input_bound(), source=Source(kind=kind), ending=ending)
    text = one_line(printed(report))
    assert ("of the whole training. Predicted" in text) is whole
    assert ("the training without its start-up, as the script did not come" in text) is not whole
