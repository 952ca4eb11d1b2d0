"""No text of a report steers the terminal, is markup, or is mathematics in a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

import log_cases
import pytest
import render_cases
from builders import make_recommendation
from drawn_texts import extents, laid_out
from printing import on_terminal
from rich.console import Console

from perfdoctor.record import Limit, SkippedFile
from perfdoctor.render import figure as looks
from perfdoctor.render import log_pictures, log_words, png
from perfdoctor.render.console import print_report
from perfdoctor.render.lines import show_lines
from perfdoctor.report import Hotspot, Report, Trial, Usage

#: A title, a cleared screen, colours, a link, a carriage return, markup that is unbalanced and
#: markup that is not, an emoji code, mathematics that cannot be parsed, text that reads backwards.
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\x1b]8;;http://evil\x1b\\\r\x08\x00"
    "[/nothing][bold red]X[/] [link=http://evil]:smile: $\\frac{$ \u202e\udce9"
)
#: What may follow an escape character on a terminal: colours.
_STEERING = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202e]")

Path = tuple[Any, ...]


def everything() -> Report:
    """A report of a log with every kind of part that the console knows."""
    report = log_cases.imagenet_slow_down()
    trial = Trial(outcome="verified", speedup=1.4, low=1.3, high=1.5, loss_parity="same")
    first = make_recommendation(verified=trial, choices=render_cases._workers().choices)
    return replace(
        report,
        recommendations=(first, *report.recommendations),
        comparison=log_cases.three_runs().comparison,
        skipped=(SkippedFile(path="a.log", reason="not text"),),
        hotspots=(Hotspot(file="data.py", line=12, function="collate", share=0.31),),
        warnings=("something is odd",),
        notes=("read as a log",),
        utilisation=report.utilisation | {"own": Usage(mean=1.0, p50=1.0, p95=1.0)},
        limits={"own": Limit(name="own", achieved=1.0, peak=2.0, unit="rows/s")},
    )


def strings(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where every text is: names of fields, indices, keys; a key that is a text itself too."""
    if isinstance(value, str):
        yield path
    elif is_dataclass(value):
        for item in fields(value):
            yield from strings(getattr(value, item.name), (*path, item.name))
    elif isinstance(value, tuple):
        for index, element in enumerate(value):
            yield from strings(element, (*path, index))
    elif isinstance(value, Mapping):
        for key, element in value.items():
            yield (*path, ("key", key))
            yield from strings(element, (*path, key))


def with_text(value: Any, path: Path, text: str) -> Any:
    """A copy in which the text at `path` is another."""
    if not path:
        return text
    first, rest = path[0], path[1:]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{first: with_text(getattr(value, first), rest, text)})
    if isinstance(value, tuple):
        changed = with_text(value[first], rest, text)
        return (*value[:first], changed, *value[first + 1 :])
    if isinstance(first, tuple):
        return {text if key == first[1] else key: element for key, element in value.items()}
    return value | {first: with_text(value[first], rest, text)}


def in_places(report: Report, paths: Sequence[Path]) -> Report:
    """Hostile text in some places; keys last, since they are part of the paths."""
    for number, path in enumerate(sorted(paths, key=lambda p: isinstance(p[-1], tuple))):
        report = with_text(report, path, f"{HOSTILE}{number}")
    return report


#: Series are numbers under names that perfdoctor gives; every other text may come from a log.
PATHS = [path for path in strings(everything()) if path[0] != "series"]
#: Without the kind of the source, which decides what is shown.
ALL_AT_ONCE = [path for path in PATHS if path != ("source", "kind")]
#: A few at a time, since hostile text in one place may hide another.
GROUPS = [PATHS[start::20] for start in range(20)]


def test_every_kind_of_text_is_tried() -> None:
    names = {str(part) for path in PATHS for part in path}
    for name in (
        "name", "format", "reason", "text", "where", "metric", "label", "missing", "unit",
        "measure_with", "started_at", "framework", "configuration", "stages", "utilisation",
        "verdict", "bottleneck", "summary", "advice", "snippet", "outcome", "shape",
    ):  # fmt: skip
        assert name in names


@pytest.mark.parametrize("show", [print_report, show_lines])
@pytest.mark.parametrize("paths", GROUPS)
def test_no_text_steers_the_terminal_or_is_markup(
    paths: list[Path], show: Callable[[Report, Console], None]
) -> None:
    text = on_terminal(partial(show, in_places(everything(), paths)))
    assert not _STEERING.search(text)
    assert "owned" not in text
    assert "http://evil" not in text.replace("[link=http://evil]", "")


def test_hostile_text_everywhere_is_shown_as_it_is() -> None:
    text = on_terminal(partial(print_report, in_places(everything(), ALL_AT_ONCE)))
    assert not _STEERING.search(text)
    assert text.count("[/nothing][bold red]X[/]") > 20


@pytest.mark.parametrize("kind", ["log", "trace", "bench"])
def test_hostile_text_everywhere_changes_no_kind_of_report(kind: str) -> None:
    report = in_places(everything(), ALL_AT_ONCE)
    report = replace(report, source=replace(report.source, kind=kind))
    assert not _STEERING.search(on_terminal(partial(print_report, report)))


def test_the_line_of_a_growing_log_is_one_line_without_controls() -> None:
    line = log_words.now(in_places(everything(), ALL_AT_ONCE))
    assert not _STEERING.search(line)
    assert "\n" not in line


@pytest.mark.parametrize(
    "build",
    [log_pictures.throughput, log_pictures.stages, log_pictures.comparison, png.draw],
)
def test_pictures_show_hostile_text_as_it_is(build: Callable[[Report], Any]) -> None:
    with looks.style():
        figure = laid_out(build(in_places(everything(), ALL_AT_ONCE)))
    shown = [text for text, _ in extents(figure)]
    assert any("$\\frac{$" in text for text in shown)
    for text in shown:
        assert not _STEERING.search(text.replace("\n", "")), text


def test_pictures_of_hostile_text_can_be_painted() -> None:
    report = in_places(everything(), ALL_AT_ONCE)
    for draw in (png.throughput, png.stages, png.comparison, png.graph_benchmark):
        data = draw(report)
        assert data is not None
        assert data.startswith(b"\x89PNG")


def test_megabytes_of_text_in_one_field_do_not_fill_the_screen() -> None:
    text = "\x1b[31mno end " * 100_000
    for path in (("logs", 0, "reason"), ("logs", 0, "path"), ("logs", 0, "format")):
        report = with_text(everything(), path, text)
        assert on_terminal(partial(print_report, report)).count("\n") < 200
        assert log_pictures.throughput(report) is not None
