"""Signals from outside; what a script sees of its own handlers is compared in test_launch.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

sys.path.insert(0, __file__.rpartition("/")[0])

from as_python import DRIVER, command, endings, environment

from perfdoctor.collect.script.ending import Closing
from perfdoctor.collect.script.signals import Watch


@pytest.fixture
def watch():
    told = []
    watch = Watch(Closing(told.append))
    watch.install()
    yield watch
    watch.undo()


def start(words, cwd, ignore=()):
    def ignoring():
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)

    return subprocess.Popen(
        words,
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=ignoring if ignore else None,
    )


def hit(process, *numbers):
    """Sends the signals once the script has printed a line each time."""
    for number in numbers:
        process.stdout.readline()
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return out, err, process.returncode


WAITING = "import threading\nprint('ready', flush=True)\nthreading.Event().wait()\n"


@pytest.mark.usefixtures("usual_hang_up")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_from_outside_ends_it_as_it_ends_python(tmp_path, number):
    (tmp_path / "script.py").write_text(WAITING)
    ended = tmp_path / "ended"
    expected = hit(start([sys.executable, "script.py"], tmp_path), number)
    found = hit(start(command(ended, "script.py"), tmp_path), number)
    assert found[0] == expected[0]
    assert found[1].splitlines()[-1:] == expected[1].splitlines()[-1:]  # it may hit any line
    assert found[2] == expected[2] == -number
    how = "interrupted|KeyboardInterrupt" if number == signal.SIGINT else f"signal|{number.name}"
    assert endings(ended) == [f"{how}|{128 + number}"]


def test_an_ignored_hang_up_stays_ignored(tmp_path):
    (tmp_path / "script.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGHUP)\n"
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    )
    process = start(command(tmp_path / "ended", "script.py"), tmp_path, ignore=[signal.SIGHUP])
    assert hit(process) == (b"True\n", b"", 0)


def test_a_signal_from_outside_reaches_the_scripts_own_handler(tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""
        import signal, sys, threading
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end"))
        print("ready", flush=True)
        threading.Event().wait()
    """)
    )
    ended = tmp_path / "ended"
    _, err, code = hit(start(command(ended, "script.py"), tmp_path), signal.SIGTERM)
    assert (err, code) == (b"asked to end\n", 1)
    assert endings(ended) == ["exit|asked to end|1"]


SLOW = DRIVER.replace(
    "def finish(ending):",
    "def finish(ending):\n    import select\n    print('finishing', flush=True)\n    WAIT",
)


def test_a_signal_during_the_report_waits_for_it(tmp_path):
    (tmp_path / "script.py").write_text("")
    ended = tmp_path / "ended"
    driver = SLOW.replace("WAIT", "select.select([], [], [], 0.3)")
    found = hit(start(command(ended, "script.py", driver=driver), tmp_path), signal.SIGTERM)
    assert found == (b"", b"", -signal.SIGTERM)
    assert endings(ended) == ["finished||0"]


def test_a_second_signal_during_the_report_does_not_wait(tmp_path):
    (tmp_path / "script.py").write_text("")
    ended = tmp_path / "ended"
    driver = SLOW.replace(
        "WAIT",
        "import signal\n    signal.raise_signal(signal.SIGTERM)\n    print('x', flush=True)\n"
        "    select.select([], [], [])",
    )
    process = start(command(ended, "script.py", driver=driver), tmp_path)
    process.stdout.readline()
    assert hit(process, signal.SIGTERM) == (b"", b"", -signal.SIGTERM)
    assert endings(ended) == []


def test_who_asks_is_told_of_the_default_action(watch):
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is signal.SIG_DFL


def test_the_functions_of_the_signal_module_are_the_same_objects_as_before(watch):
    installed = (signal.signal, signal.getsignal)
    watch.undo()
    assert (signal.signal, signal.getsignal) == installed


def test_undoing_leaves_a_handler_of_the_script_in_place(watch):
    def mine(*_: object) -> None: ...

    signal.signal(signal.SIGTERM, mine)
    watch.undo()
    try:
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_forked_child_dies_at_once_by_the_default_action(tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""
        import os, time
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)
            time.sleep(60)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    )
    ended = tmp_path / "ended"
    process = start(command(ended, "script.py"), tmp_path)
    os.kill(int(process.stdout.readline()), signal.SIGTERM)
    assert process.communicate(timeout=60) == (b"-15\n", b"")
    assert endings(ended) == ["finished||0"]


STUCK = """
import ctypes, torch
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
print("ready", flush=True)
lock, libc = (ctypes.c_char * 64)(), ctypes.CDLL(None)
for call in (libc.pthread_mutex_init, libc.pthread_mutex_lock, libc.pthread_mutex_lock):
    call(lock, None)
"""


def test_a_script_that_is_stuck_in_c_dies_of_the_signal_and_leaves_a_report(tmp_path):
    (tmp_path / "script.py").write_text(STUCK)
    words = [sys.executable, "-m", "perfdoctor", "run", "--no-plots", "script.py"]
    _, err, code = hit(start(words, tmp_path), signal.SIGTERM)
    assert code == -signal.SIGTERM, err
    assert len(list(tmp_path.glob("performance_report_*.json"))) == 1


def test_a_signal_that_the_main_thread_answers_is_not_answered_for_it(watch, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watch, "_clock", lambda: now[0])
    monkeypatch.setattr(watch, "_on_signal", lambda number, frame: None)
    watch.look()
    now[0] += 100
    watch.look()
    assert watch._unanswered is None
    assert watch._closing.busy is False


def test_nobody_is_told_where_signals_are_written_to(watch):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        assert signal.set_wakeup_fd(writer) == -1
        assert signal.set_wakeup_fd(-1) == writer
    finally:
        os.close(reader)
        os.close(writer)


def test_a_pipe_that_the_script_has_closed_is_left_alone(watch, tmp_path):
    for end in watch._pipe:
        os.close(end)
    with (tmp_path / "theirs").open("w+") as first, (tmp_path / "also").open("w+") as second:
        first.write("mine")
        first.seek(0)
        second.write("mine")
        second.seek(0)
        watch.look()
        assert os.lseek(watch._pipe[0], 0, os.SEEK_CUR) == 0
        watch.undo()
        assert first.read() == second.read() == "mine"


def test_whoever_listens_already_goes_on_listening():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    watch = Watch(Closing(lambda ending: None))
    try:
        watch.install()
        watch.undo()
        assert signal.set_wakeup_fd(-1) == writer
    finally:
        os.close(reader)
        os.close(writer)
