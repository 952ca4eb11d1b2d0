"""Whose code is loaded, and what a pair's steps come to."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import make_report

from perfdoctor.collect.arm import Chunk
from perfdoctor.collect.lock_step import Pair
from perfdoctor.compare.checks import parse_all
from perfdoctor.compare.judging import Jury, PairValues
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate import origins
from perfdoctor.gate.deciding import decide
from perfdoctor.gate.measured import of_pair, of_reports
from perfdoctor.gate.sides import RunningSide
from perfdoctor.gate.worktrees import Checkout


def side(root: Path, *others: Path) -> RunningSide:
    checkout = Checkout("before", root, root / "scratch", "c" * 40)
    return RunningSide("before", checkout, root, sys.executable, {}, others, frozenset({"project"}))


def test_code_of_another_checkout_is_refused(tmp_path):
    mine = side(tmp_path / "a", tmp_path / "b")
    with pytest.raises(PerfdoctorError, match=r"not its own code.*editable install.*--setup"):
        mine.check_origins({"other": str(tmp_path / "b" / "src" / "other.py")})


def test_an_installed_copy_of_the_project_is_refused(tmp_path):
    mine = side(tmp_path / "a", tmp_path / "b")
    with pytest.raises(PerfdoctorError, match=r"imported project.sub from"):
        mine.check_origins({"project.sub": "/opt/env/lib/python3.11/site-packages/project/sub.py"})


def test_its_own_code_and_installed_packages_are_fine(tmp_path):
    mine = side(tmp_path / "a", tmp_path / "b")
    mine.check_origins(
        {
            "project": str(tmp_path / "a" / "project.py"),
            "torch": str(tmp_path / "b" / ".venv/lib/python3.11/site-packages/torch/__init__.py"),
            "json": json.__file__,
        }
    )


def test_python_processes_tell_what_they_loaded_and_keep_their_own_sitecustomize(tmp_path):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.kept = 7")
    (tmp_path / "notes").mkdir()
    environment = origins.environment({"PYTHONPATH": str(tmp_path)}, tmp_path / "notes")
    program = "import mine; assert kept == 7"
    shell = f"{sys.executable} -c '{program}'"
    subprocess.run(["sh", "-c", shell], env={**os.environ, **environment}, check=True)
    assert origins.loaded(tmp_path / "notes")["mine"] == str(tmp_path / "mine.py")


def chunk(step_s: float, *, batch: int = 32, steady_s: float | None = None, **stages) -> Chunk:
    steps = np.full(12, step_s)
    return Chunk(
        step_s=steps,
        stages_s={name: np.full(12, value) for name, value in stages.items()},
        samples=np.full(12, float(batch)),
        starts=np.zeros(12, dtype=np.bool_),
        wall_s=float(steps.sum()),
        cpu_s=0.0,
        steady_s=steady_s,
    )


def test_a_pair_gives_the_logarithm_of_new_over_old_for_each_quantity():
    pair = Pair((chunk(0.01, forward=0.004),) * 8, (chunk(0.011, forward=0.005),) * 8)
    found = of_pair(pair, (100, 120))
    assert found.differences["step:p25"] == pytest.approx(math.log(1.1))
    assert found.differences["forward:p50"] == pytest.approx(math.log(1.25))
    assert found.differences["memory:peak"] == pytest.approx(math.log(1.2))
    assert found.before["step:p95"] == pytest.approx(0.01)


def test_processor_time_is_a_quantity_of_its_own():
    old = replace(chunk(0.01), cpu_s=0.12)
    new = replace(chunk(0.05), cpu_s=0.132)
    found = of_pair(Pair((old,) * 8, (new,) * 8), (None, None))
    assert found.differences["step:cpu"] == pytest.approx(math.log(1.1))
    assert found.before["step:cpu"] == pytest.approx(0.01)


def test_one_disturbed_chunk_does_not_count():
    old = [chunk(0.01)] * 7 + [chunk(0.5)]
    found = of_pair(Pair(tuple(old), (chunk(0.01),) * 8), (None, None))
    assert found.differences["step:p25"] == pytest.approx(0.0)
    assert "memory:peak" not in found.before


def test_a_loader_that_cannot_keep_up_counts_though_its_queue_hides_it():
    pair = Pair((chunk(0.01, steady_s=0.01),) * 8, (chunk(0.01, steady_s=0.02),) * 8)
    assert of_pair(pair, (None, None)).differences["step:p50"] == pytest.approx(math.log(2))


def test_steps_of_another_batch_size_are_compared_per_sample():
    pair = Pair((chunk(0.01, batch=32),) * 8, (chunk(0.02, batch=64),) * 8)
    assert of_pair(pair, (None, None)).differences["step:p25"] == pytest.approx(0.0)


def test_a_stage_of_one_side_only_has_a_value_and_no_difference():
    pair = Pair((chunk(0.01),) * 8, (chunk(0.01, graph_build=0.002),) * 8)
    found = of_pair(pair, (None, None))
    assert "graph_build:p50" in found.after
    assert "graph_build:p50" not in found.before and "graph_build:p50" not in found.differences


def test_reports_of_two_processes_are_a_pair():
    old = make_report(stage_s={"forward": 0.1, "other": 0.01})
    new = make_report(stage_s={"forward": 0.2, "other": 0.01})
    found = of_reports(old, new)
    assert found.differences["forward:p50"] == pytest.approx(math.log(2))
    assert found.differences["step:p50"] == pytest.approx(math.log(0.21 / 0.11))
    assert "step:p25" in found.differences


def test_a_report_without_all_its_steps_gives_its_median_as_the_quartile():
    thinned = replace(make_report(count=200), series={"step_s": (0.001,) * 20})
    assert of_reports(thinned, thinned).before["step:p25"] == thinned.steps.time.p50_s


class Machine:
    """A source of pairs and the clock that it moves."""

    cannot_shorten = False

    def __init__(self, pair_s: float, differences) -> None:
        self.pair_s, self.differences, self.time_s = pair_s, differences, 0.0

    def measure(self, number: int) -> PairValues:
        self.time_s += self.pair_s
        d = self.differences[number % len(self.differences)]
        return PairValues({"step:p25": d}, {"step:p25": 1.0}, {"step:p25": math.exp(d)})

    def decided(self, deadline: float, **options) -> tuple[Jury, list[str]]:
        jury, told = Jury(parse_all((), ())), []
        decide(self, jury, deadline, lambda what, *_: told.append(what), lambda: self.time_s,
               **options)  # fmt: skip
        return jury, told


def test_measuring_ends_when_it_is_clear():
    jury, told = Machine(6.0, [0.2, 0.21, 0.19]).decided(90.0)
    assert len(jury.pairs) == 5
    assert told[0] == "pair 1, a decision is possible after 5, 1 min 30 s left at most"
    assert "in about 24.0 s" in told[1] and "so far step p25 +22.1 %" in told[1]


def test_measuring_ends_before_the_time_is_over():
    machine = Machine(10.0, [0.4, -0.4])
    jury, _ = machine.decided(85.0)
    assert machine.time_s == 80.0
    assert jury.judged()[0].outcome == "inconclusive"


def test_long_steps_get_the_time_for_two_looks_if_the_user_set_none():
    machine = Machine(60.0, [0.4, -0.4])
    assert len(machine.decided(85.0, extend=True)[0].pairs) == 1
    machine = Machine(60.0, [0.4, -0.4])
    machine.cannot_shorten = True
    assert len(machine.decided(85.0, extend=True)[0].pairs) == 7


def test_a_criterion_of_nothing_is_an_error_and_no_pass():
    machine = Machine(1.0, [0.0])
    jury = Jury(parse_all(("froward:5%",), ()))
    with pytest.raises(PerfdoctorError, match="froward p50 was not measured on either side"):
        decide(machine, jury, 10.0, lambda *_: None, lambda: machine.time_s)
