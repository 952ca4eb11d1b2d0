"""From a Workload and options to the parts of a training: device, optimizers, loader arguments."""

from __future__ import annotations

import inspect
import operator
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from perfdoctor.collect.failures import in_user_code
from perfdoctor.collect.loader import is_iterable
from perfdoctor.collect.options import BenchOptions
from perfdoctor.errors import PerfdoctorError
from perfdoctor.workload import Workload

DEFAULT_BATCH_SIZE = 32
_ONLY_WITH_WORKERS = (
    "prefetch_factor",
    "persistent_workers",
    "multiprocessing_context",
    "timeout",
    "worker_init_fn",
)


def choose_device(wanted: str | None) -> torch.device:
    """The device named, or a GPU if there is one, or the CPU.

    Raises:
        PerfdoctorError: there is no such device here.
    """
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise PerfdoctorError(
            f"unknown device {wanted!r}; use cpu, cuda or cuda:N", slug="unknown-device"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        built = "this PyTorch is built without CUDA" if torch.version.cuda is None else "no GPU"
        raise PerfdoctorError(
            f"--device {wanted}: {built} (torch {torch.__version__}); use --device cpu",
            slug="no-gpu",
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise PerfdoctorError(
            f"--device {wanted}: there are {torch.cuda.device_count()} GPUs, numbered from 0",
            slug="no-such-gpu",
        )
    return _usable(device)


def _usable(device: torch.device) -> torch.device:
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise PerfdoctorError(
            f"--device {device} cannot be used here: {reason}", slug="device-unusable"
        ) from None
    return device


def seed_everything(seed: int) -> None:
    """Seeds the generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def check_workload(workload: Workload) -> None:
    """Refuses field values that mean nothing.

    Raises:
        PerfdoctorError: naming the field.
    """
    if workload.arch_order not in (1, 2):
        raise PerfdoctorError(
            f"Workload(arch_order={workload.arch_order!r}) must be 1 or 2", slug="bad-arch-order"
        )
    if not isinstance(workload.arch_every, int) or workload.arch_every < 1:
        raise PerfdoctorError(
            f"Workload(arch_every={workload.arch_every!r}) must be a whole number from 1",
            slug="bad-arch-every",
        )


def arch_parameters(workload: Workload) -> list[nn.Parameter]:
    """The architecture parameters; empty where there is no search."""
    given: Any = workload.arch_parameters
    if given is None:
        return []
    with in_user_code("arch_parameters of the workload"):
        found: Iterable[nn.Parameter] = given(workload.model) if callable(given) else given
        parameters = list(found)
    if not parameters:
        raise PerfdoctorError(
            "Workload(arch_parameters=...) gave no parameters; leave it out where nothing is "
            "searched",
            slug="no-arch-parameters",
        )
    return parameters


def make_optimizer(
    given: Optimizer | Callable[[list[nn.Parameter]], Optimizer] | None,
    parameters: list[nn.Parameter],
    default: Callable[[list[nn.Parameter]], Optimizer],
) -> Optimizer:
    """The user's optimizer, or the one their function makes, or the default.

    Raises:
        PerfdoctorError: nothing to train, or what the function made is no optimizer.
    """
    if isinstance(given, Optimizer):
        return given
    if not parameters:
        raise PerfdoctorError("the model has no parameters to train", slug="no-parameters")
    made = (given or default)(parameters)
    if not hasattr(made, "step") or not hasattr(made, "zero_grad"):
        raise PerfdoctorError(
            f"Workload(optimizer=...) made a {type(made).__name__}, which has no step() and "
            "zero_grad(); give an optimizer or a function of the parameters",
            slug="not-an-optimizer",
        )
    return made


def wants_closure(optimizer: Optimizer) -> bool:
    """Whether its step calls the training back, as L-BFGS does."""
    try:
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    except (TypeError, ValueError):  # a step that is not written in Python
        return False
    return closure is not None and closure.default is inspect.Parameter.empty


def loader_arguments(workload: Workload, options: BenchOptions) -> dict[str, Any]:
    """What the DataLoader is really called with.

    Raises:
        PerfdoctorError: the batch is larger than the dataset, or the dataset is empty.
    """
    arguments: dict[str, Any] = dict(workload.loader_options)
    own_batching = "batch_sampler" in arguments
    if own_batching and options.batch_size is not None:
        raise PerfdoctorError(
            "--batch-size has no effect on a batch_sampler, which decides the size; leave one out",
            slug="batch-size-and-sampler",
        )
    if options.batch_size is not None or ("batch_size" not in arguments and not own_batching):
        size = workload.batch_size if options.batch_size is None else options.batch_size
        arguments["batch_size"] = DEFAULT_BATCH_SIZE if size is None else size
    if arguments.get("batch_size") is not None:
        arguments["batch_size"] = _whole(arguments["batch_size"])
    for name in ("num_workers", "prefetch_factor", "pin_memory", "persistent_workers"):
        if (value := getattr(options, name)) is not None:
            arguments[name] = value
    if workload.collate_fn is not None:
        arguments["collate_fn"] = workload.collate_fn
    if not arguments.get("num_workers"):  # PyTorch refuses these without workers
        for name in _ONLY_WITH_WORKERS:
            arguments.pop(name, None)
    if not is_iterable(workload.dataset):
        if not own_batching and "sampler" not in arguments:
            arguments.setdefault("shuffle", True)
        _check_size(workload.dataset, arguments.get("batch_size"), arguments)
    return arguments


def validation_arguments(workload: Workload, arguments: dict[str, Any]) -> dict[str, Any]:
    """The loader's arguments for the data of the architecture step.

    What picks samples belongs to the training data, and no batch is too small to search on.
    """
    dataset = workload.val_dataset
    if dataset is None:
        return arguments
    kept = {k: v for k, v in arguments.items() if k not in ("sampler", "batch_sampler", "shuffle")}
    kept["drop_last"] = False
    kept.setdefault("batch_size", DEFAULT_BATCH_SIZE)
    if not is_iterable(dataset):
        kept["shuffle"] = True
        _check_size(dataset, None, kept)
    return kept


def _whole(size: Any) -> int:
    """A batch size as Python's whole number, on which DataLoader insists."""
    whole = operator.index(size) if hasattr(size, "__index__") else 0
    if whole < 1:
        raise PerfdoctorError(
            f"batch_size={size!r} must be a whole number from 1", slug="bad-batch-size"
        )
    return whole


def _check_size(dataset: Any, batch_size: int | None, arguments: dict[str, Any]) -> None:
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise PerfdoctorError(
            f"the dataset is a {type(dataset).__name__} without __len__ and __getitem__; give a "
            "torch.utils.data Dataset or IterableDataset",
            slug="not-a-dataset",
        )
    with in_user_code("len() of the dataset"):
        count = len(dataset)
    if count == 0:
        raise PerfdoctorError("the dataset is empty: its length is 0", slug="dataset-empty")
    if batch_size is not None and batch_size > count and "sampler" not in arguments:
        raise PerfdoctorError(
            f"batch size {batch_size} is larger than the dataset ({count} samples); "
            f"use --batch-size {count} or less",
            slug="batch-larger-than-dataset",
        )
