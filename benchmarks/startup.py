"""How long `perfdoctor --help` takes beside `python -c "import click"`.

    python benchmarks/startup.py

Interleaved pairs of fresh processes; the median ratio and its 95 % interval. Exits 1 if the
ratio is above 1.5.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from perfdoctor.stats import ratio_interval

PAIRS = 41
LIMIT = 1.5


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> int:
    program = Path(sys.executable).with_name("perfdoctor")
    script = str(program) if program.exists() else shutil.which("perfdoctor")
    if script is None:
        print("perfdoctor is not installed in this environment", file=sys.stderr)
        return 2
    ours, base = [script, "--help"], [sys.executable, "-c", "import click"]
    seconds(ours), seconds(base)
    logs, times = [], {"perfdoctor --help": [], "import click": []}
    for pair in range(PAIRS):
        a, b = (ours, base) if pair % 2 else (base, ours)
        first, second = seconds(a), seconds(b)
        mine, clicks = (first, second) if pair % 2 else (second, first)
        times["perfdoctor --help"].append(mine)
        times["import click"].append(clicks)
        logs.append(np.log(mine / clicks))
    ratio, interval = ratio_interval(np.array(logs))
    for name, values in times.items():
        print(f"{name:20} {np.median(values) * 1e3:7.1f} ms (median of {PAIRS})")
    low, high = interval if interval is not None else (ratio, ratio)
    print(f"{'ratio':20} {ratio:7.2f}    (95 % interval {low:.2f}–{high:.2f}, limit {LIMIT})")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
