"""PD230: Python stops the training to look for garbage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import MEASURED, beside
from perfdoctor.rules.observed import hot_lines, without
from perfdoctor.rules.run_code import COLLECTS
from perfdoctor.rules.run_reporting import drawn_share
from perfdoctor.rules.wording import percent, seconds
from perfdoctor.stages import OTHER

_PAUSE, _WATCHED = "counters.gc_full_pause_s", "counters.gc_watched_s"


class CollectionPauses:
    """Python's garbage collector stops the training for a visible part of its time.

    ## What it does
    Adds up the pauses of the cyclic garbage collector in which it went through all objects, as
    Python itself tells.

    ## Why it is slow
    A full collection visits every object of the process. Datasets kept as millions of Python
    objects make each of them take a tenth of a second and more, in the middle of a step.

    ## Evidence and threshold
    Pauses for full collections ÷ time of the training.
    - `share` = 0.03 (source: our own choice; a smaller gain cannot be told from noise. torchtitan
      collects by hand once in many steps for the same reason)

    ## What to change
    `gc.freeze()` after the data was loaded, which takes what is there out of every collection; or
    `gc.disable()` and one `gc.collect(1)` every so many steps. Better still arrays instead of
    lists of objects.

    ## How the gain is predicted
    The training without half, nine tenths or all of the pauses.

    ## When not to
    Where the script itself calls `gc.collect()`: then PD215 says so. Without collections a training
    that makes cycles grows; watch its memory.
    """

    code: ClassVar[str] = "PD230"
    name: ClassVar[str] = "collection-pauses"
    needs: ClassVar[tuple[str, ...]] = (_PAUSE, _WATCHED)
    verify_with: ClassVar[str | None] = "gc-frozen"
    cause: ClassVar[str] = "garbage-collection"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.03}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if pauses are a visible part of the training."""
        pause_s, watched_s = facts.number(_PAUSE), facts.number(_WATCHED)
        share = min(1.0, pause_s / watched_s) if watched_s > 0 else 0.0
        if share < facts.threshold("share") or _asked_for(facts):
            return None
        if drawn_share(facts) > share:
            return None  # figures are full of cycles, and PD506 speaks of drawing them
        longest_s = facts.known("counters.gc_longest_s") or 0.0
        full = facts.known("counters.gc_full_collections") or 0.0
        return Finding(
            stage=OTHER,
            title=f"Python's garbage collector takes {percent(share)} of the training, up to "
            f"{seconds(longest_s)} at a time",
            advice="Call gc.freeze() once after the data was loaded, or collect by hand every so "
            "many steps.",
            change={"gc_frozen": True},
            snippet="gc.collect()\ngc.freeze()  # once, before the loop",
            evidence=(
                beside(facts, "pauses", share, "share of training", "share"),
                Evidence(metric="the longest", value=longest_s, unit="s"),
                Evidence(metric="full collections", value=full, unit=""),
            ),
            cause=self.cause,
            predicted=without(share, 0.5, 0.9, 1.0),
            confidence=0.8,
            effort="lines",
        )


def _asked_for(facts: Facts) -> bool:
    """Whether the script collects by hand, of which PD215 speaks."""
    return any(line.calls(COLLECTS) for line in hot_lines(facts))
