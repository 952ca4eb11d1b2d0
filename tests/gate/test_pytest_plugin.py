"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_with_baseline import session

from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate import baseline_file, callables, sessions
from perfdoctor.gate.baselines_of_tests import Baselines
from perfdoctor.record import Environment

pytest_plugins = ["pytester"]
TEST = """
def test_speed(perfdoctor):
    assert perfdoctor(lambda: 1) > 0
"""
#: In place of measuring: what conftest.py of the inner run gives.
CONFTEST = """
import pathlib
import msgspec, pytest
from perfdoctor.gate import callables
from perfdoctor.gate.baseline_file import Session

def given(work, max_seconds):
    work()
    now = msgspec.json.decode(pathlib.Path("now.json").read_bytes(), type=Session)
    return callables.Timing(now, 0.005, 100)

@pytest.fixture(autouse=True)
def instead(monkeypatch):
    monkeypatch.setattr(callables, "measure_callable", given)
"""


@pytest.fixture
def inner(pytester, monkeypatch):
    """A folder with one test, whose measurement is given."""
    for name in ("GITHUB_EVENT_NAME", "CI_MERGE_REQUEST_IID", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # or it would be loaded twice
    pytester.makepyfile(test_it=TEST)
    pytester.makeconftest(CONFTEST)
    return pytester


def measured(folder: Path, now) -> None:
    import msgspec

    (folder / "now.json").write_bytes(msgspec.json.encode(now))


def stored(folder: Path, count: int) -> None:
    made = Baselines()
    for n in range(count):
        made = made.with_session("test_it.py::test_speed", session(seed=n))
    baseline_file.write(folder / "b.json", made)


def test_without_a_baseline_it_measures_and_tells(inner):
    measured(inner.path, session())
    done = inner.runpytest("-p", "perfdoctor.pytest_plugin", "-p", "no:xdist")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*test_it.py::test_speed: a call takes 5.00 ms"])


@pytest.mark.parametrize(
    ("step_s", "sessions", "more", "outcome"),
    [
        (0.005, 5, [], "passed"),
        (0.008, 5, [], "failed"),
        (0.008, 2, [], "skipped"),
        (0.008, 2, ["--perf-inconclusive", "fail"], "failed"),
        (0.008, 0, ["--perf-inconclusive", "pass"], "passed"),
    ],
)
def test_it_is_compared_with_what_is_stored(inner, step_s, sessions, more, outcome):
    stored(inner.path, sessions)
    measured(inner.path, session(step_s, seed=9))
    done = inner.runpytest(
        "-p", "perfdoctor.pytest_plugin", "-p", "no:xdist", "--perf-baseline", "b.json", *more
    )
    done.assert_outcomes(**{outcome: 1})


def test_updating_stores_and_a_busy_machine_stores_nothing(inner):
    measured(inner.path, session())
    update = ["-p", "perfdoctor.pytest_plugin", "-p", "no:xdist", "--perf-baseline", "b.json",
              "--perf-update"]  # fmt: skip
    inner.runpytest(*update).assert_outcomes(passed=1)
    measured(inner.path, session(foreign=0.9))
    inner.runpytest(*update).assert_outcomes(skipped=1)
    tests = json.loads((inner.path / "b.json").read_text())["tests"]
    assert [len(t["sessions"]) for t in tests.values()] == [1]


def test_a_baseline_that_is_missing_or_no_baseline_is_one_line(inner):
    measured(inner.path, session())
    plugin = ["-p", "perfdoctor.pytest_plugin", "-p", "no:xdist", "--perf-baseline"]
    missing = inner.runpytest(*plugin, "none.json")
    assert missing.ret == pytest.ExitCode.USAGE_ERROR
    missing.stderr.fnmatch_lines(["*there is no baseline none.json; make it with --perf-update*"])
    (inner.path / "b.json").write_text("{}")
    done = inner.runpytest(*plugin, "b.json")
    assert done.ret == pytest.ExitCode.USAGE_ERROR  # before anything is measured
    told = [line for line in done.errlines if "it holds no perfdoctor baselines" in line]
    assert len(told) == 1


PLUGIN = ["-p", "perfdoctor.pytest_plugin", "-p", "no:xdist", "--perf-baseline", "b.json"]


def test_what_cannot_be_used_later_is_told_once(inner):
    stored(inner.path, 5)
    measured(inner.path, session())
    inner.makepyfile(
        test_it="import pathlib\n"
        "def test_speed(perfdoctor):\n"
        "    perfdoctor(lambda: pathlib.Path('b.json').write_text('{}'))\n"
    )
    done = inner.runpytest(*PLUGIN)
    done.assert_outcomes(failed=1)
    assert "During handling" not in done.stdout.str()


def test_two_measurements_in_one_test_are_two(inner):
    measured(inner.path, session())
    inner.makepyfile(test_it=f"{TEST}    perfdoctor(lambda: 2)\n")
    inner.runpytest(*PLUGIN, "--perf-update").assert_outcomes(passed=1)
    tests = json.loads((inner.path / "b.json").read_text())["tests"]
    name = "test_it.py::test_speed"
    assert {key: len(t["sessions"]) for key, t in tests.items()} == {name: 1, f"{name} #2": 1}


def test_a_margin_that_is_too_small_and_the_way_out_are_told(inner):
    stored(inner.path, 2)
    measured(inner.path, session())
    inner.makepyfile(test_it=f"import pytest\n@pytest.mark.perfdoctor(margin=0.05){TEST}")
    told = inner.runpytest(*PLUGIN).stdout.str()
    assert "margin=0.05 counts as 0.1" in told
    assert "--perf-update on other occasions" in told and "--update-baseline" not in told


def test_measuring_in_parallel_is_refused(inner):
    measured(inner.path, session())
    pytest.importorskip("xdist")
    plugin = ["-p", "perfdoctor.pytest_plugin", "-p", "xdist"]
    inner.runpytest(*plugin, "-n", "2").assert_outcomes(skipped=1)
    stored(inner.path, 1)
    done = inner.runpytest(*plugin, "-n", "2", "--perf-baseline", "b.json")
    assert done.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("mark", ["margin=7", "marjin=0.1"])
def test_a_marker_that_means_nothing_is_refused(inner, mark):
    inner.makepyfile(test_it=f"import pytest\n@pytest.mark.perfdoctor({mark}){TEST}")
    done = inner.runpytest("-p", "perfdoctor.pytest_plugin", "-p", "no:xdist")
    done.assert_outcomes(errors=1)


class Clock:
    """Each call of the work takes `call_s`."""

    def __init__(self, call_s: float) -> None:
        self.time_s, self.call_s = 0.0, call_s

    def work(self) -> None:
        self.time_s += self.call_s

    def __call__(self) -> float:
        return self.time_s


def test_a_callable_is_measured_in_blocks(monkeypatch):
    monkeypatch.setattr(sessions, "_environment", lambda device: Environment(cpu=device))
    clock = Clock(0.01)
    timing = callables.measure_callable(clock.work, 2.0, clock)
    assert timing.call_s == pytest.approx(0.01)
    assert len(timing.session.processes) == callables.BLOCKS
    assert timing.calls == callables.BLOCKS * callables.FEWEST_CALLS


def test_a_call_that_takes_too_long_is_refused():
    clock = Clock(10.0)
    with pytest.raises(PerfdoctorError, match="give max_seconds"):
        callables.measure_callable(clock.work, 2.0, clock)
