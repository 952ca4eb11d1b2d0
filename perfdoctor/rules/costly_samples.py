"""What PD107 says of a benchmark, which sees no lines: what a sample costs, and of what kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from perfdoctor.pipeline_model import LoaderModel, best_workers
from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import PIPELINE_BOUND, from_loader, from_settings, setting_now
from perfdoctor.rules.judging import BOTTLENECK_SHARE, WORTHWHILE
from perfdoctor.rules.loader_advice import (
    LOADER_CAUSE,
    WORKERS,
    loader_evidence,
    remark_on_stalls,
)
from perfdoctor.rules.loader_facts import loader_model, prefetch_factor, whole_cores
from perfdoctor.rules.run_batches import (
    MOST_GAIN,
    io_bound,
    iterable,
    many_workers,
    sample_words,
    samples_of_batch,
    wait_of,
)
from perfdoctor.rules.run_storage import more_readers
from perfdoctor.rules.wording import count, percent
from perfdoctor.stages import DATA_LOADING

#: From here on samples, and not collating, are the larger part of a batch; below, PD109 says it.
_LARGER = 0.5
_SAME = "probes.cached_samples.details.same_each_time"
_NEARER = (
    "A sample has to wait less: keep samples in memory or on a local disk, or pack them into files "
    "that are read from the first byte to the last."
)
_LINES = " `perfdoctor run` of the training script names the lines that this takes."
_KEPT = (
    'np.save("samples.npy", prepared)  # once, in a script of its own\n\n'
    "def __init__(self, ...):  # all workers share what is mapped\n"
    '    self.samples = np.load("samples.npy", mmap_mode="r")\n\n'
)
_BY_NUMBER = (
    "def __getitem__(self, index):\n    return torch.from_numpy(self.samples[index].copy())"
)
_ONE_BY_ONE = (
    "def __iter__(self):  # in each of several workers a part of them\n"
    "    yield from map(torch.from_numpy, map(np.copy, self.samples))"
)


@dataclass(frozen=True)
class _Way:
    """How samples become cheaper."""

    advice: str
    change: Mapping[str, object]
    snippet: str = ""
    safety: str = "exact"


def costly_samples(facts: Facts) -> Finding | None:
    """Fires if a benchmark waits for batches of which samples are the larger part.

    It goes behind all that is known to help; where nothing is, a sample has to become cheaper.
    """
    batch_s, wait = facts.number("loader.batch.mean_s"), wait_of(facts)
    part, least = samples_of_batch(facts), facts.threshold("exposed_share")
    if wait.share < max(least, BOTTLENECK_SHARE) or part < _LARGER:
        return None
    if io_bound(facts) and wait.usual >= least and more_readers(facts, WORTHWHILE) is not None:
        return None  # PD108 says how
    model = loader_model(facts)
    half, whole = _without(facts, model, part)
    if whole.speedup < WORTHWHILE:
        return None
    way = _way(facts)
    return Finding(
        stage=DATA_LOADING,
        title=f"{sample_words(facts)}; {percent(wait.share)} of each step waits for data",
        advice=f"{way.advice}{_more(facts, model)} In half the time for a sample, training would "
        f"be {half.speedup:.1f} times as fast.{remark_on_stalls(model)}",
        change=dict(way.change),
        snippet=way.snippet,
        evidence=(
            *loader_evidence(facts),
            Evidence(metric="time for the samples of a batch", value=part * batch_s, unit="s"),
        ),
        cause=LOADER_CAUSE,
        predicted=_at_most(whole),
        confidence=0.6,
        effort="lines",
        safety=way.safety,
        behind=True,
    )


def _without(facts: Facts, model: LoaderModel, part: float) -> list[Prediction]:
    """What the training gains without half, and without all, of this part of making batches."""
    now = setting_now(facts, model)
    left = [replace(now, load=1 - gone * part) for gone in (0.5, 1.0)]
    return from_settings(facts, model, left, less_work=True)


def _at_most(whole: Prediction) -> Prediction:
    """A bound: how much of the time for samples can go is not known."""
    most = min(MOST_GAIN, whole.high)
    return Prediction(speedup=math.sqrt(most), low=1.0, high=most, model=PIPELINE_BOUND)


def _way(facts: Facts) -> _Way:
    """By what samples do, and by whether they come out the same each time, where that was tried."""
    if io_bound(facts):
        return _Way(_NEARER, {"samples_nearer": True})
    same = facts.known(_SAME)
    if same == 0:
        return _Way(
            "A sample has to become cheaper. It comes out differently each time: crop or resize "
            f"before what is random, or augment whole batches as tensors.{_LINES}",
            {"cheaper_augmentation": True},
            safety="semantics",
        )
    what = "It comes out the same each time: make it" if same else "Make what does not change"
    snippet = _KEPT + (_ONE_BY_ONE if iterable(facts) else _BY_NUMBER)
    advice = f"A sample has to become cheaper. {what} once, and store the result.{_LINES}"
    return _Way(advice, {"cheaper_samples": True}, snippet)


def _more(facts: Facts, model: LoaderModel) -> str:
    """What more workers do, where no other rule says it: they do not help, or only above cores."""
    now, cores = int(facts.number(WORKERS)), whole_cores(facts)
    if io_bound(facts):
        many = many_workers(facts)
        above = f"more workers than the {count(cores, 'core')} help (num_workers={many})"
        return f" Waiting needs no core, so {above}." if many > max(now, cores) else ""
    if now >= cores:
        return f" More workers than the {count(cores, 'usable core')} would not help."
    ahead = prefetch_factor(facts)
    best = best_workers(model, range(now + 1, cores + 1), ahead)
    gain = from_loader(facts, model, best, ahead).speedup
    return "" if gain >= WORTHWHILE else " More workers would not help: the cores are busy."
