"""PD513: checkpoints that hold data, the same in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.frequency import CHECKPOINT_CAUSE, SAVED_DATA
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, stage_share, without
from perfdoctor.rules.saved_views import GOES
from perfdoctor.rules.wording import listed, percent, size

_BYTES, _NAMED = "configuration.saved_bytes", "configuration.saved_data_named"


class DataInCheckpoints:
    """Checkpoints hold data, which is the same in each of them.

    ## What it does
    Compares the first saves of an observed script: the tensors in them that are neither a module's
    nor an optimizer's (nor of the shape of any of theirs, as copies are) and that nobody has
    written to from one save to the next.

    ## Why it is slow
    Who saves all attributes of an object saves the data set that it holds too. The training waits
    while the same bytes are written again and again; the next run loads or makes its data anyway.

    ## Evidence and threshold
    Such bytes as a part of the whole file, and the share of saving.
    - `part` = 0.3 (source: our own choice, as of PD510; less brings next to nothing)
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Save the `state_dict()` of the model, the optimizer and the scheduler, and counters, by name
    (PyTorch, "Saving and Loading Models").

    ## How the gain is predicted
    Amdahl's law over the measured time of saving, which is taken to go by bytes: half of the part
    that those bytes are goes away at least, 90 % of it likely.

    ## When not to
    Where the data cannot be made or loaded again, as the samples of a simulation.
    """

    code: ClassVar[str] = "PD513"
    name: ClassVar[str] = "data-in-checkpoints"
    needs: ClassVar[tuple[str, ...]] = (SAVED_DATA, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = CHECKPOINT_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"part": 0.30, "share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if much of what is saved is data."""
        part, share = facts.number(SAVED_DATA), stage_share(facts, "checkpoint")
        if part < facts.threshold("part") or share < facts.threshold("share"):
            return None
        lines = hot_lines(facts, "checkpoint")
        low, likely, high = GOES
        return Finding(
            stage="checkpoint",
            title=f"{percent(part)} of the bytes in the checkpoints{_of(facts, part)} are data, "
            f"the same each time: saving takes {percent(share)} of the training"
            f"{at(lines[0] if lines else None)}",
            advice=f"{_what(facts)} neither weights nor state of an optimizer, and the next run "
            "loads or makes them anyway: save the state_dict() of the model, the optimizer and the "
            "scheduler, and counters, by name.",
            change={"saved": "state_dicts"},
            snippet='state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}\n'
            'torch.save({**state, "step": step}, path)',
            evidence=(
                beside(facts, "data, of what is saved", part, "share", "part"),
                *_size(facts),
                beside(facts, "saving", share, "share of training", "share"),
            ),
            cause=self.cause,
            predicted=without(share, low * part, likely * part, high * part),
            confidence=0.8,
            effort="lines",
        )


def _of(facts: Facts, part: float) -> str:
    whole = facts.known(_BYTES)
    return "" if whole is None else f" ({size(part * whole)} of {size(whole)})"


def _what(facts: Facts) -> str:
    names = str(facts.get(_NAMED)).split(", ") if facts.has(_NAMED) else []
    return f"What is saved as {listed(names)} is" if names else "Some of the tensors are"


def _size(facts: Facts) -> tuple[Evidence, ...]:
    whole = facts.known(_BYTES)
    return () if whole is None else (Evidence(metric="a checkpoint", value=whole, unit="bytes"),)
