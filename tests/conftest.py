"""Fixtures for every test. `from builders import ...` works in each: this folder is on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Property tests draw the same examples each time, so that a run of all tests says the same twice;
# `make fuzz` draws new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("new", derandomize=False)
settings.load_profile("same")

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:  # so that builders.py is found under every pytest import mode
    sys.path.insert(0, _HERE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accept",
        action="store_true",
        help="rewrite golden files with what the tests give now; look at the diff afterwards",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)`: `text` must equal golden/NAME beside the test file."""

    def compare(name: str, text: str) -> None:
        path = request.path.parent / "golden" / name
        if request.config.getoption("--accept"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.encode())
            return
        assert path.is_file(), f"{path} is missing; `pytest --accept` writes it"
        expected = path.read_bytes().decode()
        assert text == expected, f"differs from {path}; `pytest --accept` rewrites it if right"

    return compare
