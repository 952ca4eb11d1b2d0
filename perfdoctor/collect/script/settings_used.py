"""The configuration as the training really uses it, read from its objects and from torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.loaders_seen import LoaderFacts, label_roles
from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.optimizers import ARCHITECTURE
from perfdoctor.collect.script.unused_part import TIMED

#: What tells threads of GNU OpenMP how to wait.
_WAITS_OF_OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
#: Types of what holds all samples, and how deep subsets of subsets are looked into.
_ROWS, _MOST_SUBSETS = ("Tensor", "ndarray"), 3
#: What only stands still: of what gets gradients, and of what the main optimizer updates.
AT_RATE_0, OPTIMIZER_AT_RATE_0 = "gradients_at_rate_0", "optimizer_at_rate_0"
#: Kinds of numbers in arrays; tensors hold nothing else.
_NUMBERS = "biufc"


def settings_used(observer: Observer) -> dict[str, Any]:
    """What rules and readers want to know; what cannot be told is left out."""
    found = _process() | _model(observer) | _optimizer(observer)
    found |= observer.looks.unused_part.settings()
    loader = training_loader(observer)
    if loader is not None:
        found |= _loader(loader)
    return {name: value for name, value in found.items() if value is not None}


def training_loader(observer: Observer) -> LoaderFacts | None:
    """The loader with the most training batches."""
    used = [f for f in observer.loaders.values() if f.role == "train"]
    return max(used, key=lambda f: f.batches, default=None)


def steps_per_iterator(observer: Observer) -> dict[str, float]:
    """The steps of all the training for each iterator of its loader that was trained with, of
    several: those of its beginning tell little, and an iterator made for a look tells nothing. And
    the batches, of which a step may take several."""
    loader = training_loader(observer)
    if loader is None or loader.trained_with < 2:
        return {}
    return {
        "steps_per_iterator": observer.recorder.count / loader.trained_with,
        "batches_per_iterator": loader.batches / loader.trained_with,
    }


def sample_sizes(observer: Observer) -> dict[str, float]:
    """How large the training's samples are at its beginning and at its end."""
    loaders = {facts.number for facts in observer.loaders.values() if facts.role == "train"}
    return observer.sample_sizes.settings(loaders, observer.looks.longest_steps)


def acts_for_data(observer: Observer) -> dict[str, Any]:
    """Whether the model makes the data of the training, as one that acts in an environment, and the
    seconds of that; nothing where it does not."""
    if not observer.acts:
        return {}
    acting_ns = observer.recorder.totals[r.VALIDATION]
    return {"acts_for_data": True, "acting_s": float(acting_ns) * 1e-9}


def remade_elsewhere(observer: Observer) -> dict[str, float]:
    """Another loader than the training's whose iterators are thrown away after a few batches, as
    for steps of the architecture: how many, the batches of each, and seconds spent on all of them.
    Of several the one that took most; nothing where there is none."""
    main = training_loader(observer)
    others = [f for f in observer.loaders.values() if f is not main and f.thrown_away]
    spent = observer.recorder.totals
    most = max(others, key=lambda f: int(spent[f.label]), default=None)
    if most is None:
        return {}
    return {
        "remade_iterators": most.iterators,
        "remade_batches_each": most.batches / most.iterators,
        "remade_s": float(spent[most.label]) * 1e-9,
    }


def _process() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_initialized()
    default = str(torch.get_default_dtype()).removeprefix("torch.")
    return {
        "threads": torch.get_num_threads(),
        "anomaly_detection": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark if cuda else None,
        "default_dtype": None if default == "float32" else default,
        "matmul_precision": _matmul_precision(torch),
        "autograd_profiler": torch.autograd.profiler._is_profiler_enabled or None,
        "launch_blocking": os.environ.get("CUDA_LAUNCH_BLOCKING") == "1" if cuda else None,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "openmp_waiting": _openmp_waiting(),
        "allocator_settings": os.environ.get("PYTORCH_CUDA_ALLOC_CONF"),
        "world_size": _world_size(torch),
    }


def _matmul_precision(torch: Any) -> str | None:
    """That of float32 products, by its older name; torch refuses to tell that one where the script
    has chosen by the newer."""
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:
        chosen = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
        return {"tf32": "high", "ieee": "highest"}.get(str(chosen))


def _openmp_waiting() -> str | None:
    """How threads of GNU OpenMP wait for work, "default" where nobody chose; None of any other."""
    try:
        if "libgomp" not in Path("/proc/self/maps").read_text():
            return None
    except OSError:
        return None
    chosen = [f"{n}={os.environ[n]}" for n in _WAITS_OF_OPENMP if os.environ.get(n)]
    return ", ".join(chosen) or "default"


def _world_size(torch: Any) -> int | None:
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    return int(distributed.get_world_size())


def _model(observer: Observer) -> dict[str, Any]:
    trained = observer.modules.trained()
    if not trained:  # what is optimised is in none, as an image that a model judges
        compiled = "default" if _compiled([]) else None
        return {**_unused([], observer), "compile": compiled}
    largest = max(trained, key=lambda module: sum(p.numel() for p in module.parameters()))
    parameters = list(largest.parameters())
    names = {type(module).__name__ for module in largest.modules()}
    first = parameters[0]
    weights = str(first.dtype).removeprefix("torch.")
    short = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
    return {
        "model": type(largest).__name__,
        "parameters": sum(p.numel() for p in parameters),
        "tensors": len(parameters),
        "device": str(first.device),
        "precision": observer.looks.autocast or short.get(weights, weights),
        "autograd_nodes": observer.looks.now.autograd_nodes,
        "loss_nodes": observer.looks.now.loss_nodes,
        "loss_of_backward": observer.looks.now.loss_part.median,
        **observer.looks.now.arithmetic.settings(),
        "kept_graphs_per_step": observer.looks.kept_graphs.per_step,
        "differentiates_gradients": observer.looks.kept_graphs.differentiates,
        **observer.looks.graph_reach.settings(),
        **observer.looks.padded_batches.settings(),
        **_unused(parameters, observer),
        "compile": "default" if _compiled(trained) else "off",
        "channels_last": _channels_last(parameters),
        "fsdp": any("FSDP" in name or "FullySharded" in name for name in names) or None,
        "data_parallel": "DataParallel" in names or None,
        "ddp": "DistributedDataParallel" in names or None,
        "gradient_checkpointing": observer.looks.now.recomputes
        or any(getattr(m, "gradient_checkpointing", False) is True for m in largest.modules())
        or None,
        "attention": _attention(largest),
        "misaligned_share": _misaligned(largest),
    }


def _unused(parameters: list[Any], observer: Observer) -> dict[str, Any]:
    """The parts, by number, of what gets gradients that no optimizer has, and that one has at a
    learning rate of 0 only; nothing without any.

    Gradients of what an optimizer has may have been cleared since. Beside the model's, those of
    other modules count that the backward passes lead to.
    """
    if not len(observer.optimizers):
        return {}
    optimizers = observer.optimizers
    parameters = [*parameters, *observer.looks.unused_part.parameters()]
    trained = [p for p in {id(p): p for p in parameters}.values() if p.requires_grad]
    left_out = [p for p in trained if p.grad is not None and not optimizers.has(p)]
    still = [p for p in trained if optimizers.has(p) and not optimizers.uses(p)]
    whole = sum(p.numel() for p in trained if optimizers.has(p) or p.grad is not None)
    if not whole:
        return {}
    at_zero = sum(p.numel() for p in still) / whole
    return {
        "gradients_unused": sum(p.numel() for p in left_out) / whole,
        AT_RATE_0: None if optimizers.rates.raised else at_zero or None,
    }


def with_unused_part(used: dict[str, Any], observer: Observer) -> dict[str, Any]:
    """These settings of the first steps with what the backward passes did for nothing; without what
    stood still then and was trained later."""
    if observer.optimizers.rates.raised:
        of_the_first = (AT_RATE_0, OPTIMIZER_AT_RATE_0, *TIMED)
        used = {name: value for name, value in used.items() if name not in of_the_first}
    return used | observer.looks.unused_part.settings()


def _attention(model: Any) -> str | None:
    """How attention is computed, where the model says so itself, as those of transformers do."""
    chosen = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return chosen if isinstance(chosen, str) else None


def _misaligned(model: Any) -> float | None:
    """The part of the weights of linear layers with a side that 8 does not divide."""
    torch = sys.modules["torch"]
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    sizes = [(m.in_features, m.out_features) for m in linear]
    whole = sum(a * b for a, b in sizes)
    return sum(a * b for a, b in sizes if a % 8 or b % 8) / whole if whole else None


def _compiled(modules: list[Any]) -> bool:
    """Whether a module was compiled, or a plain function: that leaves no trace but the graphs."""
    from perfdoctor.collect.counters import compiler_counters

    return compiler_counters().get("graphs_compiled", 0.0) > 0 or any(
        type(inner).__name__ == "OptimizedModule" or inner._compiled_call_impl is not None
        for module in modules
        for inner in module.modules()
    )


def _channels_last(parameters: list[Any]) -> bool | None:
    torch = sys.modules["torch"]
    filters = [p for p in parameters if p.dim() == 4 and min(p.shape[1:]) > 1]
    if not filters:
        return None
    return all(p.is_contiguous(memory_format=torch.channels_last) for p in filters)


def _optimizer(observer: Observer) -> dict[str, Any]:
    main = observer.optimizers.main()
    if main is None:
        return {}
    defaults = getattr(main, "defaults", {})
    module = type(main).__module__
    found = {
        "optimizer": type(main).__name__,
        "optimizer_home": "torch" if module.startswith("torch.") else module,
        "optimizer_foreach": defaults.get("foreach"),
        "optimizer_fused": defaults.get("fused"),
        OPTIMIZER_AT_RATE_0: observer.optimizers.rates.part_of(main),
    }
    return found | searches(observer)


def searches(observer: Observer, backwards: int = 0) -> dict[str, int]:
    """How often the architecture is updated, as far as is known by now, and by how many
    computations of gradients at most (0: not known)."""
    every = arch_every(observer)
    if every is None:
        return {}
    return {"arch_every": every} | ({"arch_backwards": backwards} if backwards else {})


def validation_waits(observer: Observer) -> dict[str, float]:
    """Seconds that validation waited for its loaders' batches."""
    recorder, roles = observer.recorder, label_roles(observer.loaders.values())
    labels = [label for label, role in roles.items() if role == "validation"]
    waited_s = sum(recorder.totals[label] for label in labels) * 1e-9
    return {"validation_waits_s": waited_s} if waited_s else {}


def arch_every(observer: Observer) -> int | None:
    """Steps of the training from one of the architecture to the next; None: there were none."""
    steps = observer.optimizers.steps_of(ARCHITECTURE) + observer.searches.count
    return max(1, round(observer.recorder.count / steps)) if steps else None


def _loader(facts: LoaderFacts) -> dict[str, Any]:
    loader = facts.loader()
    return facts.settings or {} if loader is None else loader_settings(loader)


def loader_settings(loader: Any) -> dict[str, Any]:
    """What a loader was made with."""
    workers = loader.num_workers
    return {
        "batch_size": loader.batch_size or getattr(loader.batch_sampler, "batch_size", None),
        "num_workers": workers,
        "prefetch_factor": loader.prefetch_factor if workers else None,
        "pin_memory": bool(loader.pin_memory),
        "persistent_workers": bool(loader.persistent_workers) if workers else None,
        "drop_last": bool(getattr(loader, "drop_last", False)),
        "start_method": _start_method(loader, workers),
        "loader_kind": "iterable" if loader._dataset_kind else "map",
        "sampler": _own_class(loader.sampler),
        "batch_sampler": _own_class(loader.batch_sampler),
        "collate": _collate(loader),
        "dataset": type(loader.dataset).__name__,
        "dataset_in_memory": _in_memory(loader.dataset),
        "dataset_size": _length(loader.dataset),
        "epoch_batches": _epoch_batches(loader),
    }


def _epoch_batches(loader: Any) -> int | None:
    """Batches that its sampler gives in an epoch. The length of a sampler that is not torch's is
    not asked for: it may draw all of them, and random numbers with them."""
    samplers = loader.sampler, loader.batch_sampler
    if any(_own_class(sampler) is not None for sampler in samplers):
        return None
    return _length(loader.sampler if loader.batch_sampler is None else loader.batch_sampler)


def _collate(loader: Any) -> str:
    """What puts samples together: "default" where it is torch's, else its name."""
    from torch.utils.data import default_collate

    function = loader.collate_fn
    if function is default_collate:
        return "default"
    return str(getattr(function, "__name__", type(function).__name__))


def _in_memory(dataset: Any) -> bool | None:
    """Whether a data set holds tensors or arrays with a row of numbers for each sample; None where
    it is not seen to: one number or text each are labels, or paths of files. Nothing of it is
    called but its length."""
    from torch.utils.data import Subset

    try:
        for _ in range(_MOST_SUBSETS):
            if type(dataset) is Subset:
                dataset = dataset.dataset
        size, held = _length(dataset), getattr(dataset, "__dict__", {})
        return True if size and any(_has_rows(v, size) for v in list(held.values())) else None
    except Exception:  # objects of anyone's making
        return None


def _has_rows(value: Any, size: int) -> bool:
    if type(value).__name__ not in _ROWS or len(value.shape) < 2 or value.shape[0] != size:
        return False
    return getattr(value.dtype, "kind", "f") in _NUMBERS


def _own_class(sampler: Any) -> str | None:
    """The name of a sampler's class that is not torch's; None of torch's."""
    kind = type(sampler)
    return None if sampler is None or kind.__module__.startswith("torch.") else kind.__name__


def _start_method(loader: Any, workers: int) -> str | None:
    """How its workers are started; how they would be, where it has none and that takes long."""
    import multiprocessing

    context = loader.multiprocessing_context
    if context is not None:
        return str(context.get_start_method())
    chosen = multiprocessing.get_start_method(allow_none=True)
    method = chosen or multiprocessing.get_all_start_methods()[0]  # the first is the default
    return method if workers or method != "fork" else None


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except Exception:  # an iterable dataset, or a __len__ of the user's that fails
        return None
