"""Arms as processes: what they are told, what they answer, and that none is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from perfdoctor.collect import guarded_worker, waiting_threads
from perfdoctor.collect.arm import Arm, ArmSpec
from perfdoctor.collect.lock_step import InMode, lock_step, orders
from perfdoctor.errors import PerfdoctorError, UserCodeError

HERE = Path(__file__).parent


def spec(**changes):
    fields = {"workload": {}, "cwd": HERE, "training": "counting:Counting"}
    return ArmSpec(**(fields | changes))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pid: int) -> bool:
    try:
        psutil.Process(pid).wait(10)
    except psutil.TimeoutExpired:
        return False
    except psutil.NoSuchProcess:
        return True
    return True


def test_an_arm_steps_when_asked_and_tells_what_it_did():
    with Arm.start(spec(modes={"fast": {"step_s": 0.25}})) as arm:
        assert list(arm.warm(3)) == [0.5, 0.5, 0.5]
        assert list(arm.chunk(2).step_s) == [0.5, 0.5]
        chunk = arm.chunk(2, "fast")
        assert list(chunk.step_s) == [0.25, 0.25]
        assert np.isnan(chunk.stages_s["forward"][1])
        assert chunk.run_queue_s is None and chunk.steady_s is None
        facts = arm.facts()
        assert facts.configuration["made"] == 7
        assert facts.losses == (1.0, None)


def test_an_arm_lives_in_its_folder_and_environment_and_its_threads_wait_as_decided(monkeypatch):
    monkeypatch.setattr(waiting_threads, "_decided", dict(waiting_threads.SPIN))
    environment = {"OWN": "yes", "GONE": None}
    os.environ["GONE"] = "no"
    try:
        with Arm.start(spec(environment=environment)) as arm:
            found = arm.facts().configuration
    finally:
        del os.environ["GONE"]
    assert found["environment"] == {"GOMP_SPINCOUNT": "20000", "OWN": "yes", "GONE": None}
    assert found["cwd"] == str(HERE)


def test_whoever_says_how_threads_wait_is_heard():
    with Arm.start(spec(environment={"OMP_WAIT_POLICY": "active"})) as arm:
        assert arm.facts().configuration["environment"]["GOMP_SPINCOUNT"] is None


def test_an_arm_names_the_files_of_the_project_and_no_others():
    with Arm.start(spec()) as arm:
        assert arm.facts().modules == {"counting": str(HERE / "counting.py")}


def test_what_the_user_prints_goes_to_the_log_and_disturbs_nothing(tmp_path):
    log = tmp_path / "arm.log"
    with Arm.start(spec(log=log)) as arm:
        assert arm.warm(1).size == 1
    assert "set up, on standard output" in log.read_text()


def test_an_error_of_the_users_code_comes_with_its_traceback():
    with pytest.raises(UserCodeError, match="ImportError: no module named 'theirs'") as raised:
        Arm.start(spec(workload={"fails": "import"}))
    assert "counting.py" in raised.value.details
    with pytest.raises(PerfdoctorError, match="the dataset is empty") as told:
        Arm.start(spec(workload={"fails": "advice"}))
    assert told.value.slug == "dataset-empty"


def test_an_arm_survives_a_step_that_fails():
    with Arm.start(spec(workload={"fails": "step"})) as arm:
        with pytest.raises(UserCodeError, match="ZeroDivisionError"):
            arm.warm(1)
        assert arm.chunk(1).step_s.size == 1


def test_a_killed_arm_is_an_error_with_its_last_words():
    with Arm.start(spec(workload={"fails": "killed"})) as arm:
        with pytest.raises(UserCodeError, match=r"by signal 9; it may have run out") as raised:
            arm.warm(1)
        assert raised.value.slug == "arm-ended"
        assert "the last words" in raised.value.details
        assert not arm.alive


def test_an_answer_is_waited_for_as_long_as_there_is_time():
    looked = []
    with Arm.start(spec(workload={"fails": "hangs"})) as arm:
        until_s = time.monotonic() + 1.6
        arm.spec = replace(
            arm.spec, patience_s=0.1, patient_until_s=until_s, waiting=lambda: looked.append(1)
        )
        with pytest.raises(UserCodeError):
            arm.warm(1)
        assert time.monotonic() >= until_s and len(looked) >= 2
        assert not arm.alive


def test_an_arm_that_hangs_is_ended_and_tells_where_it_was():
    with Arm.start(spec(workload={"fails": "hangs"})) as arm:
        arm.spec = replace(arm.spec, patience_s=0.5)
        with pytest.raises(UserCodeError, match=r"no answer for 0.5 s and was ended") as raised:
            arm.warm(1)
        assert "counting.py" in raised.value.details and "in _hang" in raised.value.details
        pid = arm.pid
    assert gone(pid)


def test_a_crash_of_compiled_code_tells_which_line_called_it():
    with Arm.start(spec(workload={"fails": "aborts"})) as arm:
        with pytest.raises(UserCodeError, match=r"by signal 6") as raised:
            arm.warm(1)
        assert re.search(r"counting.py\W+ line \d+ in warm", raised.value.details)


def test_an_arm_that_cannot_be_started_says_so():
    with pytest.raises(PerfdoctorError, match=r"cannot start .*/no/python") as raised:
        Arm.start(spec(python="/no/python"))
    assert raised.value.slug == "arm-not-started"


def test_closing_ends_the_arm_and_all_that_it_has_started():
    with Arm.start(spec()) as arm:
        child = int(arm.first_losses(1)[0][0])
        pid = arm.pid
    assert gone(pid)
    assert wait_until_gone(child)
    arm.close()


def in_shared_memory(name: str) -> bool:
    return Path("/dev/shm", name.strip("/")).exists()


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


@needs_proc
def test_what_has_left_its_session_and_what_is_in_shared_memory_goes_as_well():
    with Arm.start(spec(workload={"leaves": {}})) as arm:
        (child,), (name,) = arm.first_losses(1)
        assert in_shared_memory(name)
        assert os.getsid(int(child)) == int(child)
    assert wait_until_gone(int(child))
    assert not in_shared_memory(name)


@needs_proc
def test_so_it_does_where_the_arm_is_at_work(tmp_path):
    log = tmp_path / "log"
    with Arm.start(spec(workload={"fails": "hangs", "leaves": {}}, log=log)) as arm:
        arm.send("warm", steps=1, mode=None)
        while "left" not in log.read_text().split():
            time.sleep(0.01)
    _, child, name = re.search(r"(left) (\d+) (\S+)", log.read_text()).groups()
    assert wait_until_gone(int(child))
    assert not in_shared_memory(name)


@needs_proc
def test_what_a_killed_arm_has_left_behind_is_ended_when_it_is_closed():
    with Arm.start(spec(workload={"leaves": None})) as arm:
        child = int(arm.first_losses(1)[0][0])
        os.kill(arm.pid, signal.SIGKILL)
        arm._process.wait()
        assert psutil.pid_exists(child)
    assert wait_until_gone(child)


@needs_proc
def test_where_memory_is_full_an_arm_goes_before_other_programs():
    with Arm.start(spec()) as arm:
        assert Path(f"/proc/{arm.pid}/oom_score_adj").read_text() == "1000\n"
        child = int(arm.first_losses(1)[0][0])
        assert Path(f"/proc/{child}/oom_score_adj").read_text() == "1000\n"


def test_an_arm_that_is_killed_in_steps_of_a_mode_has_run_out_of_memory():
    with Arm.start(spec(workload={"fails": "killed"}, modes={"more": {}})) as arm:
        with pytest.raises(PerfdoctorError, match="by signal 9") as raised:
            arm.warm(1, "more")
        assert (raised.value.slug, arm.trying) == ("out-of-memory", "more")
        with pytest.raises(PerfdoctorError) as raised:
            arm.facts("more")
        assert (raised.value.slug, arm.trying) == ("arm-ended", None)


def test_an_arm_that_is_at_work_is_ended_without_asking_it():
    with Arm.start(spec(workload={"fails": "hangs"})) as arm:
        arm.send("warm", steps=1, mode=None)
        waits: list[float | None] = []
        wait = arm._process.wait
        arm._process.wait = lambda timeout=None: (waits.append(timeout), wait(timeout))[1]
    assert gone(arm.pid) and waits == [None]


def test_an_arm_ends_with_the_process_that_started_it():
    program = textwrap.dedent(f"""
        import os, signal, sys
        from perfdoctor.collect.arm import Arm, ArmSpec
        given = {{"leaves": {{}}}}
        arm = Arm.start(ArmSpec(workload=given, cwd={str(HERE)!r}, training="counting:Counting"))
        (child,), (name,) = arm.first_losses(1)
        print(arm.pid, int(child), flush=True)
        print(name, file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    for pid in map(int, done.stdout.split()):
        assert wait_until_gone(pid)
    give_up = time.monotonic() + 10
    while in_shared_memory(done.stderr.split()[0]):  # its resource tracker ends after it
        assert time.monotonic() < give_up


def test_a_ctrl_c_of_the_terminal_does_not_reach_an_arm():
    with Arm.start(spec()) as arm:
        assert os.getsid(arm.pid) == arm.pid


def test_lock_step_never_favours_a_side():
    assert list(orders(3)) == [(0, 1), (1, 0), (0, 1)]
    assert list(orders(2, swapped=True)) == [(1, 0), (0, 1)]
    with Arm.start(spec(modes={"fast": {"step_s": 0.25}})) as arm:
        pair = lock_step(InMode(arm), InMode(arm, "fast"), chunks=4, steps=3)
    assert len(pair.first) == len(pair.second) == 4
    assert pair.difference() == pytest.approx(np.log(0.5))


WRITES = """
import torch, perfdoctor
from torch import nn

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        with open("seen.txt", "a") as file:
            file.write(f"{index}\\n")
        return torch.randn(4), index % 2

def workload():
    return perfdoctor.Workload(model=nn.Linear(4, 2), dataset=Rows(), batch_size=4)
"""


def test_a_guarded_arm_changes_no_file(tmp_path):
    (tmp_path / "writes.py").write_text(WRITES)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    spec = ArmSpec(
        workload={"workload": "writes.py"},
        cwd=tmp_path,
        process=guarded_worker.__name__,
        environment={guarded_worker.SCRATCH: str(scratch)},
    )
    with spec.start() as arm:
        arm.warm(4)
        if not arm.facts().extra["guarded"]:
            pytest.skip("no sandbox on this machine")
        assert "seen.txt" in {path.name for path in scratch.rglob("*")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch", "writes.py"]
    assert list(scratch.iterdir()) == []  # it is gone with the process


def test_without_a_sandbox_an_arm_says_that_it_is_not_guarded(tmp_path):
    (tmp_path / "writes.py").write_text(WRITES)
    with ArmSpec(workload={"workload": "writes.py"}, cwd=tmp_path).start() as arm:
        assert arm.facts().extra["guarded"] is False
