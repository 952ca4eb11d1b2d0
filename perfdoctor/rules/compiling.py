"""PD208: the model runs operation by operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import TRY_IT, WHOLE_RUNS, compiled
from perfdoctor.rules.wording import on_cuda
from perfdoctor.stages import FORWARD

_COMPILE = "configuration.compile"


class ModelNotCompiled:
    """The log says that a model on a GPU was not compiled.

    ## What it does
    Looks for a run on a GPU whose own printed arguments say that `torch.compile` is off.

    ## Why it is slow
    Without it every operation is launched by Python one at a time, and writes its result to
    memory for the next one to read. The compiler fuses operations and makes fewer launches.

    ## Evidence and threshold
    The setting alone, so this is an option and never a fault. There is no threshold.

    ## What to change
    `model = torch.compile(model)`.

    ## How the gain is predicted
    It is not: from nothing to twice the speed, depending on the model.

    ## When not to
    Where shapes change from batch to batch, each of which is compiled anew; in short runs, which
    do not earn back the minutes of compiling; before version 2.0 of PyTorch.
    """

    code: ClassVar[str] = "PD208"
    name: ClassVar[str] = "model-not-compiled"
    needs: ClassVar[tuple[str, ...]] = (_COMPILE,)
    verify_with: ClassVar[str | None] = "compile"
    cause: ClassVar[str] = "not-compiled"
    thresholds: ClassVar[Mapping[str, float]] = {}
    sources: ClassVar[tuple[str, ...]] = WHOLE_RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires as an option on a GPU if the log says that compiling is off."""
        if compiled(facts) or not on_cuda(facts):
            return None
        return Finding(
            stage=FORWARD,
            title="The log says that the model was not compiled",
            advice=f"Try torch.compile. {TRY_IT}",
            change={"compile": "default"},
            snippet="model = torch.compile(model)  # after moving it to the GPU",
            evidence=(),
            cause=self.cause,
            confidence=0.25,
            safety="numerics",
            optional=True,
        )
