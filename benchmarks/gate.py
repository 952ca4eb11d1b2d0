"""How often the gate cries wolf, and what it finds: `python benchmarks/gate.py`.

Records pairs of processes that run the same training in lock step, quiet and beside a CPU-bound
neighbour. From these, resampled, it counts false alarms, and with one side made longer by 3, 5 and
10 %, what is found: for the gate of `perfdoctor check`, with as many pairs as fit into its default
budget, and for the rules that others use, on the same data. A rule that looks at one run before
and one after gets runs of different pairs, since that is how such runs are made.

`--live N` runs N whole checks each of identical code and of code with 5 and 10 % more layers,
through git and the command line. `--save` and `--load` keep the recorded pairs.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from neighbour import neighbour

from perfdoctor.collect.arm import Arm, ArmSpec
from perfdoctor.collect.lock_step import lock_step
from perfdoctor.gate.asked import MAX_SECONDS
from perfdoctor.gate.lock_step_pairs import CHUNK_STEPS, CHUNKS, WARM_UP
from perfdoctor.sequential import LOOKS, Gate
from perfdoctor.stats import student_t

WORKLOAD = """
import os
import torch
from torch import nn
import perfdoctor
from settings import LAYERS

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4096
    def __getitem__(self, index):
        return torch.ones(96), index % 10

def workload():
    layers = [m for _ in range(LAYERS) for m in (nn.Linear(96, 96), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(96, 10))
    return perfdoctor.Workload(model=model, dataset=Data(), batch_size=32)
"""
LAYERS = 40
SLOWER = (1.0, 1.03, 1.05, 1.10)
RESAMPLED = 4_000
#: A pair of files of earlier versions, as it was seen then.
PAIR_S = 9.0
Side = list[list[float]]
#: Step times of both sides by chunk, the processor time of each chunk of both, and how long it all
#: took; files of earlier versions lack that.
Recorded = tuple[Side, Side, list[float], list[float], float]


def record(pairs: int, busy: bool, told: str) -> list[Recorded]:
    """Step times of each chunk of both sides of each pair, in seconds."""
    found = []
    with tempfile.TemporaryDirectory() as folder, neighbour(busy):
        Path(folder, "bench.py").write_text(WORKLOAD)
        Path(folder, "settings.py").write_text(f"LAYERS = {LAYERS}\n")
        spec = ArmSpec(workload={"workload": "bench.py"}, cwd=folder)
        for n in range(pairs):
            start = time.monotonic()
            with Arm(spec) as a, Arm(spec) as b:
                for arm in (a, b):  # at once, as a check does it
                    arm.send("set_up", **arm.description())
                for arm in (a, b):
                    arm.answer()
                for arm in (a, b):
                    arm.warm(WARM_UP)
                pair = lock_step(a, b, chunks=CHUNKS, steps=CHUNK_STEPS, order_seed=n)
            both = (pair.first, pair.second)
            sides = [[chunk.step_s.tolist() for chunk in side] for side in both]
            cpu = [[chunk.cpu_s for chunk in side] for side in both]
            found.append((sides[0], sides[1], cpu[0], cpu[1], time.monotonic() - start))
            print(f"{told}: pair {n + 1} of {pairs}", file=sys.stderr)
    return found


def difference(pair: Recorded) -> float:
    """As `perfdoctor check` has it: median over chunks of log(p25 ÷ p25)."""
    quartiles = [np.quantile(np.array(side), 0.25, axis=1) for side in pair[:2]]
    return float(np.median(np.log(quartiles[1] / quartiles[0])))


def cpu_difference(pair: Recorded) -> float:
    """The same of `--fail-on step:cpu:5%`."""
    return float(np.median(np.log(np.array(pair[3]) / np.array(pair[2]))))


def fitting(pairs: list[Recorded]) -> int:
    """How many pairs a default check has the time for: the look after them is its last."""
    took_s = [pair[4] for pair in pairs if len(pair) > 4] or [PAIR_S]
    return min(LOOKS[-1], int(MAX_SECONDS / float(np.median(took_s))))


def answered(judge: Gate, drawn: np.ndarray, fit: int) -> tuple[int, str | None]:
    """After how many pairs a check ends that has the time for `fit`, and with what."""
    answers = ((look, judge.look(drawn[:look])) for look in LOOKS if look <= fit)
    first = next(((look, answer) for look, answer in answers if answer), None)
    return first or (fit, judge.look(drawn[:fit], last=True))


def gate(
    pairs: list[Recorded], factor: float, rng: np.random.Generator,
    of: Callable[[Recorded], float] = difference,
) -> tuple:  # fmt: skip
    """(failed, inconclusive, pairs taken) as shares and a mean over resampled checks."""
    known, fit = np.array([of(pair) for pair in pairs]), fitting(pairs)
    judge, failed, open_ones, taken = Gate(), 0, 0, 0
    for _ in range(RESAMPLED):
        # which side of a pair of identical code is called new is arbitrary
        drawn = rng.choice(known, LOOKS[-1]) * rng.choice([-1, 1], LOOKS[-1]) + math.log(factor)
        look, answer = answered(judge, drawn, fit)
        failed += answer == "fail"
        open_ones += answer is None
        taken += look
    return failed / RESAMPLED, open_ones / RESAMPLED, taken / RESAMPLED


def relative(of: Callable[[np.ndarray], float], threshold: float) -> Callable[..., bool]:
    """new ÷ old above 1 + threshold, of one number of each run."""
    return lambda old, new: of(new) / of(old) > 1 + threshold


def welch(old: np.ndarray, new: np.ndarray) -> bool:
    """Slower at p < 0.05 (two-sided), steps taken as independent."""
    parts = [x.var(ddof=1) / x.size for x in (old, new)]
    freedom = sum(parts) ** 2 / sum(p**2 / (x.size - 1) for p, x in zip(parts, (old, new)))  # noqa: B905
    t = (new.mean() - old.mean()) / math.sqrt(sum(parts))
    return bool(t > student_t(max(1, int(freedom)), 0.975))


RULES: dict[str, Callable[[np.ndarray, np.ndarray], bool]] = {
    "mean > 3 % (TraceML)": relative(np.mean, 0.03),
    "mean > 5 % (pytest-benchmark, mean:5%)": relative(np.mean, 0.05),
    "mean > 10 %": relative(np.mean, 0.10),
    "median > 5 % (pytest-benchmark, median:5%)": relative(np.median, 0.05),
    "median > 10 %": relative(np.median, 0.10),
    "min > 5 % (pytest-benchmark, min:5%)": relative(np.min, 0.05),
    "min > 10 %": relative(np.min, 0.10),
    "Welch's t over the steps, p < 0.05": welch,
}


def alarms(
    pairs: list[Recorded], rule: Callable[..., bool], factor: float,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """Share of comparisons of one run with another, of a different pair, that say slower."""
    runs = [np.concatenate(side) for pair in pairs for side in pair[:2]]
    found = 0
    for _ in range(RESAMPLED // 4):
        old, new = rng.choice(len(pairs), 2, replace=False)
        found += rule(runs[2 * old + rng.integers(2)], factor * runs[2 * new + rng.integers(2)])
    return found / (RESAMPLED // 4)


def table(recorded: dict[str, list[Recorded]]) -> str:
    """Markdown: a row a rule, columns for each condition."""
    conditions = list(recorded)
    heads = [f"{c}: false alarms | {c}: 3 / 5 / 10 % found" for c in conditions]
    lines = [f"| rule | {' | '.join(heads)} |", "|---|" + "---|" * 2 * len(conditions)]
    rng, notes = np.random.default_rng(0), []
    cells = []
    for condition, pairs in recorded.items():
        found = [gate(pairs, factor, rng) for factor in SLOWER]
        cells += [_percent(found[0][0]), " / ".join(_percent(f[0]) for f in found[1:])]
        spread = np.std([difference(pair) for pair in pairs], ddof=1)
        notes.append(
            f"{condition}: {len(pairs)} pairs, spread {100 * spread:.1f} %; a check has the time "
            f"for {fitting(pairs)}; identical code takes "
            f"{found[0][2]:.1f} pairs and is inconclusive in {_percent(found[0][1])} %, 5 % slower "
            f"code {found[2][2]:.1f} pairs and {_percent(found[2][1])} %"
        )
    lines.append(f"| **perfdoctor check** | {' | '.join(cells)} |")
    cells = []
    for pairs in recorded.values():
        found = [gate(pairs, factor, rng, cpu_difference) for factor in SLOWER]
        cells += [_percent(found[0][0]), " / ".join(_percent(f[0]) for f in found[1:])]
    lines.append(f"| **perfdoctor check**, step:cpu | {' | '.join(cells)} |")
    for name, rule in RULES.items():
        cells = []
        for pairs in recorded.values():
            shares = [alarms(pairs, rule, factor, rng) for factor in SLOWER]
            cells += [_percent(shares[0]), " / ".join(map(_percent, shares[1:]))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *notes])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"


def live(count: int, busy: bool) -> str:
    """Whole checks, through git and the command line."""
    lines = [
        f"| {'beside a neighbour' if busy else 'quiet'}: layers | pass | fail | inconclusive | "
        "error | median s | longest s |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder, neighbour(busy):
        _repository(Path(folder))
        for more in (1.0, 1.05, 1.10):
            layers = round(LAYERS * more)
            Path(folder, "settings.py").write_text(f"LAYERS = {layers}\n# {more}\n")
            _git(folder, "commit", "--allow-empty", "-qam", f"{layers}")
            ended, took_s = [], []
            for n in range(count):
                start = time.monotonic()
                command = [sys.executable, "-m", "perfdoctor", "check", "--against", "main", "-q",
                           "--workload", "bench.py", "--seed", str(n)]  # fmt: skip
                ended.append(subprocess.run(command, cwd=folder, check=False).returncode)
                took_s.append(time.monotonic() - start)
            counts = [str(ended.count(code)) for code in (0, 1, 3, 2)]
            times = f"{np.median(took_s):.0f} | {max(took_s):.0f}"
            lines.append(f"| {LAYERS} → {layers} | {' | '.join(counts)} | {times} |")
    return "\n".join(lines)


def _repository(folder: Path) -> None:
    (folder / "bench.py").write_text(WORKLOAD)
    (folder / "settings.py").write_text(f"LAYERS = {LAYERS}\n")
    _git(folder, "init", "-qb", "main")
    _git(folder, "add", "-A")
    _git(folder, "commit", "-qm", "base")
    _git(folder, "checkout", "-qb", "work")


def _git(folder: str | Path, *arguments: str) -> None:
    name = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pairs", type=int, default=150, help="to record in each condition")
    parser.add_argument("--conditions", default="quiet,busy", help="of quiet, busy")
    parser.add_argument("--save", type=Path, help="the recorded pairs, as JSON")
    parser.add_argument("--load", type=Path, help="do not record, but take these")
    parser.add_argument("--live", type=int, metavar="N", help="N whole checks of each kind instead")
    given = parser.parse_args()
    conditions = given.conditions.split(",")
    if given.live:
        for condition in conditions:
            print(live(given.live, condition == "busy"), end="\n\n")
        return
    if given.load:
        recorded = json.loads(given.load.read_text())
    else:
        recorded = {c: record(given.pairs, c == "busy", c) for c in conditions}
    if given.save:
        given.save.write_text(json.dumps(recorded))
    print(table(recorded))


if __name__ == "__main__":
    main()
