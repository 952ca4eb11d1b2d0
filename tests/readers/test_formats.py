"""Which format a file is of, and why."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import formats
from perfdoctor.readers.files import Head, Source
from perfdoctor.readers.form import Form
from perfdoctor.readers.forms import FORMS
from perfdoctor.readers.kinds import Progress, Score
from perfdoctor.readers.records import Reading, from_rows
from perfdoctor.record import Run

PLAIN = "".join(f"step {i} step_time 0.25 s\n" for i in range(20))
IMAGENET = "".join(
    f"Epoch: [0][{i:4d}/1000]\tTime  0.250 ( 0.300)\tData  0.010 ( 0.010)\n" for i in range(20)
)


def test_every_format_has_a_name_of_its_own_and_tells_what_it_is() -> None:
    every = formats.builtin()
    names = [entry.name for entry in every]
    assert len(set(names)) == len(names)
    for entry in every:
        assert re.fullmatch(r"[a-z0-9_]{3,40}", entry.name)
        assert entry.title.strip()
        assert entry.example.strip()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_form_s_own_example_is_not_read_as_general_text(form: Form) -> None:
    head = Head("x.log", b"", "\n".join([form.example] * 30))
    assert formats.detect(head).format is not formats.GENERIC


def test_the_reason_says_what_was_recognised(run_of: Callable[..., Run]) -> None:
    log = run_of(IMAGENET).logs[0]
    assert log.format == "pytorch_imagenet"
    assert log.reason == "20 lines in the part looked at have its form"
    assert (
        run_of("step,step_ms\n1,2\n2,3\n", "x.csv").logs[0].reason
        == "its first line names 2 columns"
    )


@pytest.mark.parametrize("name", ["generic", "csv", "json_lines", "nvidia_smi_csv", "timm_text"])
def test_no_format_of_text_takes_what_is_binary(
    reading_of: Callable[..., Reading], name: str
) -> None:
    with pytest.raises(PerfdoctorError, match="neither text nor") as caught:
        reading_of(bytes(range(256)) * 40, "x.bin", format_name=name)
    assert caught.value.slug == "log-binary"


def test_text_of_no_known_form_is_read_in_general(run_of: Callable[..., Run]) -> None:
    log = run_of(PLAIN).logs[0]
    assert log.format == "generic"
    assert "no known form" in log.reason


def test_a_form_deep_in_the_file_is_found_behind_a_long_preamble(
    run_of: Callable[..., Run],
) -> None:
    assert (
        run_of("installing wheels, please wait\n" * 5000 + IMAGENET).logs[0].format
        == "pytorch_imagenet"
    )


def test_the_format_that_is_asked_for_is_taken(run_of: Callable[..., Run]) -> None:
    run = run_of(IMAGENET, format_name="generic")
    assert (run.logs[0].format, run.logs[0].reason) == ("generic", "as asked for")
    assert run.step_s == pytest.approx([0.25] * 20)


def test_an_unknown_format_names_the_way_to_those_there_are(run_of: Callable[..., Run]) -> None:
    with pytest.raises(
        PerfdoctorError, match=r"unknown format 'nope'; `perfdoctor formats` lists"
    ) as caught:
        run_of(PLAIN, format_name="nope")
    assert caught.value.slug == "format-unknown"


def test_a_binary_file_is_refused_unless_a_format_knows_it(run_of: Callable[..., Run]) -> None:
    with pytest.raises(PerfdoctorError, match="neither text nor a known binary format") as caught:
        run_of(bytes(range(256)) * 100)
    assert caught.value.slug == "log-binary"


def test_what_breaks_a_reader_is_one_line(run_of: Callable[..., Run]) -> None:
    @dataclass(frozen=True)
    class Broken(Fixed):
        def read(self, source: Source, head: Head, progress: Progress) -> Reading:
            raise IndexError("list index out of range")

    with pytest.raises(
        PerfdoctorError, match=r"train.log: reading it as fixed failed: list index"
    ) as caught:
        run_of(PLAIN, own=[Broken()])
    assert caught.value.slug == "log-unreadable"
    assert "\n" not in str(caught.value)


def test_json_nested_without_end_is_one_line(run_of: Callable[..., Run]) -> None:
    text = "".join(f'{{"step": {i}, "dt_ms": 3}}\n' for i in range(10)) + '{"a":' * 100_000
    try:
        run = run_of(text, "x.jsonl")
    except PerfdoctorError as error:
        assert "\n" not in str(error)
    else:
        assert run.step_s.size == 10


@dataclass(frozen=True)
class Fixed:
    """A format that takes every file."""

    name: str = "fixed"
    title: str = "a test"
    example: str = "anything"
    sure: float = 1.0

    def score(self, head: Head) -> Score:
        return Score(self.sure, "a test says so")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        rows = [{"step": float(i), "step_s": 7.0, "phase": 0.0} for i in range(5)]
        return Reading(path=source.path, format=self.name, records=from_rows(rows))


def test_the_surest_format_is_taken(run_of: Callable[..., Run]) -> None:
    assert run_of(IMAGENET, own=[Fixed(sure=0.999)]).logs[0].format == "fixed"
    assert run_of(IMAGENET, own=[Fixed(sure=0.4)]).logs[0].format == "pytorch_imagenet"
    assert run_of(PLAIN, own=[Fixed(sure=0.1)]).logs[0].format == "generic"


READER = """
import numpy as np
from perfdoctor.readers.kinds import Score
from perfdoctor.readers.records import Reading, from_rows

class Tally:
    name, title, example = "tally", "another package", "tally 1 2 3"

    def score(self, head):
        if "CRASH" in head.text:
            raise RuntimeError("no idea")
        return Score(0.9, "it begins with tally") if head.text.startswith("tally") else Score(0.0)

    def read(self, source, head, progress):
        values = [float(part) for part in source.whole().decode().split()[1:]]
        rows = [{"step": float(i), "step_s": v, "phase": 0.0} for i, v in enumerate(values)]
        return Reading(path=source.path, format=self.name, records=from_rows(rows))
"""


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`other_package(entry_points)`: a distribution with these in the group perfdoctor.readers."""

    def install(entries: str) -> None:
        site = tmp_path / "site"
        info = site / "tally_reader-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "tally_reader.py").write_text(READER)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tally-reader\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[perfdoctor.readers]\n{entries}\n")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, "tally_reader", raising=False)

    return install


def test_a_reader_from_another_package_is_found(
    run_of: Callable[..., Run], other_package: Callable[[str], None]
) -> None:
    other_package("tally = tally_reader:Tally")
    run = run_of("tally 0.1 0.3 0.2", "x.tally")
    assert (run.logs[0].format, run.logs[0].reason) == ("tally", "it begins with tally")
    assert run.step_s == pytest.approx([0.1, 0.3, 0.2])
    assert formats.named("tally").title == "another package"


@pytest.mark.parametrize(
    "entries",
    ["lost = not_there:Nothing", "lost = tally_reader:Missing",
    "lost = tally_reader:READER_IS_NO_CLASS", "lost = builtins:int.__add__"],
)  # fmt: skip
def test_a_reader_that_cannot_be_loaded_is_reported_and_stops_nothing(
    run_of: Callable[..., Run], other_package: Callable[[str], None], entries: str
) -> None:
    other_package(entries)
    run = run_of(IMAGENET)
    assert run.step_s == pytest.approx([0.25] * 20)
    assert any("failed" in note for note in run.notes)


def test_a_reader_that_fails_to_look_at_a_file_is_reported_and_stops_nothing(
    run_of: Callable[..., Run], other_package: Callable[[str], None]
) -> None:
    other_package("tally = tally_reader:Tally")
    run = run_of("CRASH\n" + IMAGENET)
    assert run.step_s == pytest.approx([0.25] * 20)
    assert "the reader 'tally' of another package failed: no idea" in run.notes
