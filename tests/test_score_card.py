"""When the diagnosis benchmark calls a healthy script accused."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks" / "diagnosis"


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module; it finds its neighbours in its own folder."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("score")
    for name in ("score", "advice", "cases"):
        sys.modules.pop(name, None)


def advice(rule: str, optional: bool) -> dict[str, Any]:
    return {"rule": rule, "name": "made-up", "optional": optional}


@pytest.mark.parametrize(
    ("bottleneck", "given", "is_accused"),
    [
        ("none", [], False),
        ("none", [advice("PD604", optional=True)], False),
        ("none", [advice("PD604", optional=False)], True),
        ("none", [advice("PD901", optional=False)], False),
        ("none", [advice("PD901", optional=False), advice("PD206", optional=False)], True),
        ("forward", [], True),
    ],
)
def test_a_healthy_script_is_accused_by_a_bottleneck_or_by_a_fault(
    score: ModuleType, bottleneck: str, given: list[dict[str, Any]], is_accused: bool
) -> None:
    case = score.Case(Path("healthy"), {"bottleneck": "none"})
    report = {"diagnosis": {"bottleneck": bottleneck}, "recommendations": given}
    row = score.scored(case, report, score.Outcome(0, 0.0, 0.0, "", ""), None)
    assert score.accused(row) is is_accused
