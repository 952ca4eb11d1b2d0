"""A stored baseline: what it can tell, and what it refuses to tell."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perfdoctor.compare.checks import parse_all
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate import baseline_file, calibration, with_baseline
from perfdoctor.gate.asked import Asked, Measured
from perfdoctor.gate.baseline_file import KEPT, Baseline, Session
from perfdoctor.gate.calibration import Kernels, Usage

MEASURED = Measured(workload={"workload": "bench.py"})
CRITERIA = parse_all(("step:10%",), ())


def session(
    step_s: float = 0.005, *, machine: float = 1.0, drift: float = 1.0, foreign: float = 0.02,
    processes: int = 10, seed: int = 0, **overrides,
) -> Session:  # fmt: skip
    """On a machine that takes `machine` times as long for everything."""
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.02, processes)).tolist()
    fields = {
        "created_at": "2026-01-02T03:04:05+00:00",
        "commit": "a" * 40,
        "dirty": False,
        "fingerprint": {"cpu": "EPYC", "torch": "2.13"},
        "informational": {},
        "before": Kernels(python_s=0.001 * machine, matmul_s=0.002 * machine),
        "after": Kernels(python_s=0.001 * machine * drift, matmul_s=0.002 * machine * drift),
        "foreign_share": foreign,
        "processes": tuple({"step:p25": step_s * machine * n, "memory:peak": 1e9} for n in noise),
    }
    return Session(**(fields | overrides))


def baseline(count: int = 5, **overrides) -> Baseline:
    sessions = tuple(session(seed=n, machine=1 + 0.02 * n, **overrides) for n in range(count))
    return Baseline(
        measured="bench.py", identity=baseline_file.identity(MEASURED), sessions=sessions
    )


def judged(stored: Baseline, now: Session, criteria=CRITERIA):
    result = with_baseline.judge(criteria, stored, now, with_baseline.doubts(now))
    return result.judged[0]


def test_the_same_code_passes_though_the_machine_is_slower_today():
    assert judged(baseline(), session(machine=1.3, seed=9)).outcome == "pass"


def unmoved(step_s: float = 0.005, *, machine: float, seed: int) -> Session:
    """Of work that waits for a disk or a GPU: its time is not that of the kernels."""
    return session(step_s / machine, machine=machine, seed=seed)


@pytest.mark.parametrize("machine", [0.85, 1.15])
def test_work_that_does_not_drift_as_the_kernels_do_is_not_divided_by_them(machine):
    past = tuple(unmoved(machine=1 + 0.04 * n, seed=n) for n in range(5))
    stored = replace(baseline(0), sessions=past)
    assert judged(stored, unmoved(machine=machine, seed=9)).outcome == "pass"
    slower = judged(stored, unmoved(0.00575, machine=machine, seed=9))
    assert slower.outcome == "regression"
    assert slower.change == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize("now", [unmoved(machine=0.8, seed=9), session(machine=1.3, seed=9)])
def test_where_nothing_shows_whether_it_drifts_with_the_kernels_both_ways_must_agree(now):
    stored = replace(baseline(0), sessions=tuple(session(seed=n) for n in range(5)))
    found = judged(stored, now)
    assert found.outcome == "inconclusive"
    assert "do not show whether" in str(found.reason)
    assert judged(stored, session(0.008, seed=9)).outcome == "regression"


def test_a_slowdown_of_twenty_percent_is_a_regression():
    found = judged(baseline(), session(0.006, machine=0.9, seed=9))
    assert found.outcome == "regression"
    assert found.change == pytest.approx(0.2, abs=0.03)


def test_a_gain_is_told():
    assert judged(baseline(), session(0.0035, seed=9)).outcome == "improved"


def test_no_less_than_ten_percent_is_promised():
    found = judged(baseline(), session(seed=9), parse_all(("step:3%",), ()))
    assert found.criterion.margin == 0.10


def test_memory_keeps_its_margin_and_is_not_divided_by_kernels():
    found = judged(baseline(), session(machine=1.5, seed=9), parse_all(("memory:5%",), ()))
    assert (found.outcome, found.criterion.margin) == ("pass", 0.05)
    assert found.change == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (session(0.01, foreign=0.4), "other programs took 40 % of the machine"),
        (session(0.01, drift=1.08), "the machine's own speed changed by 8.0 %"),
        (session(0.01, drift=0.9), "the machine's own speed changed by"),
        (session(0.01, processes=4), "only 4 processes"),
        (session(0.01, fingerprint={"cpu": "Xeon", "torch": "2.13"}), "cpu EPYC → Xeon"),
    ],
)
def test_what_cannot_be_compared_is_inconclusive_however_slow(now, reason):
    found = judged(baseline(), now)
    assert found.outcome == "inconclusive"
    assert reason in str(found.reason)


def test_too_few_sessions_say_nothing():
    found = judged(baseline(2), session(0.01))
    assert found.outcome == "inconclusive" and "2 comparable sessions" in str(found.reason)


def test_sessions_of_another_machine_and_doubtful_ones_do_not_count():
    stored = baseline(3)
    other = session(1.0, fingerprint={"cpu": "Xeon"})
    stored = stored.with_session(other).with_session(session(1.0, foreign=0.9))
    assert judged(stored, session(seed=9)).outcome == "pass"


def test_the_same_code_is_rarely_called_slower():
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(300):
        levels = 0.005 * np.exp(rng.normal(0, 0.015, 6))
        sessions = tuple(session(float(s), seed=int(rng.integers(1e6))) for s in levels)
        stored = replace(baseline(0), sessions=sessions[:5])
        alarms += judged(stored, sessions[5]).outcome == "regression"
    assert alarms <= 4


def test_a_file_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "base.json"
    baseline_file.write(path, baseline())
    assert baseline_file.read(path, MEASURED) == baseline()


def test_only_the_newest_sessions_are_kept():
    stored = baseline(0)
    for n in range(KEPT + 5):
        stored = stored.with_session(session(commit=str(n)))
    assert [s.commit for s in stored.sessions][:: KEPT - 1] == ["5", str(KEPT + 4)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "there is no baseline .*--update-baseline"),
        ("", "is not JSON"),
        ("[1]", "no perfdoctor baseline"),
        ('{"schema_version": 1, "kind": "check"}', "no perfdoctor baseline"),
        (
            '{"schema_version": 99, "kind": "baseline"}',
            "version is 99, this perfdoctor reads up to 1; upgrade perfdoctor$",
        ),
        ('{"schema_version": 1, "kind": "baseline"}', "missing required field"),
    ],
)
def test_what_is_no_usable_baseline_is_one_line(tmp_path, text, told):
    path = tmp_path / "base.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PerfdoctorError, match=told) as caught:
        baseline_file.read(path, MEASURED)
    assert "\n" not in str(caught.value)


def test_the_baseline_of_another_workload_is_refused(tmp_path):
    path = tmp_path / "base.json"
    baseline_file.write(path, baseline())
    other = Measured(workload={"workload": "bench.py"}, options={"batch_size": 8})
    with pytest.raises(PerfdoctorError, match=r"is the baseline of 'bench.py' with other options"):
        baseline_file.read(path, other)


@pytest.mark.parametrize("event", [{"GITHUB_EVENT_NAME": "pull_request_target"},
                                   {"CI_MERGE_REQUEST_IID": "7"}])  # fmt: skip
def test_a_pull_request_cannot_move_its_own_baseline(event):
    with pytest.raises(PerfdoctorError, match="not for pull requests"):
        with_baseline.refuse_in_pull_requests(event)
    with_baseline.refuse_in_pull_requests({"GITHUB_EVENT_NAME": "push"})


def checked(monkeypatch, path: Path, now: Session, *, update: bool):
    monkeypatch.setattr(with_baseline, "measure_session", lambda *_: now)
    asked = Asked(measured=MEASURED, criteria=CRITERIA)
    for name in ("GITHUB_EVENT_NAME", "CI_MERGE_REQUEST_IID"):
        monkeypatch.delenv(name, raising=False)
    return with_baseline.check(asked, path, update=update, progress=lambda *_: None)


def test_updating_stores_a_session_and_a_busy_one_stores_nothing(tmp_path, monkeypatch):
    path = tmp_path / "base.json"
    assert checked(monkeypatch, path, session(), update=True).exit_code() == 0
    assert len(json.loads(path.read_text())["sessions"]) == 1
    busy = checked(monkeypatch, path, session(foreign=0.9), update=True)
    assert busy.exit_code() == 3
    assert len(json.loads(path.read_text())["sessions"]) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_comparing_does_not_change_the_baseline(tmp_path, monkeypatch):
    path = tmp_path / "base.json"
    baseline_file.write(path, baseline())
    before = path.read_bytes()
    assert checked(monkeypatch, path, session(0.009), update=False).exit_code() == 1
    assert path.read_bytes() == before


def test_kernels_are_measured_in_their_units():
    found = calibration.measure()
    assert 0 < found.python_s < 1 and 0 < found.matmul_s < 1
    assert found.log == pytest.approx(math.log(math.sqrt(found.python_s * found.matmul_s)))


def test_what_others_take_is_what_is_left_of_the_busy_time(monkeypatch):
    monkeypatch.setattr("psutil.cpu_count", lambda: 2)
    share = Usage(0.0, 100.0, 50.0).foreign_share(Usage(10.0, 116.0, 60.0))
    assert share == pytest.approx(6 / 20)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"files": {"bench.py": "b"}}, "bench.py is not what it was"),
        ({"configuration": {"dataset_size": 1024}}, "dataset_size 4096 → 1024"),
        ({"configuration": {"dataset_size": 4096, "parameters": 5}}, "parameters 9 → 5"),
    ],
)
def test_a_session_of_another_workload_is_neither_passed_nor_failed(now, told):
    settings = {"dataset_size": 4096, "parameters": 9}
    stored = baseline(files={"bench.py": "a"}, configuration=settings)
    given = {"files": {"bench.py": "a"}, "configuration": settings} | now
    found = judged(stored, session(0.001, **given))
    assert found.outcome == "inconclusive"
    assert told in str(found.reason)


def test_a_baseline_of_an_earlier_version_knows_no_files_and_is_compared():
    assert judged(baseline(), session(files={"bench.py": "a"})).outcome == "pass"


def test_the_files_of_a_workload_are_told_by_what_is_in_them(tmp_path):
    (tmp_path / "bench.py").write_text("one")
    one = baseline_file.hashes(MEASURED, tmp_path)
    (tmp_path / "bench.py").write_text("other")
    assert list(one) == ["bench.py"] and one != baseline_file.hashes(MEASURED, tmp_path)
    assert baseline_file.hashes(Measured(script=("train.py",)), tmp_path) == {}


def test_two_updates_at_once_lose_no_session(monkeypatch, tmp_path):
    path, asked = tmp_path / "b.json", []

    def measuring(*_):
        if not asked:  # while the first measures, another one begins and ends
            asked.append(True)
            checked(monkeypatch, path, session(seed=1), update=True)
        return session(seed=2)

    checked(monkeypatch, path, session(), update=True)
    monkeypatch.setattr(with_baseline, "measure_session", measuring)
    wanted = Asked(measured=MEASURED, criteria=CRITERIA)
    with_baseline.check(wanted, path, update=True, progress=lambda *_: None)
    assert len(baseline_file.read(path, MEASURED).sessions) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["b.json"]


def test_who_adds_waits_for_the_other(tmp_path):
    import fcntl

    with baseline_file.held(tmp_path / "b.json"):
        folder = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(folder)
