"""What observing adds to a training step, each run a process of its own.

    python benchmarks/overhead_processes.py [--rounds 8]

For tools that patch torch for as long as the process lives, and so cannot take turns with nothing
within one process as in `overhead.py`. The same loop runs as a script: alone, under `perfdoctor
run`, and under `traceml run` (package traceml-ai, with its `trace_step` around each step, which
it needs in a plain loop; left out where it is not installed). The processes take turns in an order
that is drawn anew each round. A figure is the median over rounds of the difference to the
unobserved run of the same round, of each process's median block of steps; "alone again" is the
noise.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from perfdoctor.stats import quantile_interval

HERE = Path(__file__).resolve()
BLOCKS, STEPS = 20, 200
SIZES = ((32, 3), (256, 17))
TRACEML = "import sys; from traceml_ai.launcher.cli import main; sys.argv[0] = 'traceml'; main()"


def child(width: int, layers: int, *, traced: bool) -> None:
    """The script: prints the median seconds per step of its blocks."""
    import torch
    from overhead import Loop, _plain

    torch.set_num_threads(1)
    loop = Loop(width, layers)
    step: Callable[[], AbstractContextManager[Any]] = lambda: _plain("step")  # noqa: E731
    if traced:
        import traceml_ai

        step = lambda: traceml_ai.trace_step(loop.model)  # noqa: E731
    found = []
    for _ in range(BLOCKS + 1):
        batches = iter(loop.loader)
        begin = time.perf_counter()
        for _ in range(STEPS):
            with step():
                loop._step(batches, _plain)
        found.append((time.perf_counter() - begin) / STEPS)
    print(f"step_s={statistics.median(found[1:])}", flush=True)


def commands(size: tuple[int, int]) -> dict[str, list[str]]:
    """How each tool runs the script."""
    script = [str(HERE), "--child", *map(str, size)]
    ours = ["-m", "perfdoctor", "run", "--no-plots", "--quiet"]
    found = {"alone": script, "alone again": script, "perfdoctor run": [*ours, *script]}
    if importlib.util.find_spec("traceml_ai") is not None:
        found["traceml run"] = ["-c", TRACEML, "run", str(HERE), "--args", *script[1:], "--traced"]
    else:
        print("traceml-ai: not installed", file=sys.stderr)
    return found


def step_us(command: list[str]) -> float:
    """Microseconds per step of one process.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
    told = [line for line in ended.stdout.splitlines() if "step_s=" in line]
    if not told:
        raise RuntimeError(ended.stdout[-2000:] + ended.stderr[-2000:])
    return float(told[-1].partition("step_s=")[2].split()[0]) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--child", nargs=2, type=int)
    parser.add_argument("--traced", action="store_true")
    given = parser.parse_args()
    if given.child:
        child(*given.child, traced=given.traced)
        return 0
    print("| step alone | | added per step | 95 % interval | of the step |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        tools = commands(size)
        found: dict[str, list[float]] = {name: [] for name in tools}
        for _ in range(given.rounds):
            for name in random.sample(list(tools), len(tools)):
                found[name].append(step_us(tools[name]))
        alone = np.array(found.pop("alone"))
        for name, values in found.items():
            added = np.array(values) - alone
            low, high = quantile_interval(added, 0.5) or (added.min(), added.max())
            middle, step = float(np.median(added)), float(np.median(alone))
            print(
                f"| {step / 1e3:.2f} ms | {name} | {middle:.1f} µs | {low:.1f} … {high:.1f} µs "
                f"| {100 * middle / step:.2f} % |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
