"""What `perfdoctor analyze` costs: `python benchmarks/analyze.py [--lines N] [--growth]`.

Writes an imagenet-style log, then reads it with `perfdoctor analyze` (JSON and pictures included)
and with an awk one-liner that takes one column out of it, in turns, in one run. With `--growth` a
log of ten times the lines as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from make_log import write

_ROUNDS = 3
_MB = 1e6


@dataclass(frozen=True)
class Cost:
    """One command: wall seconds, and peak of its resident memory in bytes."""

    seconds: float
    peak_bytes: int


def run(command: Sequence[str], folder: Path) -> Cost:
    """Runs a command and waits for it."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return Cost(seconds, usage.ru_maxrss * 1024)


def measure(log: Path, folder: Path) -> tuple[list[Cost], list[Cost]]:
    """perfdoctor and awk in turns; the first round of each warms the page cache."""
    analyze = [sys.executable, "-m", "perfdoctor", "analyze", str(log), "--output-dir", str(folder)]
    awk = [shutil.which("awk") or "awk", "{print $6}", str(log)]
    run(analyze, folder)
    run(awk, folder)
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(run(analyze, folder))
        theirs.append(run(awk, folder))
    return ours, theirs


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--growth", action="store_true", help="ten times the lines as well")
    given = parser.parse_args()
    print(f"{'lines':>12} {'MB':>7} {'analyze s':>10} {'MB/s':>7} {'awk s':>7} {'of awk':>7} "
          f"{'peak MB':>8} {'B/record':>9}")  # fmt: skip
    took: list[float] = []
    for lines in [given.lines, given.lines * 10] if given.growth else [given.lines]:
        with tempfile.TemporaryDirectory(prefix="perfdoctor-benchmark-") as place:
            folder = Path(place)
            log = folder / "train.log"
            write(log, lines)
            size = log.stat().st_size
            ours, theirs = measure(log, folder)
            seconds = statistics.median(cost.seconds for cost in ours)
            awk_s = statistics.median(cost.seconds for cost in theirs)
            peak = max(cost.peak_bytes for cost in ours)
            took.append(seconds)
            print(f"{lines:>12,} {size / _MB:>7.0f} {seconds:>10.2f} {size / _MB / seconds:>7.0f} "
                  f"{awk_s:>7.2f} {awk_s / seconds:>7.0%} {peak / _MB:>8.0f} "
                  f"{(peak - 250 * _MB) / lines:>9.0f}")  # fmt: skip
    if len(took) == 2:
        print(f"ten times the log takes {took[1] / took[0]:.1f} times as long")


if __name__ == "__main__":
    main()
