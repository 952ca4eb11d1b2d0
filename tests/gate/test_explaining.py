"""Why it got slower is looked for in the time that is left."""

from __future__ import annotations

import pytest
from builders import make_report

from perfdoctor.gate import explaining
from perfdoctor.gate.lock_step_pairs import LockStepPairs
from perfdoctor.record import Hotspot


@pytest.mark.parametrize(("left_s", "observed_s"), [(60, 5.0), (22, 3.0), (19, None), (0, None)])
def test_both_sides_are_observed_for_as_long_as_the_time_allows(monkeypatch, left_s, observed_s):
    asked = []

    def observed(side, workload, options, seconds):
        asked.append((side, seconds))
        return make_report()

    monkeypatch.setattr(explaining, "_observed", observed)
    source = LockStepPairs((None, None), {"workload": "bench.py"}, {}, 1.0)
    why = explaining.of_workload(source, ("old", "new"), left_s, lambda *_: None)
    assert asked == ([("old", observed_s), ("new", observed_s)] if observed_s else [])
    assert bool(why.notes) is (left_s == 19)


def test_a_line_is_hot_by_its_share_of_the_steps_and_not_of_the_start(monkeypatch):
    loop = Hotspot(file="sys", line=1, function="f", stage="backward", share=0.46)
    start = Hotspot(file="model.py", line=1, function="<module>", share=0.4)
    plant = Hotspot(file="model.py", line=16, function="plant", stage="forward", share=0.04)
    made = iter([make_report(hotspots=(loop, start)), make_report(hotspots=(loop, start, plant))])
    monkeypatch.setattr(explaining, "_observed", lambda *_: next(made))
    source = LockStepPairs((None, None), {"workload": "bench.py"}, {}, 1.0)
    why = explaining.of_workload(source, ("old", "new"), 60, lambda *_: None)
    (hot,) = [d for d in why.differences if d.kind == "hot_line"]
    assert hot.name == "model.py:16 plant" and hot.after == pytest.approx(0.08)
