"""What `perfdoctor analyze` costs: `python benchmarks/analyze.py [--lines N] [--growth]`.

Writes an imagenet-style log, then reads it with `perfdoctor analyze` (start of the interpreter,
JSON and pictures included) and with an awk one-liner that takes one column out of it, in turns, in
one run. With `--growth` a log of ten times the lines as well. CPU seconds are of all processes
together. The peak is of the resident memory of all of them, pages that they share counted twice,
and is taken in a run of its own, in which somebody looks all the time.

As after an installation there is bytecode, whatever PYTHONDONTWRITEBYTECODE says: a first run
writes it to a temporary folder.
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

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from make_log import write

_ROUNDS = 5
_MB = 1e6
_LOOKS_S = 0.002


@dataclass(frozen=True)
class Cost:
    """One command: wall seconds, and processor seconds of all its processes."""

    wall_s: float
    cpu_s: float


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """A command whose output nobody reads."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, stdout=nowhere, stderr=nowhere, env=environment)


def run(command: Sequence[str], folder: Path) -> Cost:
    """Runs a command and waits for it."""
    began = time.perf_counter()
    process = start(command, folder)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = status
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime)


def peak_bytes(command: Sequence[str], folder: Path) -> int:
    """The most resident memory that the command and its processes have together."""
    process = start(command, folder)
    seen = psutil.Process(process.pid)
    most = 0
    while process.poll() is None:
        try:
            family = [seen, *seen.children(recursive=True)]
            most = max(most, sum(member.memory_info().rss for member in family))
        except psutil.Error:  # one of them has just ended
            pass
        time.sleep(_LOOKS_S)
    return most


def measure(analyze: Sequence[str], log: Path, folder: Path) -> tuple[list[Cost], list[Cost]]:
    """perfdoctor and awk in turns; the first round of each warms the page cache."""
    awk = [shutil.which("awk") or "awk", "{print $6}", str(log)]
    run(analyze, folder)
    run(awk, folder)
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(run(analyze, folder))
        theirs.append(run(awk, folder))
    return ours, theirs


def table_row(lines: int) -> tuple[str, float]:
    """A row of the table for a log of so many lines, and the median wall seconds."""
    with tempfile.TemporaryDirectory(prefix="perfdoctor-benchmark-") as place:
        folder = Path(place)
        log = folder / "train.log"
        write(log, lines)
        mb = log.stat().st_size / _MB
        analyze = [sys.executable, "-m", "perfdoctor", "analyze", str(log)]
        ours, theirs = measure(analyze, log, folder)
        peak = peak_bytes(analyze, folder)
    wall_s, awk_s = (statistics.median(cost.wall_s for cost in side) for side in (ours, theirs))
    ratio = statistics.median(b.wall_s / a.wall_s for a, b in zip(ours, theirs, strict=True))
    cpu_s = statistics.median(cost.cpu_s for cost in ours)
    over = (peak - 250 * _MB) / lines
    row = (
        f"| {lines:,} | {mb:,.0f} | {wall_s:.2f} s | {mb / wall_s:.0f} | {cpu_s:.2f} s "
        f"| {awk_s:.2f} s | {ratio:.0%} | {peak / _MB:,.0f} | {max(0.0, over):.0f} |"
    )
    return row, wall_s


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--growth", action="store_true", help="ten times the lines as well")
    given = parser.parse_args()
    print("| lines | MB | analyze | MB/s | CPU | awk | of awk's speed | peak MB | B/record |")
    print("|---|---|---|---|---|---|---|---|---|")
    took: list[float] = []
    for lines in [given.lines, given.lines * 10] if given.growth else [given.lines]:
        row, wall_s = table_row(lines)
        print(row, flush=True)
        took.append(wall_s)
    if len(took) == 2:
        print(f"\nTen times the log takes {took[1] / took[0]:.1f} times as long.")


if __name__ == "__main__":
    main()
