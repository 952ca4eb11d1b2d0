"""What runs in an environment is told from what belongs to a loss."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from perfdoctor.collect.script.environments import of_environment
from perfdoctor.collect.script.libraries import USER
from perfdoctor.collect.script.stacks import Frame

SOURCE = """
class World:
    def reset(self): ...
    def step(self, action): ...
    def observe(self): ...

class Decoder(nn.Module):
    def reset(self): ...
    def step(self, token): ...

class Trainer:
    def reset(self): ...
    def step(self, batch):
        self.loss(batch).backward()

class Steps:
    def step(self): ...
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("environments") / "train.py"
    path.write_text(textwrap.dedent(SOURCE))
    return path


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("World.step", True),
        ("World.observe", True),
        ("main.<locals>.World.reset", True),
        ("Decoder.step", False),
        ("Trainer.step", False),
        ("Steps.step", False),
        ("step", False),
    ],
)
def test_an_environment_has_both_methods(file: Path, function: str, expected: bool) -> None:
    assert of_environment(Frame(str(file), 4, function, 4), USER) is expected


def test_packages_of_environments_are_known() -> None:
    frame = Frame("/venv/site-packages/gymnasium/core.py", 4, "Wrapper.step", 4)
    assert of_environment(frame, "gymnasium")
    assert not of_environment(frame, "numpy")
