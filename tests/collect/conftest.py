"""toys.py is importable from every test here, and measuring the machine is kept short."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def small_limits():
    """Matrices, files and numbers of pairs that take no time; their results mean nothing."""
    import torch

    from perfdoctor.collect import limits, probes

    torch.set_num_threads(1)  # two threads that wait for each other take long on a busy machine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "_MATRIX_SIZES", {"cpu": (32,)})
        patch.setattr(limits, "_READ_BYTES", 1 << 20)
        patch.setattr(probes, "MAX_PAIRS", 8)
        yield


@pytest.fixture
def usual_hang_up():
    """Programs started meanwhile end at a hang-up, also where the tests run under `nohup`."""
    before = signal.getsignal(signal.SIGHUP)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
