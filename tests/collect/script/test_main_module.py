from __future__ import annotations

import subprocess
import sys

import pytest

sys.path.insert(0, __file__.rpartition("/")[0])

from as_python import DRIVER, command, environment

from perfdoctor.collect.script.main_module import Script, _command, prepare
from perfdoctor.errors import PerfdoctorError


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["-m", "perfdoctor", "run", "train.py"], []),
        (["/bin/perfdoctor", "run", "-x"], []),
        (["-u", "-W", "error", "-Xdev", "-X", "utf8", "-m", "perfdoctor"], 6),
        (["-um", "perfdoctor"], []),
        (["-Werror", "-c", "-B"], 1),
        (["-"], []),
    ],
)
def test_the_command_line_of_the_interpreter_is_that_of_the_script(monkeypatch, words, kept):
    monkeypatch.setattr(sys, "orig_argv", ["python", *words])
    options = words[:kept] if kept else []
    assert _command(Script("a.py", ("-x",))) == ["python", *options, "a.py", "-x"]
    assert _command(Script("a.b", (), is_module=True)) == ["python", *options, "-m", "a.b"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P is new in 3.11")
@pytest.mark.parametrize("option", ["-P", "-I"])
def test_a_safe_path_stays_safe(tmp_path, option):
    (tmp_path / "script.py").write_text("import sys; print(sys.path, sys.orig_argv)")
    as_python = [sys.executable, option, "script.py"]
    driver = f"import sys; sys.path.append({environment()['PYTHONPATH']!r})\n{DRIVER}"
    _, _, *rest = command(tmp_path / "ended", "script.py", driver=driver)
    observed = [sys.executable, option, "-c", *rest]
    lines = [
        subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, check=True)
        for words in (as_python, observed)
    ]
    root = f", {environment()['PYTHONPATH']!r}]"
    expected, found = (line.stdout.decode() for line in lines)
    assert found in (expected, expected.replace("]", root, 1))


def test_a_script_that_cannot_be_read_is_said_to_be_so(tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text("")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PerfdoctorError, match="Permission denied") as raised:
        prepare(Script(str(tmp_path / "script.py"), ()))
    assert raised.value.slug == "script-unreadable"


def test_preparing_runs_nothing_and_changes_nothing(tmp_path):
    (tmp_path / "script.py").write_text("raise ValueError")
    before = (sys.argv, sys.path[:], sys.modules["__main__"])
    prepared = prepare(Script(str(tmp_path / "script.py"), ("a",)))
    assert prepared.argv == [str(tmp_path / "script.py"), "a"]
    assert before == (sys.argv, sys.path, sys.modules["__main__"])
