"""PD111: long waits for data now and then, while a shard is opened, in an observed script."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import WAIT_SHARE
from perfdoctor.rules.loader_facts import cores_taken, waits_for_storage, whole_cores
from perfdoctor.rules.observed import (
    RANGE,
    RUNS,
    HotLine,
    at,
    beside_steps,
    line_evidence,
    of_training,
)
from perfdoctor.rules.run_batches import loading_lines, wait_of
from perfdoctor.rules.run_waiting import STALLS_CAUSE, stalls_for_data
from perfdoctor.rules.wording import grouped, percent, seconds
from perfdoctor.stages import DATA_LOADING

#: Each shard that is loaded ahead is another one in memory (our own choice).
_MOST_SHARDS = 8
#: For less than this the scheduler lets another program have the core, or a quota of processor time
#: is used up (the kernel's quotas are for periods of 100 ms).
_LONG_S = 0.1
#: What a dataset calls that opens a file or reads one: whole words, as a thread or what is loaded
#: already is neither.
_OPENS = (
    r"(?:\b|_)(?:(?:url)?open|load|read|connect|fetch|request|get_object|unpack|extract|decompress"
    r"|memmap)(?:\b|_|s\b|(?:all|one|many|into|lines?)\b)|File\b|(?:\b|_)sql(?:\b|_)"
)
#: Waits that come as often as epochs begin, but for so much, are those of epochs.
_EPOCH_ERROR = 0.05
_NEXT_SHARD = """\
from concurrent.futures import ThreadPoolExecutor

def __iter__(self):
    with ThreadPoolExecutor({number}) as pool:
        coming = [pool.submit(load, s) for s in self.shards[:{number}]]
        for shard in [*self.shards[{number}:], *[None] * {number}]:
            samples = coming.pop(0).result()
            if shard is not None:
                coming.append(pool.submit(load, shard))
            yield from samples"""


class ShardStalls:
    """Now and then training waits long for data: a shard is opened while the loop stands still.

    ## What it does
    Looks, in an observed script, for a few long waits for data between many short ones, which are
    not the first of their epochs. A data set that gives samples by their numbers may lie in memory:
    there they must come regularly, or take a tenth of a second, or a line that opens or reads
    something must be seen; as it must where the model itself makes the data, as by acting in an
    environment. Any program waits now and then for a core that another one has.

    ## Why it is slow
    A dataset that reads shard after shard opens the next one when the last sample of the one
    before has been used. A queue of a few batches is empty long before it is read.

    ## Evidence and threshold
    The time in such waits, of all steps; at least three of them.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Load the next shards in the background while the present one is used; or give several workers
    shards of their own; or cut shards smaller and keep them on a local disk.

    ## How the gain is predicted
    Loading shards beside the training: at least one at a time, at best so fast that nothing is
    waited for; the estimate loads as many at a time as it takes, no more than two or the cores, or
    eight where loading is waiting (at most a quarter of its time is processor time).

    ## When not to
    Two shards are in memory at a time. Where the disk is at its limit, only smaller data helps.
    """

    code: ClassVar[str] = "PD111"
    name: ClassVar[str] = "shard-stalls"
    needs: ClassVar[tuple[str, ...]] = (WAIT_SHARE,)
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = STALLS_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if long waits for data are a visible part of the training."""
        if not stalls_for_data(facts, facts.threshold("share")):
            return None
        share, stalls = wait_of(facts).stalled, int(facts.number("stalls.count"))
        each_s, period = facts.number("stalls.excess_s"), facts.known("stalls.period_steps")
        lines = loading_lines(facts)
        if not _may_be_shards(facts, lines):
            return None
        number = _loaders(facts, share)
        often = "now and then" if period is None else f"every {grouped(period)} steps"
        return Finding(
            stage=DATA_LOADING,
            title=f"Training waits {seconds(each_s)} for data {often}: {percent(share)} of the "
            f"steps' time{at(lines[0] if lines else None)}",
            advice=f"Load the next {'shard' if number == 1 else f'{number} shards'} in the "
            "background while the present one is used, or give each of several workers shards of "
            "its own; a longer queue of batches does not bridge it.",
            change={"shards_ahead": number},
            snippet=_NEXT_SHARD.format(number=number),
            evidence=(
                Evidence(
                    metric="long waits for data",
                    value=share,
                    unit="share of steps",
                    threshold=facts.threshold("share"),
                ),
                Evidence(metric="each", value=each_s, unit="s"),
                Evidence(metric="of them", value=stalls, unit=""),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=_shards_ahead(facts, share, number),
            confidence=0.8,
            effort="lines",
        )


def _may_be_shards(facts: Facts, lines: list[HotLine]) -> bool:
    """Whether something may be opened in these waits; of samples by number, and of data that the
    model makes by acting, something must tell."""
    path, acts = "configuration.loader_kind", "configuration.acts_for_data"
    if not facts.has(path) and facts.has(acts):
        return any(map(opens, lines))
    by_number = facts.has(path) and facts.get(path) == "map"
    if not by_number or facts.number("stalls.excess_s") >= _LONG_S:
        return True
    period = facts.known("stalls.period_steps")
    if period is not None and not _of_epochs(facts, period):
        return True
    return any(map(opens, lines))


def opens(line: HotLine) -> bool:
    """Whether what a line calls opens a file or reads one, by its name."""
    return bool(re.search(_OPENS, line.library))


def _of_epochs(facts: Facts, period: float) -> bool:
    steps = facts.known("epochs.steps_per_epoch")
    return steps is not None and abs(period - steps) <= _EPOCH_ERROR * steps


def _loaders(facts: Facts, share: float) -> int:
    """Shards to load at a time: as many as hide them, but two or as many as cores at most.

    Loading that waits and does not compute needs no core.
    """
    cores = whole_cores(facts) if facts.has("environment.cores_usable") else 1
    most = _MOST_SHARDS if _shards_wait(facts) else cores
    return min(max(1, math.ceil(share / max(1e-3, 1 - share))), max(2, most))


def _shards_wait(facts: Facts) -> bool:
    names = ("loader_batch_cpu_s", "loader_batch_s")
    if cores_taken(facts) or not all(facts.has(f"series.{name}") for name in names):
        return False
    cpu_s, batch_s = (float(np.nansum(facts.series(name))) for name in names)
    return batch_s > 0 and waits_for_storage(facts, cpu_s / batch_s)


def _shards_ahead(facts: Facts, share: float, number: int) -> Prediction:
    rest = max(1e-2, 1 - share)
    low, likely, high = (1 / max(share / n, rest) for n in (1, number, 100))
    found = Prediction(speedup=likely, low=max(1.0, 0.95 * low), high=high, model=RANGE)
    return of_training(found, beside_steps(facts))
