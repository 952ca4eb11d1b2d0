"""PD229: a run that spends its time on compiling the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from perfdoctor.report import Diagnosis, Finding, Prediction
from perfdoctor.rules.compiled import AGAIN
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.judging import best_fault, overhead_of_run
from perfdoctor.rules.logs import Part, compiled, run_s
from perfdoctor.rules.measured import COMPUTING, beside
from perfdoctor.rules.observed import RUNS, training_part, without
from perfdoctor.rules.whole_run import is_whole
from perfdoctor.rules.wording import duration, percent
from perfdoctor.stages import FORWARD

#: How many times as long steps take without it: at the lower end of the gain, likely, upper.
#: Ansel et al., PyTorch 2, ASPLOS 2024: 2.27 in inference, 1.41 in training.
_UNCOMPILED = (2.27, 1.41, 1.0)
_CAUSE = "compiling-time"


class CompilingNotPaidBack:
    """Compiling the model took longer than it can have saved in this run.

    ## What it does
    Compares the time for compiling with the whole run, where the model is compiled.

    ## Why it is slow
    Compiling pays by making steps faster. A short run ends before that has made up for it.

    ## Evidence and threshold
    Seconds of compiling, by the compiler's own clock, and the run's.
    - `share` = 0.3 (source: our own choice; steps would have to be more than 1.4 times as fast,
      more than compiling usually brings, only to break even)

    ## What to change
    Compile only for long runs, compile one repeated block instead of the whole model, or keep the
    compiler's cache (`TORCHINDUCTOR_CACHE_DIR`) between runs.

    ## How the gain is predicted
    Of a run that came to its own end: without compiling (nine tenths of it at the lower end), and
    with forward, loss and backward 1.4 times as long, between as long as now and 2.3 times (what
    compiling brought to training and to inference in the mean of 180 models on an A100, Ansel et
    al., ASPLOS 2024). Of a run that went on, or where that is no gain, it is not.

    ## When not to
    Where this run is a trial of a longer one.
    """

    code: ClassVar[str] = "PD229"
    name: ClassVar[str] = "compiling-not-paid-back"
    needs: ClassVar[tuple[str, ...]] = ("configuration.compile",)
    verify_with: ClassVar[str | None] = "compile"
    cause: ClassVar[str] = _CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.3}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if compiling took much of the run; as an option where more steps may pay it."""
        whole_s = run_s(facts)
        if not compiled(facts) or whole_s is None:
            return None
        compile_s = facts.number("counters.compile_s")
        share = min(1.0, compile_s / whole_s)
        if share < facts.threshold("share") or (facts.known("counters.recompiles") or 0) >= AGAIN:
            return None  # PD228 speaks of compiling again and again
        predicted = _without_compiling(facts, compile_s)
        return Finding(
            stage=FORWARD,  # the first calls of the model do it
            title=f"Compiling took {duration(compile_s)}, {percent(share)} of the run",
            advice="In runs as short as this one train without torch.compile, or keep the "
            "compiler's cache between runs; a longer run may pay it back.",
            change={"compile": "off"},
            snippet="export TORCHINDUCTOR_CACHE_DIR=$HOME/.cache/inductor",
            evidence=(beside(facts, "compiling", share, "share of run", "share"),),
            cause=self.cause,
            predicted=predicted,
            confidence=0.8 if predicted else 0.4,
            effort="lines",
            safety="numerics",
            optional=predicted is None,
        )


def _without_compiling(facts: Facts, compile_s: float) -> Prediction | None:
    """Of the training in a run that ended by itself; None where its steps may make up for it."""
    training_s = facts.number("wall.total_s") * training_part(facts)
    usual_s = sum(facts.known(f"stages.{stage}.p50_s") or 0.0 for stage in COMPUTING)
    steps_s = usual_s * (facts.known("steps.count") or 0.0)
    if not is_whole(facts) or not facts.has("steps") or training_s <= 0:
        return None
    gone = (
        (part * compile_s - (slower - 1) * steps_s) / training_s
        for part, slower in zip((0.9, 1.0, 1.0), _UNCOMPILED, strict=True)
    )
    predicted = without(1.0, *(max(0.0, part) for part in gone))
    return predicted if predicted.low > 1.0 else None


def beside_compiling(facts: Facts, part: Part) -> Part:
    """A part of the run without compiling again, which may have been done in it: validation in
    another mode, say, or with batches of another size."""
    again_s = facts.known("counters.recompile_s") or 0.0
    if again_s <= 0 or part.seconds <= 0:
        return part
    left = max(0.0, 1 - again_s / part.seconds)
    return replace(part, seconds=left * part.seconds, share=left * part.share)


def compiling_bound(facts: Facts, findings: Sequence[Finding]) -> Diagnosis | None:
    """The verdict on a run whose time went into compiling more than into anything else."""
    fault = best_fault(findings)
    if fault is None or fault.cause != _CAUSE:
        return None
    share = min(1.0, facts.number("counters.compile_s") / facts.number("wall.total_s"))
    more = ", more than its steps can have saved"
    return overhead_of_run(facts, fault, share, "Compiling the model", more)
