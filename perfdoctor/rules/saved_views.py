"""PD510: checkpoints that hold far more than the tensors that are saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.frequency import CHECKPOINT_CAUSE, SAVED_UNNEEDED
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, stage_share, without
from perfdoctor.rules.wording import percent

#: Of the checkpoints' time, of the part of the bytes that nobody needs: collecting and naming
#: tensors does not depend on bytes, writing them does (our own choice).
GOES = (0.5, 0.9, 1.0)


class ViewsSavedWhole:
    """Checkpoints hold large tensors of which only small parts are saved.

    ## What it does
    Adds up, in the first saves of an observed script, the bytes of the tensors and those of the
    storages that they look into.

    ## Why it is slow
    `torch.save` keeps views what they are: of `images[:16]` it writes all images. The files grow,
    and the training waits while they are written.

    ## Evidence and threshold
    The part of the bytes that belong to no tensor that is saved, and the share of saving.
    - `part` = 0.3 (source: our own choice; less brings next to nothing)
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    `.clone()` what is a part of something larger before it is saved (PyTorch, Serialization
    semantics, "Saving and loading tensors preserves views").

    ## How the gain is predicted
    Amdahl's law over the time of saving, as much of it as those bytes are: half of that part at
    least, 90 % likely.

    ## When not to
    Where what is loaded has to share its memory again.
    """

    code: ClassVar[str] = "PD510"
    name: ClassVar[str] = "views-saved-whole"
    needs: ClassVar[tuple[str, ...]] = (SAVED_UNNEEDED, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = CHECKPOINT_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"part": 0.30, "share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if much of what is saved is needed by nobody."""
        part, share = facts.number(SAVED_UNNEEDED), stage_share(facts, "checkpoint")
        if part < facts.threshold("part") or share < facts.threshold("share"):
            return None
        lines = hot_lines(facts, "checkpoint")
        low, likely, high = GOES
        return Finding(
            stage="checkpoint",
            title=f"{percent(part)} of the bytes in the checkpoints belong to no tensor that is "
            f"saved: saving takes {percent(share)} of the training"
            f"{at(lines[0] if lines else None)}",
            advice="Something that is saved is a view of a larger tensor, like images[:16], and "
            "torch.save writes all of that: clone it before.",
            change={"saved_views": "cloned"},
            snippet="probe = images[:16].clone()  # not a view of all images\n"
            'torch.save({"model": model.state_dict(), "probe": probe}, path)',
            evidence=(
                beside(facts, "needed by no tensor, of what is saved", part, "share", "part"),
                beside(facts, "saving", share, "share of training", "share"),
            ),
            cause=self.cause,
            predicted=without(share, low * part, likely * part, high * part),
            confidence=0.8,
            effort="lines",
        )
