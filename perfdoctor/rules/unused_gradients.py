"""PD233: gradients are computed that no optimizer uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, stage_share, without
from perfdoctor.rules.wording import percent
from perfdoctor.stages import BACKWARD

_UNUSED = "configuration.gradients_unused"
#: Of their part of the backward pass, by their number: some operations lie between them and what is
#: trained and stay; of most nothing is left (our own choice).
_GOES = (0.3, 0.9, 1.0)


class GradientsNobodyUses:
    """A part of the model is not trained, but gradients are computed for it in every step.

    ## What it does
    Looks, in an observed script, for parameters of the trained model that get gradients and are in
    none of the optimizers.

    ## Why it is slow
    What only an optimizer leaves out is not frozen: the backward pass goes through it, keeps what
    it needs of the forward pass in memory, and adds gradients to those of the steps before, which
    nobody ever clears.

    ## Evidence and threshold
    The part of the model's numbers with gradients that no optimizer updates, and the share of the
    backward pass.
    - `part` = 0.1 (source: our own choice; less brings next to nothing)
    - `share` = 0.2 (source: xprof and TraceML call a stage high from 20 %)

    ## What to change
    `encoder.requires_grad_(False)` for what stays as it is.

    ## How the gain is predicted
    Amdahl's law over the backward pass, as much of it as those parameters are by number: 30 % of
    that part at least, 90 % likely, or all of the backward pass.

    ## When not to
    Where gradients of frozen parts are looked at, or the parts lie behind what is trained: then
    the backward pass has to go through them anyway.
    """

    code: ClassVar[str] = "PD233"
    name: ClassVar[str] = "gradients-nobody-uses"
    needs: ClassVar[tuple[str, ...]] = (_UNUSED, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "unused-gradients"
    thresholds: ClassVar[Mapping[str, float]] = {"part": 0.10, "share": 0.20}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if much of what gets gradients is never updated."""
        part, share = facts.number(_UNUSED), stage_share(facts, BACKWARD)
        if part < facts.threshold("part") or share < facts.threshold("share"):
            return None
        lines = hot_lines(facts, BACKWARD)
        low, likely, high = _GOES
        return Finding(
            stage=BACKWARD,
            title=f"{percent(part)} of what gets gradients is in no optimizer: the backward pass "
            f"takes {percent(share)} of the training{at(lines[0] if lines else None)}",
            advice="Freeze what is not trained with requires_grad_(False), before the optimizer is "
            "made: the backward pass ends where nothing is left to train.",
            change={"frozen": True},
            snippet="model.encoder.requires_grad_(False)\n"
            "trained = [p for p in model.parameters() if p.requires_grad]\n"
            "optimizer = torch.optim.AdamW(trained, lr=lr)",
            evidence=(
                beside(facts, "not updated, of what gets gradients", part, "share", "part"),
                beside(facts, "backward", share, "share of training", "share"),
            ),
            cause=self.cause,
            predicted=without(share, low * part, likely * part, high),
            confidence=0.8,
            effort="lines",
        )
