"""perfdoctor: why a PyTorch training is slow, what to change, and how much it brings."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from perfdoctor.monitor import TrainingMonitor
    from perfdoctor.stages import stage
    from perfdoctor.workload import Workload

__all__ = ["TrainingMonitor", "Workload", "__version__", "stage"]

# Looked up when first used, so that `perfdoctor --help` stays as quick as click itself.
_HOME = {
    "TrainingMonitor": "perfdoctor.monitor",
    "Workload": "perfdoctor.workload",
    "stage": "perfdoctor.stages",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'perfdoctor' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
