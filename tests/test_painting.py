"""Pictures that another process draws."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest
from builders import make_log_report, make_report

from perfdoctor import painting
from perfdoctor.output import write_pictures
from perfdoctor.painting import painter, pictures
from perfdoctor.report import Report


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One that counts as long, on a machine with a processor to spare."""
    monkeypatch.setattr(painting, "_LONG_BYTES", 5)
    monkeypatch.setattr(painting.os, "cpu_count", lambda: 2)
    path = tmp_path / "train.log"
    path.write_text("step 1")
    return str(path)


@pytest.mark.parametrize(
    ("report", "count"), [(make_log_report(), 2), (make_report(), 1)], ids=["log", "bench"]
)
def test_another_process_draws_the_same_pictures(log: str, report: Report, count: int) -> None:
    with painter([log]) as draw:
        assert draw is not pictures
        drawn = dict(draw(report))
    assert drawn == dict(pictures(report))
    assert len(drawn) == count


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one draws them all")
def test_two_processes_draw_the_pictures_at_once() -> None:
    first = painting._in_a_fork(lambda: [("pid", str(os.getpid()).encode())])
    assert [name for name, pid in first() if int(pid) != os.getpid()] == ["pid"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one draws them all")
def test_a_picture_that_fails_beside_the_others_is_no_picture() -> None:
    def fails() -> list[tuple[str, bytes]]:
        raise MemoryError

    drawn = painting._in_a_fork(fails)
    with pytest.raises(msgspec.DecodeError):
        drawn()


@pytest.mark.parametrize(
    "fate",
    [
        "raise SystemExit(1)",
        "import os; os.abort()",
        r"import sys; sys.stdout.buffer.write(b'\x91\x92\xa9')",  # it was cut off
    ],
)
def test_what_the_other_process_fails_to_draw_is_drawn_here(
    log: str, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painting, "_START", fate)
    monkeypatch.setattr(painting, "pictures", lambda report: [("here.png", b"")])
    with painter([log]) as draw:
        assert list(draw(make_log_report())) == [("here.png", b"")]


def test_ctrl_c_while_the_other_process_draws_ends_the_drawing_alone(
    log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(painting, "import_module", interrupted)
    with painter([log]) as draw:
        try:
            written = write_pictures(tmp_path, draw(make_log_report()))
        except KeyboardInterrupt:  # else it would end all tests
            pytest.fail("what was written is not told")
    assert written == ([], False)


def test_the_other_process_ends_with_the_command_whatever_happens(log: str) -> None:
    with pytest.raises(KeyboardInterrupt), painter([log]) as draw:
        raise KeyboardInterrupt
    assert draw.args[0].returncode is not None


@pytest.mark.parametrize("logs", [["missing.log"], ["-"], []])
def test_there_is_no_other_process_for_what_is_not_long(log: str, logs: list[str]) -> None:
    with painter(logs) as draw:
        assert draw is pictures


def test_there_is_no_other_process_on_a_single_processor(
    log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painting.os, "cpu_count", lambda: 1)
    with painter([log]) as draw:
        assert draw is pictures
