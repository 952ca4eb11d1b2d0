"""Formats that users describe themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor import settings as project_settings
from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.templates import PatternFormat, parse
from perfdoctor.record import Run


def pattern(*templates: str) -> PatternFormat:
    return parse("pattern", templates)


def fields(template: str, line: str) -> dict[str, tuple[str, float]]:
    """Role → scale of the fields that the template finds."""
    return {f.role: ("", f.scale) for f in pattern(template).template(line, Dialect()).fields}


def spans(template: str, line: str) -> dict[str, str] | None:
    found = pattern(template).match(line)
    return None if found is None else {name: line[start:end] for name, _, start, end in found}


def test_a_template_reads_its_lines(run_of: Callable[..., Run]) -> None:
    text = "".join(
        f"@@ {i} / whatever {i * 7} :: {250 + i % 2} units\nnoise 1 2 3\n" for i in range(20)
    )
    run = run_of(text, own=[pattern("@@ {step:d} .* :: {step_time_ms:f} units")])
    assert run.logs[0].format == "pattern"
    assert run.logs[0].reason == "20 lines follow your template"
    assert run.step_s == pytest.approx([0.25 + i % 2 / 1000 for i in range(20)])
    assert run.track is not None
    assert run.track.line.tolist() == list(range(1, 41, 2))


@pytest.mark.parametrize(
    ("name", "role", "scale"),
    [
        ("step_time_ms", "step_s", 1e-3), ("step_time", "step_s", 1),
        ("data_time_us", "data_loading_s", 1e-6),
        ("samples_per_s", "samples_per_s", 1), ("tokens_per_sec", "tokens_per_s", 1),
        ("val_loss", "metric:val_loss", 1),
        ("epoch_time_min", "epoch_s", 60), ("time/step", "step_s", 1),
        ("throughput", "samples_per_s", 1),
    ],
)  # fmt: skip
def test_a_field_s_name_tells_role_and_unit(name: str, role: str, scale: float) -> None:
    [(found, (_, factor))] = fields(f"x {{{name}:f}}", "x 12.5").items()
    assert (found, factor) == (role, pytest.approx(scale))


def test_types_are_whole_numbers_numbers_times_and_words() -> None:
    found = spans("{a:d} {b:f} {c:t} {d:w} {e}", "1,000 -2.5e-3 01:02:03.5 what? .5")
    assert found == {"a": "1,000", "b": "-2.5e-3", "c": "01:02:03.5", "d": "what?", "e": ".5"}


def test_a_time_may_be_a_moment_a_clock_or_a_duration() -> None:
    assert set(fields("at {time:t} step {step:d}", "at 2024-05-01 12:00:00 step 3")) == {
        "time",
        "step",
    }
    assert set(fields("at {time:t} step {step:d}", "at 12:00:00 step 3")) == {"clock", "step"}
    assert set(fields("took {step_time:t}.", "took 0:00:02.5.")) == {"step_s"}


def test_a_gap_stands_for_any_text_and_white_space_for_any_white_space() -> None:
    assert spans("a {x:d} .* b {y:d}", "pre a \t 1 anything b   2 post") == {"x": "1", "y": "2"}
    assert spans("a {x:d} .* b {y:d}", "b 2 a 1") is None


def test_other_signs_in_a_template_stand_for_themselves() -> None:
    assert spans("[({x:d})] $5.* {y:f}?", "[(3)] $5 and 2.5?") == {"x": "3", "y": "2.5"}
    assert spans("a+b {x:d}", "aab 3") is None


def test_a_number_is_taken_whole() -> None:
    assert spans("{x:d} s", "1234 s") == {"x": "1234"}


def test_the_first_template_that_fits_is_taken() -> None:
    both = pattern("loss {loss:f} time {step_time:f}", "loss {loss:f}")
    assert {f.role for f in both.template("loss 2 time 3", Dialect()).fields} == {
        "metric:loss",
        "step_s",
    }
    assert {f.role for f in both.template("loss 2", Dialect()).fields} == {"metric:loss"}


def test_of_two_fields_that_mean_the_same_the_first_counts(run_of: Callable[..., Run]) -> None:
    text = "".join(f"{i} {2 + i % 2} {9 - i % 2}\n" for i in range(20))
    run = run_of(text, own=[pattern("{step:d} {step_time:f} {iter_time:f}")])
    assert run.step_s == pytest.approx([2 + i % 2 for i in range(20)])


def test_fields_called_eta_or_underscore_are_left_alone() -> None:
    assert fields("{_:d} {eta:t} {step:d}", "5 01:02:03 7").keys() == {"step"}


def test_only_the_template_s_values_are_read(run_of: Callable[..., Run]) -> None:
    text = "".join(f"step {i} step_time 9.9 s real {100 + i % 3} ms\n" for i in range(20))
    run = run_of(text, own=[pattern("step {step:d} .* real {step_time_ms:f} ms")])
    assert run.step_s == pytest.approx([(100 + i % 3) / 1000 for i in range(20)])


def test_values_of_any_width_are_read(run_of: Callable[..., Run]) -> None:
    times = [0.5 + i * 7919 % 12_000 / 10 for i in range(200)]
    text = "".join(f"#{i * i}# {time:.3f}|\n" for i, time in enumerate(times))
    run = run_of(text, own=[pattern("#{step:d}# {step_time_ms:f}|")])
    assert run.step_s == pytest.approx([time / 1000 for time in times])


def test_a_file_without_such_lines_is_read_as_usual(run_of: Callable[..., Run]) -> None:
    text = "".join(f"step {i} step_time 0.25 s\n" for i in range(20))
    run = run_of(text, own=[pattern("nothing like {step:d}")])
    assert run.logs[0].format == "generic"


@pytest.mark.parametrize("template", ["no fields at all", "", ".*", "{1bad:d}"])
def test_a_template_without_fields_says_how_to_write_them(template: str) -> None:
    with pytest.raises(PerfdoctorError, match=r"has no fields; write them as \{step:d\}") as caught:
        pattern(template)
    assert caught.value.slug == "template-without-fields"


def test_an_unknown_type_names_those_there_are() -> None:
    with pytest.raises(PerfdoctorError, match=r"type 'int'; there are d .whole number.") as caught:
        pattern("step {step:int}")
    assert caught.value.slug == "template-unknown-type"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pyproject.toml", '[tool.perfdoctor.formats]\nmine = "@ {step:d} .* {step_time_ms:f}!"\n'),
        ("pyproject.toml",
        '[tool.perfdoctor.formats]\nmine = ["other {x:f}", "@ {step:d} .* {step_time_ms:f}!"]\n'),
        ("perfdoctor.toml",
        '[formats]\nmine = """\n@ {step:d} .* {step_time_ms:f}!\nother {x:f}\n"""\n'),
        ("setup.cfg", "[perfdoctor:formats]\nmine = @ {step:d} .* {step_time_ms:f}!\n"),
    ],
)  # fmt: skip
def test_a_project_may_hold_its_formats_in_its_settings(
    run_of: Callable[..., Run], tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    own = [parse(n, t) for n, t in project_settings.load(tmp_path).formats.items()]
    text = "".join(f"@ {i} and {i} took {250}!\n" for i in range(20))
    run = run_of(text, own=own)
    assert run.logs[0].format == "mine"
    assert run.step_s == pytest.approx([0.25] * 20)


def test_formats_of_the_wrong_kind_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "perfdoctor.toml").write_text("[formats]\nmine = 3\n")
    with pytest.raises(PerfdoctorError, match="formats a table of templates"):
        project_settings.load(tmp_path)


@given(st.text(max_size=40), st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_template_is_read_or_refused(template: str, line: str) -> None:
    try:
        taken = pattern(template + "{step:d}")
    except PerfdoctorError:
        return
    taken.template(line, Dialect())


@given(st.integers(0, 10**9), st.floats(0, 1e6, allow_subnormal=False))
@settings(max_examples=100, deadline=None)
def test_what_a_template_printed_comes_back(step: int, time: float) -> None:
    template = "<{step:d}> .* <{step_time:f}>"
    assert spans(template, f"<{step}> x <{time:.4f}>") == {
        "step": f"{step}",
        "step_time": f"{time:.4f}",
    }
