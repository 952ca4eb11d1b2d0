"""Without user namespaces: Python's writes are redirected, all others are refused."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from perfdoctor.collect.sandbox import landlock, scratch_folder
from perfdoctor.collect.sandbox.layers import Layers
from perfdoctor.errors import PerfdoctorError

ENTER = """
import errno, os, pathlib, shutil, sys
from pathlib import Path
from perfdoctor.collect import sandbox
def refused(scratch, **_):
    raise OSError("unshare: Operation not permitted")
if sys.argv[2] == "simulated":
    sandbox.overlay.cover = refused
assert sandbox.enter(Path(sys.argv[1])) == "redirected"
"""
#: A namespace in which no further ones may be made.
REALLY = [
    "unshare", "-Ur", "sh", "-c",
    'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh",
]  # fmt: skip
needs_landlock = pytest.mark.skipif(
    not landlock.available(alone=True), reason="no Landlock that is good enough alone"
)


def sandboxed(
    code: str, folder: Path, before: list[str] | None = None, enter: str = ENTER
) -> subprocess.CompletedProcess[str]:
    how = "really" if before else "simulated"
    (folder / "in_the_sandbox.py").write_text(enter + textwrap.dedent(code))
    root = str(Path(__file__).parents[2])
    with scratch_folder() as scratch:
        return subprocess.run(
            [*(before or []), sys.executable, str(folder / "in_the_sandbox.py"), str(scratch), how],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"},
        )  # fmt: skip


def contents(folder: Path) -> dict[str, tuple[str, int, int]]:
    return {
        str(path): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.lstat().st_mode,
            path.lstat().st_mtime_ns if path.is_file() else 0,
        )
        for path in sorted(folder.rglob("*"))
        if path.name != "in_the_sandbox.py"
    }


def populated(made: Path) -> Path:
    (made / "data" / "inner").mkdir(parents=True)
    (made / "model.pt").write_bytes(b"before")
    (made / "data" / "log.txt").write_text("before\n")
    (made / "data" / "inner" / "x.txt").write_text("x")
    (made / "shortcut").symlink_to("data")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return populated(tmp_path / "project")


#: What the script does, and what it must find afterwards.
WAYS = {
    "writing": "open('model.pt', 'wb').write(b'after');"
    "assert Path('model.pt').read_bytes() == b'after'; assert os.path.getsize('model.pt') == 5",
    "appending": "open('data/log.txt', 'a').write('more');"
    "f = open('data/log.txt'); assert f.read() == 'before\\nmore'; assert f.name == 'data/log.txt'",
    "by absolute path": "p = Path('data/log.txt').resolve(); p.write_text('after');"
    "assert p.read_text() == open('data/log.txt').read() == 'after'",
    "in place": "f = open('model.pt', 'r+b'); f.seek(2); f.write(b'X'); f.close();"
    "assert open('model.pt', 'rb').read() == b'beXore'",
    "exclusively": "open('new', 'x').close()\ntry: open('model.pt', 'x')\n"
    "except FileExistsError as e: assert e.filename == 'model.pt'\nelse: assert 0",
    "new folders": "os.makedirs('runs/1'); open('runs/1/x', 'w').write('x');"
    "assert set(os.listdir()) >= {'runs', 'data', 'model.pt'};"
    "assert os.path.join('.', 'runs', '1') in [d for d, _, _ in os.walk('.')];"
    "assert len(list(Path().rglob('x*'))) == 2",
    "a folder that is there": "os.makedirs('data', exist_ok=True)\ntry: os.mkdir('data')\n"
    "except FileExistsError: pass\nelse: assert 0",
    "removing": "os.remove('model.pt'); assert not os.path.exists('model.pt');"
    "assert 'model.pt' not in os.listdir();"
    "assert 'model.pt' not in [e.name for e in os.scandir()]",
    "removing twice": "os.remove('model.pt')\ntry: os.remove('model.pt')\n"
    "except FileNotFoundError as e: assert e.filename == 'model.pt'\nelse: assert 0",
    "removing and writing again": "os.remove('model.pt'); open('model.pt', 'a').write('new');"
    "assert open('model.pt').read() == 'new'",
    "replacing": "open('model.tmp', 'w').write('after'); os.replace('model.tmp', 'model.pt');"
    "assert open('model.pt').read() == 'after'; assert not os.path.exists('model.tmp')",
    "renaming": "os.rename('model.pt', 'best.pt'); assert open('best.pt').read() == 'before';"
    "assert not os.path.exists('model.pt')",
    "renaming a folder": "os.rename('data', 'old'); assert not os.path.exists('data/log.txt');"
    "assert open('old/inner/x.txt').read() == 'x'; assert not os.path.isdir('data')",
    "a tree removed and made again": "shutil.rmtree('data'); assert not os.path.exists('data');"
    "os.mkdir('data'); assert os.listdir('data') == [];"
    "assert not os.path.exists('data/inner/x.txt')",
    "a tree copied and moved": "shutil.copytree('data', 'copy'); shutil.move('copy', 'moved');"
    "assert open('moved/inner/x.txt').read() == 'x'",
    "a folder that is not empty": "try: os.rmdir('data')\n"
    "except OSError as e: assert e.errno == errno.ENOTEMPTY\nelse: assert 0",
    "through a link": "open('shortcut/log.txt', 'w').write('after');"
    "assert open('data/log.txt').read() == 'after'; assert os.path.islink('shortcut')",
    "a new link": "os.makedirs('runs/1'); open('runs/1/x', 'w').write('y');"
    "os.symlink('runs/1', 'latest'); assert open('latest/x').read() == 'y';"
    "assert os.path.realpath('latest/x') == os.path.abspath('runs/1/x')\n"
    "os.remove('latest'); os.symlink('data', 'latest')\n"
    "assert os.listdir('latest/inner') == ['x.txt']",
    "a hard link": "os.link('model.pt', 'same.pt'); assert os.path.samefile('model.pt', 'same.pt')",
    "truncating": "os.truncate('model.pt', 3); assert open('model.pt').read() == 'bef'",
    "permissions and times": "os.chmod('model.pt', 0o600); os.utime('model.pt', (1, 1));"
    "s = os.stat('model.pt'); assert (s.st_mode & 0o777, s.st_mtime) == (0o600, 1)",
    "in a folder entered": "os.makedirs('runs/1'); os.chdir('runs/1'); open('x', 'w').close();"
    "assert os.getcwd().endswith('project/runs/1'); os.chdir('../..');"
    "assert os.path.exists('runs/1/x') and os.getcwd().endswith('project')",
    "a database": "import sqlite3; c = sqlite3.connect('runs.db');"
    "c.execute('create table t(a)'); c.commit();"
    "assert sqlite3.connect('runs.db').execute('select * from t').fetchall() == []",
    "a log": "import logging; logging.basicConfig(filename='data/log.txt'); logging.error('bad');"
    "assert open('data/log.txt').read() == 'before\\nERROR:root:bad\\n'",
    "a named temporary file": "import tempfile\n"
    "with tempfile.NamedTemporaryFile('w', dir='.', delete=False) as f: f.write('x')\n"
    "os.replace(f.name, 'model.pt'); assert open('model.pt').read() == 'x'\n"
    "with tempfile.TemporaryDirectory() as t: assert os.listdir(t) == []\n"
    "assert not os.path.exists(t)",
    "a mapped array": "import numpy as np; np.save('a.npy', np.zeros(4));"
    "m = np.load('a.npy', mmap_mode='r+'); m[0] = 1; m.flush(); assert np.load('a.npy')[0] == 1;"
    "m = np.memmap('model.pt', mode='r+'); m[0] = 65; m.flush();"
    "assert open('model.pt').read() == 'Aefore'",
    "an archive": "import zipfile; zipfile.ZipFile('z.zip', 'w').writestr('a', 'b');"
    "shutil.make_archive('t', 'gztar', 'data'); assert os.path.getsize('t.tar.gz') > 0",
    "bytes": "open(b'data/log.txt', 'wb').close(); assert os.path.getsize(b'data/log.txt') == 0;"
    "assert b'log.txt' in os.listdir(b'data')",
    "below an open folder": "d = os.open('data', os.O_RDONLY);"
    "os.close(os.open('log.txt', os.O_WRONLY | os.O_TRUNC, dir_fd=d));"
    "assert os.path.getsize('data/log.txt') == 0",
    "pickled functions": "import pickle; assert pickle.loads(pickle.dumps(open)) is open;"
    "assert pickle.loads(pickle.dumps(os.remove)) is os.remove",
    "in a forked child": "pid = os.fork()\n"
    "if not pid: os.remove('model.pt'); open('y', 'w').close(); os._exit(0)\n"
    "os.waitpid(pid, 0); assert os.path.exists('y') and not os.path.exists('model.pt')",
}


EACH = """
import json, traceback
told = {}
for number, code in enumerate(WAYS):
    os.chdir(Path(sys.argv[0]).parent / str(number) / "project")
    try:
        exec(code, globals())
    except BaseException:
        told[number] = traceback.format_exc()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, tuple[str | None, bool]]:
    """Way → how it failed, and whether all files stayed as they were; one process for all."""
    base = tmp_path_factory.mktemp("each")
    folders = [populated(base / str(number) / "project") for number in range(len(WAYS))]
    before = [contents(folder) for folder in folders]
    done = sandboxed(f"WAYS = {list(WAYS.values())!r}\n{EACH}", base)
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout)
    return {
        way: (failed.get(str(number)), contents(folders[number]) == before[number])
        for number, way in enumerate(WAYS)
    }


@needs_landlock
@pytest.mark.parametrize("way", WAYS)
def test_nothing_changes_and_the_script_does_not_notice(way, told):
    assert told[way] == (None, True)


REFUSED = {
    "a shell": "assert os.system('echo after > model.pt') and os.system('rm -r data')",
    "C": "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
    "for call in (lambda: c.unlink(b'model.pt'), lambda: c.truncate(b'model.pt', 0),\n"
    "    lambda: c.creat(b'new', 0o644), lambda: c.rename(b'model.pt', b'x')):\n"
    "    assert call() == -1 and ctypes.get_errno() == errno.EACCES",
    "the system's own module": "import posix\n"
    "try: posix.remove('model.pt')\nexcept PermissionError: pass\nelse: assert 0",
    "outside of the folder": "assert os.system('touch /tmp/perfdoctor-was-here') != 0",
}


@needs_landlock
@pytest.mark.parametrize("way", REFUSED)
def test_other_code_cannot_write(way, folder):
    before = contents(folder)
    done = sandboxed(REFUSED[way] + "\nprint('fine')", folder)
    assert done.stdout == "fine\n", done.stderr
    assert contents(folder) == before


@needs_landlock
def test_programs_have_a_temporary_folder(folder):
    code = "assert os.system('touch $TMPDIR/x') == 0; print(os.listdir(os.environ['TMPDIR']))"
    assert sandboxed(code, folder).stdout == "['x']\n"


SPAWNED = """
import multiprocessing
def work(queue):
    open("data/log.txt", "a").write("child\\n")
    os.remove("model.pt")
    queue.put(os.path.exists("early"))
if __name__ == "__main__":
    open("early", "w").close()
    context = multiprocessing.get_context("METHOD")
    queue = context.Queue()
    child = context.Process(target=work, args=(queue,))
    child.start()
    print(queue.get(timeout=60))
    child.join()
    print(repr(open("data/log.txt").read()), os.path.exists("model.pt"))
"""


@needs_landlock
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_multiprocessing_see_the_same_files(method, folder):
    text = ENTER.replace("assert", "if __name__ == '__main__': assert") + SPAWNED
    before = contents(folder)
    done = sandboxed(text.replace("METHOD", method), folder, enter="")
    assert done.stdout == "True\n'before\\nchild\\n' False\n", done.stderr
    assert contents(folder) == before


TRAIN = """
import csv, sqlite3, torch
from torch.utils.data import DataLoader
try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:
    SummaryWriter = None
os.makedirs("checkpoints", exist_ok=True)
model = torch.nn.Linear(2, 2)
for step in range(3):
    torch.save(model.state_dict(), "checkpoints/tmp.pt")
    os.replace("checkpoints/tmp.pt", f"checkpoints/{step}.pt")
    if step:
        os.remove(f"checkpoints/{step - 1}.pt")
    torch.save(model, os.path.abspath("model.pt"))
    with open("data/log.txt", "a", newline="") as file:
        csv.writer(file).writerow([step])
assert os.listdir("checkpoints") == ["2.pt"]
assert torch.load("checkpoints/2.pt", mmap=True)["weight"].shape == (2, 2)
assert torch.load("model.pt", weights_only=False).in_features == 2
assert open("data/log.txt").read().split() == ["before", "0", "1", "2"]
try:
    from safetensors.torch import load_file, save_file
except ImportError:
    pass
else:
    save_file(model.state_dict(), "model.safetensors")
    assert load_file("model.safetensors")["weight"].shape == (2, 2)
if SummaryWriter:
    writer = SummaryWriter("runs")
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    assert len(os.listdir("runs")) == 1
class Files(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        Path(f"cache-{index}").write_text("x")
        return float(Path("data/log.txt").read_text().split()[-1])
assert next(iter(DataLoader(Files(), batch_size=2, num_workers=1))).tolist() == [2.0, 2.0]
assert os.path.exists("cache-1")
try:
    torch.jit.script(model).save("jit.pt")
except RuntimeError:
    print("refused")
print("fine", SummaryWriter is not None)
"""


@needs_landlock
@pytest.mark.slow
def test_a_training_that_writes_in_many_ways(folder):
    before = contents(folder)
    done = sandboxed(TRAIN, folder)
    assert done.stdout.startswith("refused\nfine"), done.stderr
    assert contents(folder) == before


@needs_landlock
def test_where_user_namespaces_are_really_not_there(folder):
    if subprocess.run([*REALLY, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine cannot forbid them for a test")
    before = contents(folder)
    done = sandboxed(WAYS["replacing"] + "\nprint('fine')", folder, REALLY)
    assert done.stdout == "fine\n", done.stderr
    assert contents(folder) == before


@pytest.mark.parametrize(("version", "enough"), [(0, False), (2, False), (3, True)])
def test_landlock_has_to_know_truncating_where_it_is_alone(version, enough, monkeypatch):
    monkeypatch.setattr(landlock, "_version", lambda: version)
    assert landlock.available(alone=True) == enough


def test_without_either_way_nothing_is_run(tmp_path, monkeypatch):
    from perfdoctor.collect import sandbox

    def refused(scratch: Path, **_: bool) -> list[str]:
        raise OSError("unshare: Operation not permitted")

    monkeypatch.setattr(sandbox.overlay, "cover", refused)
    monkeypatch.setattr(landlock, "_version", lambda: 0)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(PerfdoctorError, match="unshare: Operation not permitted") as caught:
        sandbox.enter(tmp_path)
    assert caught.value.slug == "no-sandbox"


def test_a_process_with_threads_would_not_be_protected_and_is_refused(folder):
    threads = (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    done = sandboxed("", folder, enter=ENTER.replace("def refused", f"{threads}\ndef refused"))
    assert "is not run again: unshare: Operation not permitted" in done.stderr


@needs_landlock
def test_a_large_database_is_read_where_it_is(folder):
    code = """
    import sqlite3
    from perfdoctor.collect.sandbox import redirect
    redirect._LARGE_BYTES = 1
    database = sqlite3.connect("runs.db")
    print(database.execute("select a from t").fetchall())
    try:
        database.execute("insert into t values (2)")
    except sqlite3.OperationalError as error:
        print(error)
    """
    with closing(sqlite3.connect(folder / "runs.db")) as made:
        made.execute("create table t(a)")
        made.execute("insert into t values (1)")
        made.commit()
    done = sandboxed(code, folder)
    assert done.stdout == "[(1,)]\nattempt to write a readonly database\n", done.stderr


def test_several_processes_share_what_was_removed(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "user").write_text("x")
    one, other = (Layers(str(tmp_path / "scratch")) for _ in range(2))
    one.hide(str(tmp_path / "user"))
    assert other.below(str(tmp_path / "user")) is None


def test_the_scratch_folder_and_devices_are_left_alone(tmp_path):
    (tmp_path / "scratch").mkdir()
    layers = Layers(str(tmp_path / "scratch"))
    assert layers.real("/dev/shm/x") is None
    assert layers.real(tmp_path / "scratch" / "x") is None
    assert layers.real(3) is None
    assert layers.real(tmp_path / "scratch2") == str(tmp_path / "scratch2")
