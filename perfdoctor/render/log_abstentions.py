"""What a report lacks for some rules, in words, and the command that measures it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perfdoctor.render.log_words import benchmarked
from perfdoctor.render.setting_words import setting_name
from perfdoctor.render.text import clean, counted
from perfdoctor.report import Abstained, Report

#: Facts and what people call them; of two that fit, the longer path counts.
_FACTS = {
    "configuration.num_workers": "how many workers load the data",
    "configuration.batch_size": "the batch size",
    "configuration.precision": "the precision",
    "configuration.compile": "whether the model is compiled",
    "configuration.optimizer": "which optimizer is used",
    "configuration.pin_memory": "whether memory is pinned",
    "configuration.threads": "how many threads compute",
    "configuration.arch_order": "the order of the architecture step",
    "configuration.arch_every": "how often the architecture step comes",
    "configuration.parameters": "how many parameters the model has",
    "configuration.dataset_size": "how many samples the data set has",
    "configuration.epochs": "how many epochs there are to be",
    "configuration.loader_kind": "which kind of data set it is",
    "configuration.batch_bytes_of_8_bits": "what a batch holds",
    "configuration.autograd_nodes": "how many operations a step has",
    "configuration.loss_nodes": "how many operations the loss has",
    "configuration.misaligned_share": "the shapes of the weights",
    "configuration.multiplied_in_products": "how much a step multiplies",
    "configuration.h2d_pinned": "whether batches are copied from pinned memory",
    "configuration.graph_nodes_grown_per_step": "whether graphs reach back into earlier steps",
    "configuration.kept_graphs_per_step": "whether graphs are kept for backward",
    "configuration.gradients_unused": "which gradients the optimizer uses",
    "configuration.tokens_of_positions": "how much of a batch is padding",
    "configuration.longest_of_positions": "how long the longest row of a batch is",
    "configuration.arithmetic_per_position": "what padding costs",
    "configuration.saved_unneeded": "what checkpoints hold",
    "configuration.saved_data": "what of checkpoints is always the same",
    "configuration.thrown_away_of_backward": "which gradients are cleared unused",
    "configuration.one_by_one_s": "whether gradients are taken one by one",
    "configuration.parametrized_times": "how often parametrized weights are computed",
    "configuration.embedding_part": "what embedding tables hold",
    "configuration.fft_padded_part": "the lengths of Fourier transforms",
    "configuration.sample_gradients_s": "whether gradients are taken sample by sample",
    "configuration.fixed_part_s": "what is not trained",
    "configuration.unused_rows_s": "which rows are used",
    "configuration.zero_products_goes_s": "what matrices hold zeros",
    "configuration.zeroed_part": "what is multiplied by zero",
    "configuration": "settings",
    "environment.device": "the device",
    "environment.gpu": "which GPU it is",
    "environment.torch": "the version of torch",
    "environment.cores_usable": "how many cores are usable",
    "environment": "the machine",
    "memory": "how much memory the training takes",
    "utilisation.gpu": "how busy the GPU is",
    "utilisation.gpu_memory": "how full the GPU's memory is",
    "utilisation.gpu_clock_mhz": "how fast the GPU's clock is",
    "utilisation.gpu_temperature_c": "how hot the GPU is",
    "utilisation.ram": "how full the host's memory is",
    "utilisation.swap_bytes": "whether the host swaps",
    "utilisation.cpu_foreign": "what else ran on the machine",
    "utilisation": "how busy the hardware is",
    "stages.data_loading": "how long training waits for data",
    "stages.arch_step": "how long the architecture step takes",
    "stages": "what a step spends its time on",
    "wall.parts.validation": "how long validation takes",
    "wall.parts.checkpoint": "how long saving checkpoints takes",
    "wall.parts.logging": "how long logging takes",
    "wall.parts.start_up": "how long starting takes",
    "wall.parts.train": "how long training takes",
    "wall": "how long the run took",
    "steps.count": "enough steps",
    "steps.cpu_s": "the processor time of each step",
    "steps": "how long each step takes",
    "series.step_s": "how long each step takes",
    "series.epoch_s": "how long each epoch takes",
    "series.loader_batch_s": "how the loader works",
    "series": "the course of the run",
    "epochs.start": "how long the start of an epoch takes",
    "epochs.economics": "a metric of each epoch",
    "epochs": "how long each epoch takes",
    "throughput": "the speed over time",
    "loader": "how the loader works",
    "probes": "what changes to the model would bring",
    "probes.bf16": "what computing in 16 bits would bring",
    "probes.threads": "what another number of threads would bring",
    "probes.batch_x2": "what a larger batch would bring",
    "probes.batch_x4": "what a larger batch would bring",
    "probes.compile": "what compiling would bring",
    "probes.cached_samples": "what keeping samples in memory would bring",
    "probes.neighbouring_samples": "whether neighbouring samples are read faster",
    "probes.handover": "what handing over a batch takes",
    "probes.arch_first_order": "what a first-order architecture step would bring",
    "probes.accumulation": "what gradients of several batches would bring",
    "limits": "what the hardware can do",
    "hotspots": "which lines take the time",
    "stalls": "which steps are much slower than the rest",
    "counters.compile_s": "how long compiling takes",
    "counters.swap_grown_bytes": "whether the host swaps",
    "counters.gpu_busy_share": "how busy the GPU is",
    "counters": "what a profiler tells",
    "rank_skew": "how unequal the processes are",
    "ranks": "how many processes train together",
}
#: Facts of a GPU: where there is none, nobody misses them.
_OF_GPU = ("utilisation.gpu", "environment.gpu", "counters.gpu", "limits.h2d")
#: Facts of a DataLoader.
_LOADERS = (
    "loader", "configuration.num_workers", "configuration.pin_memory", "configuration.dataset_size"
)  # fmt: skip
_NO_LOADER = "a DataLoader (none was seen)"
_SHOWN, _REASONS_SHOWN = 3, 3
_MISSING_SHOWN = 4


def of_measured(report: Report) -> str | None:
    """What is missing in a training that was measured or observed here."""
    missing = [a.missing for a in report.abstained if report.environment.gpu or not _of_gpu(a)]
    if not missing:
        return None
    facts = list(dict.fromkeys(_of_loader(path, report) or fact_words(path) for path in missing))
    more = len(facts) - _MISSING_SHOWN
    told = "; ".join(facts[:_MISSING_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    where = "perfdoctor bench --json" if benchmarked(report) else "the JSON report"
    return f"{counted(len(missing), 'rule')} could not decide ({where} shows why); missing: {told}"


def _of_loader(path: str, report: Report) -> str | None:
    """What a script without a DataLoader lacks is not its settings."""
    unseen = "num_workers" not in report.configuration and not benchmarked(report)
    return _NO_LOADER if unseen and path.startswith(_LOADERS) else None


def _of_gpu(abstained: Abstained) -> bool:
    return abstained.missing.startswith(_OF_GPU)


def lines(report: Report) -> Iterator[str]:
    """Reasons first, then what the log does not tell, by the command that would."""
    because = dict.fromkeys(a.reason for a in report.abstained if a.reason is not None)
    for reason in list(because)[:_REASONS_SHOWN]:
        rules = [a.rule for a in report.abstained if a.reason == reason]
        yield f"{', '.join(map(clean, rules))} did not decide: {clean(reason)}"
    untold = [a for a in report.abstained if a.reason is None]
    commands = dict.fromkeys(a.measure_with for a in untold)
    for command in sorted(commands, key=lambda c: (c is None, c != _most(untold))):
        yield _line([a for a in untold if a.measure_with == command], command)


def _most(abstained: Sequence[Abstained]) -> str | None:
    named = [a.measure_with for a in abstained if a.measure_with is not None]
    return max(named, key=named.count, default=None)


def _line(abstained: Sequence[Abstained], command: str | None) -> str:
    facts = list(dict.fromkeys(fact_words(a.missing) for a in abstained))
    more = len(facts) - _SHOWN
    told = "; ".join(facts[:_SHOWN]) + (f"; and {counted(more, 'more fact')}" if more > 0 else "")
    rules = counted(len(abstained), "rule")
    measure = "" if command is None else f" ({clean(command)} measures it)"
    return f"{rules} could not decide, since the log does not tell: {told}{measure}"


def fact_words(path: str) -> str:
    """What people call a fact of the report; its path where nobody does."""
    keys = clean(path).split(".")
    if keys[0] == "configuration" and len(keys) > 1 and ".".join(keys[:2]) not in _FACTS:
        return f"the setting {setting_name(keys[1])}"
    starts = (".".join(keys[:n]) for n in range(len(keys), 0, -1))
    return next((_FACTS[start] for start in starts if start in _FACTS), clean(path))
