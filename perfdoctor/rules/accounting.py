"""PD705 to PD707: time of a run in which nothing is trained, or not known to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.enough import RECORDS
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.logs import (
    RUN,
    START_UP,
    WHOLE_RUNS,
    compiled,
    run_s,
    unexplained_part,
    wall_parts,
)
from perfdoctor.rules.run_gains import up_to
from perfdoctor.rules.wording import count, duration, percent
from perfdoctor.stages import OTHER

#: Start-up is the larger part of any run that is short enough; advice on it is for others.
_SHORT_RUN_S = 600.0
#: What a run may call the time that it lost with a restart.
_LOST = ("restart", "restarts", "repeated", "lost")


class UnexplainedGaps:
    """A large part of the run is explained by nothing in the log.

    ## What it does
    Looks for time between the records of a log of which it says nothing.

    ## Why it is slow
    It need not be: but something that takes this long and is not seen cannot be mended. Often it
    is validation, a checkpoint, figures, a copy of the data, or a job that was paused.

    ## Evidence and threshold
    The part of the wall clock that no record accounts for.
    - `share` = 0.1 (source: TraceML warns of a residual of a tenth of the step)
    - `high_share` = 0.2 (source: TraceML calls a residual of a fifth high; below, this is an
      option)

    ## What to change
    Run the script under `perfdoctor run train.py`, which sees what it does meanwhile; or let it
    print a line with a time before and after what it does between epochs.

    ## How the gain is predicted
    It is not: nobody knows whether that time is wasted.

    ## When not to
    Where the log was cut, or the job was stopped and went on later.
    """

    code: ClassVar[str] = "PD705"
    name: ClassVar[str] = "unexplained-gaps"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "unexplained-gaps"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "high_share": 0.20}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS
    rests_on: ClassVar[tuple[str, ...]] = (RECORDS,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if too large a part is unexplained."""
        part, limit = unexplained_part(facts), facts.threshold("share")
        if part is None or part.share <= limit:
            return None
        high = part.share > facts.threshold("high_share")
        return Finding(
            stage=OTHER,
            title=f"{percent(part.share)} of the run ({duration(part.seconds)}) is explained by "
            "nothing in the log",
            advice=f"`{RUN}` tells what the script does in that time; or let it print a line with "
            "a time before and after validation, checkpoints and what else it does.",
            change={},
            snippet=RUN,
            evidence=(
                Evidence(
                    metric="unexplained, of the run",
                    value=part.share,
                    unit="share",
                    threshold=facts.threshold("high_share") if high else limit,
                ),
                Evidence(metric="unexplained", value=part.seconds, unit="s"),
                Evidence(metric="gaps", value=part.count, unit=""),
            ),
            cause=self.cause,
            confidence=0.6,
            effort="lines",
            optional=not high,
        )


class RestartedRun:
    """The run was restarted, and steps were done twice.

    ## What it does
    Looks for places in a log at which the steps begin again at a lower number.

    ## Why it is slow
    What was trained since the last checkpoint is done again, and the start-up is paid again.

    ## Evidence and threshold
    That steps repeat. There is no threshold.

    ## What to change
    Find out why it ended: out of memory, a time limit of the cluster, a lost connection. Save
    checkpoints so often that little is lost, and resume from the last one by itself.

    ## How the gain is predicted
    It is not: whether it happens again nobody knows.

    ## When not to
    Where several runs were written to one file on purpose.
    """

    code: ClassVar[str] = "PD706"
    name: ClassVar[str] = "restarted-run"
    needs: ClassVar[tuple[str, ...]] = ("restarts",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "restarts"
    thresholds: ClassVar[Mapping[str, float]] = {}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires as an option if there was a restart."""
        times = len(facts.get("restarts"))
        if not times:
            return None
        lost_s = _lost_s(facts)
        evidence = [Evidence(metric="restarts", value=times, unit="")]
        if lost_s is not None:
            evidence.append(Evidence(metric="time lost", value=lost_s, unit="s"))
        lost = "" if lost_s is None else f", and {duration(lost_s)} of work was lost"
        return Finding(
            stage=OTHER,
            title=f"The run was restarted {count(times, 'time')}{lost}",
            advice="Find out why it ended (memory, a time limit, the machine), and resume from "
            "checkpoints that are not long ago.",
            change={},
            snippet="",
            evidence=tuple(evidence),
            cause=self.cause,
            confidence=0.5,
            effort="lines",
            optional=True,
        )


class LongWarmUp:
    """Starting takes a visible part of the run.

    ## What it does
    Looks at the time until training goes at its usual speed: imports, reading the dataset, the
    first step with its compilation and its choice of kernels.

    ## Why it is slow
    Each start pays for the same work again: listing files, building an index, compiling.

    ## Evidence and threshold
    The time before the first record and the first step beside the whole run, of which what is
    still to come is a part; in runs of at least ten minutes.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Store what is computed at the start: the list of files, the index of the dataset, the
    compiler's cache (`TORCHINDUCTOR_CACHE_DIR` on a disk that stays).

    ## How the gain is predicted
    A bound: no more than if starting took no time.

    ## When not to
    In a run that was cut short: in a whole one the share is smaller.
    """

    code: ClassVar[str] = "PD707"
    name: ClassVar[str] = "long-warm-up"
    needs: ClassVar[tuple[str, ...]] = ("wall.total_s",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "start-up"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS
    rests_on: ClassVar[tuple[str, ...]] = (RECORDS,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if starting takes too large a part of a run that is not short."""
        total_s, spent_s = run_s(facts), _start_s(facts)
        limit = facts.threshold("share")
        if total_s is None or total_s < _SHORT_RUN_S or spent_s / total_s <= limit:
            return None
        share = min(1.0, spent_s / total_s)
        compiling = (
            " The model is compiled: keep the compiler's cache (TORCHINDUCTOR_CACHE_DIR) between "
            "runs."
            if compiled(facts)
            else ""
        )
        return Finding(
            stage=OTHER,
            title=f"Starting takes {duration(spent_s)}, {percent(share)} of the run",
            advice="Store what the start computes each time: the list of files, the dataset's "
            f"index, downloads.{compiling}",
            change={},
            snippet="",
            evidence=(
                Evidence(metric="start, of the run", value=share, unit="share", threshold=limit),
                Evidence(metric="start", value=spent_s, unit="s"),
            ),
            cause=self.cause,
            predicted=up_to(share),
            confidence=0.5,
            effort="lines",
        )


def _lost_s(facts: Facts) -> float | None:
    try:
        parts = wall_parts(facts)
    except Missing:
        return None
    lost = [parts[name].seconds for name in _LOST if name in parts]
    return sum(lost) if lost else None


def _start_s(facts: Facts) -> float:
    """Before the first record, and what the first step takes more than another."""
    parts = wall_parts(facts)
    first_s, usual_s = facts.known("steps.first_s"), facts.known("steps.time.p50_s")
    if START_UP not in parts and first_s is None:
        raise Missing(f"wall.parts.{START_UP}")
    before_s = parts[START_UP].seconds if START_UP in parts else 0.0
    extra_s = 0.0 if first_s is None or usual_s is None else max(0.0, first_s - usual_s)
    return before_s + extra_s
