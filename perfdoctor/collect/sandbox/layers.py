"""A folder of changes laid over the files of the machine: what overlayfs does, by names alone.

Only what asks here where a file is sees the changes. All of the state is in the folder, so that
several processes can share it: `files` mirrors the paths of what was written, and for each file of
the user that was removed there is a mark in `hidden`.
"""

from __future__ import annotations

import _io
import errno
import hashlib
import os
import posix
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from posixpath import normpath, split

from perfdoctor.collect.sandbox.overlay import LEFT_ALONE

#: As many symbolic links the kernel follows (path_resolution(7)).
_MOST_LINKS = 40


class Layers:
    """Where a file is, and where it is to be written; paths are `real` where links are resolved."""

    def __init__(self, scratch: str) -> None:
        self.files, self._hidden = f"{scratch}/files", f"{scratch}/hidden"
        with suppress(FileExistsError):
            posix.mkdir(self.files)
        self._apart = tuple(f"{folder}/" for folder in (scratch, *LEFT_ALONE))
        self._folders: dict[str, str] = {}

    # -- names -----------------------------------------------------------------------------

    def real(self, path: object, *, follow: bool = True, folder: int | None = None) -> str | None:
        """The path that is mirrored; None for what has no path, or is left as it is."""
        if isinstance(path, int) or path is None:
            return None
        text = os.fsdecode(path)  # type: ignore[arg-type]
        if not text or "\0" in text:
            return None
        if text[0] != "/":
            text = f"{self._base(folder)}/{text}"
        text = "/" + normpath(text).lstrip("/")
        if f"{text}/".startswith(self._apart):
            return None
        found = self._resolved(text, follow, 0)
        return None if f"{found}/".startswith(self._apart) else found

    def shown(self, path: str) -> str:
        """The name that the user knows."""
        if path == self.files:
            return "/"
        return path[len(self.files) :] if path.startswith(self.files + "/") else path

    def links_changed(self) -> None:
        """Folders may be other ones now."""
        self._folders.clear()

    def _base(self, folder: int | None) -> str:
        if folder is None:
            return self.shown(posix.getcwd())
        return self.shown(posix.readlink(f"/proc/self/fd/{folder}"))

    def _resolved(self, path: str, follow: bool, links: int) -> str:
        head, name = split(path)
        if not name:
            return path
        base = self._folders.get(head)
        if base is None:
            base = self._folders[head] = self._resolved(head, True, links)
        here = f"{base.rstrip('/')}/{name}"
        target = self._target(here) if follow and links < _MOST_LINKS else None
        if target is None:
            return here
        return self._resolved(normpath(os.path.join(base, target)), True, links + 1)  # noqa: PTH118

    def _target(self, real: str) -> str | None:
        try:
            return posix.readlink(self.files + real)
        except OSError as error:
            if error.errno == errno.EINVAL:  # it is there, and no link
                return None
        try:
            target = posix.readlink(real)
        except OSError:
            return None
        return None if self.is_hidden(real) else target

    # -- what is there ---------------------------------------------------------------------

    def found(self, real: str) -> str:
        """Where it is to be read."""
        changed = self.files + real
        return changed if _there(changed) or self.is_hidden(real) else real

    def below(self, real: str) -> os.stat_result | None:
        """The user's file of this name, unless the script has removed it."""
        try:
            found = posix.lstat(real)
        except OSError:
            return None
        return None if self.is_hidden(real) else found

    def exists(self, real: str) -> bool:
        """Whether there is anything of this name."""
        return _there(self.files + real) or self.below(real) is not None

    def names(self, real: str) -> tuple[list[str], list[str]]:
        """The names in a folder: of what was written, and of the user's files that are left."""
        written, kept, changed = list[str](), list[str](), self.files + real
        if _there(changed):
            written = posix.listdir(changed)
        elif self.below(real) is None:
            posix.listdir(changed)  # raises what is true
        if self.below(real) is not None:
            known, base = set(written), real.rstrip("/")
            kept = [name for name in posix.listdir(real) if name not in known]
            if _there(self._hidden):
                kept = [name for name in kept if not _there(self._mark(f"{base}/{name}"))]
        return written, kept

    # -- what is changed -------------------------------------------------------------------

    def is_hidden(self, real: str) -> bool:
        """Whether the script has removed the user's file, or a folder around it."""
        if not _there(self._hidden):
            return False
        return any(_there(self._mark(path)) for path in _and_around(real))

    def hide(self, real: str) -> None:
        """The user's file, or folder, of this name is there no longer."""
        with suppress(FileExistsError):
            posix.mkdir(self._hidden)
        posix.close(posix.open(self._mark(real), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))

    def _mark(self, real: str) -> str:
        return f"{self._hidden}/{hashlib.sha1(os.fsencode(real)).hexdigest()}"

    def to_write(self, real: str, *, copied: bool = True) -> str:
        """Where it is to be written; a user's file is copied there first.

        Args:
            copied: False where only its permissions matter, since it is written anew.
        """
        changed = self.files + real
        if _there(changed) or not self.has_folder(real):
            return changed
        found = self.below(real)
        if found is None:
            return changed if self._may_write(split(real)[0]) else real
        if stat.S_ISDIR(found.st_mode):
            self._mirrored(real)
        elif stat.S_ISLNK(found.st_mode):
            posix.symlink(posix.readlink(real), changed)
        elif stat.S_ISREG(found.st_mode):
            _copied(real if copied else "/dev/null", changed, found)
        else:
            return real
        return changed

    def whole(self, real: str) -> str:
        """As `to_write`, with everything that is in a folder."""
        changed = self.to_write(real)
        with suppress(NotADirectoryError, FileNotFoundError):
            for name in self.names(real)[1]:
                self.whole(f"{real}/{name}")
        return changed

    def has_folder(self, real: str) -> bool:
        """Whether there is a folder for it, which is mirrored then."""
        return self._mirrored(split(real)[0])

    def _may_write(self, folder: str) -> bool:
        return self.below(folder) is None or posix.access(folder, os.W_OK)

    def _mirrored(self, folder: str) -> bool:
        changed = self.files + folder
        if _is_folder(changed):
            return True
        found = self.below(folder)
        if found is None or not stat.S_ISDIR(found.st_mode) or _there(changed):
            return False
        if not self._mirrored(split(folder)[0]):
            return False
        with suppress(FileExistsError):  # another process was faster
            posix.mkdir(changed, stat.S_IMODE(found.st_mode) | stat.S_IRWXU)
        return True


def _there(path: str) -> bool:
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(posix.stat(path).st_mode)
    except OSError:
        return False


def _and_around(real: str) -> Iterator[str]:
    while len(real) > 1:
        yield real
        real = split(real)[0]


def _copied(source: str, target: str, found: os.stat_result) -> None:
    with _io.open(source, "rb") as old, _io.open(target, "wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
    posix.chmod(target, stat.S_IMODE(found.st_mode))
    posix.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
