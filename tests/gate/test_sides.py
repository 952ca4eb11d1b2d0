"""Whose code is loaded, and what a pair's steps come to."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import make_report

from perfdoctor.collect.arm import Chunk
from perfdoctor.collect.lock_step import Pair
from perfdoctor.compare.checks import parse_all
from perfdoctor.compare.judging import Jury, PairValues
from perfdoctor.errors import PerfdoctorError, UserCodeError
from perfdoctor.gate import against, origins, requirements
from perfdoctor.gate.asked import Asked, Measured
from perfdoctor.gate.deciding import check_seen, decide
from perfdoctor.gate.lock_step_pairs import LockStepPairs
from perfdoctor.gate.measured import of_pair, of_reports
from perfdoctor.gate.process_pairs import run_observed
from perfdoctor.gate.repository import Repository
from perfdoctor.gate.sides import RunningSide, on_side
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

    def __init__(self, pair_s: float, differences, *, first_s: float | None = None) -> None:
        self.pair_s, self.differences, self.time_s = pair_s, differences, 0.0
        self.first_s = pair_s if first_s is None else first_s

    def measure(self, number: int) -> PairValues:
        self.time_s += self.pair_s if number else self.first_s
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


def test_what_was_measured_when_the_time_is_over_is_judged():
    scattered = [0.15, 0.05, 0.25, 0.07, 0.27, 0.05, 0.15, 0.19, 0.16]
    jury, _ = Machine(9.0, scattered).decided(85.0)
    (found,) = jury.judged()
    assert (found.outcome, found.pairs) == ("regression", 9)
    jury, _ = Machine(9.0, [d / 10 - 0.02 for d in scattered]).decided(85.0)
    assert jury.judged()[0].outcome == "pass"


def test_one_slow_pair_does_not_end_it_early():
    assert len(Machine(9.0, [0.4, -0.4], first_s=21.0).decided(85.0)[0].pairs) == 8


def test_no_pair_is_begun_that_leads_to_no_look():
    machine = Machine(20.0, [0.0])
    assert len(machine.decided(85.0)[0].pairs) == 2
    assert len(Machine(17.0, [0.0, 0.001]).decided(85.0)[0].pairs) == 5


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


def test_a_tail_for_which_there_are_too_few_steps_is_inconclusive_and_no_error():
    values = {"step:p25": 0.05, "step:mean": 0.05}
    jury = Jury(parse_all(("step:5%",), ("step:p95:20%",)))
    for _ in range(5):
        jury.add(PairValues(dict.fromkeys(values, 0.0), values, values))
    check_seen(jury)
    step, tail = jury.judged()
    assert (step.outcome, tail.outcome) == ("pass", "inconclusive")
    assert "fewer steps were measured than a 95th percentile needs" in str(tail.reason)


def planned(step_s: float, *fail_on: str) -> LockStepPairs:
    """What a default check of such steps does in a pair."""
    measured = Measured(workload={"workload": "bench.py"})
    asked = Asked(measured=measured, criteria=parse_all(fail_on, ()))
    source = against._source(asked, (None, None))
    source._plan(step_s)
    return source


@pytest.mark.parametrize("step_s", [0.003, 0.03, 0.045, 0.07, 0.3, 2.0])
def test_where_a_tail_may_fail_it_there_are_steps_enough_for_it(step_s):
    source = planned(step_s, "step:p95:20%")
    assert source.steps * source.chunks >= 72
    assert source.cannot_shorten is (step_s > 0.042)


def test_long_steps_are_fewer_where_no_tail_is_asked_for():
    assert planned(0.3).chunks * planned(0.3).steps == 32
    assert not planned(0.03).cannot_shorten


def test_the_budget_begins_after_the_setup(tmp_path, monkeypatch):
    clock = [0.0]
    checkout = Checkout("before", tmp_path, tmp_path, "c" * 40)
    monkeypatch.setattr(against.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(against.repository, "find", lambda _: Repository(tmp_path, Path()))
    monkeypatch.setattr(Repository, "commit", lambda *_: "c" * 40)
    monkeypatch.setattr(against, "checked_out", lambda *_: nullcontext((checkout, checkout)))
    monkeypatch.setattr(against, "missing_files", lambda _: ())
    monkeypatch.setattr(against, "_bring_same", lambda *_: ())
    monkeypatch.setattr(against, "prepare", lambda *_: clock.__setitem__(0, 43.0))
    deadlines = []

    def decided(source, jury, deadline, *_, **__):
        deadlines.append(deadline)
        raise PerfdoctorError("enough", slug="enough")

    monkeypatch.setattr(against, "decide", decided)
    asked = Asked(measured=Measured(workload={"workload": "b.py"}), criteria=parse_all((), ()))
    with pytest.raises(PerfdoctorError, match="enough"):
        against.check(asked, against.Against(revision="main", exact=True), lambda *_: None)
    assert deadlines == [43.0 + 85.0]


def both_ask_for(tmp_path: Path, name: str, *contents: str | None) -> list[str]:
    sides = []
    for label, content in zip(("before", "after_"), contents, strict=True):
        sides.append(Checkout(label, tmp_path / label, tmp_path, "c" * 40))
        (tmp_path / label / name).parent.mkdir(parents=True)
        if content is not None:
            (tmp_path / label / name).write_text(content)
    return list(requirements.differing(*sides, Path(), None))


@pytest.mark.parametrize("old", ["torch==2.12\n", None])
def test_other_requirements_in_one_environment_are_told(tmp_path, old):
    (note,) = both_ask_for(tmp_path, "requirements.txt", old, "torch==2.13\n")
    assert note.startswith("requirements.txt differs between the two revisions")
    assert "--setup 'pip install -r requirements.txt'" in note


def test_equal_requirements_are_not_told(tmp_path):
    assert not both_ask_for(tmp_path, "pyproject.toml", "[project]\r\n", "[project]\n")


def test_with_a_setup_requirements_may_differ(tmp_path):
    sides = [Checkout(name, tmp_path / name, tmp_path, "c" * 40) for name in ("before", "after_")]
    for n, each in enumerate(sides):
        each.root.mkdir()
        (each.root / "setup.py").write_text(f"# {n}")
    assert list(requirements.differing(*sides, Path(), None))
    assert not list(requirements.differing(*sides, Path(), "pip install -e ."))


def test_a_command_that_does_not_end_is_an_error_with_what_it_printed(tmp_path):
    (tmp_path / "scratch").mkdir()
    mine = side(tmp_path, tmp_path / "b")
    with pytest.raises(UserCodeError, match=r"had not ended after 1 s") as caught:
        run_observed(["sh", "-c", "echo waiting; sleep 600"], mine, 1.0)
    assert caught.value.details in ("waiting", "")


def test_a_side_hangs_later_where_the_budget_is_longer():
    measured = Measured(workload={"workload": "bench.py"})
    waits = [
        Asked(measured=measured, criteria=(), max_seconds=s).patience_s for s in (None, 10, 400)
    ]
    assert waits == [600.0, 120.0, 800.0]
    asked = Asked(measured=measured, criteria=parse_all((), ()), max_seconds=400)
    source = against._source(asked, (side(Path("a")), side(Path("b"))))
    assert source._spec(source.sides[0], 0).patience_s == 800.0


def test_data_that_only_one_side_lacks_may_be_what_git_ignores(tmp_path):
    missing = PerfdoctorError("data does not exist", slug="data-missing")
    assert "--share PATH brings" in str(on_side(side(tmp_path), missing))
    other = PerfdoctorError("no such device", slug="no-device")
    assert "--share" not in str(on_side(side(tmp_path), other))


def test_an_error_names_files_as_git_does_and_not_where_they_were_checked_out(tmp_path):
    root = tmp_path / "before"
    failed = UserCodeError(
        f"it failed in {root}",
        slug="side-failed",
        details=f'File "{root}/src/train.py", line 3\nFile "{root}.files/venv/x.py", line 1',
    )
    told = on_side(side(root), failed)
    assert str(told).endswith("cannot be measured: it failed in cccccccccccc")
    assert told.details.splitlines() == [
        'File "cccccccccccc:src/train.py", line 3',
        f'File "{root}.files/venv/x.py", line 1',
    ]
    own = replace(side(root), checkout=Checkout("after_", root, root, "c" * 40, in_place=True))
    assert on_side(own, failed).details == failed.details
