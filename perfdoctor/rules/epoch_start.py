"""PD104 where a log is all there is: how long training waits at the start of every epoch."""

from __future__ import annotations

from dataclasses import dataclass

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.loader_facts import persistent
from perfdoctor.rules.logs import workers
from perfdoctor.rules.run_gains import up_to_of_steps
from perfdoctor.rules.wording import loader_snippet, percent, seconds
from perfdoctor.stages import DATA_LOADING


@dataclass(frozen=True)
class EpochStart:
    """What the start of an epoch takes more than another step, and its share of all steps."""

    start_s: float
    share: float
    count: int


def epoch_start(facts: Facts) -> EpochStart | None:
    """From the waits for first batches, or from stalls that are first in their epochs.

    None if nothing is slow there. Raises `Missing` where the log does not tell.
    """
    waits = [facts.known(f"epochs.{name}") for name in ("start.p50_s", "steps_per_epoch")]
    start_s, steps = waits
    step_s = facts.known("steps.time.p50_s")
    if start_s is not None and steps is not None and step_s is not None:
        waited_s = max(0.0, start_s - step_s)
        epoch_s = steps * step_s + waited_s
        if epoch_s <= 0:
            return None
        return EpochStart(waited_s, waited_s / epoch_s, int(facts.known("epochs.start.count") or 1))
    return _stalled_start(facts)


def _stalled_start(facts: Facts) -> EpochStart | None:
    share, excess_s = facts.known("stalls.share"), facts.known("stalls.excess_s")
    if share is None or excess_s is None:
        raise Missing("epochs.start.p50_s")
    if not facts.has("stalls.at_epoch_start") or facts.get("stalls.at_epoch_start") is not True:
        return None
    return EpochStart(excess_s, min(1.0, share), int(facts.known("stalls.count") or 1))


def workers_restart(facts: Facts) -> bool:
    """Whether the workers may be what starts anew: not if they persist or there are none."""
    return workers(facts) != 0 and not persistent(facts)


def restart_in_log(facts: Facts, cause: str) -> Finding | None:
    """PD104's finding; less sure where the log does not say that there are workers."""
    if not workers_restart(facts):
        return None
    seen, limit = epoch_start(facts), facts.threshold("epoch_share")
    if seen is None or seen.share < limit:
        return None
    known = workers(facts) is not None
    doubt = "" if known else "The log does not say whether the DataLoader has workers. If it has: "
    return Finding(
        stage=DATA_LOADING,
        title=f"Every epoch begins with a wait of {seconds(seen.start_s)} "
        f"({percent(seen.share)} of the steps' time)",
        advice=doubt
        + "Keep the workers alive between epochs (persistent_workers=True), and one DataLoader "
        "for all epochs.",
        change={"persistent_workers": True},
        snippet=loader_snippet(facts, persistent_workers=True)
        if known
        else "loader = DataLoader(dataset, num_workers=..., persistent_workers=True)",
        evidence=(
            Evidence(
                metric="wait at the start of epochs",
                value=seen.share,
                unit="share of steps",
                threshold=limit,
            ),
            Evidence(metric="each", value=seen.start_s, unit="s"),
            Evidence(metric="epoch starts seen", value=seen.count, unit=""),
        ),
        cause=cause,
        predicted=up_to_of_steps(facts, seen.share),
        confidence=(0.6 if known else 0.4) * (1.0 if seen.count > 1 else 0.6),
    )
