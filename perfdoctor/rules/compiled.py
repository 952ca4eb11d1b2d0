"""PD227 and PD228: what torch.compile makes of the model, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import compiled
from perfdoctor.rules.measured import MEASURED, beside, computing_share
from perfdoctor.rules.observed import RUNS, faster, part_of_training
from perfdoctor.rules.run_gains import up_to
from perfdoctor.rules.wording import count, duration, grouped, percent
from perfdoctor.stages import FORWARD

#: What whole graphs add to broken ones (our own choice; from nothing where breaks lie between
#: large operations).
_WHOLE = (1.0, 1.15, 1.5)
#: One compilation more is usual, when the compiler learns that a size changes.
AGAIN = 2.0


class GraphBreaks:
    """The compiled model is cut into pieces by code that cannot be compiled.

    ## What it does
    Asks torch's compiler how many times it had to break a graph.

    ## Why it is slow
    At each break Python takes over, and nothing is fused across it. A `print`, an `.item()`, a
    condition on a tensor's value or a library of its own in `forward` breaks the graph.

    ## Evidence and threshold
    Breaks for each graph that was made, which compiling again does not change, and the share of
    computing.
    - `per_graph` = 0.5 (source: one break makes two graphs of a function; where fewer are broken
      most functions are whole)
    - `share` = 0.3 (source: our own choice; below, computing is not what the training spends its
      time on)

    ## What to change
    `TORCH_LOGS=graph_breaks` names the lines; move them out of `forward`, or write them with
    tensors (`torch.where`).

    ## How the gain is predicted
    A range over forward and backward: from nothing to 1.5 times as fast. As it may be nothing, it
    is an option, and no fault.

    ## When not to
    A break between large operations costs some microseconds.
    """

    code: ClassVar[str] = "PD227"
    name: ClassVar[str] = "graph-breaks"
    needs: ClassVar[tuple[str, ...]] = ("configuration.compile", "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "graph-breaks"
    thresholds: ClassVar[Mapping[str, float]] = {"per_graph": 0.5, "share": 0.3}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires as an option if most graphs were broken in a training that computes."""
        if not compiled(facts):
            return None
        breaks, share = facts.number("counters.graph_breaks"), computing_share(facts)
        per_graph = breaks / max(1.0, facts.number("counters.graphs_compiled"))
        if per_graph < facts.threshold("per_graph") or share < facts.threshold("share"):
            return None
        predicted = faster(share, *_WHOLE)
        return Finding(
            stage=FORWARD,
            title=f"torch.compile broke the graph {grouped(breaks)} "
            f"{'time' if breaks == 1 else 'times'}",
            advice="Find the lines with TORCH_LOGS=graph_breaks and move them out of forward, or "
            "write them with tensors.",
            change={"graph_breaks": 0},
            snippet="model = torch.compile(model, fullgraph=True)  # names the first break",
            evidence=(
                Evidence(metric="graph breaks", value=breaks, unit=""),
                beside(facts, "breaks ÷ graphs", per_graph, "×", "per_graph"),
                beside(facts, "forward, loss and backward", share, "share", "share"),
            ),
            cause=self.cause,
            predicted=predicted,
            confidence=0.5,
            effort="lines",
            safety="numerics",
            optional=predicted.low <= 1.0,
        )


class Recompilations:
    """The model is compiled again and again while it trains.

    ## What it does
    Asks torch's compiler how many graphs it made for code that it had compiled before, and how
    long compiling took.

    ## Why it is slow
    Each compilation takes seconds to minutes. A new shape, a Python number that changes or an
    attribute that is set each step asks for another one; past eight for one function the compiler
    gives up, and runs it as it is (`torch._dynamo.config.recompile_limit`).

    ## Evidence and threshold
    Graphs made again, and the time for compiling them beside the training.
    - `recompiles` = 2 (source: one is usual, when the compiler learns that a size changes)
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    `torch._dynamo.mark_dynamic` for the dimension that changes, batches padded to a few lengths,
    `drop_last=True`.

    ## How the gain is predicted
    Only a bound is known: no more than if nothing were compiled again.

    ## When not to
    In the first minutes of a long training with a few shapes: it ends by itself.
    """

    code: ClassVar[str] = "PD228"
    name: ClassVar[str] = "repeated-compilation"
    needs: ClassVar[tuple[str, ...]] = ("configuration.compile",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "recompilations"
    thresholds: ClassVar[Mapping[str, float]] = {"recompiles": AGAIN, "share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if compiling again takes a visible part of the training."""
        if not compiled(facts):
            return None
        again, again_s = (facts.number(f"counters.{n}") for n in ("recompiles", "recompile_s"))
        share = part_of_training(facts, again_s)
        if again < facts.threshold("recompiles") or share < facts.threshold("share"):
            return None
        return Finding(
            stage=FORWARD,
            title=f"The model was compiled anew {grouped(again)} times: {percent(share)} of the "
            "training",
            advice="Find the reasons with TORCH_LOGS=recompiles; mark sizes that change as "
            "dynamic, or pad batches to a few lengths.",
            change={"dynamic_shapes": True},
            snippet="torch._dynamo.mark_dynamic(batch, 1)  # the dimension that changes",
            evidence=(
                beside(facts, "compiled again", again, "", "recompiles"),
                beside(facts, "compiling again", share, "share of training", "share"),
            ),
            cause=self.cause,
            predicted=up_to(share),
            confidence=0.7,
            effort="lines",
        )


def payback(facts: Facts, predicted: Prediction) -> tuple[str, tuple[Evidence, ...]]:
    """In how many steps, and epochs, compiling has paid for itself; as words and as evidence."""
    compile_s = facts.number("probes.compile.details.compile_s")
    step_s = facts.number("steps.time.mean_s")
    saved_s = step_s * (1 - 1 / predicted.speedup)
    steps = compile_s / saved_s if saved_s > 0 else float("inf")
    per_epoch = facts.known("epochs.steps_per_epoch")
    epochs = f", {count(max(1, round(steps / per_epoch)), 'epoch')}" if per_epoch else ""
    words = f"Compiling takes {duration(compile_s)} and has paid for itself after " + (
        f"{grouped(steps)} steps{epochs}."
    )
    return words, (
        Evidence(metric="compiling", value=compile_s, unit="s"),
        Evidence(metric="steps until it pays", value=steps, unit=""),
    )
