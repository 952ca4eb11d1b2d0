"""Imported by Python at its start; see `perfdoctor/gate/origins.py`. Must never fail."""

import atexit
import importlib.machinery
import importlib.util
import os
import sys

_FOLDER = os.environ.get("PERFDOCTOR_ORIGINS")


def _note() -> None:
    import json
    import tempfile

    files = {n: getattr(m, "__file__", None) for n, m in list(sys.modules.items())}
    known = {n: os.path.abspath(f) for n, f in files.items() if f}  # noqa: PTH100
    try:
        handle, temporary = tempfile.mkstemp(dir=_FOLDER)
        with os.fdopen(handle, "w") as file:
            json.dump(known, file)
        os.replace(temporary, temporary + ".json")  # noqa: PTH105
    except OSError:  # the folder is gone, and with it whoever asked
        pass


def _run_hidden() -> None:
    """The `sitecustomize` that this one stands before."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    rest = [p for p in sys.path if os.path.abspath(p) != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if _FOLDER:
    atexit.register(_note)
_run_hidden()
