"""A series of results: what is stored, and which change of level is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_with_baseline import MEASURED, session, unmoved

from perfdoctor.compare.checks import parse_all
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate import with_history
from perfdoctor.gate.asked import Asked
from perfdoctor.gate.history_store import Store, url_of
from perfdoctor.render import check_words, gitlab

pytest.importorskip("sqlalchemy")
CRITERIA = parse_all(("step:10%",), ())
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def results(*levels_s: float):
    """Results whose machine drifts, and whose code takes `levels_s`."""
    rng = np.random.default_rng(4)
    return [
        session(s, machine=float(rng.uniform(0.8, 1.2)), seed=n, commit=f"{n:040d}")
        for n, s in enumerate(levels_s)
    ]


def judged(*levels_s: float):
    past = results(*levels_s)
    return with_history.judge(CRITERIA, past, past[-1], None)


def test_a_steady_series_passes():
    assert judged(*[0.005] * 20).outcome == "pass"


def test_work_that_does_not_drift_as_the_kernels_do_is_not_divided_by_them():
    drift = np.exp(np.random.default_rng(7).normal(0, 0.12, 20))
    past = [unmoved(machine=float(m), seed=n) for n, m in enumerate(drift)]
    found = with_history.judge(CRITERIA, past, past[-1], None)
    assert found.outcome == "pass"
    assert found.judged[0].after == pytest.approx(0.005, rel=0.03)
    step = next(s for s in found.shifts if s.name == "step")
    assert step.after == pytest.approx(0.005, rel=0.03)


def test_a_new_level_is_a_regression_with_the_commits_between_which_it_came():
    found = judged(*[0.005] * 15, *[0.0065] * 6)
    assert found.outcome == "regression"
    assert found.judged[0].change == pytest.approx(0.3, abs=0.04)
    assert "between 0000000000" in found.notes[0]


def test_every_quantity_and_the_settings_that_changed_with_it_are_told():
    past = results(*[0.005] * 15, *[0.0065] * 6)
    old, new = ({"num_workers": n, "loss_of_backward": n / 7} for n in (4, 0))
    past = [replace(s, configuration=new if n >= 15 else old) for n, s in enumerate(past)]
    found = with_history.judge(CRITERIA, past, past[-1], None)
    step = next(s for s in found.shifts if (s.name, s.statistic) == ("step", "p25"))
    assert step.direction == "slower" and step.ratio == pytest.approx(1.3, abs=0.04)
    assert [(d.name, d.before, d.after) for d in found.why] == [("num_workers", 4, 0)]
    assert b'metric="step",statistic="p25"' in gitlab.metrics(found)


def test_the_first_result_is_measured_though_nothing_is_there_to_compare():
    found = judged(0.005)
    assert found.shifts and found.why == ()
    assert b'statistic="p25"' in gitlab.metrics(found)
    sentence = check_words.headline(found)
    assert "the series has 1 result, and 10 are needed" in sentence
    assert "not measured" not in sentence


@pytest.mark.parametrize(("event", "kept"), [("push", 2), ("pull_request", 1)])
def test_a_pull_request_adds_nothing_to_the_series(tmp_path, monkeypatch, event, kept):
    monkeypatch.delenv("CI_MERGE_REQUEST_IID", raising=False)
    monkeypatch.setattr(with_history, "measure_session", lambda *_: session())
    asked = Asked(measured=MEASURED, criteria=CRITERIA)
    for name in ("push", event):
        monkeypatch.setenv("GITHUB_EVENT_NAME", name)
        found = with_history.check(asked, str(tmp_path), lambda *_: None)
    assert "has 2 results" in str(found.judged[0].reason)
    store = Store(str(tmp_path))
    assert len(store.sessions(with_history.series_of(MEASURED, session()), 9)) == kept
    store.close()
    assert any("pull request" in note for note in found.notes) is (kept == 1)


def test_one_bad_result_is_no_new_level():
    assert judged(*[0.005] * 15, 0.009).outcome == "pass"


def test_an_old_change_is_told_and_fails_no_more():
    found = judged(*[0.005] * 15, *[0.0065] * 20)
    assert found.outcome == "pass" and found.notes


def scattered(change: float, spread: float, seed: int, count: int = 30):
    """What a series comes to whose newest five results take longer by `change`."""
    noise = np.random.default_rng(seed).normal(0, spread, count)
    slower = np.where(np.arange(count) < count - 5, 0.0, np.log1p(change))
    past = [session(0.005 * np.exp(x), seed=n) for n, x in enumerate(noise + slower)]
    return with_history.judge(CRITERIA, past, past[-1], None).judged[0]


def test_a_series_that_scatters_is_no_pass():
    found = [scattered(0.0, 0.25, seed) for seed in range(60)]
    assert sum(f.outcome == "pass" for f in found) <= 6  # those that look much faster
    assert any("differ too much to show less than 10 %" in str(f.reason) for f in found)


@pytest.mark.parametrize("spread", [0.02, 0.05, 0.1])
def test_what_is_as_much_slower_as_the_margin_seldom_passes(spread):
    found = [scattered(0.1, spread, seed).outcome for seed in range(150)]
    assert found.count("pass") <= 5


def test_a_quiet_series_passes_and_tells_its_power():
    found = [scattered(0.0, 0.02, seed) for seed in range(40)]
    assert sum(f.outcome == "pass" for f in found) >= 38
    assert all(f.interval[1] < 0.1 and 0 < f.seen < 0.1 for f in found if f.outcome == "pass")


def test_a_steady_rise_is_no_pass():
    found = judged(*np.linspace(0.005, 0.0091, 30)).judged[0]
    assert found.outcome != "pass"
    assert "it has risen, but not at once" in str(found.reason)


def test_a_margin_below_ten_percent_counts_as_ten_and_that_is_told():
    past = results(*[0.005] * 20)
    found = with_history.judge(parse_all(("step:5%",), ()), past, past[-1], None)
    assert any("smaller margins count as 10 %" in note for note in found.notes)
    assert not judged(*[0.005] * 20).notes


def test_a_gain_is_told():
    assert judged(*[0.005] * 15, *[0.0035] * 6).judged[0].outcome == "improved"


def test_a_short_series_is_inconclusive():
    found = judged(*[0.005] * 9)
    assert found.exit_code() == 3
    assert "9 results, and 10 are needed" in str(found.judged[0].reason)


def test_a_doubtful_result_is_not_judged():
    past = results(*[0.005] * 20)
    assert with_history.judge(CRITERIA, past, past[-1], "busy").outcome == "inconclusive"


def test_series_of_other_machines_and_workloads_are_apart():
    one, other = session(), session(fingerprint={"cpu": "Xeon"})
    assert with_history.series_of(MEASURED, one) != with_history.series_of(MEASURED, other)
    changed = [session(files={"bench.py": text}) for text in ("a", "b")]
    assert len({with_history.series_of(MEASURED, s) for s in changed}) == 2


def test_a_folder_a_file_and_a_url_name_a_database(tmp_path):
    assert url_of(str(tmp_path)) == f"sqlite:///{tmp_path}/perfdoctor_history.sqlite"
    assert url_of(str(tmp_path / "a.db")) == f"sqlite:///{tmp_path}/a.db"
    assert url_of("postgresql://u@h/d") == "postgresql+psycopg://u@h/d"


def kept_in(place: str) -> None:
    store = Store(place)
    for n in range(3):
        store.add("a", "bench.py", session(commit=str(n)))
    store.add("b", "bench.py", session(commit="other"))
    store.close()
    again = Store(place)
    assert [s.commit for s in again.sessions("a", 2)] == ["1", "2"]
    assert again.sessions("a", 9)[0] == session(commit="0")
    again.close()


def test_results_are_kept_in_a_file(tmp_path):
    kept_in(str(tmp_path))
    kept_in(f"{tmp_path}/new/folder/")
    assert (tmp_path / "new" / "folder" / "perfdoctor_history.sqlite").is_file()


def test_several_checks_may_write_at_once(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_with_baseline import session; "
        "from perfdoctor.gate.history_store import Store; s = Store(sys.argv[1]); "
        "[s.add('a', 'b', session()) for _ in range(10)]"
    )
    place = str(tmp_path / "h.sqlite")
    Store(place).close()
    command = [sys.executable, "-c", program, place, str(Path(__file__).parent)]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(Store(place).sessions("a", 100)) == 20


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("/proc/none/history.sqlite", "cannot use the history"),
        ("nonsense://user:secret@host/db", "cannot use the history nonsense://…@host/db"),
        ("postgresql://user:secret@127.0.0.1:1/db", "cannot use the history postgresql://…@127"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(place, told):
    with pytest.raises(PerfdoctorError, match=told) as caught:
        Store(place)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "h.sqlite").write_text("no database" * 100)
    with pytest.raises(PerfdoctorError, match="cannot use the history"):
        Store(str(tmp_path / "h.sqlite"))


@pytest.fixture
def postgres(tmp_path):
    """A server of its own, on a socket in a folder of its own."""
    if not POSTGRES:
        pytest.skip("no PostgreSQL server is installed")
    pytest.importorskip("psycopg")
    folder = Path("/tmp") / f"pg{os.getpid()}"
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    data, bin_ = folder / "data", POSTGRES[-1]
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    start = [bin_ / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"]
    try:
        for command in ([bin_ / "initdb", "-D", data, "-A", "trust", "-U", "me"], start):
            subprocess.run([*as_user, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")
        yield f"postgresql://me@/postgres?host={folder}"
    finally:
        stop = [bin_ / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
        subprocess.run([*as_user, *stop], check=False, stdout=subprocess.DEVNULL, cwd="/")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_results_are_kept_by_a_real_postgresql_server(postgres):
    kept_in(postgres)
