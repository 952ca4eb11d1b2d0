"""Runs a script under `perfdoctor run`, as a user does, and reads its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2])


def reported(folder: Path, script: str, word: str, **environment: str) -> dict[str, Any]:
    """The report of `script`, written into the folder and called with this argument."""
    (folder / "train.py").write_text(script)
    options = ["--quiet", "--no-plots", "train.py", word]
    command = [sys.executable, "-m", "perfdoctor", "run", *options]
    given = {**os.environ, "PYTHONPATH": ROOT, **environment}
    subprocess.run(command, cwd=folder, env=given, check=True, capture_output=True, timeout=300)
    (path,) = folder.glob("performance_report_*.json")
    report: dict[str, Any] = json.loads(path.read_text())
    return report
