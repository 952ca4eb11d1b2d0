"""A rule from a real package: a wheel's layout on disk, found by its entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bases import report

from perfdoctor.schema import to_json

MODULE = '''"""A rule of another project."""

from perfdoctor.report import Evidence, Finding


class EvenBatch:
    """The batch is even, which this house does not like.

    ## What it does
    Looks at the batch size.

    ## Why it is slow
    It is not.

    ## Evidence and threshold
    - `most` = 16 (source: the house)

    ## What to change
    An odd batch.

    ## How the gain is predicted
    It is not: nobody measured it.

    ## When not to
    Never.
    """

    code = "HOUSE1"
    name = "even-batch"
    needs = ("configuration.batch_size",)
    verify_with = None
    cause = "house-style"
    thresholds = {"most": 16.0}

    def evaluate(self, facts):
        size = facts.number("configuration.batch_size")
        if size % 2 or size <= facts.threshold("most"):
            return None
        return Finding(
            stage="forward",
            title=f"The batch of {size:.0f} is even",
            advice="Make it odd.",
            change={"batch_size": size + 1},
            snippet="",
            evidence=(Evidence(metric="batch", value=size, unit=""),),
            cause=self.cause,
        )


class Broken:
    """A rule without a code."""


def explode():
    raise RuntimeError("not today")
'''
ENTRIES = """[perfdoctor.rules]
even = house_rules:EvenBatch
broken = house_rules:Broken
explodes = house_rules:explode
gone = house_rules:NoSuchRule
"""
JUDGE = """
import sys
from pathlib import Path
from perfdoctor import schema, settings
from perfdoctor.rules.engine import diagnose
stored = schema.from_json(Path(sys.argv[1]).read_bytes())
sys.stdout.buffer.write(schema.to_json(diagnose(stored, settings.load(Path.cwd()))))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as pip leaves it behind: a module, and metadata with entry points beside it."""
    folder = tmp_path / "site"
    metadata = folder / "house_rules-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "house_rules.py").write_text(MODULE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: house-rules\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRIES)
    return folder


def python(package: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"},
    )


def judged(package: Path, cwd: Path, settings: str = "") -> dict:
    stored = cwd / "stored.json"
    stored.write_bytes(to_json(report("healthy_cpu")))
    (cwd / "perfdoctor.toml").write_text(settings)
    done = python(package, "-c", JUDGE, stored, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_its_rule_judges_beside_the_others(package: Path, tmp_path: Path) -> None:
    result = judged(package, tmp_path)
    (advice,) = [r for r in result["recommendations"] if r["rule"] == "HOUSE1"]
    assert advice["title"] == "The batch of 32 is even"
    assert advice["unpredicted"] == "nobody measured it"


def test_what_is_wrong_with_the_package_is_told_and_stops_nothing(
    package: Path, tmp_path: Path
) -> None:
    warnings = judged(package, tmp_path)["warnings"]
    assert any("entry point 'gone' failed to load" in warning for warning in warnings)
    assert any("Broken" in warning and "it has no code" in warning for warning in warnings)
    assert any("explode" in warning for warning in warnings)


@pytest.mark.parametrize(
    "text", ['disable = ["HOUSE1"]', 'disable = ["even-batch"]', "thresholds.HOUSE1.most = 64"]
)
def test_it_obeys_the_project_s_settings(package: Path, tmp_path: Path, text: str) -> None:
    result = judged(package, tmp_path, text)
    assert "HOUSE1" not in [r["rule"] for r in result["recommendations"]]
    assert not any("changes nothing" in warning for warning in result["warnings"])


def test_it_is_listed_and_explained(package: Path, tmp_path: Path) -> None:
    listed = python(package, "-m", "perfdoctor", "rules", "--json", cwd=tmp_path)
    mine = next(row for row in json.loads(listed.stdout) if row["code"] == "HOUSE1")
    assert (mine["name"], mine["family"], mine["thresholds"]) == (
        "even-batch",
        "HOUSE",
        {"most": 16.0},
    )
    explained = python(package, "-m", "perfdoctor", "explain", "even-batch", cwd=tmp_path)
    assert explained.stdout.startswith("# HOUSE1 even-batch\n\nThe batch is even")
