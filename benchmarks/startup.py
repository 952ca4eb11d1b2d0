"""What starting costs: `perfdoctor --help`, and `perfdoctor run` before and after the steps.

    python benchmarks/startup.py

Interleaved pairs of fresh processes. `perfdoctor --help` beside `python -c "import click"`: the
median ratio and its 95 % interval. A script that imports torch and trains a few steps, alone and
under `perfdoctor run`: what is added before its first step and after its last one, the median
difference. Exits 1 if the ratio is above 1.5, or more than 0.5 s or 1 s are added there. (Where
Python may not keep compiled files, PYTHONDONTWRITEBYTECODE, 0.2 s more are added to each process.)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from perfdoctor.stats import ratio_interval

HELP_PAIRS, RUN_PAIRS = 41, 9
HELP_LIMIT, FIRST_LIMIT_S, LAST_LIMIT_S = 1.5, 0.5, 1.0

SCRIPT = """
import time, torch
from torch.utils.data import DataLoader, TensorDataset
data = TensorDataset(torch.randn(640, 32), torch.randn(640, 8))
model = torch.nn.Linear(32, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
first = time.time()
for x, y in DataLoader(data, batch_size=64):
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
print(first, time.time())
"""


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def around(command: list[str], folder: str) -> tuple[float, float]:
    """Seconds of a process before the first step of `SCRIPT` and after its last one."""
    start = time.time()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    first, last = map(float, done.stdout.split()[:2])
    return first - start, time.time() - last


def helped(program: str) -> bool:
    ours, base = [program, "--help"], [sys.executable, "-c", "import click"]
    seconds(ours), seconds(base)
    logs, times = [], {"perfdoctor --help": [], "import click": []}
    for pair in range(HELP_PAIRS):
        a, b = (ours, base) if pair % 2 else (base, ours)
        first, second = seconds(a), seconds(b)
        mine, clicks = (first, second) if pair % 2 else (second, first)
        times["perfdoctor --help"].append(mine)
        times["import click"].append(clicks)
        logs.append(np.log(mine / clicks))
    ratio, interval = ratio_interval(np.array(logs))
    for name, values in times.items():
        print(f"{name:20} {np.median(values) * 1e3:7.1f} ms (median of {HELP_PAIRS})")
    low, high = interval if interval is not None else (ratio, ratio)
    print(f"{'ratio':20} {ratio:7.2f}    (95 % interval {low:.2f}–{high:.2f}, limit {HELP_LIMIT})")
    return ratio <= HELP_LIMIT


def observed(program: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        alone = [sys.executable, "-c", SCRIPT]
        Path(folder, "train.py").write_text(SCRIPT, encoding="utf-8")
        ours = [program, "run", "--quiet", "--no-plots", "train.py"]
        around(ours, folder), around(alone, folder)
        pairs = [(around(ours, folder), around(alone, folder)) for _ in range(RUN_PAIRS)]
    mine, base = np.median(np.array(pairs), axis=0)
    added = np.median(np.diff(np.array(pairs)[:, ::-1], axis=1)[:, 0], axis=0)
    print(
        f"{'perfdoctor run':20} {mine[0]:7.2f} s to the first step, {mine[1]:.2f} s after the last"
    )
    print(f"{'alone':20} {base[0]:7.2f} s to the first step, {base[1]:.2f} s after the last")
    limits = f"limits {FIRST_LIMIT_S} and {LAST_LIMIT_S} s"
    print(f"{'added':20} {added[0]:7.2f} s before, {added[1]:.2f} s after ({limits})")
    return bool(added[0] <= FIRST_LIMIT_S and added[1] <= LAST_LIMIT_S)


def main() -> int:
    program = shutil.which("perfdoctor", path=sys.prefix + "/bin") or shutil.which("perfdoctor")
    if program is None:
        print("perfdoctor is not installed in this environment", file=sys.stderr)
        return 2
    return 0 if all([helped(program), observed(program)]) else 1


if __name__ == "__main__":
    sys.exit(main())
