"""PD507: training went on after its target was reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import WHOLE_RUNS
from perfdoctor.rules.measured import beside
from perfdoctor.rules.whole_run import is_part
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import OTHER

_ECONOMICS = "epochs.economics"


class TrainedPastTarget:
    """The training went on after the value that it was meant to reach.

    ## What it does
    Looks for a target in the run's own settings (a target accuracy, say) and for the epoch in
    which it was first reached.

    ## Why it is slow
    What was asked for was there; the epochs after it cost as much as those before.

    ## Evidence and threshold
    The part of the epochs that came after the one in which the target was reached. A script that
    was observed must have been seen to its end.
    - `after_target` = 0.1 (source: our own choice; checking once in ten epochs is usual)

    ## What to change
    End the training when the target is reached.

    ## How the gain is predicted
    Not as a speed-up: the training does not get faster, it ends earlier.

    ## When not to
    Where more than the target is welcome, or the last epochs of a schedule make the model better.
    """

    code: ClassVar[str] = "PD507"
    name: ClassVar[str] = "trained-past-target"
    needs: ClassVar[tuple[str, ...]] = ("epochs.count",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "trained-past-best"
    thresholds: ClassVar[Mapping[str, float]] = {"after_target": 0.1}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires as an option if much came after the target."""
        target, epoch = (facts.known(f"{_ECONOMICS}.{n}") for n in ("target", "target_epoch"))
        if target is None or epoch is None:
            return None  # none was set, or it was not reached
        if is_part(facts):
            return None
        epochs = facts.number("epochs.count")
        after = max(0.0, epochs - epoch) / max(1.0, epochs)
        if after < facts.threshold("after_target"):
            return None
        metric = facts.text(f"{_ECONOMICS}.metric")
        better = "<=" if facts.flag(f"{_ECONOMICS}.lower_is_better") else ">="
        return Finding(
            stage=OTHER,
            title=f"{metric} reached its target of {target:g} in epoch {grouped(epoch)}, and "
            f"{percent(after)} of the epochs came after it",
            advice="End the training when the target is reached.",
            change={"stop_at_target": True},
            snippet=f"if {metric} {better} {target:g}:\n    save_checkpoint(model)\n    break",
            evidence=(
                beside(facts, "after the target", after, "share of epochs", "after_target"),
                Evidence(metric="target", value=target, unit=metric),
            ),
            cause=self.cause,
            confidence=0.6,
            effort="lines",
            safety="semantics",
            optional=True,
        )
