"""A Hugging Face TrainerCallback that observes `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perfdoctor.callbacks import ObservedTraining
from perfdoctor.errors import PerfdoctorError
from perfdoctor.report import Report

try:
    from transformers import TrainerCallback
except ImportError:
    raise PerfdoctorError(
        "this callback needs transformers: pip install transformers", slug="transformers-missing"
    ) from None


class TrainingMonitorCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Observes a Trainer's `train`: stages, loader, evaluation, checkpoints, lines of code.

    Args:
        output_dir: where the report and its pictures are written; None writes nothing.
        quiet: prints no diagnosis when the training has ended.

    After `train`, `report` holds what was found.
    """

    def __init__(self, output_dir: str | Path | None = ".", *, quiet: bool = False) -> None:
        self._training = ObservedTraining("trainer", output_dir, quiet=quiet)

    @property
    def report(self) -> Report | None:
        """The report, once the training has ended."""
        return self._training.report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """`train` begins: the loader's iterator is still to be made."""
        model = kwargs.get("model")
        if model is not None:
            self._training.name = type(model).__name__
        self._training.start()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """`train` has ended."""
        self._training.stop()
