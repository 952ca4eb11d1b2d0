"""Being called once a package is there, and how long its import took."""

from __future__ import annotations

import importlib
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
