"""Two checkouts side by side, at paths of the same length, that are gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate.repository import Repository
from perfdoctor.interrupts import undisturbed

#: Of the same length: the length of a path moves what lies on the stack, and that costs or gains
#: up to several per cent (Mytkowicz et al., Producing wrong data without doing anything obviously
#: wrong, ASPLOS 2009).
BEFORE, AFTER = "before", "after_"


@dataclass(frozen=True)
class Checkout:
    """The code of one side.

    `scratch` is a folder for caches and reports of this side. `in_place`: it is the user's own
    checkout, with changes that no commit holds.
    """

    side: str
    root: Path
    scratch: Path
    commit: str
    in_place: bool = False

    def at(self, below: Path) -> Path:
        """A folder or file in it."""
        return self.root / below


#: A worktree, and the repository that it belongs to: a submodule has one of its own.
_Made = tuple[Repository, Path]


@contextmanager
def checked_out(
    repository: Repository, before: str, shared: Sequence[str] = ()
) -> Iterator[tuple[Checkout, Checkout]]:
    """The commit `before`, and HEAD: this checkout itself if it holds changes.

    `shared` are paths, such as data that git ignores, to be seen by both sides. Removed on every
    way out; several at once in one repository do not disturb each other.

    Raises:
        PerfdoctorError: git fails, or there is nothing at a path of `shared`.
    """
    folder = Path(tempfile.mkdtemp(prefix="perfdoctor-check-")).resolve()
    made: list[_Made] = []
    try:
        yield _sides(repository, before, folder, made, shared)
    finally:
        with undisturbed():
            for owner, path in reversed(made):
                _remove(owner, path)
            shutil.rmtree(folder, ignore_errors=True)


def _sides(
    repository: Repository, before: str, folder: Path, made: list[_Made], shared: Sequence[str]
) -> tuple[Checkout, Checkout]:
    head = repository.commit("HEAD")
    in_place = repository.dirty
    longer = len(str(repository.root)) - len(str(folder / BEFORE)) if in_place else 0
    old = _add(repository, before, folder / (BEFORE + max(0, longer) * "_"), made)
    new = repository.root if in_place else _add(repository, head, folder / AFTER, made)
    sides = (
        Checkout(BEFORE, old, folder / f"{BEFORE}.files", before),
        Checkout(AFTER, new, folder / f"{AFTER}.files", head, in_place),
    )
    for side in sides:
        side.scratch.mkdir()
        if not side.in_place:
            for path in shared:
                _share(repository, path, side.root)
    return sides


def _add(repository: Repository, commit: str, path: Path, made: list[_Made]) -> Path:
    """A checkout with its submodules, as far as they are here: nothing is fetched."""
    made.append((repository, path))  # before it is there: Ctrl-C may come in between
    repository.git("worktree", "add", "--detach", "--force", "--quiet", str(path), commit)
    for inner, pinned in repository.submodules(commit):
        below = inner.root.relative_to(repository.root)
        _add(inner, inner.commit(pinned), path / below, made)
    return path


def _remove(repository: Repository, path: Path) -> None:
    """The folder, and what git remembers of it; nothing of other worktrees."""
    try:
        repository.git("worktree", "remove", "--force", "--force", str(path), session=True)
    except PerfdoctorError:  # it was never finished, or holds what git will not remove
        shutil.rmtree(path, ignore_errors=True)
        for entry in (_common(repository) / "worktrees").glob("*/gitdir"):
            if Path(entry.read_text().strip()) == path / ".git":
                shutil.rmtree(entry.parent, ignore_errors=True)


def _common(repository: Repository) -> Path:
    return repository.root / repository.git("rev-parse", "--git-common-dir", session=True)


def _share(repository: Repository, path: str, root: Path) -> None:
    """A link to it at the same place."""
    source = (repository.root / repository.below / path).resolve()
    if not source.exists():
        raise PerfdoctorError(f"--share {path}: there is no such file", slug="nothing-to-share")
    if not source.is_relative_to(repository.root.resolve()):
        raise PerfdoctorError(
            f"--share {path}: it lies outside {repository.root}, where both sides see it anyway",
            slug="nothing-to-share",
        )
    place = root / source.relative_to(repository.root.resolve())
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.is_dir():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(source)
