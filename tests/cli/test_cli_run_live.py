"""`perfdoctor run --live` as a process, with a pseudo-terminal as its stderr."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from fake_terminal import FakeTerminal

ROOT = Path(__file__).resolve().parents[2]
ROWS, COLUMNS = 40, 100
#: Looks often, and gives scripts `shown`: a function that waits until a drawing begins with this.
DRIVER = """
import builtins, threading
from perfdoctor import terminal
from perfdoctor.collect.script import session

session.LIVE_PERIOD_S = 0.02
texts = []
drawn = threading.Condition()
draw = terminal.BottomLines.draw

def drawing(self, lines):
    draw(self, lambda width, height: keep(lines(width, height)))

def keep(lines):
    with drawn:
        texts.append(lines[0])
        drawn.notify_all()
    return lines

def shown(start):
    with drawn:
        return drawn.wait_for(lambda: any(t.startswith(start) for t in texts), 20)

terminal.BottomLines.draw = drawing
builtins.shown = shown
from perfdoctor.cli import main
main()
"""
#: Ways to end a script, and the status of its process.
ENDINGS = {
    "finished": ("", 0),
    "exception": ("raise ValueError('no')", 1),
    "interrupted": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(10)", -signal.SIGINT),
    "terminated": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)", -signal.SIGTERM),
    "os._exit": ("os._exit(3)", 3),
}
WAITS = """
import os, signal, sys, time
print("begins", file=sys.stderr, flush=True)
assert shown("perfdoctor: waiting")
print("ends", file=sys.stderr, flush=True)
"""
TRAINS = """
import os, sys, torch
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), 0.01)
def step():
    optimizer.zero_grad()
    net(torch.ones(2, 4)).sum().backward()
    optimizer.step()
for number in range(3):
    step()
    os.write(1, b"\\x1b[31mbytes \\xff\\r\\n%d\\r" % number)
assert shown("── script.py")
for number in range(3):
    step()
    print(f"\\r{number + 1} of 3", end="", file=sys.stderr, flush=True)
print(file=sys.stderr)
"""


def run_live(folder: Path, script: str, **environment: str) -> tuple[int, bytes, bytes]:
    """Exit status, what the script wrote to stdout (a file), and what the terminal got."""
    (folder / "script.py").write_text(script)
    words = [sys.executable, "-c", DRIVER, "run", "--live", "--no-plots", "--quiet", "script.py"]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment}
    with (folder / "stdout").open("wb") as out:
        process = subprocess.Popen(
            words, cwd=folder, env=settings, stdout=out, stderr=theirs, start_new_session=True
        )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:  # the other end has been closed, on Linux
        pass
    os.close(ours)
    return process.wait(60), (folder / "stdout").read_bytes(), seen


@pytest.mark.parametrize("how", ENDINGS)
def test_however_the_script_ends_the_terminal_is_given_back(tmp_path, how):
    code, expected = ENDINGS[how]
    status, out, seen = run_live(tmp_path, WAITS + code)
    assert (status, out) == (expected, b"")
    assert b"waiting for the first step" in seen
    terminal = FakeTerminal(ROWS, COLUMNS)
    terminal.feed(seen)
    assert terminal.whole_region
    assert terminal.screen[:2] == ["begins", "ends"]
    assert not any("waiting" in line for line in terminal.screen)


def test_what_a_training_prints_is_intact_and_the_view_is_gone_at_the_end(tmp_path):
    status, out, seen = run_live(tmp_path, TRAINS, NO_COLOR="1")
    assert status == 0
    assert out == b"".join(b"\x1b[31mbytes \xff\r\n%d\r" % number for number in range(3))
    terminal = FakeTerminal(ROWS, COLUMNS)
    terminal.feed(seen)
    assert terminal.whole_region
    assert [line for line in terminal.screen if line] == ["3 of 3"]
    assert "· 3 steps ·" in seen.decode() or "· 4 steps ·" in seen.decode()
    assert b"\x1b[1;31m" not in seen


def test_without_a_terminal_one_line_says_that_it_is_off(tmp_path):
    (tmp_path / "script.py").write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)")
    words = [sys.executable, "-m", "perfdoctor", "run", "--live", "--quiet", "script.py"]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    done = subprocess.run(words, cwd=tmp_path, env=settings, capture_output=True, check=False)
    assert done.stdout == b"out\n"
    first, second, *_ = done.stderr.decode().splitlines()
    assert (first, second) == ("perfdoctor: --live is off: stderr is not a terminal", "err")
    assert b"\x1b" not in done.stderr


def test_a_dumb_terminal_is_left_alone(tmp_path):
    status, _, seen = run_live(tmp_path, "import sys\nprint('err', file=sys.stderr)", TERM="dumb")
    assert status == 0
    first, second, *_ = seen.decode().splitlines()
    assert first == "perfdoctor: --live is off: this terminal (TERM) cannot do more than print"
    assert second == "err"
    assert b"\x1b" not in seen
