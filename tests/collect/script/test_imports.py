"""Being called once a package is there, and how long its import took."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from perfdoctor.collect.script import imports
from perfdoctor.collect.script.imports import after_import

NAME = "imported_for_a_test"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{NAME}.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "took_s", {})
    monkeypatch.delitem(sys.modules, NAME, raising=False)


@pytest.mark.usefixtures("package")
def test_it_is_called_when_the_package_is_whole_and_its_import_was_timed() -> None:
    seen: list[object] = []
    after_import(NAME, lambda: seen.append((sys.modules[NAME].value, *imports.took_s)))
    assert not seen
    importlib.import_module(NAME)
    assert seen == [(3, NAME)]


@pytest.mark.usefixtures("package")
def test_an_import_that_was_there_before_was_not_timed() -> None:
    importlib.import_module(NAME)
    seen: list[str] = []
    after_import(NAME, lambda: seen.append("called"))
    assert seen == ["called"]
    assert imports.took_s == {}


@pytest.mark.usefixtures("package")
def test_asking_whether_there_is_a_package_is_no_import_of_it() -> None:
    seen: list[str] = []
    after_import(NAME, lambda: seen.append("first"))
    after_import(NAME, lambda: seen.append("second"))
    finders = len(sys.meta_path)
    spec = importlib.util.find_spec(NAME)
    assert spec is not None and spec.origin is not None and spec.origin.endswith(f"{NAME}.py")
    assert not seen
    importlib.import_module(NAME)
    assert sorted(seen) == ["first", "second"]
    assert len(sys.meta_path) == finders - 2
    del sys.modules[NAME]
    importlib.import_module(NAME)
    assert len(seen) == 2


@pytest.mark.usefixtures("package")
def test_a_package_whose_import_fails_is_waited_for(tmp_path: Path) -> None:
    module = tmp_path / f"{NAME}.py"
    module.write_text(
        "import sys\nif not hasattr(sys, 'ready'):\n    raise ImportError('not yet')\n"
    )
    seen: list[str] = []
    after_import(NAME, lambda: seen.append("called"))
    with pytest.raises(ImportError, match="not yet"):
        importlib.import_module(NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "ready", True, raising=False)
        importlib.import_module(NAME)
    assert seen == ["called"]


def test_a_package_that_is_not_there_is_not_found() -> None:
    after_import("no_such_package_here", lambda: None)
    try:
        assert importlib.util.find_spec("no_such_package_here") is None
    finally:
        sys.meta_path.pop(0)
