"""Whose function it was that made a step of the architecture."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from test_observing import Clock, Watched

import perfdoctor

OURS = str(Path(perfdoctor.__file__).parent / "collect" / "rerun" / "made_up.py")
TORCHS = str(Path(torch.__file__).parent / "made_up.py")


@pytest.mark.parametrize("path", [OURS, TORCHS])
def test_wrappers_around_it_are_not_the_scripts(path: str) -> None:
    names: dict[str, object] = {"sys": sys}
    exec(compile("def wrapper(note):\n    note(sys._getframe())", path, "exec"), names)
    with Watched(Clock()) as seen:

        def search() -> None:
            names["wrapper"](seen.state.note_search)  # type: ignore[operator]

        search()
    ((file, line),) = seen.state.searches
    assert (file, line) == (__file__, search.__code__.co_firstlineno)
