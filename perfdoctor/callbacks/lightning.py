"""A Lightning callback that observes `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perfdoctor.callbacks import ObservedTraining
from perfdoctor.errors import PerfdoctorError
from perfdoctor.report import Report

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    try:
        from pytorch_lightning.callbacks import (  # type: ignore[assignment,unused-ignore]
            Callback,
        )
    except ImportError:
        raise PerfdoctorError(
            "this callback needs Lightning: pip install lightning", slug="lightning-missing"
        ) from None


class TrainingMonitorCallback(Callback):  # type: ignore[misc,unused-ignore]
    """Observes a Trainer's `fit`: stages, loader, validation, checkpoints, lines of code.

    Args:
        output_dir: where the report and its pictures are written; None writes nothing.
        quiet: prints no diagnosis when the training has ended.

    After `fit`, `report` holds what was found.
    """

    def __init__(self, output_dir: str | Path | None = ".", *, quiet: bool = False) -> None:
        self._training = ObservedTraining("lightning", output_dir, quiet=quiet)

    @property
    def report(self) -> Report | None:
        """The report, once the training has ended."""
        return self._training.report

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """`fit` begins: loaders and optimizers are still to be made."""
        if stage == "fit":
            self._training.name = type(pl_module).__name__
            self._training.start()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """`fit` has ended."""
        self._training.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """`fit` has failed: what was seen until then is reported."""
        self._training.stop(exception)
