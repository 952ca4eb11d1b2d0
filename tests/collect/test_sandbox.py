"""What a sandboxed process writes, by whatever means, is gone with its scratch folder."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from perfdoctor.collect.sandbox import landlock, remove, scratch_folder

ENTER = """
import os, sys
from pathlib import Path
from perfdoctor.collect import sandbox
if sandbox.enter(Path(sys.argv[1])) != sandbox.MOUNTS:
    sys.exit("no-sandbox")
"""


def sandboxed(code: str, folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    enter = ENTER.replace("if sandbox.enter", f"{textwrap.dedent(before)}\nif sandbox.enter")
    with scratch_folder() as scratch:
        command = [sys.executable, "-c", enter + textwrap.dedent(code), str(scratch)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    if "no-sandbox" in done.stderr:
        pytest.skip("this machine does not allow user namespaces")
    assert not scratch.exists()
    return done


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "model.pt").write_bytes(b"before")
    (tmp_path / "data" / "log.txt").write_text("before\n")
    return tmp_path


WAYS = {
    "by open": "open('model.pt', 'wb').write(b'after')",
    "appending": "open('data/log.txt', 'a').write('more')",
    "by absolute path": "Path('data/log.txt').resolve().write_text('after')",
    "a new folder": "os.makedirs('runs/1'); open('runs/1/x', 'w').write('x')",
    "removing": "os.remove('model.pt')",
    "renaming": "os.replace('model.pt', 'best.pt')",
    "through a shell": "os.system('echo after > model.pt; touch new')",
    "a child process": "import subprocess; subprocess.run(['rm', '-r', 'data'], check=True)",
    "a database": "import sqlite3; c = sqlite3.connect('runs.db');"
    "c.execute('create table t(a)'); c.commit()",
    "truncating": "os.truncate('model.pt', 0)",
    "permissions": "os.chmod('model.pt', 0)",
    "a mapped file": "import mmap; f = open('model.pt', 'r+b'); m = mmap.mmap(f.fileno(), 0);"
    "m[:] = b'AFTER!'; m.flush()",
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_in_the_folder_changes(way, folder):
    before = contents(folder)
    done = sandboxed(WAYS[way], folder)
    assert done.returncode == 0, done.stderr
    assert contents(folder) == before
    assert (folder / "model.pt").stat().st_mode & 0o777 == 0o644


def test_the_process_finds_what_it_wrote(folder):
    code = """
    Path("model.pt").write_bytes(b"after")
    os.remove("data/log.txt")
    print(Path("model.pt").read_bytes(), os.listdir("data"), os.getcwd(), os.getuid())
    """
    done = sandboxed(code, folder)
    assert done.stdout.split("\n")[0] == f"b'after' [] {folder} {os.getuid()}"


def test_files_outside_of_the_working_directory_stay_as_well(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = sandboxed(f"Path({str(elsewhere)!r}, 'x').write_text('x'); print('written')", folder)
    assert done.stdout == "written\n"
    assert list(elsewhere.iterdir()) == []


def test_what_cannot_be_covered_cannot_be_written(folder):
    if not landlock.available():
        pytest.skip("no Landlock")
    done = sandboxed("open('/perfdoctor-was-here', 'w')", folder)
    assert "PermissionError" in done.stderr
    assert not Path("/perfdoctor-was-here").exists()


@pytest.mark.parametrize("version", [0, 2])
def test_so_it_is_without_landlock_or_with_one_that_does_not_know_truncating(version, folder):
    code = f"""
    sandbox.landlock._version = lambda: {version}
    """
    done = sandboxed("open('/perfdoctor-was-here', 'w')", folder, code)
    assert re.search("Read-only file system|PermissionError", done.stderr), done.stderr
    assert not Path("/perfdoctor-was-here").exists()
    done = sandboxed("open('model.pt', 'w').write('after'); print('fine')", folder, code)
    assert done.stdout == "fine\n", done.stderr


def test_where_the_rest_cannot_be_closed_without_landlock_nothing_is_run(folder):
    code = """
    sandbox.landlock._version = lambda: 0
    call = sandbox.overlay._call
    def refusing(name, *given):
        if given[:3:2] == (None, None):
            raise OSError("mount: Operation not permitted")
        call(name, *given)
    sandbox.overlay._call = refusing
    """
    done = sandboxed("print('ran')", folder, code)
    assert done.stdout == ""
    assert "is not run again: mount: Operation not permitted" in done.stderr


SHARED = """
from multiprocessing import shared_memory
mine = Path("/dev/shm/NAME")
print(mine.read_text(), shared_memory.SharedMemory(create=True, size=100).name, flush=True)
mine.write_text("after")
os.kill(os.getpid(), 9)
"""


def test_shared_memory_is_covered_and_what_is_left_there_goes_with_the_process(folder):
    with tempfile.NamedTemporaryFile("w+", dir="/dev/shm") as mine:
        mine.write("before")
        mine.flush()
        done = sandboxed(SHARED.replace("NAME", Path(mine.name).name), folder)
        before, name = done.stdout.split()
        assert before == "before"
        assert Path(mine.name).read_text() == "before"
    assert not Path("/dev/shm", name).exists()


def test_trackers_are_told_to_be_silent(folder):
    done = sandboxed("print(os.environ['WANDB_MODE'], os.environ['MLFLOW_TRACKING_URI'])", folder)
    assert done.stdout.startswith("disabled file:")


def test_a_scratch_folder_with_closed_folders_is_removed(tmp_path):
    folder = tmp_path / "scratch"
    (folder / "work" / "closed").mkdir(parents=True)
    (folder / "work" / "closed" / "file").write_text("x")
    (folder / "work" / "closed").chmod(0)
    (folder / "work").chmod(0)
    remove(folder)
    assert not folder.exists()


SAVED = """
from perfdoctor.collect.rerun.saved import SavedFiles
kept = SavedFiles()
Path("model_1.pt").write_bytes(b"one")
kept.ends("save", "model_1.pt")
print(kept.put("save", "model_2.pt"), Path("model_2.pt").read_bytes())
os.remove("model_1.pt")
os.remove("model_2.pt")
print(kept.put("save", "model_3.pt"), Path("model_3.pt").read_bytes())
"""


def test_a_saved_file_stands_for_one_that_is_left_out(folder):
    done = sandboxed(SAVED, folder)
    assert done.stdout == "True b'one'\nTrue b'one'\n", done.stderr


UPLOADS = """
import socket
def refused(*args, **kwargs):
    raise AssertionError("the network is used")
socket.socket.connect = socket.getaddrinfo = refused
import huggingface_hub
from huggingface_hub import HfApi, create_repo, upload_folder
print(create_repo("me/model", exist_ok=True).repo_id)
print(upload_folder(repo_id="me/model", folder_path=".").repo_url.repo_id)
job = HfApi().upload_file(
    repo_id="me/model", path_or_fileobj=b"x", path_in_repo="x", run_as_future=True
)
print(job.done(), HfApi().create_commit("me/model", [], commit_message="x").oid[:3])
try:
    HfApi().model_info("me/model")
except Exception as error:
    print("still asked")
"""


def test_uploads_to_the_hub_are_left_out(folder):
    pytest.importorskip("huggingface_hub")
    done = sandboxed(UPLOADS, folder)
    assert done.stdout.splitlines() == ["me/model", "me/model", "True 000", "still asked"], done
