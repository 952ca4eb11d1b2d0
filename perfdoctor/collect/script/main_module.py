"""The script as `__main__`, as Python itself would set it up."""

from __future__ import annotations

import builtins
import importlib.machinery
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import CodeType, ModuleType
from typing import Any

from perfdoctor.collect.script.frames import call_at_base
from perfdoctor.errors import PerfdoctorError


@dataclass(frozen=True)
class Script:
    """What to run.

    Attributes:
        target: a file, a folder or zip file with `__main__.py`, or a module's dotted name.
        arguments: `sys.argv[1:]` of the script.
        is_module: `target` is what follows `python -m`.
    """

    target: str
    arguments: tuple[str, ...]
    is_module: bool = False


@dataclass(frozen=True)
class Prepared:
    """A script that can be run at once.

    Attributes:
        module: its `__main__`.
        argv: its `sys.argv`, as it is before `-m` finds the module's file.
        folder: its `sys.path[0]`; None where Python would not set one.
        run: runs it.
    """

    module: ModuleType
    argv: list[str]
    folder: str | None
    run: Callable[[], object]


def prepare(script: Script) -> Prepared:
    """Finds the script and reads it; runs nothing.

    Raises:
        PerfdoctorError: there is no such file, or it cannot be read.
    """
    if script.is_module:
        return _through_runpy(script, "-m", _working_folder(), (script.target,))
    if not os.path.exists(script.target):  # noqa: PTH110  (False for odd names, where Path raises)
        raise PerfdoctorError(
            f"there is no file {script.target!r} to run; is the path right, seen from "
            f"{_working_folder() or 'here'}?",
            slug="script-not-found",
        )
    path = _absolute(script.target)
    if _is_importable_folder(path):
        return _through_runpy(script, script.target, path, ("__main__", False))
    return _file(script, path)


def enter(prepared: Prepared, script: Script) -> Callable[[], None]:
    """Makes the script's surroundings those that Python would give it; returns what undoes it."""
    before = (sys.modules["__main__"], sys.argv, sys.path[:], sys.orig_argv)
    sys.modules["__main__"] = prepared.module
    sys.argv = prepared.argv
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [] if prepared.folder is None else [prepared.folder]
    sys.orig_argv = _command(script)

    def undo() -> None:
        sys.modules["__main__"], sys.argv, sys.path[:], sys.orig_argv = before

    return undo


def missing(error: BaseException | None, script: Script) -> PerfdoctorError | None:
    """The message for what `runpy` could not find; None if `error` came from elsewhere."""
    if not isinstance(error, SystemExit):
        return None
    reason, tb = error.__context__, error.__traceback__
    by_runpy = (type(reason).__module__, type(reason).__qualname__) == ("runpy", "_Error")
    if not by_runpy or tb is None or tb.tb_next is not None:  # deeper: the script's own doing
        return None
    if script.is_module:
        way_out = "is the name right, and does the current folder hold its package?"
        text = f"cannot run -m {script.target}: {reason}; {way_out}"
        return PerfdoctorError(" ".join(text.split()), slug="module-not-found")
    text = f"cannot run {script.target!r}: it holds no __main__.py; name the script in it to run"
    return PerfdoctorError(text, slug="no-main-module")


def _through_runpy(
    script: Script, name: str, folder: str | None, args: tuple[object, ...]
) -> Prepared:
    # The function the interpreter itself calls for -m and for folders, so that a traceback holds
    # the same lines of runpy.
    import runpy

    module = _main(importlib.machinery.BuiltinImporter)
    run = partial(call_at_base, runpy._run_module_as_main, *args)  # type: ignore[attr-defined]
    return Prepared(module, [name, *script.arguments], folder, run)


def _file(script: Script, path: str) -> Prepared:
    argv = [script.target, *script.arguments]
    folder = os.path.dirname(os.path.realpath(script.target))  # noqa: PTH120
    try:
        with open(script.target, "rb") as file:  # noqa: PTH123  (a pipe or /dev/fd/63 will do)
            source = file.read()
    except OSError as error:
        text = f"cannot read {script.target!r}: {error.strerror}; nothing was run"
        raise PerfdoctorError(text, slug="script-unreadable") from None
    if path.endswith(".pyc"):
        compiled = importlib.machinery.SourcelessFileLoader("__main__", path)
        module = _main(compiled, path)
        return Prepared(module, argv, folder, partial(_run_compiled, compiled, vars(module)))
    module = _main(importlib.machinery.SourceFileLoader("__main__", path), path)
    return Prepared(module, argv, folder, partial(_run_source, source, path, vars(module)))


def _run_source(source: bytes, path: str, namespace: dict[str, Any]) -> None:
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        told = _undecodable(source, path)
        raise (SyntaxError(told) if told else error) from None
    call_at_base(exec, code, namespace)


def _run_compiled(
    loader: importlib.machinery.SourcelessFileLoader, namespace: dict[str, Any]
) -> None:
    code: CodeType | None = loader.get_code("__main__")
    call_at_base(exec, code, namespace)


def _undecodable(source: bytes, path: str) -> str | None:
    """What Python says of a file with bytes that are not UTF-8, which `compile` words otherwise."""
    declared = re.match(rb"(?:[ \t\f]*(?:#.*)?\n)?[ \t\f]*#.*?coding[:=]", source)
    if declared:
        return None
    try:
        source.decode()
    except UnicodeDecodeError as error:
        is_old = sys.version_info < (3, 11)
        line = source.count(b"\n", 0, error.start) + 1 + is_old
        site = "python.org/dev/peps" if is_old else "peps.python.org"
        return (
            f"Non-UTF-8 code starting with '\\x{source[error.start]:02x}' in file {path} on line "
            f"{line}, but no encoding declared; see https://{site}/pep-0263/ for details"
        )
    return None


def _main(loader: object, path: str | None = None) -> ModuleType:
    module = ModuleType("__main__")
    module.__loader__ = loader  # type: ignore[assignment]
    extra: dict[str, Any] = {} if sys.version_info >= (3, 14) else {"__annotations__": {}}
    extra["__builtins__"] = builtins
    if path is not None:
        extra |= {"__file__": path, "__cached__": None}
    vars(module).update(extra)
    return module


def _is_importable_folder(path: str) -> bool:
    """Would Python look for `__main__.py` in it? True for folders and zip files."""
    for hook in sys.path_hooks:
        with suppress(ImportError):
            hook(path)
            return True
    return False


def _absolute(path: str) -> str:
    """As Python makes the script's path absolute: without resolving or normalising it."""
    folder = _working_folder()
    if os.path.isabs(path) or folder is None:  # noqa: PTH117
        return path
    return os.path.join(folder, path)  # noqa: PTH118  (Path would drop "./")


def _working_folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return None


def _command(script: Script) -> list[str]:
    """`sys.orig_argv` as if Python had been called with the script."""
    interpreter, *rest = sys.orig_argv
    options: list[str] = []
    while rest and rest[0].startswith("-") and not re.match(r"-[A-Za-z]*[mc]|-$", rest[0]):
        takes_value = rest[0] in ("-W", "-X", "--check-hash-based-pycs")
        options += rest[: 1 + takes_value]
        rest = rest[1 + takes_value :]
    module = ["-m"] if script.is_module else []
    return [interpreter, *options, *module, script.target, *script.arguments]
