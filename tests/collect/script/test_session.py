"""When a session tells what it has seen so far."""

from __future__ import annotations

import pytest

from perfdoctor.collect.script.live import Live
from perfdoctor.collect.script.session import Limits, Session


@pytest.mark.parametrize(
    ("watched", "moments"),
    [(False, [1, 4, 20, 40, 60]), (True, [1, 4, *range(5, 61, 5)])],
)
def test_reports_of_what_was_seen_so_far_become_rare(monkeypatch, watched, moments):
    session = Session("script.py", Limits())
    monkeypatch.setattr(session.recorder.steps, "steps", 7)
    monkeypatch.setattr(session._seen, "so_far", lambda: "run")
    if watched:
        session._live = Live.__new__(Live)
    found: list[int] = []
    for moment in range(1, 61):
        session._partial(lambda run, now=moment: found.append(now))
    assert found == moments
