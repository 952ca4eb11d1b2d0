"""Settings that a log prints about itself: `Namespace(batch_size=32)`, YAML, tables, banners."""

from __future__ import annotations

import math
import re
from typing import Any

#: Setting → the names it is printed under.
_NAMES = {
    "batch_size": "batch_size|batch-size|batchsize|bs|train_batch_size|global_batch_size|"
    "per_device_train_batch_size|samples_per_gpu|BATCH_SIZE|IMS_PER_BATCH|[Bb]atch [Ss]ize|"
    "micro_batch_size|"
    "[Tt]otal train batch size[^=:]{0,60}|批大小|批次大小",
    "num_workers": "num_workers|workers|num-workers|n_workers|dataloader_num_workers|"
    "NUM_WORKERS|workers_per_gpu|nthreads|num_worker|data_workers|j",
    "epochs": "epochs|max_epochs|num_epochs|n_epochs|num_train_epochs|num epochs|EPOCHS|max_epoch",
    "max_steps": "max_steps|max_iters|total optimization steps|max_iter|train_steps|MAX_ITER|"
    "num_steps|max_update|total_steps",
    "pin_memory": "pin_memory|pin_mem|PIN_MEMORY",
    "persistent_workers": "persistent_workers",
    "prefetch_factor": "prefetch_factor",
    "compile": "compile|torchcompile|torch_compile",
    "log_interval": "log_interval|print_freq|report_freq|logging_steps|log_every|print_interval",
    "world_size": "world_size|world size|num_gpus|Number of GPUs|n_gpus|ngpus|gpus|WORLD_SIZE|"
    "nproc_per_node",
    "gradient_accumulation": "gradient_accumulation_steps|grad_accum|accumulate_grad_batches|"
    "accum_iter|update_freq|gradient accumulation steps",
    "arch_order": "unrolled",
}
_PRECISION = re.compile(
    r"['\"]?(?<![\w.])(?:amp|use_amp|AMP|fp16|bf16|mixed_precision|precision|dtype)['\"]?"
    r"\s{0,3}[=:]\s{0,3}['\"]?([A-Za-z0-9.\-]{1,20})"
)
_NAMESPACE = re.compile(r"Namespace\(([^\n]{0,20000})")
_EPOCH_GIVEN = re.compile(r"(?<![\w.])epoch=([0-9]{1,7})(?![\w.])")
_KEYS = {
    setting: re.compile(
        rf"(?<![\w.\-])['\"]?(?:--)?(?:{names})['\"]?\s{{0,40}}[=:]\s{{0,20}}['\"]?"
        r"(?P<value>[0-9]{1,3}(?:,[0-9]{3})+(?![\w.,])|[0-9]{1,10}(?!,[0-9])(?![\w.])|[Tt]rue|[Ff]alse)",
        re.IGNORECASE if setting in ("max_steps", "epochs") else 0,
    )
    for setting, names in _NAMES.items()
}


#: Each process is of one group of each kind: their sizes multiply to the number of processes.
_PARALLEL = {
    kind: re.compile(
        rf"(?i)(?<![\w]){kind}[ _-](?:model[ _-])?parallel[ _-]size\s?[=:]\s?([0-9]{{1,5}})"
    )
    for kind in ("data", "tensor", "pipeline")
}


def _processes(text: str) -> int | None:
    sizes = [pattern.search(text) for pattern in _PARALLEL.values()]
    found = [int(size[1]) for size in sizes if size is not None]
    return math.prod(found) if len(found) == len(sizes) and all(found) else None


def printed_settings(text: str) -> dict[str, Any]:
    """What the head of a log tells of its own configuration."""
    found: dict[str, Any] = {}
    for setting, pattern in _KEYS.items():
        match = pattern.search(text)
        if match is not None:
            found[setting] = _value(match["value"])
    arguments = _NAMESPACE.search(text)
    given = _EPOCH_GIVEN.search(arguments[1]) if arguments is not None else None
    if given is not None:  # elsewhere "epoch=3" counts
        found.setdefault("epochs", int(given[1]))
    processes = _processes(text) if "world_size" not in found else None
    if processes is not None:
        found["world_size"] = processes
    precision = _precision(text)
    if precision is not None:
        found["precision"] = precision
    for flag in ("pin_memory", "persistent_workers", "compile"):
        if flag in found and not isinstance(found[flag], bool):
            found[flag] = bool(found[flag])
    if "compile" in found:
        found["compile"] = "default" if found["compile"] else "off"
    if isinstance(found.get("arch_order"), bool):
        found["arch_order"] = 2 if found["arch_order"] else 1
    for number in ("batch_size", "num_workers", "epochs", "max_steps", "world_size"):
        if isinstance(found.get(number), bool) or (
            number != "num_workers" and found.get(number) == 0
        ):
            del found[number]
    return found


def _value(text: str) -> Any:
    if text[0].isdigit():
        return int(text.replace(",", ""))
    return text.lower() == "true"


def _precision(text: str) -> str | None:
    for match in _PRECISION.finditer(text):
        name, value = match.group(0).lower(), match.group(1).lower()
        if value in ("true", "o1", "o2") and "precision" not in name:
            return "bf16" if "bf16" in name else "fp16"
        if "bf16" in value or "bfloat16" in value:
            return "bf16"
        if value.startswith(("fp16", "16", "float16", "half")):
            return "fp16"
        if value in ("fp32", "32", "float32", "no", "32-true") or (
            value == "false" and name.startswith(("amp", "use_amp", "'amp", "'use_amp"))
        ):
            return "fp32"
    return None
