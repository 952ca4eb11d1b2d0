"""An arm of the user's own model and data, none of whose files change.

Where this machine allows no sandbox it trains as `bench` itself does, and says that it does.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from perfdoctor.collect import arm_worker
from perfdoctor.collect.sandbox import enter
from perfdoctor.errors import PerfdoctorError

#: The folder for what is written.
SCRATCH = "PERFDOCTOR_SCRATCH"


def main(read_fd: int, write_fd: int, life_fd: int) -> None:
    """As `arm_worker.main`, in a sandbox."""
    with suppress(PerfdoctorError):
        enter(Path(tempfile.mkdtemp(dir=os.environ.pop(SCRATCH))))
        os.environ[arm_worker.GUARDED] = "1"
    arm_worker.main(read_fd, write_fd, life_fd)
