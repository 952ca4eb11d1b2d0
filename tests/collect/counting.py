"""What an arm can train without torch: it counts, prints, fails and dies as it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

from perfdoctor.errors import PerfdoctorError


class Counting:
    """Implements `arm_worker.Trains`; each step takes `step_s` of no time at all."""

    def __init__(
        self, workload: dict[str, Any], options: dict[str, Any], modes: dict[str, Any]
    ) -> None:
        self.workload, self.modes, self.made = workload, modes, 0
        print("set up, on standard output")
        if workload.get("fails") == "import":
            raise ImportError("no module named 'theirs'")
        if workload.get("fails") == "advice":
            raise PerfdoctorError("the dataset is empty", slug="dataset-empty")

    def warm(self, steps: int, mode: str | None) -> dict[str, Any]:
        print("a line of the user's" * 100)
        if self.workload.get("fails") == "step":
            return {"step_s": [1 / 0]}
        if self.workload.get("fails") == "killed":
            print("the last words", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.workload.get("fails") == "aborts":
            os.abort()
        if self.workload.get("fails") == "hangs":
            self._hang()
        self.made += steps
        return {"step_s": [0.5] * steps}

    def _hang(self) -> None:
        if "leaves" in self.workload:
            print("left", _left_alone({}), _shared(), flush=True)
        time.sleep(600)

    def chunk(self, steps: int, mode: str | None) -> dict[str, Any]:
        self.made += steps
        step_s = 0.5 if mode is None else self.modes[mode]["step_s"]
        return {
            "step_s": [step_s] * steps,
            "stages_s": {"forward": [step_s, float("nan")]},
            "samples": [8.0] * steps,
            "starts": [False] * steps,
            "wall_s": 1.0,
            "cpu_s": 0.5,
        }

    def facts(self, mode: str | None) -> dict[str, Any]:
        return {
            "configuration": {
                "made": self.made,
                "environment": {k: os.environ.get(k) for k in ("GOMP_SPINCOUNT", "OWN", "GONE")},
                "cwd": str(Path.cwd()),
            },
            "device": "cpu",
            "peak_bytes": None,
            "total_bytes": None,
            "losses": [1.0, None],
            "gradient_norms": [],
        }

    def first_losses(self, steps: int, mode: str | None) -> dict[str, Any]:
        if "leaves" in self.workload:
            child = _left_alone(self.workload["leaves"])
            return {"losses": [float(child)], "gradient_norms": [_shared()]}
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return {"losses": [float(child.pid)], "gradient_norms": []}

    def add_mode(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        self.modes[name] = changes
        return {}

    def forget(self, mode: str) -> dict[str, Any]:
        del self.modes[mode]
        return {}

    def close(self) -> None:
        pass


def _left_alone(environment: dict[str, str] | None) -> int:
    """The PID of a process in a session of its own, with these variables (None: this one's);
    whoever has started it has ended."""
    program = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; "
        f"time.sleep(600)'], start_new_session=True, env={environment}, stdout=-3, stderr=-3).pid)"
    )
    told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    return int(told.stdout)


def _shared() -> str:
    """The name of shared memory that is neither closed nor unlinked."""
    global _kept
    _kept = shared_memory.SharedMemory(create=True, size=1000)
    return _kept.name


_kept: shared_memory.SharedMemory | None = None
