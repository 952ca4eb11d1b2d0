"""What a sandboxed process writes, by whatever means, is gone with its scratch folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
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


def sandboxed(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    with scratch_folder() as scratch:
        command = [sys.executable, "-c", ENTER + textwrap.dedent(code), str(scratch)]
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
