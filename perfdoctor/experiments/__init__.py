"""Experiments: one change each, made and measured both ways.

To add one: a class in its family's file, a line in the table. It says what it changes; how that is
measured is the same for all (`trials.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The training as it is, for an experiment to look at.

    Attributes:
        configuration: the settings in effect, as in a report. device: "cpu", "cuda", ….
        cores: usable ones. wanted: the change that a recommendation asks for; may be empty.
        traits: what the model can do, such as `conv`, `checkpointing`, `search`.
        capability: of a CUDA device, (major, minor).
        loading_share: part of the step that waits for data; None where not measured.
        supported: the changes that can be made in this script; None for a workload.
    """

    configuration: Mapping[str, Any]
    device: str = "cpu"
    cores: float = 1.0
    wanted: Mapping[str, Any] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    capability: tuple[int, int] | None = None
    loading_share: float | None = None
    supported: frozenset[str] | None = None

    @property
    def on_cuda(self) -> bool:
        """Whether it computes on an NVIDIA (or ROCm) device."""
        return self.device.startswith("cuda")

    @property
    def is_script(self) -> bool:
        """Whether it is a script, and no workload."""
        return self.supported is not None

    @property
    def workers(self) -> int:
        """Loader workers in use."""
        return int(self.configuration.get("num_workers") or 0)

    def uses(self, name: str) -> bool:
        """Whether something is on: a trait of a workload, a setting of an observed script."""
        return name in self.traits or bool(self.configuration.get(name))


class Experiment(ABC):
    """One change of a training.

    Attributes:
        name: as recommendations call it. keys: those of a recommendation's change that it makes,
            first the one that it is about.
        safety: exact (the same numbers), numerics, semantics (another training), or random (the
            same training with other random numbers).
        restart: whether only a new process can make the change; else one process goes to and fro.
        ceiling: shows what could be gained at most, and is no advice by itself.
        floor: makes a part of the change only, so that it cannot refute it.
    """

    name: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    safety: ClassVar[str] = "exact"
    restart: ClassVar[bool] = False
    ceiling: ClassVar[bool] = False
    floor: ClassVar[bool] = False

    def why_not(self, situation: Situation) -> str | None:
        """Why it cannot be tried here; None: it can."""
        return None

    @abstractmethod
    def changes(self, situation: Situation) -> dict[str, Any]:
        """What to change, by the names of `collect/modes.py` or, with a restart, of
        `BenchOptions` and `environment`."""

    def others(self, situation: Situation) -> tuple[dict[str, Any], ...]:
        """Other values of the same change that are worth a try, the most promising first."""
        return ()

    def snippet(self, changes: Mapping[str, Any]) -> str | None:
        """Code that makes one of the others; None: as it was advised."""
        return None


class Switch(Experiment):
    """A setting that is on or off. `already`: what there is to say where it is as wanted."""

    value: ClassVar[bool] = True
    already: ClassVar[str] = ""

    def why_not(self, situation: Situation) -> str | None:
        """Not twice."""
        return self.already if situation.uses(self.keys[0]) == self.value else None

    def changes(self, situation: Situation) -> dict[str, Any]:
        """The setting."""
        return {self.keys[0]: self.value}


#: Name → where the experiment lives, and its line of help.
EXPERIMENTS: dict[str, tuple[str, str]] = {
    "workers": (
        "perfdoctor.experiments.loader:Workers",
        "More (or fewer) loader workers.",
    ),
    "prefetch": (
        "perfdoctor.experiments.loader:Prefetch",
        "More batches prepared ahead by each worker.",
    ),
    "persistent-workers": (
        "perfdoctor.experiments.loader:PersistentWorkers",
        "Workers kept from one epoch to the next.",
    ),
    "pin-memory": (
        "perfdoctor.experiments.loader:PinMemory",
        "Batches in page-locked memory.",
    ),
    "concurrent-reads": (
        "perfdoctor.experiments.loader:ConcurrentReads",
        "The samples of a batch read by several threads at once.",
    ),
    "cached-dataset": (
        "perfdoctor.experiments.loader:CachedDataset",
        "Samples made once and replayed: what any caching could bring at most.",
    ),
    "free-loading": (
        "perfdoctor.experiments.loader:FreeLoading",
        "Batches replayed: what any work on the loader could bring at most.",
    ),
    "precision": (
        "perfdoctor.experiments.compute:Precision",
        "Compute in 16 bits.",
    ),
    "tf32": (
        "perfdoctor.experiments.compute:Tf32",
        "Matrix products in TF32.",
    ),
    "compile": (
        "perfdoctor.experiments.compute:Compile",
        "torch.compile, and after how many steps it pays back.",
    ),
    "channels-last": (
        "perfdoctor.experiments.compute:ChannelsLast",
        "Images in channels-last layout.",
    ),
    "threads": (
        "perfdoctor.experiments.compute:Threads",
        "Another number of threads.",
    ),
    "anomaly-off": (
        "perfdoctor.experiments.compute:AnomalyOff",
        "Autograd's anomaly detection off.",
    ),
    "deterministic-off": (
        "perfdoctor.experiments.compute:DeterministicOff",
        "Deterministic algorithms not asked for.",
    ),
    "cudnn-benchmark": (
        "perfdoctor.experiments.compute:CudnnBenchmark",
        "cuDNN tries which of its convolutions is fastest.",
    ),
    "non-blocking": (
        "perfdoctor.experiments.compute:NonBlocking",
        "Asynchronous copies to the device.",
    ),
    "launch-blocking-off": (
        "perfdoctor.experiments.compute:LaunchBlockingOff",
        "Kernels not waited for one by one.",
    ),
    "environment": (
        "perfdoctor.experiments.compute:Environment",
        "Variables set before Python starts.",
    ),
    "gc-frozen": (
        "perfdoctor.experiments.compute:GcFrozen",
        "Objects made before the training left out of garbage collection.",
    ),
    "optimizer-fused": (
        "perfdoctor.experiments.optimizer:Fused",
        "One kernel updates all parameters.",
    ),
    "optimizer-foreach": (
        "perfdoctor.experiments.optimizer:Foreach",
        "The optimizer updates parameters together.",
    ),
    "arch-every": (
        "perfdoctor.experiments.search:ArchEvery",
        "An architecture step every few training steps.",
    ),
    "arch-order": (
        "perfdoctor.experiments.search:ArchOrder",
        "A first-order architecture step.",
    ),
    "batch-size": (
        "perfdoctor.experiments.memory:BatchSize",
        "Larger batches, with throughput and memory of each size.",
    ),
    "gradient-checkpointing": (
        "perfdoctor.experiments.memory:GradientCheckpointing",
        "Gradient checkpointing on or off.",
    ),
    "checkpoint-less": (
        "perfdoctor.experiments.scripts:CheckpointLess",
        "Checkpoints saved less often.",
    ),
    "validate-less": (
        "perfdoctor.experiments.scripts:ValidateLess",
        "Validations made less often.",
    ),
    "log-less": (
        "perfdoctor.experiments.scripts:LogLess",
        "Log lines written less often.",
    ),
    "figures-less": (
        "perfdoctor.experiments.scripts:FiguresLess",
        "Figures saved less often.",
    ),
    "collects-off": (
        "perfdoctor.experiments.scripts:CollectsOff",
        "Calls of gc.collect() that do nothing.",
    ),
    "allocator": (
        "perfdoctor.experiments.memory:Allocator",
        "The CUDA allocator with expandable segments.",
    ),
}
