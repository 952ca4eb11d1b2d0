"""An arm of the user's own model and data, none of whose files change.

Where this machine allows no sandbox it trains as `bench` itself does, and says that it does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from perfdoctor.collect import arm_worker
from perfdoctor.collect.sandbox import enter
from perfdoctor.collect.sandbox.scratch import PLACE
from perfdoctor.errors import PerfdoctorError

#: The variable that names the folder for what is written.
SCRATCH = PLACE


_ROOT = str(Path(__file__).resolve().parents[2])
_TRY = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
    "from perfdoctor.collect.sandbox import enter; enter(Path(sys.argv[2]))"
)


def is_allowed(scratch: Path) -> bool:
    """Whether this machine allows a sandbox, which a process tries that does nothing else."""
    place = tempfile.mkdtemp(dir=scratch)
    command = [sys.executable, "-c", _TRY, _ROOT, place]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main(read_fd: int, write_fd: int, life_fd: int) -> None:
    """As `arm_worker.main`, in a sandbox."""
    with suppress(PerfdoctorError):
        enter(Path(os.environ.pop(SCRATCH)))
        os.environ[arm_worker.GUARDED] = "1"
    arm_worker.main(read_fd, write_fd, life_fd)
