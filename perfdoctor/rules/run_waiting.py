"""PD110, PD112: waits for data that no number of workers explains, from an observed script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from perfdoctor.pipeline_model import best_workers
from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.acting import ONE_CALL
from perfdoctor.rules.archives import unpacked_batches, unpacking
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.loader_advice import LOADER_CAUSE, WAIT_SHARE
from perfdoctor.rules.loader_facts import loader_model, whole_cores
from perfdoctor.rules.made_ahead import are_made_ahead, too_slow
from perfdoctor.rules.mended import VECTORISED
from perfdoctor.rules.observed import (
    RUNS,
    at,
    beside_steps,
    hot_lines,
    line_evidence,
    of_training,
    without,
)
from perfdoctor.rules.run_batches import (
    cheaper_batches,
    epoch_steps,
    has_loader,
    in_background,
    loading_lines,
    part_of_loading,
    sample_lines,
    wait_of,
)
from perfdoctor.rules.weighted_draws import draws_of_all
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import DATA_LOADING

STALLS_CAUSE = "periodic-stalls"
#: Fewer stalls may be anything.
_FEWEST_STALLS = 3
#: A new iterator after fewer steps than this is none of an epoch, if an epoch is ten times as
#: long: by batches, where they were counted, since a step may take several.
_FEWEST_STEPS, _MUCH_LONGER = 20, 10
_FEWEST_ITERATORS, _COUNTED = 3, "configuration.steps_per_iterator"
_BATCHES = "configuration.batches_per_iterator"
_REMADE_S = "configuration.remade_s"

_PREFETCH = """\
import queue
import threading

def ahead(batches, depth=4):
    ready = queue.Queue(depth)
    def fill():
        for batch in batches:
            ready.put(batch)
        ready.put(None)
    threading.Thread(target=fill, daemon=True).start()
    return iter(ready.get, None)

for batch in ahead(batches()):"""


_AHEAD = (
    "Prepare what stays the same once before the loop, whole batches at a time, and make the rest "
    "ahead in a thread or in a DataLoader's workers."
)
_ACTS = "configuration.acts_for_data"
_ACTING = (
    "The model itself makes the data, which cannot be made ahead of it: ask it once for all "
    "environments in each time step, as one call takes hardly longer than one on a single "
    "observation, and write what comes of it into tensors that are made once."
)


class BatchesMadeInLoop:
    """Batches come from the script's own code, while the model waits.

    ## What it does
    Looks for a training that waits for data and has no DataLoader: a generator, an iterator of
    its own, or lines of the loop make the batches.

    ## Why it is slow
    Making a batch takes turns with computing: while one runs, the other stands still. Python that
    handles samples one by one is often the larger part of it.

    ## Evidence and threshold
    The share of the training in which batches are made, and the line that takes most of it.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)

    ## What to change
    Make what does not change once, before the loop; whole batches at a time with tensors; and the
    rest ahead, in a thread if it waits or in a DataLoader's workers if it computes. Where the loop
    already waits for a queue, a future or a pool, what fills it is too slow: several threads if it
    waits, several processes if it computes.

    ## How the gain is predicted
    The model of the pipeline for batches made in workers, or without what goes of such Python when
    it is written with tensors, 40 % at least, 95 % likely (`python benchmarks/mended_lines.py`),
    whichever promises more; the upper end is no wait at all. How much faster threads or processes
    that make batches ahead can be is not known: none of the wait goes at least, half of it likely.

    ## When not to
    Where the next batch depends on the result of this one, it cannot be made ahead. Where the model
    acts for its data, it is advised to ask it for all environments at once.
    """

    code: ClassVar[str] = "PD110"
    name: ClassVar[str] = "batches-made-in-loop"
    needs: ClassVar[tuple[str, ...]] = (WAIT_SHARE,)
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits and no DataLoader makes the training's batches."""
        share, limit = facts.number(WAIT_SHARE), facts.threshold("exposed_share")
        if has_loader(facts) or share < limit:
            return None
        if share - sum(line.share for line in draws_of_all(facts, DATA_LOADING)) < limit:
            return None  # PD126 and PD127 speak of what takes it
        seen, lines = hot_lines(facts, DATA_LOADING), loading_lines(facts)
        if are_made_ahead(seen):
            return too_slow(facts, seen, share)
        if (unpacked := unpacking(lines)) and sum(one.share for one in unpacked) >= limit / 2:
            return unpacked_batches(unpacked)
        line, acts = lines[0] if lines else None, facts.has(_ACTS)
        hint = "" if line is None else f" Begin with {line.place}."
        return Finding(
            stage=DATA_LOADING,
            title=f"The script's own code makes the batches while the model waits: "
            f"{percent(share)} of the training{at(line)}",
            advice=f"{_ACTING if acts else _AHEAD}{hint}",
            change={"one_call_for_all": True} if acts else {"batches_ahead": True},
            snippet=ONE_CALL if acts else _PREFETCH,
            evidence=(
                Evidence(
                    metric="making batches", value=share, unit="share of training", threshold=limit
                ),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=_ahead_or_cheaper(facts, share),
            confidence=0.75,
            effort="lines",
        )


class IteratorRemade:
    """The DataLoader's iterator is made anew after a few steps.

    ## What it does
    Looks for iterators that are thrown away long before the data set is through, as
    `next(iter(loader))` does in each step.

    ## Why it is slow
    A new iterator draws a new order for the whole data set, starts its workers anew and waits for
    their first batch; the batches that they made ahead are thrown away, and the training waits
    until the workers have ended.

    ## Evidence and threshold
    Fewer than twenty steps for each iterator where an epoch has ten times as many, and what the
    first batch takes more than another, and the wait for the workers to end. Of another loader, as
    that of an architecture search, iterators that give a tenth of their batches at most, and all
    the time that they take.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Keep one iterator and make a new one only when it is exhausted.

    ## How the gain is predicted
    The steps without the time that the first batch of an iterator takes more than another and that
    its workers take to end, give or take a quarter.

    ## When not to
    Then each sample comes once an epoch instead of being drawn anew with every iterator.
    """

    code: ClassVar[str] = "PD112"
    name: ClassVar[str] = "iterator-remade"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = "worker-restart"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if iterators end early and starting them takes a visible share."""
        other = _another(facts)
        if other is not None and other.share >= facts.threshold("share"):
            return _finding(facts, other)
        steps, start_s = _steps_each(facts), facts.number("epochs.start.p50_s")
        if steps is None:
            raise Missing("epochs.steps_per_epoch")
        if not remade(facts):
            return None
        more_s = max(0.0, start_s - _usual_batch_s(facts))
        end_s = facts.known("loader.end.p50_s")
        each_s = (more_s + (end_s or 0.0)) / steps
        share = min(1.0, each_s / facts.number("steps.time.mean_s"))
        if share < facts.threshold("share"):
            return None
        longer = Evidence(metric="its first batch takes longer by", value=more_s, unit="s")
        return _finding(facts, _Remade(steps, share, (longer, *end_evidence(end_s))))


@dataclass(frozen=True)
class _Remade:
    """An iterator every so many steps, and the share of the steps' time that goes into it."""

    steps: float
    share: float
    evidence: tuple[Evidence, ...]
    whose: str = "the DataLoader"


def _another(facts: Facts) -> _Remade | None:
    """The iterators of another loader than the training's, all of whose time is theirs."""
    often, spent_s = facts.known("configuration.remade_iterators"), facts.known(_REMADE_S)
    count = facts.known("steps.count")
    if not often or spent_s is None or not count:
        return None
    share = min(1.0, spent_s / (count * facts.number("steps.time.mean_s")))
    each = facts.number("configuration.remade_batches_each")
    evidence = (
        Evidence(metric="iterators", value=often, unit=""),
        Evidence(metric="batches of each", value=each, unit=""),
        Evidence(metric="each takes", value=spent_s / often, unit="s"),
    )
    return _Remade(count / often, share, evidence, "a DataLoader beside the training's")


def _finding(facts: Facts, found: _Remade) -> Finding:
    often = "every step" if found.steps <= 1 else f"every {grouped(found.steps)} steps"
    return Finding(
        stage=DATA_LOADING,
        title=f"A new iterator of {found.whose} is made {often}: {percent(found.share)} of the "
        "steps' time",
        advice="Keep the iterator, and make a new one only when it is exhausted.",
        change={"keep_iterator": True},
        snippet="batches = iter(loader)\n\n"
        "def next_batch():\n"
        "    global batches\n"
        "    try:\n"
        "        return next(batches)\n"
        "    except StopIteration:\n"
        "        batches = iter(loader)\n"
        "        return next(batches)",
        evidence=(
            Evidence(metric="steps for each iterator", value=found.steps, unit=""),
            *found.evidence,
            Evidence(
                metric="starting iterators",
                value=found.share,
                unit="share of steps",
                threshold=facts.threshold("share"),
            ),
        ),
        cause=IteratorRemade.cause,
        predicted=of_training(without(found.share, 0.75, 0.9, 1.0), beside_steps(facts)),
        confidence=0.8,
        effort="lines",
        safety="semantics",
    )


def end_evidence(end_s: float | None) -> tuple[Evidence, ...]:
    """What waiting for the workers to end takes, where it was seen."""
    if end_s is None:
        return ()
    return (Evidence(metric="end of workers", value=end_s, unit="s"),)


def stalls_for_data(facts: Facts, least: float) -> bool:
    """Whether a few long waits for data take at least this share of an observed script's steps.

    Raises `Missing` where its waits are not known.
    """
    wait, stalls = wait_of(facts), facts.known("stalls.count")
    if stalls is None or stalls < _FEWEST_STALLS or wait.stalled < least:
        return False
    path = "stalls.at_epoch_start"
    return wait.mostly_stalls and not (facts.has(path) and facts.get(path) is True)


def remade(facts: Facts) -> bool:
    """Whether iterators are thrown away long before the data set is through."""
    steps, whole = _steps_each(facts), epoch_steps(facts)
    if steps is None or steps >= _FEWEST_STEPS or _iterators(facts, steps) < _FEWEST_ITERATORS:
        return False
    taken = max(1.0, steps, facts.known(_BATCHES) or 0.0)
    return whole is not None and whole >= _MUCH_LONGER * taken


def _steps_each(facts: Facts) -> float | None:
    """Steps for each iterator of the loader; where that was not counted, for each epoch."""
    counted = facts.known(_COUNTED)
    return facts.known("epochs.steps_per_epoch") if counted is None else counted


def _iterators(facts: Facts, steps: float) -> float:
    if facts.known(_COUNTED) is None:
        return facts.known("epochs.count") or 0.0
    return (facts.known("steps.count") or 0.0) / max(1e-3, steps)


def _usual_batch_s(facts: Facts) -> float:
    """What a batch takes that is not an iterator's first, as it is waited for."""
    if facts.known("configuration.num_workers"):
        return 0.0  # made ahead
    return facts.known("loader.batch.p50_s") or 0.0


def _ahead_or_cheaper(facts: Facts, share: float) -> Prediction:
    model = loader_model(facts)
    workers = best_workers(model, range(1, whole_cores(facts) + 1))
    ahead = in_background(facts, workers)
    part = min(1.0, sum(part_of_loading(facts, line) for line in sample_lines(facts)))
    cheaper = cheaper_batches(facts, *(part * gone for gone in VECTORISED))
    most = without(share).speedup
    best = max(ahead.speedup, cheaper.speedup)
    return replace(
        ahead,
        speedup=min(best, max(most, ahead.high)),
        low=min(best, max(ahead.low, cheaper.low)),
        high=max(most, ahead.high, best),
    )
