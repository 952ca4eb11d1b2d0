"""fake_arm.py is importable from every test here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_arm import FakeArm, World


@pytest.fixture
def world(monkeypatch):
    """Every arm is a fake one, and no time passes but theirs."""
    from perfdoctor.experiments import events, in_process, restarts, trials, turns

    made = World()
    monkeypatch.setattr(FakeArm, "world", made, raising=False)
    monkeypatch.setattr("perfdoctor.collect.arm.Arm.start", FakeArm.start)
    for module in (events, in_process, restarts, trials, turns):
        monkeypatch.setattr(module, "time", made.time)
    monkeypatch.setattr(trials.Fitness, "begin", lambda self: None)
    monkeypatch.setattr(trials.belongings, "take_in_orphans", lambda wanted=True: None)
    monkeypatch.setattr(trials.Fitness, "foreign_share", lambda self: made.foreign)
    return made
