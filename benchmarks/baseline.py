"""How often a stored baseline cries wolf: `python benchmarks/baseline.py FILE [--sessions N]`.

Measures sessions of identical code, as `perfdoctor check --baseline` does, one every so many
seconds, and adds them to FILE (which may be continued on another day: the machine's own drift is
what is looked for). Then checks are made of them: one session is today's, made 5, 10 or 20 %
longer, and some of those before it are the baseline. They are judged as `check` judges them, which
divides times by the kernels where that helps, and with all times as they are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from gate import LAYERS, WORKLOAD

from perfdoctor.compare.checks import Criterion
from perfdoctor.gate import baseline_file, with_baseline
from perfdoctor.gate.asked import Asked, Measured
from perfdoctor.gate.baseline_file import Baseline, Session
from perfdoctor.gate.calibration import Kernels
from perfdoctor.gate.sessions import measure_session

STORED = (3, 5)
SLOWER = (1.0, 1.05, 1.10, 1.20)
RESAMPLED = 1_000
KEY = "step:p50"
ASKED = Asked(
    measured=Measured(workload={"workload": "bench.py"}),
    criteria=(Criterion(metric="step", statistic="p50", margin=0.10),),
)


def record(file: Path, sessions: int, every_s: float) -> None:
    """Adds sessions to the file."""
    for n in range(sessions):
        begin = time.monotonic()
        session = measure_session(ASKED, lambda *_: None)
        with baseline_file.held(file):
            baseline_file.write(file, stored(file).with_session(session))
        doubt = with_baseline.doubts(session)
        print(f"session {n + 1} of {sessions}: {doubt or 'usable'}", file=sys.stderr)
        if n + 1 < sessions:
            time.sleep(max(0.0, every_s - (time.monotonic() - begin)))


def stored(file: Path) -> Baseline:
    """What is in the file so far."""
    if file.exists():
        return baseline_file.read(file, ASKED.measured)
    identity = baseline_file.identity(ASKED.measured)
    return Baseline(measured=ASKED.measured.name, identity=identity)


def longer(session: Session, factor: float) -> Session:
    """The same session of code that takes so many times as long."""
    slowed = [
        {k: v if k.startswith("memory") else v * factor for k, v in process.items()}
        for process in session.processes
    ]
    return replace(session, processes=tuple(slowed))


def undivided(session: Session) -> Session:
    """As if the kernels had taken the same time on every occasion."""
    return replace(session, before=_ONE, after=_ONE)


_ONE = Kernels(python_s=1.0, matmul_s=1.0)


def outcomes(
    sessions: Sequence[Session], count: int, factor: float, of: Callable[[Session], Session]
) -> dict[str, float]:
    """Share of each outcome, of checks against `count` stored sessions."""
    rng, told = np.random.default_rng(0), []
    for _ in range(RESAMPLED):
        today = int(rng.integers(count, len(sessions)))
        before = sorted(rng.choice(today, count, replace=False))
        past = tuple(of(sessions[i]) for i in before)
        baseline = replace(stored(Path("none")), sessions=past)
        now = longer(of(sessions[today]), factor)
        judged = with_baseline.judge(ASKED.criteria, baseline, now, None)
        told.append(judged.outcome)
    return {outcome: told.count(outcome) / len(told) for outcome in set(told)}


def drift(sessions: Sequence[Session], *, divided: bool) -> float:
    """Spread of the sessions' levels, as a share."""
    levels = [with_baseline.level_of(KEY, s, divided=divided) for s in sessions]
    return float(np.std([level for level in levels if level is not None], ddof=1))


def table(every: Sequence[Session]) -> str:
    """Markdown."""
    usable = [session for session in every if with_baseline.doubts(session) is None]
    ways = {"as `check` decides": lambda s: s, "as they are": undivided}
    lines = [
        f"{len(every)} sessions, {len(usable)} usable; spread {drift(usable, divided=False):.1%}, "
        f"divided by the kernels {drift(usable, divided=True):.1%}",
        "",
        "| stored | times | false alarms | 5 / 10 / 20 % found | inconclusive: equal, 10 % |",
        "|---|---|---|---|---|",
    ]
    for count in (n for n in STORED if len(usable) > n):
        for name, of in ways.items():
            told = [outcomes(usable, count, factor, of) for factor in SLOWER]
            failed = [100 * t.get("regression", 0.0) for t in told]
            open_ones = [100 * t.get("inconclusive", 0.0) for t in told]
            lines.append(
                f"| {count} | {name} | {failed[0]:.1f} | "
                f"{' / '.join(f'{f:.0f}' for f in failed[1:])} | "
                f"{open_ones[0]:.0f}, {open_ones[2]:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--sessions", type=int, default=0, help="to record before")
    parser.add_argument("--every", type=float, default=300.0, help="seconds from one to the next")
    given = parser.parse_args()
    file = given.file.absolute()
    if given.sessions:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "bench.py").write_text(WORKLOAD)
            Path(folder, "settings.py").write_text(f"LAYERS = {LAYERS}\n")
            os.chdir(folder)
            record(file, given.sessions, given.every)
            os.chdir(file.parent)
    print(table(stored(file).sessions))


if __name__ == "__main__":
    main()
