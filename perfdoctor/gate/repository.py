"""The git repository: which commits are compared, and what the user must do where none can be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perfdoctor.errors import PerfdoctorError

_SHALLOW = (
    "this clone is shallow; run `git fetch --unshallow`, or set fetch-depth: 0 in "
    "actions/checkout and GIT_DEPTH: 0 in GitLab"
)

#: How `git ls-tree` marks one, and how a pointer of git-lfs begins (its specification, 1.0).
_SUBMODULE, _POINTER = "160000 ", b"version https://git-lfs"
#: What a hook, or git itself, tells programs about the repository that it runs in.
_OF_ANOTHER = frozenset(
    ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE",
     "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE")
)  # fmt: skip
#: New files of other kinds are what runs leave behind.
_CODE = frozenset(
    (".py", ".pyi", ".pyx", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".toml", ".cfg")
)


@dataclass(frozen=True)
class Repository:
    """A checkout. `root` is its top folder, `below` where in it the user stands."""

    root: Path
    below: Path

    def git(self, *arguments: str, session: bool = False) -> str:
        """What a git command prints; `session`: out of reach of the terminal's Ctrl-C.

        Raises:
            PerfdoctorError: it fails.
        """
        done = _git(self.root, *arguments, session=session)
        if done.returncode:
            raise PerfdoctorError(
                f"git {arguments[0]} failed: {_last_line(done.stderr)}", slug="git-failed"
            )
        return done.stdout.strip()

    def commit(self, revision: str) -> str:
        """The full hash of a revision.

        Raises:
            PerfdoctorError: there is no such revision here.
        """
        found = _git(self.root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        if found.returncode:
            why = _SHALLOW if self.shallow else "`git fetch origin` may bring it"
            raise PerfdoctorError(
                f"there is no revision {revision!r} in {self.root}; {why}", slug="no-such-revision"
            )
        return found.stdout.strip()

    def merge_base(self, revision: str) -> str:
        """Where the work on this checkout's HEAD began to differ from `revision`.

        Raises:
            PerfdoctorError: there is no such revision, or no common ancestor.
        """
        commit, head = self.commit(revision), self.commit("HEAD")
        found = _git(self.root, "merge-base", commit, head)
        if found.returncode or not found.stdout.strip():
            why = _SHALLOW if self.shallow else "use --exact to compare with it all the same"
            raise PerfdoctorError(
                f"{revision} and HEAD have no common ancestor here: {why}", slug="no-merge-base"
            )
        return found.stdout.split()[0]

    @property
    def shallow(self) -> bool:
        """Whether old commits were left out when it was cloned."""
        return _git(self.root, "rev-parse", "--is-shallow-repository").stdout.strip() == "true"

    @property
    def dirty(self) -> bool:
        """Whether there is code that no commit holds: changes, or new files that look like code."""
        listed = _git(self.root, "status", "--porcelain", "-z", "--untracked-files=all").stdout
        entries = [entry for entry in listed.split("\0") if entry]
        return any(not e.startswith("?? ") or Path(e[3:]).suffix in _CODE for e in entries)

    def packages(self) -> frozenset[str]:
        """Names of the modules and packages at the top of the project, or of its `src`."""
        return frozenset(self._packages())

    def _packages(self) -> Iterator[str]:
        listed = _git(self.root, "ls-files", "-z", "--", "*.py").stdout
        for file in filter(None, listed.split("\0")):
            parts = file.split("/")
            if parts[0] == "src":
                parts = parts[1:]
            if len(parts) == 2 and parts[1] == "__init__.py":
                yield parts[0]
            elif len(parts) == 1:
                yield parts[0].removesuffix(".py")

    def submodules(self, commit: str) -> Iterator[tuple[Repository, str]]:
        """Those that a commit names and that are here, each with the commit that it is to be at."""
        if _git(self.root, "cat-file", "-e", f"{commit}:.gitmodules").returncode:
            return
        for entry in self.git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0"):
            what, _, path = entry.partition("\t")
            if what.startswith(_SUBMODULE) and (self.root / path / ".git").exists():
                yield Repository(self.root / path, Path()), what.split()[-1]

    def pointers(self) -> list[str]:
        """Files that git-lfs has not brought: the checkout holds what points to them."""
        listed = _git(self.root, "ls-files", "-z", "--", ":(attr:filter=lfs)").stdout
        return [name for name in filter(None, listed.split("\0")) if _points(self.root / name)]


def _points(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def find(folder: Path) -> Repository:
    """The checkout that `folder` lies in.

    Raises:
        PerfdoctorError: it lies in none, or there is no git.
    """
    try:
        done = _git(folder, "rev-parse", "--show-toplevel")
    except FileNotFoundError:
        raise PerfdoctorError("--against needs git, which is not here", slug="no-git") from None
    if done.returncode:
        raise PerfdoctorError(
            f"{folder} is in no git repository ({_last_line(done.stderr)}); --against compares "
            "revisions: use --baseline instead",
            slug="no-repository",
        )
    root = Path(done.stdout.rstrip("\n"))
    return Repository(root, folder.resolve().relative_to(root.resolve()))


def _git(folder: Path, *arguments: str, session: bool = False) -> subprocess.CompletedProcess[str]:
    # a checkout's own hooks are no part of a check, nor is a repository whose hook has called it
    kept = {k: v for k, v in os.environ.items() if k not in _OF_ANOTHER}
    return subprocess.run(
        ["git", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        start_new_session=session,
    )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("fatal: ") if lines else "no reason given"
