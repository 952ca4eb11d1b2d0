"""PD401: the weight update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import ProbeFacts, from_probe, probe
from perfdoctor.rules.judging import BOTTLENECK_SHARE, SUSPECT_SHARE
from perfdoctor.rules.observed import is_run
from perfdoctor.rules.run_optimizer import likely_faster
from perfdoctor.rules.wording import percent
from perfdoctor.stages import OPTIMIZER

_KINDS = ("fused", "foreach")


class OptimizerNotFused:
    """The optimizer updates parameters one by one where it could update them together.

    ## What it does
    Looks for a torch optimizer without `fused=True` whose update was measured to be faster with
    it, or with `foreach=True`.

    ## Why it is slow
    Without them the update runs a handful of small operations for every parameter tensor, each
    with its own launching cost and its own pass over memory. `fused` does all of them in one
    pass, `foreach` each of them for all tensors at once.

    ## Evidence and threshold
    A probe: one update of parameters of the same shapes with and without the flag, in pairs.
    - `gain` = 1.03 (source: the median of identical blocks varied by 2.1 % on a loaded two-core
      machine; the whole training must gain more)

    ## What to change
    `fused=True` in the optimizer's constructor, or `foreach=True` where only that gains.

    ## How the gain is predicted
    Amdahl's law over the share of the optimizer, with the interval of the probe, and no faster
    than the workers make batches. Without a probe, of an observed script, a range: on a CPU what
    was measured for the kind of optimizer and the mean size of its tensors
    (`python benchmarks/optimizer_kernels.py`), such as 3.5 to 5.2 times as fast for Adam's kin on
    small ones; on a GPU possibly not at all.

    ## When not to
    Rounding differs in the last digits. `foreach` needs memory for one more copy of the
    parameters.
    """

    code: ClassVar[str] = "PD401"
    name: ClassVar[str] = "optimizer-not-fused"
    needs: ClassVar[tuple[str, ...]] = ("configuration.optimizer",)
    verify_with: ClassVar[str | None] = "optimizer-fused"
    cause: ClassVar[str] = "optimizer-kernels"
    thresholds: ClassVar[Mapping[str, float]] = {"gain": 1.03}

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if one of the flags is off and was measured to help the whole training."""
        if _on(facts, "fused"):
            return None
        if is_run(facts) and not any(facts.has(f"probes.optimizer_{k}") for k in _KINDS):
            return _without_probe(facts, self.cause)
        flag, measured, predicted = _best(facts)
        if predicted.speedup < facts.threshold("gain") or measured.low <= 1.0:
            return None
        optimizer = facts.text("configuration.optimizer")
        return Finding(
            stage=OPTIMIZER,
            title=f"{optimizer} without {flag}=True: the update takes {percent(measured.share)} "
            "of each step",
            advice=f"Make the optimizer with {flag}=True, which updates all parameters together.",
            change={f"optimizer_{flag}": True},
            snippet=f"optimizer = torch.optim.{optimizer}(model.parameters(), lr={_rate(facts)}, "
            f"{flag}=True)  # and your other arguments",
            evidence=(
                Evidence(metric="weight update", value=measured.share, unit="share of step"),
                Evidence(
                    metric=f"speed-up of the update with {flag}=True",
                    value=measured.speedup,
                    unit="×",
                ),
            ),
            cause=self.cause,
            predicted=predicted,
            confidence=0.85,
            safety="numerics",
        )


def _without_probe(facts: Facts, cause: str) -> Finding | None:
    """Of an observed script, where the update takes enough for the usual gain to be seen."""
    likely = likely_faster(facts)
    if likely is None or likely[2].speedup < facts.threshold("gain") or likely[1] < SUSPECT_SHARE:
        return None
    flag, share, predicted = likely
    optimizer = facts.text("configuration.optimizer")
    return Finding(
        stage=OPTIMIZER,
        title=f"{optimizer} without {flag}=True: the update takes {percent(share)} of the training",
        advice=f"Make the optimizer with {flag}=True, which updates all parameters together.",
        change={f"optimizer_{flag}": True},
        snippet=f"optimizer = torch.optim.{optimizer}(model.parameters(), lr={_rate(facts)}, "
        f"{flag}=True)  # and your other arguments",
        evidence=(Evidence(metric="weight update", value=share, unit="share of training"),),
        cause=cause,
        predicted=predicted,
        confidence=0.7,
        safety="numerics",
        optional=share < BOTTLENECK_SHARE,
    )


def _best(facts: Facts) -> tuple[str, ProbeFacts, Prediction]:
    """The flag that gains most; `fused` says what is missing if neither was probed."""
    known = [k for k in _KINDS if facts.has(f"probes.optimizer_{k}") and not _on(facts, k)]
    tried = [(kind, probe(facts, f"optimizer_{kind}")) for kind in known or _KINDS[:1]]
    choices = [(kind, measured, from_probe(facts, measured)) for kind, measured in tried]
    return max(choices, key=lambda choice: choice[2].speedup)


def _on(facts: Facts, flag: str) -> bool:
    """torch's default for these flags is None: off, or its own choice."""
    path = f"configuration.optimizer_{flag}"
    return facts.has(path) and facts.flag(path)


def _rate(facts: Facts) -> str:
    path = "configuration.lr"
    return f"{facts.number(path):g}" if facts.has(path) else "lr"
