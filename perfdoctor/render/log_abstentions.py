"""What a log lacks for some rules, in words, and the command that measures it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    "configuration": "settings",
    "environment.device": "the device",
    "environment.cores_usable": "how many cores are usable",
    "environment": "the machine",
    "memory": "how much memory the training takes",
    "utilisation.gpu": "how busy the GPU is",
    "utilisation.gpu_memory": "how full the GPU's memory is",
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
    "limits": "what the hardware can do",
}
_SHOWN, _REASONS_SHOWN = 3, 3


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
    starts = (".".join(keys[:n]) for n in range(len(keys), 0, -1))
    return next((_FACTS[start] for start in starts if start in _FACTS), clean(path))
