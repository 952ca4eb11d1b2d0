"""Packages that add rules and readers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

from perfdoctor import plugins

OURS = "[perfdoctor.rules]\nslow = their_rules:Slow\n"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The groups that importlib.metadata is asked for; nothing is on the path yet."""
    groups: list[str] = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: groups.append(group) or ())
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [metadata.MetadataPathFinder])
    return groups


@pytest.fixture
def package(tmp_path: Path) -> Callable[[str], Path]:
    """`package(entry_points)`: a folder with an installed package that has these."""

    def install(entries: str) -> Path:
        info = tmp_path / "site" / "theirs-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entries)
        return info.parent

    return install


def test_entry_points_of_a_package_are_found(
    package: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(package(OURS))])
    assert [entry.value for entry in plugins.entry_points(group=plugins.RULES)] == [
        "their_rules:Slow"
    ]


def test_where_no_package_names_our_groups_nothing_more_is_imported(
    package: Callable[[str], Path], asked: list[str], tmp_path: Path
) -> None:
    sys.path += [str(package("[console_scripts]\nperfdoctor = x:y\n")), str(tmp_path / "missing")]
    assert plugins.entry_points(group=plugins.RULES) == ()
    assert not asked


def test_what_lies_in_an_archive_or_an_egg_may_have_some(asked: list[str], tmp_path: Path) -> None:
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("theirs.py", "")
    sys.path.append(str(tmp_path / "all.zip"))
    plugins.entry_points(group=plugins.RULES)
    (tmp_path / "site" / "theirs-1.0-py3.11.egg").mkdir(parents=True)
    sys.path[:] = [str(tmp_path / "site")]
    plugins.entry_points(group=plugins.READERS)
    assert asked == [plugins.RULES, plugins.READERS]


def test_packages_that_are_found_in_another_way_may_have_some(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.meta_path.append(metadata.MetadataPathFinder())
    plugins.entry_points(group=plugins.RULES)
    assert asked == [plugins.RULES]
