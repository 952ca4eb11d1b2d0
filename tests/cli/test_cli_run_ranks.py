"""Several ranks for real: torchrun, gloo and `perfdoctor run`."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from perfdoctor.report import Report
from perfdoctor.schema import from_json

SCRIPT = Path(__file__).with_name("ranks_script.py")
MERGED = "Where the time of a step goes"


@dataclass(frozen=True)
class Ended:
    """What torchrun left behind."""

    code: int
    out: str
    err: str
    report: Report
    files: list[str]


def torchrun(ranks: int, folder: Path, *arguments: str) -> Ended:
    """One report is there, or this fails."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    ours = ["-m", "perfdoctor", "run", "--no-plots", "--output-dir", str(folder)]
    found = subprocess.run(
        [sys.executable, *launcher, *ours, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    files = sorted(path.name for path in folder.iterdir())
    assert len(files) == 1, found.stderr
    report = from_json((folder / files[0]).read_bytes())
    return Ended(found.returncode, found.stdout, found.stderr, report, files)


def advised(report: Report) -> set[str]:
    return {r.rule for r in report.recommendations} | {
        choice.rule for r in report.recommendations for choice in r.choices
    }


def test_a_rank_with_slow_data_is_named_in_one_report(tmp_path: Path) -> None:
    ended = torchrun(2, tmp_path, "slow", "1")
    assert ended.code == 0
    assert sorted(ended.out.splitlines()) == ["rank 0 is done", "rank 1 is done"]
    assert ended.err.count(MERGED) == 1
    skew = ended.report.rank_skew
    assert skew is not None
    assert (skew.slowest, skew.stage) == (1, "data_loading")
    assert ended.report.ranks == 2
    assert [row.steps for row in ended.report.rank_table] == [48, 48]
    assert ended.report.configuration["ddp_log"]["syncs_per_step"] == 1.0
    assert "PD601" in advised(ended.report)


@pytest.mark.slow
def test_four_equal_ranks_are_balanced(tmp_path: Path) -> None:
    ended = torchrun(4, tmp_path, "none", "0")
    assert ended.code == 0
    assert ended.err.count(MERGED) == 1
    assert ended.report.ranks == 4
    assert "PD601" not in advised(ended.report)
    assert not any("Rank" in warning for warning in ended.report.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_a_rank_that_is_killed_is_named_and_the_other_is_reported(tmp_path: Path, who: int) -> None:
    ended = torchrun(2, tmp_path, "kill", str(who))
    assert ended.code != 0
    assert ended.err.count(MERGED) == 1
    rows = ended.report.rank_table
    assert rows[who].note == "it died"
    assert rows[1 - who].steps is not None and rows[1 - who].steps >= 24
    assert f"Rank {who} left no report at its end: it died." in ended.report.warnings[0]


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 2])
def test_a_rank_that_raises_is_named_with_its_error(tmp_path: Path, who: int) -> None:
    ended = torchrun(4, tmp_path, "raise", str(who))
    assert ended.code != 0
    assert ended.err.count(MERGED) == 1
    assert f"Rank {who} ended early: ValueError: planted." in ended.report.warnings
    assert ended.report.ending is not None
    assert ended.report.ending.detail == "ValueError: planted"
    assert ended.report.rank_table[who].steps == 25
