"""Every log in sample_logs/ is read as expected.toml says that a person would."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfdoctor.readers import gathering
from perfdoctor.record import Floats, Run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parents[2] / "sample_logs"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads(
    (FOLDER / "expected.toml").read_text(encoding="utf-8")
)
#: What "generic" may be called: forms without a program of their own.
GENERAL = {"generic", "generic_tok_s", "csv", "json_lines", "tqdm"}
TOLERANCE = 0.02


def read(name: str) -> Run:
    """The run in a file, or the last of several that were appended to it."""
    runs = gathering.gather([str(FOLDER / name)], lambda *_: None).runs
    assert len(runs) == EXPECTED[name].get("runs", 1)
    return runs[-1]


def median(values: Floats | None) -> float | None:
    """None where nothing is known."""
    known = np.empty(0) if values is None else values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None


def stage(run: Run, name: str) -> Floats | None:
    return next((s.exposed_s for s in run.stages if s.name == name), None)


def readings(run: Run) -> dict[str, float | None]:
    """What a run tells, by the keys of expected.toml."""
    rate = run.rates.get("samples_per_s")
    if rate is None and run.step_s.size:
        rate = run.samples / run.step_s
    epochs = run.epochs
    return {
        "step_s": median(run.step_s),
        "data_s": median(stage(run, "data_loading")),
        "forward_s": median(stage(run, "forward")),
        "backward_s": median(stage(run, "backward")),
        "optimizer_s": median(stage(run, "optimizer")),
        "samples_per_s": median(rate),
        "tokens_per_s": median(run.rates.get("tokens_per_s")),
        "epoch_s": None if epochs is None else median(epochs.time_s),
        "validation_s": None if epochs is None else median(epochs.validation_s),
        "wall_s": run.wall_s,
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_a_log_is_read_as_a_person_reads_it(name: str) -> None:
    expected = EXPECTED[name]
    run = read(name)
    found = readings(run)
    formats = GENERAL if expected["format"] == "generic" else {expected["format"]}
    assert run.source.format in formats
    for key, value in found.items():
        if key in expected:
            rel = expected.get(f"rel_{key}", expected.get("rel", TOLERANCE))
            assert value == pytest.approx(expected[key], rel=rel), key
    if expected.get("timing") is False:
        assert found["step_s"] is None
        assert found["epoch_s"] is None
        assert found["samples_per_s"] is None
    if "ranks" in expected:
        assert run.ranks == expected["ranks"]
    if "restarts" in expected:
        assert len(run.restarts) == expected["restarts"]


def test_every_log_has_an_expected_reading() -> None:
    logs = {
        str(path.relative_to(FOLDER))
        for path in FOLDER.rglob("*")
        if path.is_file() and path.parent != FOLDER and "make" not in path.parts
    }
    assert {name.replace("\\", "/") for name in logs} - {"__pycache__"} == set(EXPECTED)
