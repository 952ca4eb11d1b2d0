"""PD208: the model runs operation by operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Finding
from perfdoctor.rules.compiled import payback
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.gains import from_probe, probe, probe_evidence
from perfdoctor.rules.logs import TRY_IT, WHOLE_RUNS, compiled
from perfdoctor.rules.wording import on_cuda
from perfdoctor.stages import FORWARD

_COMPILE = "configuration.compile"


class ModelNotCompiled:
    """The model runs operation by operation, where compiling it could help.

    ## What it does
    Looks for a model that was measured to be faster when compiled, and for a run on a GPU whose
    settings say that `torch.compile` is off.

    ## Why it is slow
    Without it every operation is launched by Python one at a time, and writes its result to
    memory for the next one to read. The compiler fuses operations and makes fewer launches.

    ## Evidence and threshold
    A probe: forward and backward of a captured batch with and without it, in pairs (`bench` with
    at least `--max-seconds 300`, since compiling takes long). Without one the setting alone, so
    that this is an option and no fault.
    - `probe_low` = 1.05 (source: above what the 2.1 % by which the median of identical blocks
      varied on a loaded two-core machine can feign; the probe's lower end must pass it)

    ## What to change
    `model = torch.compile(model)`; for small batches on a GPU `mode="reduce-overhead"`, and for
    long runs `mode="max-autotune"`, which takes longest to compile.

    ## How the gain is predicted
    With a probe Amdahl's law over the exposed shares of forward, loss and backward; the time for
    compiling is told beside it, with the number of steps that it takes to save that. Else it is
    not: from nothing to twice the speed, depending on the model.

    ## When not to
    Where shapes change from batch to batch, each of which is compiled anew; in short runs, which
    do not earn back the minutes of compiling; before version 2.0 of PyTorch.
    """

    code: ClassVar[str] = "PD208"
    name: ClassVar[str] = "model-not-compiled"
    needs: ClassVar[tuple[str, ...]] = (_COMPILE,)
    verify_with: ClassVar[str | None] = "compile"
    cause: ClassVar[str] = "not-compiled"
    thresholds: ClassVar[Mapping[str, float]] = {"probe_low": 1.05}
    sources: ClassVar[tuple[str, ...]] = (*WHOLE_RUNS, "bench")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if compiling was measured to help; as an option if it is off on a GPU."""
        if compiled(facts):
            return None
        if facts.has("probes.compile"):
            return _measured(facts, self.cause)
        if not on_cuda(facts) or not whole_run(facts):
            return None
        return Finding(
            stage=FORWARD,
            title=f"{'The log says that the' if facts.from_log else 'The'} model was not compiled",
            advice=f"Try torch.compile. {TRY_IT if facts.from_log else _TRY}",
            change={"compile": "default"},
            snippet="model = torch.compile(model)  # after moving it to the GPU",
            evidence=(),
            cause=self.cause,
            confidence=0.25,
            safety="numerics",
            optional=True,
        )


_TRY = "What it gains only a trial tells; `perfdoctor bench --max-seconds 300` measures it."


def whole_run(facts: Facts) -> bool:
    """Whether the source covers a training, and not a benchmark of it."""
    return facts.has("source.kind") and facts.get("source.kind") in WHOLE_RUNS


def _measured(facts: Facts, cause: str) -> Finding | None:
    """With the probe: what it gains, and when compiling has paid for itself."""
    measured = probe(facts, "compile")
    if measured.low <= facts.threshold("probe_low"):
        return None
    predicted = from_probe(facts, measured)
    if predicted.speedup <= 1.0:
        return None
    words, evidence = payback(facts, predicted)
    return Finding(
        stage=measured.stage,
        title=f"Compiled, the model is {measured.speedup:.2f}× as fast here",
        advice=f"Compile the model. {words}",
        change={"compile": "default"},
        snippet="model = torch.compile(model)",
        evidence=(probe_evidence(facts, measured, "compiled, forward and backward"), *evidence),
        cause=cause,
        predicted=predicted,
        confidence=0.8,
        safety="numerics",
    )
