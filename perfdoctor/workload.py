"""The contract between a user's training and perfdoctor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer

    OptimizerFactory = Callable[[list[nn.Parameter]], Optimizer]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What to train. Only `model` and `dataset` are needed; the rest has defaults that suit.

        import perfdoctor
        from my_project import MyModel, MyDataset

        def workload():
            return perfdoctor.Workload(model=MyModel(), dataset=MyDataset("data/"))

    Attributes:
        model: the module to train.
        dataset: a map-style or iterable `torch.utils.data` dataset.
        loss: `loss(output, target) -> scalar tensor`. Default: the model's own loss if it returns
            one (a scalar, or an object or dict with `loss`), cross-entropy for integer targets,
            mean squared error for float targets of the output's shape.
        optimizer: an optimizer, or a function from a list of parameters to one.
            Default: `AdamW(lr=1e-3)` over the parameters that are not architecture parameters.
        collate_fn: passed to the DataLoader.
        unpack: `unpack(batch) -> (inputs, target)`; a tuple of inputs is passed as positional
            arguments, a dict as keyword arguments. Default: `(x, ..., y)` tuples split before the
            last element; dicts are passed whole with `labels`, `label`, `target` or `y` as target.
        step: `step(model, batch) -> loss` in place of forward and loss; its time is `forward`.
        val_dataset: the data of the architecture step; default: `dataset`.
        arch_parameters: architecture parameters of a differentiable search, or a function from
            the model to them. Their presence turns `arch_step` on.
        arch_optimizer: like `optimizer`, for them. Default: Adam as in DARTS (arXiv:1806.09055).
        arch_order: 1 (first order) or 2 (unrolled, DARTS equation 7).
        arch_every: an architecture step every so many training steps.
        batch_size: samples per batch, where the command line names none.
        device: "cpu", "cuda", "cuda:1", ...; default: a GPU if there is one.
        loader_options: further DataLoader arguments (`sampler`, `num_workers`, `drop_last`, ...);
            the command line goes first.
        name: how reports call it; default: the model's class.
        notes: sentences shown in the report's header, such as how the data was recognised.
    """

    model: nn.Module
    dataset: Any
    loss: Callable[[Any, Any], torch.Tensor] | None = None
    optimizer: Optimizer | OptimizerFactory | None = None
    collate_fn: Callable[[list[Any]], Any] | None = None
    unpack: Callable[[Any], tuple[Any, Any]] | None = None
    step: Callable[[nn.Module, Any], torch.Tensor] | None = None
    val_dataset: Any | None = None
    arch_parameters: Iterable[nn.Parameter] | Callable[[nn.Module], Any] | None = None
    arch_optimizer: Optimizer | OptimizerFactory | None = None
    arch_order: int = 1
    arch_every: int = 1
    batch_size: int | None = None
    device: str | None = None
    loader_options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    notes: tuple[str, ...] = ()


#: Makes a fresh workload; called once for each configuration that is measured.
WorkloadFactory = Callable[[], Workload]


class UnreadableSampleError(Exception):
    """A dataset of perfdoctor's own met a file that it cannot read.

    Measuring goes on with another sample, and the report counts and names the file, unless the
    user asked for `--strict`.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)  # both in args, so that it survives pickling by a worker
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
