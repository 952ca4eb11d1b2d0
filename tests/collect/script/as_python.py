"""Runs a script as Python does and as `execute` does, and compares what can be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

DRIVER = """
import sys
from perfdoctor.collect.script.launch import Script, execute

ended, *rest = sys.argv[1:]

def finish(ending):
    with open(ended, "a") as file:
        file.write(f"{ending.how}|{ending.detail}|{ending.code}\\n")

is_module = rest[0] == "-m"
target, *arguments = rest[is_module:]
execute(Script(target, tuple(arguments), is_module), finish)
"""


@dataclass(frozen=True)
class Seen:
    stdout: str
    stderr: str
    code: int


def command(ended: Path, *arguments: str, driver: str = DRIVER) -> list[str]:
    return [sys.executable, "-c", driver, str(ended), *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def see(words: list[str], cwd: Path, given: str = "") -> Seen:
    done = subprocess.run(
        words,
        cwd=cwd,
        env=environment(),
        input=given.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Seen(done.stdout.decode("latin-1"), done.stderr.decode("latin-1"), done.returncode)


def endings(ended: Path) -> list[str]:
    return ended.read_text().splitlines() if ended.exists() else []


def same(cwd: Path, *arguments: str, given: str = "") -> tuple[Seen, list[str]]:
    """Asserts that nothing differs; returns what was seen, and how it is said to have ended."""
    ended = cwd / "ended.txt"
    expected = see([sys.executable, *arguments], cwd, given)
    found = see(command(ended, *arguments), cwd, given)
    assert found == expected
    return found, endings(ended)
