"""One session: some processes of this code one after the other, between two calibrations."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from perfdoctor import schema
from perfdoctor.collect.arm import Arm, ArmSpec
from perfdoctor.collect.lock_step import Pair
from perfdoctor.collect.options import Progress
from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate import baseline_file, calibration
from perfdoctor.gate.asked import MAX_SECONDS, Asked
from perfdoctor.gate.baseline_file import Session
from perfdoctor.gate.lock_step_pairs import CHUNK_STEPS, CHUNKS, WARM_UP
from perfdoctor.gate.measured import of_pair, of_reports
from perfdoctor.gate.process_pairs import CommandPairs, ScriptPairs
from perfdoctor.gate.sides import RunningSide
from perfdoctor.gate.worktrees import Checkout
from perfdoctor.record import Environment

_PERFDOCTOR = str(Path(__file__).resolve().parents[2])
#: So many were calibrated; a session with less than half of them says too little.
PROCESSES = 10
FEWEST = 5


@dataclass(frozen=True)
class Process:
    """What one process gave."""

    values: dict[str, float]
    chunks: tuple[float, ...] = ()
    configuration: dict[str, Any] | None = None
    device: str | None = None
    environment: Environment | None = None


def measure_session(asked: Asked, progress: Progress) -> Session:
    """Measures now.

    Raises:
        PerfdoctorError: the code cannot run.
    """
    deadline = time.monotonic() + (asked.max_seconds or MAX_SECONDS)
    before, usage = calibration.measure(), calibration.Usage.now()
    processes: list[Process] = []
    with _here() as side:
        one = _one(asked, side)
        longest = 0.0
        while len(processes) < PROCESSES:
            start = time.monotonic()
            if len(processes) >= FEWEST and start + longest > deadline:
                break
            progress(f"process {len(processes) + 1} of {PROCESSES}", len(processes), PROCESSES)
            processes.append(one(len(processes)))
            longest = max(longest, time.monotonic() - start)
    foreign = usage.foreign_share(calibration.Usage.now())
    session = session_of(processes, before, calibration.measure(), foreign)
    return replace(session, files=baseline_file.hashes(asked.measured, Path.cwd()))


@contextmanager
def _here() -> Iterator[RunningSide]:
    """This folder as a side, run as the user would."""
    with tempfile.TemporaryDirectory(prefix="perfdoctor-check-") as folder:
        checkout = Checkout("after_", Path.cwd(), Path(folder), "")
        yield RunningSide("measured", checkout, Path.cwd(), sys.executable, {}, (), frozenset())


def _one(asked: Asked, side: RunningSide) -> Callable[[int], Process]:
    """What measures one process more."""
    measured = asked.measured
    if measured.workload is not None:
        spec = ArmSpec(
            workload=measured.workload, options=measured.options, cwd=side.cwd,
            patience_s=asked.patience_s,
        )  # fmt: skip
        return lambda number: _of_arm(spec)
    pairs: ScriptPairs | CommandPairs
    if measured.command is not None:
        pairs = CommandPairs((side, side), asked.process_s, measured.command, str(measured.report))
    else:
        pairs = ScriptPairs((side, side), asked.process_s, measured.script, measured.steps)
    return lambda number: _of_report(pairs, number)


def _of_arm(spec: ArmSpec) -> Process:
    with Arm.start(spec) as arm:
        arm.warm(WARM_UP)
        chunks = tuple(arm.chunk(CHUNK_STEPS) for _ in range(CHUNKS))
        facts = arm.facts()
    values = of_pair(Pair(chunks, chunks), (facts.peak_bytes, facts.peak_bytes)).after
    typical = tuple(float(np.quantile(chunk.step_s, 0.25)) for chunk in chunks)
    return Process(dict(values), typical, dict(facts.configuration), facts.device)


def _of_report(pairs: ScriptPairs | CommandPairs, number: int) -> Process:
    report = pairs.one(number)
    values = dict(of_reports(report, report).after)
    device = report.environment.device
    return Process(values, (), dict(report.configuration), device, report.environment)


def session_of(
    processes: list[Process],
    before: calibration.Kernels,
    after: calibration.Kernels,
    foreign_share: float,
) -> Session:
    """What some processes gave, with the machine's and the software's fingerprint.

    Raises:
        PerfdoctorError: there is no such device here.
    """
    last = processes[-1]
    environment = last.environment or _environment(last.device or "cpu")
    settings = last.configuration or {}
    git = environment.git
    return Session(
        created_at=schema.now(),
        commit=git.commit if git else None,
        dirty=bool(git and git.dirty),
        fingerprint=_fingerprint(environment, settings),
        informational={
            "platform": environment.platform,
            "host": environment.hostname_hash,
            "load": os.getloadavg()[0],
            "drivers": [gpu.driver for gpu in environment.gpu],
        },
        before=before,
        after=after,
        foreign_share=foreign_share,
        processes=tuple(process.values for process in processes),
        chunks=tuple(process.chunks for process in processes),
        configuration=settings,
    )


_DESCRIBE = (
    "import sys, msgspec, torch; "
    "from perfdoctor.collect.environment import describe_environment as describe; "
    "sys.stdout.buffer.write(msgspec.json.encode(describe(torch.device(sys.argv[1]))))"
)


@functools.lru_cache(maxsize=4)
def _environment(device: str) -> Environment:
    """As a process of its own sees it: this one imports no torch."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), _PERFDOCTOR]))
    done = subprocess.run(
        [sys.executable, "-c", _DESCRIBE, device],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise PerfdoctorError(f"no device {device}: {''.join(last)}", slug="no-device")
    return msgspec.json.decode(done.stdout, type=Environment)


def _fingerprint(environment: Environment, settings: dict[str, Any]) -> dict[str, Any]:
    """What must be equal; never a live frequency."""
    return {
        "cpu": environment.cpu,
        "cores": environment.cores_usable,
        "quota": environment.cgroup.get("cpu_quota"),
        "gpu": [gpu.name for gpu in environment.gpu],
        "device": environment.device,
        "python": environment.python,
        "torch": environment.torch,
        "cuda": environment.cuda,
        **{name: settings.get(name) for name in ("precision", "compile", "threads")},
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }
