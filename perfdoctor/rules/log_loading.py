"""PD106, and PD101 where a log is all there is: waiting for data whose loader was not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.enough import RECORDS, require
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.loader_facts import persistent, whole_cores
from perfdoctor.rules.logs import (
    BENCH,
    RUN,
    TRY_IT,
    WHOLE_RUNS,
    ram_is_full,
    workers,
)
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.run_gains import up_to_of_steps
from perfdoctor.rules.waits import Wait, waiting
from perfdoctor.rules.wording import count, loader_snippet, percent
from perfdoctor.stages import DATA_LOADING

#: A batch takes about this much longer in a worker, as the pipeline model's lower end has it.
_IN_A_WORKER = 1.2
#: What is advised where the number of cores is not known is no more than most machines have.
_MOST_UNSEEN = 4
#: More workers than this are not named as a cure: then a batch has to become cheaper.
_MANY = 32
#: Long waits that take less of the steps' time are not mentioned.
_WORTH_A_WORD = 0.05
#: PD704's, which looks at the same steps.
TAIL_CAUSE = "slow-tail"


class TrainingWaitsForData:
    """Training waits for data, and what is known of the loader does not tell why.

    ## What it does
    Looks for a wait for the next batch in a run whose loader was not measured by itself, as in
    every log. PD101 takes its place where the log says that there are no workers, and PD101,
    PD102 and PD105 where the loader was measured.

    ## Why it is slow
    While the loop waits for a batch the model does not compute. The loader makes batches more
    slowly than the model uses them: too few workers, a slow disk, or costly decoding and
    augmentation.

    ## Evidence and threshold
    The share of the steps that waits for the next batch. Long waits at regular distances or at
    the start of epochs are not counted: PD703 and PD104 speak of those.
    - `warn_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `high_share` = 0.2 (source: xprof and TraceML call it high)

    ## What to change
    More workers while cores are idle; a cheaper batch where none are: decode once and store the
    result, smaller files in fewer shards, augmentation on the GPU. Which of them it is takes a
    measurement of the loader.

    ## How the gain is predicted
    Amdahl's law gives a bound: no more than if nothing were waited for, and possibly nothing.
    Training counts as the part of the run that it is. Advice is ranked by the geometric middle.

    ## When not to
    Where the wait is for another process: a rank that is slower than the others shows as waiting
    in some programs.
    """

    code: ClassVar[str] = "PD106"
    name: ClassVar[str] = "training-waits-for-data"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"warn_share": 0.10, "high_share": 0.20}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS
    rests_on: ClassVar[tuple[str, ...]] = (RECORDS,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits, it has workers or may have, and their work is not known."""
        wait, now, least = waiting(facts), workers(facts), facts.threshold("warn_share")
        share = wait.usual
        if facts.has("loader.batch.p50_s") or now == 0 or wait.share < least:
            return None
        if now is None and is_run(facts):
            return None  # it has no DataLoader, as PD110 says
        if share < least:
            return None if _told_by_others(facts) else _long_waits(wait, least)
        high = share >= facts.threshold("high_share")
        wanted = None if now is None else _enough(facts, now, share)
        return Finding(
            stage=DATA_LOADING,
            title=f"Training waits for data: {percent(share)} of each step{_besides(wait)}",
            advice=_more_workers(facts, now, wanted)
            + f" `{BENCH}` measures the loader and tells which of these it is.",
            change={},
            snippet="" if wanted is None else loader_snippet(facts, num_workers=wanted),
            evidence=_evidence(share, now, facts.threshold("high_share" if high else "warn_share")),
            cause=self.cause,
            predicted=up_to_of_steps(facts, share),
            confidence=0.6 if high else 0.5,
        )


def _told_by_others(facts: Facts) -> bool:
    """PD104 and PD703 speak of long waits that come regularly."""
    at_start = facts.has("stalls.at_epoch_start") and facts.get("stalls.at_epoch_start") is True
    return at_start or facts.known("stalls.period_steps") is not None


def _besides(wait: Wait) -> str:
    return "" if wait.stalled < _WORTH_A_WORD else ", and now and then for long"


def _long_waits(wait: Wait, limit: float) -> Finding:
    """The usual step does not wait: more workers are no cure."""
    return Finding(
        stage=DATA_LOADING,
        title=f"A few long waits for data take {percent(wait.stalled)} of the time of all steps",
        advice="The usual step hardly waits, so more workers bring little. Look what these steps "
        "have in common: opening a file or a shard, a shared disk, something else that runs while "
        f"the loop waits. `{RUN}` tells.",
        change={},
        snippet="",
        evidence=(
            Evidence(metric="in long waits", value=wait.stalled, unit="share of steps"),
            Evidence(
                metric="wait for data", value=wait.share, unit="share of steps", threshold=limit
            ),
        ),
        cause=TAIL_CAUSE,
        confidence=0.4,
        effort="lines",
    )


def without_workers(facts: Facts) -> Finding | None:
    """PD101 on a log: how long a batch takes is known from the wait, but not how many cores."""
    try:
        wait = waiting(facts)
    except Missing as missing:
        if missing.reason is not None:
            raise
        return _unknown_wait(facts)
    require(facts, (RECORDS,))
    share, limit = wait.usual, facts.threshold("exposed_share")
    if share < limit:
        return None if wait.share < limit or _told_by_others(facts) else _long_waits(wait, limit)
    enough = min(_most_workers(facts), math.ceil(_IN_A_WORKER * share / max(1e-3, 1 - share)))
    change = _workers_change(facts, enough)
    return Finding(
        stage=DATA_LOADING,
        title=f"Every batch is made in the training loop: {percent(share)} of each step waits "
        "for it",
        advice=f"Let {count(enough, 'worker')} make the batches while the model computes "
        f"(num_workers={enough}), no more than the machine has cores to spare."
        f"{_short_of_ram(facts)} `{BENCH}` finds out how many are best.",
        change=change,
        snippet=loader_snippet(facts, **change),
        evidence=_evidence(share, 0, limit),
        cause=LOADER_CAUSE,
        predicted=up_to_of_steps(facts, share),
        confidence=0.7,
    )


def _unknown_wait(facts: Facts) -> Finding:
    """The log prints num_workers=0 and no time for loading."""
    change = _workers_change(facts, min(2, _most_workers(facts)))
    return Finding(
        stage=DATA_LOADING,
        title="The DataLoader has no workers, and the log does not tell how long training waits",
        advice=f"Try worker processes that make batches while the model computes. {TRY_IT}",
        change=change,
        snippet=loader_snippet(facts, **change),
        evidence=(Evidence(metric="workers", value=0, unit=""),),
        cause=LOADER_CAUSE,
        confidence=0.3,
        optional=True,
    )


def _workers_change(facts: Facts, number: int) -> dict[str, Any]:
    change: dict[str, Any] = {"num_workers": number}
    if not persistent(facts):
        change["persistent_workers"] = True
    return change


def _most_workers(facts: Facts) -> int:
    """A full memory leaves room for one at most; unknown cores are taken to be few."""
    if ram_is_full(facts):
        return 1
    return whole_cores(facts) if facts.known("environment.cores_usable") else _MOST_UNSEEN


def _short_of_ram(facts: Facts) -> str:
    if not ram_is_full(facts):
        return ""
    return " The host's memory is nearly full, so no more than one."


def _enough(facts: Facts, now: int, share: float) -> int | None:
    """Workers that would keep up if those of now are always busy; None if that is no way."""
    wanted = math.ceil(now / max(1e-3, 1 - share))
    cores = whole_cores(facts) if facts.known("environment.cores_usable") else _MANY
    return None if wanted > min(cores, _MANY) or ram_is_full(facts) else wanted


def _more_workers(facts: Facts, now: int | None, wanted: int | None) -> str:
    cheaper = (
        "a batch has to become cheaper to make: decode once and keep the result, or read fewer "
        "and larger files"
    )
    if now is None:
        return (
            "The log does not say how many workers load the data. While cores are idle, more of "
            f"them help; if none are, {cheaper}."
        )
    if ram_is_full(facts):
        return (
            f"The host's memory is nearly full and leaves no room for more workers, so {cheaper}."
        )
    if wanted is None:
        return f"{count(now, 'worker')} cannot keep up, and more will hardly do: {cheaper}."
    return (
        f"{count(now, 'worker')} cannot keep up. If each is always busy and cores are idle, "
        f"{wanted} would (num_workers={wanted}); if the cores or the disk are the limit, {cheaper}."
    )


def _evidence(share: float, now: int | None, limit: float) -> tuple[Evidence, ...]:
    waiting = Evidence(metric="wait for data", value=share, unit="share of step", threshold=limit)
    return (waiting,) if now is None else (waiting, Evidence(metric="workers", value=now, unit=""))
