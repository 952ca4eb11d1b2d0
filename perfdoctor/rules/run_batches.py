"""What the rules know of how an observed script, or a benchmark, makes its batches."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from perfdoctor.pipeline_model import Setting, best_workers
from perfdoctor.report import Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import PIPELINE, from_settings, setting_now
from perfdoctor.rules.loader_advice import MOST_WAITING_WORKERS, WAIT_SHARE, WORKERS
from perfdoctor.rules.loader_facts import (
    CROWDED,
    cores_taken,
    crowding,
    loader_model,
    prefetch_factor,
    waits_for_storage,
    whole_cores,
)
from perfdoctor.rules.mended import Gone
from perfdoctor.rules.observed import (
    MAIN,
    WORKER,
    HotLine,
    hot_lines,
)
from perfdoctor.rules.waits import Wait, waiting
from perfdoctor.rules.wording import percent, seconds
from perfdoctor.stages import DATA_LOADING

#: No gain above a hundredfold is worth saying.
MOST_GAIN = 100.0
#: From here on what a sample does is computing; below, both kinds of its time are named.
_MOSTLY = 0.5
_VALIDATION = "validation"
#: What lines call that only take a batch from a loader: what is slow lies behind them.
_TAKES = r"DataLoader|__next__|_next_data|default_collate|\bnext\b"
#: What lies in a DataLoader worker's hands and is none of the user's code.
_COLLATES = r"collate|pad_sequence|pack_sequence|\bstack\b"


def has_loader(facts: Facts) -> bool:
    """Whether the training takes its batches from a DataLoader."""
    return facts.has(WORKERS)


def iterable(facts: Facts) -> bool:
    """Whether the data set gives its samples one after another, and not by their numbers."""
    path = "configuration.loader_kind"
    return facts.has(path) and facts.get(path) == "iterable"


def wait_of(facts: Facts) -> Wait:
    """The wait for data, and how much of it is in stalls. Raises `Missing`."""
    facts.number(WAIT_SHARE)
    return waiting(facts)


def loading_holds_up(facts: Facts) -> bool:
    """Whether the training waits for batches, or for cores on which workers make them."""
    waits = wait_of(facts).usual >= facts.threshold("exposed_share")
    return waits or crowding(facts) >= CROWDED


def what_loading_costs(facts: Facts) -> str:
    """In words: "40 % of each step waits for data"."""
    wait, part = wait_of(facts).usual, crowding(facts)
    if wait >= facts.threshold("exposed_share") or part < CROWDED:
        return f"{percent(wait)} of each step waits for data"
    return f"workers take {percent(part)} of the processor time, on the cores that the model needs"


def io_bound(facts: Facts) -> bool:
    """Whether the usual batch is mostly waiting, for a disk or a network."""
    cpu_s, batch_s = facts.known("loader.batch_cpu_s"), facts.known("loader.batch.p50_s")
    if cpu_s is None or not batch_s:
        return False
    return waits_for_storage(facts, cpu_s / batch_s)


def many_workers(facts: Facts) -> int:
    """How many workers suffice where they need no core each; where all cores are taken, no more
    than cores."""
    model = loader_model(facts)
    most = whole_cores(facts) if cores_taken(facts) else MOST_WAITING_WORKERS
    return best_workers(model, range(1, most + 1), prefetch_factor(facts))


def sample_lines(facts: Facts) -> list[HotLine]:
    """Of these, those that make samples: no collating, and nothing of torch's own."""
    lines = [line for line in loading_lines(facts) if not collating(line)]
    return [line for line in lines if line.library != "torch" and "/torch/" not in line.file]


def loading_lines(facts: Facts) -> list[HotLine]:
    """Hot lines that make the training's batches, wherever that is done."""
    in_workers = (facts.known(WORKERS) or 0) > 0
    if in_workers:
        found = hot_lines(facts, process=WORKER)
    else:
        found = hot_lines(facts, DATA_LOADING, process=MAIN)
    return [line for line in found if not re.search(_TAKES, line.library)]


def repeated_lines(facts: Facts) -> list[HotLine]:
    """Of these, those that each of several workers runs for all samples."""
    several = (facts.known(WORKERS) or 0) > 1
    return [line for line in loading_lines(facts) if line.repeated and several]


def collating(line: HotLine) -> bool:
    """Whether a line puts samples together into a batch."""
    return line.calls(_COLLATES)


def part_of_loading(facts: Facts, line: HotLine) -> float:
    """How much (0–1) of the time for making batches a line takes.

    A worker's share is of its busy time, so that it is just that.
    """
    if line.process == WORKER:
        return line.share
    seen = sum(one.share for one in hot_lines(facts, DATA_LOADING))
    whole = max(seen, facts.known(WAIT_SHARE) or 0.0)
    return min(1.0, line.share / whole) if whole > 0 else 0.0


def samples_of_batch(facts: Facts) -> float:
    """How much (0–1) of the time for a batch its samples take; all of it where nobody timed it."""
    batch_s, collate_s = (facts.known(f"loader.{n}.mean_s") for n in ("batch", "collate"))
    return 1.0 if not batch_s or collate_s is None else max(0.0, 1 - collate_s / batch_s)


def sample_words(facts: Facts) -> str:
    """Such as "Making a sample takes 10 ms, 98 % of it waiting": how long on average, and what the
    usual one does, where all of collating is computing.

    Of the whole batch where it is not known how many samples that has.
    """
    batch_s, collate_s = (facts.known(f"loader.{n}.p50_s") or 0.0 for n in ("batch", "collate"))
    made_s, cpu_s = max(1e-9, batch_s - collate_s), facts.number("loader.batch_cpu_s")
    computing = min(1.0, max(0.0, cpu_s - collate_s) / made_s)
    mean_s = facts.number("loader.batch.mean_s") * samples_of_batch(facts)
    size = facts.known("configuration.batch_size")
    what = f"sample takes {seconds(mean_s / size)}" if size else f"batch takes {seconds(mean_s)}"
    if io_bound(facts):
        return f"Making a {what}, {percent(1 - computing)} of it waiting"
    rest = "" if computing > _MOSTLY else ", the rest waiting"
    return f"Making a {what}, {percent(computing)} of it computing{rest}"


def cheaper_batches(facts: Facts, low: float, likely: float, high: float) -> Prediction:
    """The training's gain where these parts of the time for making a batch go away.

    From the pipeline model, since workers hide a part of that time and share the cores with the
    training; its own ends widen those of the parts.
    """
    model = loader_model(facts)
    now = setting_now(facts, model)
    parts = [replace(now, load=max(0.0, 1 - gone)) for gone in (low, likely, high)]
    found = from_settings(facts, model, parts, less_work=True)
    least, speedup, most = found[0].low, found[1].speedup, found[2].high
    return Prediction(
        speedup=min(MOST_GAIN, speedup),
        low=min(MOST_GAIN, least, speedup),
        high=min(MOST_GAIN, max(most, speedup)),
        model=PIPELINE,
    )


def also_in_validation(
    facts: Facts, lines: Sequence[HotLine], gone: Gone, predicted: Prediction
) -> Prediction:
    """The same where these lines, which make the training's batches, make those of validation too.

    At the lower end they do not: validation may have a dataset of its own.
    """
    places = {(line.file, line.line) for line in lines}
    found = [n for n in hot_lines(facts, _VALIDATION) if (n.file, n.line) in places]
    share = sum(line.share for line in found)

    def less(speedup: float, part: float) -> float:
        return 1 / max(1 / MOST_GAIN, 1 / speedup - part * share)

    return replace(
        predicted,
        speedup=less(predicted.speedup, gone.likely),
        high=less(predicted.high, gone.high),
    )


def in_background(facts: Facts, workers: int) -> Prediction:
    """The training's gain where so many workers or threads make the batches meanwhile."""
    return from_settings(facts, loader_model(facts), [Setting(max(1, workers))])[0]


def epoch_steps(facts: Facts) -> float | None:
    """Steps of one pass over the data set, or over what the sampler takes of it, where its size is
    known."""
    told = facts.known("configuration.epoch_batches")
    if told:
        return told
    size, batch = facts.known("configuration.dataset_size"), facts.known("configuration.batch_size")
    return math.ceil(size / batch) if size and batch and batch > 0 else None
