"""PD240: the model computes in float64, which nobody asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import RUNS, faster, stage_share
from perfdoctor.rules.wording import on_cuda, percent
from perfdoctor.stages import BACKWARD, FORWARD, LOSS, OPTIMIZER

_PRECISION, _DEFAULT = "configuration.precision", "configuration.default_dtype"
_SECOND, _OPTIMIZER = "configuration.differentiates_gradients", "configuration.optimizer"
_COMPUTING = (FORWARD, LOSS, BACKWARD, OPTIMIZER)
#: How many times as fast float32 is: on a processor (own measurement: 1.2 in a small MLP, 2.0 in a
#: transformer, 2.1 in an MLP, 2.7 to 4.1 in convolutions and LSTM, one thread); on GPUs half the
#: rate of float32 (data centres) to a 64th (the others), CUDA C++ Programming Guide, "Arithmetic
#: Instructions".
_ON_CPU, _ON_CUDA = (1.15, 2.0, 4.0), (1.3, 2.0, 32.0)


class DoublePrecision:
    """The model computes in float64 where float32 would do.

    ## What it does
    Looks for a training whose weights are float64.

    ## Why it is slow
    Numbers of eight bytes take twice the memory traffic, and half as many fit into a vector
    register; most GPUs compute them at a 32nd or a 64th of the rate of float32. NumPy makes
    float64 wherever it is not told otherwise, and `torch.from_numpy` keeps that.

    ## Evidence and threshold
    The precision of the model's weights, and the share of the training that computes.
    - `share` = 0.2 (source: our own choice, the share from which xprof and TraceML call a stage
      high)

    ## What to change
    Make the data float32 as it comes from NumPy (`.astype(np.float32)`, `torch.from_numpy(x)
    .float()`), and the model as well.

    ## How the gain is predicted
    Amdahl's law over the stages that compute: twice as fast, 1.15 to four times on a processor
    (own measurement of six small models), up to 32 times on a GPU.

    ## When not to
    Where the problem needs it: physics, finite differences, second derivatives that cancel. Where
    the script sets float64 as torch's default, and differentiates gradients (`create_graph=True`)
    or minimises with LBFGS, it is taken to be chosen for that, and this is an option.
    """

    code: ClassVar[str] = "PD240"
    name: ClassVar[str] = "double-precision"
    needs: ClassVar[tuple[str, ...]] = (_PRECISION, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "float64-arithmetic"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.20}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if weights are float64 and computing takes a visible share."""
        if facts.text(_PRECISION) != "float64":
            return None
        shares = {stage: stage_share(facts, stage) for stage in _COMPUTING}
        share = min(1.0, sum(shares.values()))
        if share < facts.threshold("share"):
            return None
        return Finding(
            stage=max(shares, key=lambda stage: shares[stage]),
            title=f"The model computes in float64: {percent(share)} of the training",
            advice="Make the data float32 where it comes from NumPy, whose numbers are float64, "
            "and the model too, unless the problem needs 15 digits; compare the loss curves.",
            change={"precision": "fp32"},
            snippet="x = torch.from_numpy(x.astype(np.float32))  # or torch.as_tensor(x).float()\n"
            "model = model.float()",
            evidence=(
                Evidence(
                    metric="computing",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
            ),
            cause=self.cause,
            predicted=faster(share, *(_ON_CUDA if on_cuda(facts) else _ON_CPU)),
            confidence=0.8,
            effort="lines",
            safety="numerics",
            optional=_chosen(facts),
        )


def _chosen(facts: Facts) -> bool:
    """Whether the script asks for float64 and may need it, or it is not known whether it does."""
    asked = facts.has(_DEFAULT) and facts.get(_DEFAULT) == "float64"
    optimizer = facts.get(_OPTIMIZER) if facts.has(_OPTIMIZER) else None
    plain = facts.has(_SECOND) and facts.get(_SECOND) is False and optimizer != "LBFGS"
    return asked and not plain
