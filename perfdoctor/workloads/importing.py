"""Workloads from the user's own code: a file or a dotted module, and a name in it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from perfdoctor.errors import PerfdoctorError, UserCodeError, first_line
from perfdoctor.workload import Workload, WorkloadFactory

_DEFAULT_FUNCTION = "workload"
_SHOWN_NAMES = 8


def from_spec(spec: str) -> WorkloadFactory:
    """A factory from `FILE.py[:FUNCTION]` or `package.module[:FUNCTION]`.

    The module is imported now, the function (default `workload`) is called by the factory. A
    file's folder goes first on `sys.path`, as `python FILE.py` would have it; for a dotted module
    the working directory does.

    Raises:
        UserCodeError: the import raised. The factory raises it where the function does.
        PerfdoctorError: no such file, module or function. The factory raises it where the
            function does not return a `Workload` with a model and a dataset.
    """
    function = _load_callable(spec, _DEFAULT_FUNCTION)

    def factory() -> Workload:
        return _checked(_call(function, {}, spec), spec)

    return factory


def from_parts(
    model: str, dataset: str, model_args: Mapping[str, Any], dataset_args: Mapping[str, Any]
) -> WorkloadFactory:
    """A factory from a model class and a dataset class, each `FILE.py:NAME` or `package:NAME`.

    The dataset is made once and shared, the model anew by each call of the factory.

    Raises:
        UserCodeError: an import raised. The factory raises it where a constructor does.
        PerfdoctorError: no such file, module or name. The factory raises it where what was made
            is no model, or no dataset.
    """
    make_model = _load_callable(model, None)
    make_dataset = _load_callable(dataset, None)
    made: list[Any] = []

    def factory() -> Workload:
        if not made:
            made.append(_checked_dataset(_call(make_dataset, dataset_args, dataset), dataset))
        fresh = _checked_model(_call(make_model, model_args, model), model)
        return Workload(model=fresh, dataset=made[0])

    return factory


def _load_callable(spec: str, default: str | None) -> Callable[..., Any]:
    place, name = _split(spec, default)
    module = _import(place, spec)
    try:
        found = attrgetter(name)(module)
    except AttributeError:
        raise PerfdoctorError(
            f"{place} has no {name!r}; {_what_it_has(module, place)}", slug="workload-name-missing"
        ) from None
    if not callable(found):
        raise PerfdoctorError(
            f"{name!r} in {place} must be a function or a class that can be called anew for each "
            f"measurement, not a {type(found).__name__}",
            slug="workload-not-callable",
        )
    callable_found: Callable[..., Any] = found
    return callable_found


def _split(spec: str, default: str | None) -> tuple[str, str]:
    """The file or module, and the name in it. A drive letter's colon is part of the file."""
    place, _, name = ("", "", "") if spec.endswith(".py") else spec.rpartition(":")
    place, name = (place, name) if place else (spec, default or "")
    separators = {"/", os.sep}
    is_path = any(separator in place for separator in separators)
    if not place or not name or (place.startswith((".", ":")) and not is_path):
        raise _bad_spec(spec, default)
    if is_path and not place.endswith(".py"):
        raise _bad_spec(spec, default)
    return place, name


def _bad_spec(spec: str, default: str | None) -> PerfdoctorError:
    name = "NAME" if default is None else "FUNCTION"
    part = f":{name}" if default is None else f"[:{name}]"
    return PerfdoctorError(
        f"cannot tell a module from {spec!r}; write FILE.py{part} or package.module{part}",
        slug="workload-bad-spec",
    )


def _import(place: str, spec: str) -> ModuleType:
    if place.endswith(".py") and not os.path.isfile(place):  # noqa: PTH113 - no error if unreadable
        raise PerfdoctorError(f"{place} does not exist (cwd {Path.cwd()})", slug="file-missing")
    try:
        return _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    except ModuleNotFoundError as error:
        if _is_part(error.name, place):
            raise PerfdoctorError(
                f"no module named {error.name!r} in {Path.cwd()} or among the installed packages; "
                "for a file write FILE.py",
                slug="workload-module-missing",
            ) from None
        raise _import_failed(spec, error) from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything, or sys.exit()
        raise _import_failed(spec, error) from error


def _is_part(name: str | None, place: str) -> bool:
    """Whether the module that was not found is the one asked for, not one that it imports."""
    return bool(name) and not place.endswith(".py") and f"{place}.".startswith(f"{name}.")


def _import_failed(spec: str, error: BaseException) -> UserCodeError:
    return UserCodeError(
        f"cannot import {spec}: {first_line(error)}",
        slug="workload-import-failed",
        cause=error.with_traceback(_without_machinery(error.__traceback__)),
    )


def _without_machinery(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is neither this file nor importlib."""
    while tb is not None and _is_machinery(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename in (__file__, importlib.__file__)


def _import_module(name: str) -> ModuleType:
    _put_first_on_path(str(Path.cwd()))
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    _put_first_on_path(str(path.parent))
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # under this name a DataLoader worker unpickles its classes
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_name(path: Path) -> str:
    """The file's stem, unless another module has that name (`random.py`, a second `data.py`)."""
    loaded = sys.modules.get(path.stem)
    taken = path.stem in sys.stdlib_module_names
    if loaded is not None:
        taken = getattr(loaded, "__file__", None) != str(path)
    return f"{path.stem}_{zlib.crc32(bytes(path)):08x}" if taken else path.stem


def _put_first_on_path(folder: str) -> None:
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)


def _call(function: Callable[..., Any], arguments: Mapping[str, Any], spec: str) -> Any:
    try:
        return function(**arguments)
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise UserCodeError(
            f"{spec} raised {first_line(error)}",
            slug="workload-raised",
            cause=error.with_traceback(_without_machinery(error.__traceback__)),
        ) from error


def _checked(made: Any, spec: str) -> Workload:
    if not isinstance(made, Workload):
        raise _wrong_type(spec, "return perfdoctor.Workload", made)
    _checked_model(made.model, spec)
    _checked_dataset(made.dataset, spec)
    return made


def _checked_model(model: Any, spec: str) -> Any:
    from torch import nn

    if not isinstance(model, nn.Module):
        raise _wrong_type(spec, "give a torch.nn.Module as the model", model)
    return model


def _checked_dataset(dataset: Any, spec: str) -> Any:
    usable = hasattr(dataset, "__getitem__") or hasattr(dataset, "__iter__")
    if not usable or isinstance(dataset, type):
        raise _wrong_type(spec, "give a dataset with __getitem__ or __iter__", dataset)
    return dataset


def _wrong_type(spec: str, what: str, got: Any) -> PerfdoctorError:
    shown = f"the class {got.__name__}" if isinstance(got, type) else type(got).__name__
    return PerfdoctorError(f"{spec} must {what}, got {shown}", slug="workload-wrong-type")


def _what_it_has(module: ModuleType, place: str) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]
    if not own:
        return "it defines no function or class"
    more = ", ..." if len(own) > _SHOWN_NAMES else ""
    return f"it has {', '.join(own[:_SHOWN_NAMES])}{more} (write {place}:{own[0]})"
