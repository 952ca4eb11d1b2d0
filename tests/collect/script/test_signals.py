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
