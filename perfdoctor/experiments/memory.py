"""Experiments that trade memory for speed."""

from __future__ import annotations

from typing import Any

from perfdoctor.experiments import Experiment, Situation
from perfdoctor.experiments.compute import NO_GPU


class BatchSize(Experiment):
    """A larger batch."""

    name = "batch-size"
    keys = ("batch_size",)
    safety = "semantics"

    def why_not(self, situation: Situation) -> str | None:
        """Where the DataLoader makes the batches, and there are samples for larger ones."""
        now = situation.configuration.get("batch_size")
        if not now:
            return "the dataset or its sampler decides the size of batches"
        size = self.changes(situation)["batch_size"]
        samples = situation.configuration.get("dataset_size")
        few = samples is not None and size > samples
        return f"the dataset has {samples} samples" if few else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`batch_size`: as recommended, or doubled."""
        now = int(situation.configuration.get("batch_size") or 1)
        return {"batch_size": int(situation.wanted.get("batch_size", 2 * now))}


class GradientCheckpointing(Experiment):
    """On where it is off, and off where it is on; its peak of memory is what it is about."""

    name = "gradient-checkpointing"
    keys = ("gradient_checkpointing",)

    def why_not(self, situation: Situation) -> str | None:
        """The model must have a switch for it; that of a script is looked for when it is tried."""
        can = "checkpointing" in situation.traits or situation.is_script
        return None if can else "the model has no switch for gradient checkpointing"

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`gradient_checkpointing`."""
        now = "checkpointing_on" in situation.traits or situation.uses(self.keys[0])
        return {"gradient_checkpointing": situation.wanted.get("gradient_checkpointing", not now)}


class Allocator(Experiment):
    """Expandable segments, which fragment less (PyTorch, CUDA semantics, memory management)."""

    name = "allocator"
    keys = ("allocator", "environment")
    restart = True

    def why_not(self, situation: Situation) -> str | None:
        """Only on a GPU."""
        return None if situation.on_cuda else NO_GPU

    def changes(self, situation: Situation) -> dict[str, Any]:
        """`environment`."""
        chosen = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
        return {"environment": dict(situation.wanted.get("environment", chosen))}
