"""Lines of what a script does before its first step: its own work, and no imports."""

from __future__ import annotations

import pytest
from made import library, seen, user

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.evidence import explained
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.stacks import Frame

STAGES = list(Recorder().names)
SECONDS = {"start_up": 20.0, "forward": 60.0}
IMPORT = Frame("<frozen importlib._bootstrap>", 241, "_call_with_frames_removed", 1)


def test_the_scripts_own_work_before_the_first_step_is_told_as_a_share_of_the_run() -> None:
    scan = (library("pandas/core/frame.py", "DataFrame.__getitem__"), user("setup", 33))
    imports = (library("pandas/__init__.py", "<module>"), IMPORT, user("<module>", 4))
    found = explained(
        [
            seen(*scan, user("<module>", 90), label=r.START_UP, seconds=1.5),
            seen(*imports, label=r.START_UP, seconds=2.5),
            seen(user("main"), label=r.FORWARD, seconds=6.0),
        ],
        STAGES,
        (),
        SECONDS,
    )
    lines = {(s.stage, s.line): (s.library, s.share) for s in found.hotspots}
    # 1.5 of 4 seconds that were looked at, of a start-up that is a quarter of the run
    assert lines.pop(("start_up", 33)) == ("DataFrame.__getitem__", pytest.approx(0.25 * 1.5 / 4))
    assert {stage for stage, _ in lines} == {"forward"}


def test_a_module_of_the_scripts_own_that_computes_while_it_is_imported_is_told() -> None:
    helper = user("<module>", 5, file="/home/me/helper.py")
    look = seen(helper, IMPORT, user("<module>", 4), label=r.START_UP, seconds=1.0)
    found = explained([look], STAGES, (), SECONDS)
    assert [(s.file, s.line, s.stage) for s in found.hotspots] == [
        ("/home/me/helper.py", 5, "start_up")
    ]
