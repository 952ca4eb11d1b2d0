"""PD213 to PD215: Python of the script's own that holds its steps up, line by line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.averaging import IN_PLACE, SNIPPET, averaging, copying
from perfdoctor.rules.elsewhere import mostly_waits, waits
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.made_models import made_and_loaded
from perfdoctor.rules.mended import UNKNOWN, rewritten
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    at,
    hot_lines,
    line_evidence,
    stage_share,
    without,
)
from perfdoctor.rules.run_growth import by_machine
from perfdoctor.rules.slowed_alike import slowed_alike
from perfdoctor.rules.trends import DEGRADED, grown_stage, lasting_fall
from perfdoctor.rules.weighted_draws import draws_of_all
from perfdoctor.rules.whole_sorts import whole_sorts
from perfdoctor.rules.wording import percent
from perfdoctor.stages import FORWARD, OTHER

GRAPH_BUILD = "graph_build"
#: Functions that make graphs, by their names.
_BUILDS = (
    r"(?i)adjacen|laplacian|knn|neighbou?rs?|radius_graph|(?:build|make|construct)_?graph|edges"
)
#: What collects, and what of accelerate calls that.
COLLECTS = (
    r"\bgc\.collect|empty_cache|malloc_trim|\b(?:release_memory|clear_device_cache|free_memory)\b"
)
#: Code of torch's and of what wraps its optimizers: nobody rewrites that.
_FILES_OF_TORCH = r"[\\/](?:site|dist)-packages[\\/](?:torch|accelerate)[\\/]"
_CALLS_OF_TORCH = r"\bprofile_hook_step\b|\brecord_function\b|^Accelerat(?:or|ed)\w*\."
_WAITS_FOR_GPU = r"\.item\b|\.tolist\b|\.cpu\b|\.numpy\b|synchronize"


class GraphBuiltEachStep:
    """The graph or its adjacency is built anew in every step.

    ## What it does
    Looks for time in which edges, neighbours or adjacency matrices are computed in the loop.

    ## Why it is slow
    Finding neighbours and normalising an adjacency matrix costs more than a layer that uses it,
    and is done by the CPU.

    ## Evidence and threshold
    Its share of the training, in at least half of the steps; within the model by the names of
    the functions that take it.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)
    - `steps` = 0.5 (source: our own choice; what is done more rarely may be done on purpose)

    ## What to change
    Build it once before the loop where it does not change, once for each sample in the dataset
    otherwise, and keep the result.

    ## How the gain is predicted
    A range: from nothing, where the graph changes in every step, to all of its time, which is
    also what is likely: built once it costs nothing any more.

    ## When not to
    Where the graph depends on what the model has just computed.
    """

    code: ClassVar[str] = "PD213"
    name: ClassVar[str] = "graph-built-each-step"
    needs: ClassVar[tuple[str, ...]] = ("stages",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "graph-build"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "steps": 0.5}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if graphs are built in most steps and take a visible share."""
        built = [n for n in hot_lines(facts, FORWARD) if re.search(_BUILDS, n.function)]
        inside = [n for n in built if not n.same_in]  # of what is known to be the same PD238 speaks
        outside = stage_share(facts, GRAPH_BUILD)
        often = facts.known(f"stages.{GRAPH_BUILD}.calls_per_step") or 0.0
        if often < facts.threshold("steps"):
            outside = 0.0
        share = outside + sum(line.share for line in inside)
        if share < facts.threshold("share"):
            return None
        lines = sorted([*hot_lines(facts, GRAPH_BUILD), *inside], key=lambda n: -n.share)
        return Finding(
            stage=GRAPH_BUILD if outside else FORWARD,
            title=f"The graph is built anew in every step: {percent(share)} of the training"
            f"{at(lines[0] if lines else None)}",
            advice="Build it once before the loop if it does not change, or once for each sample "
            "in the dataset, and keep it.",
            change={"build_graph": "once"},
            snippet="adjacency = normalised_adjacency(edges)  # before the loop\n"
            "for step in range(steps):\n"
            "    out = model(x, adjacency)",
            evidence=(
                Evidence(
                    metric="building graphs",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, 0.0, 1.0, 1.0),
            confidence=0.75,
            effort="lines",
        )


class PythonInTheLoop:
    """Python of the training loop itself takes a visible part of the training.

    ## What it does
    Looks for lines between the stages of the step, in no loader, model, loss, optimizer,
    validation or logging, that take much time.

    ## Why it is slow
    The model waits meanwhile. Loops over parameters, samples or tokens in Python, and copies from
    the GPU that wait for it, are what is most often found there.

    ## Evidence and threshold
    What no stage explains, and the lines that it goes into.
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)
    - `line_share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard
      plug-in warns of waiting for data)

    ## What to change
    What the lines do: less often, with tensors instead of loops, or before the loop.

    ## How the gain is predicted
    Without what goes of such Python when it is written with tensors, 40 % at least, 95 % likely
    (`python benchmarks/mended_lines.py`). Of lines that only call torch's operations, or wait: from
    nothing over half to all of it. Of averaging weights with copies of the model, 82 % to 98 %,
    likely 96 % (own measurement against averaging in place).

    ## When not to
    Where the lines are part of the method and vectorised already.
    """

    code: ClassVar[str] = "PD214"
    name: ClassVar[str] = "python-in-the-loop"
    needs: ClassVar[tuple[str, ...]] = ("stages", "hotspots")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "python-in-the-loop"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "line_share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the unexplained part is large and one of its lines as well."""
        share, least = stage_share(facts, OTHER), facts.threshold("line_share")
        fall = lasting_fall(facts, DEGRADED)
        grew = fall is not None and not by_machine(facts)
        if grew and grown_stage(facts) == OTHER and not slowed_alike(facts, fall, DEGRADED):
            return None  # PD701 speaks of what grows
        seen = [n for n in hot_lines(facts, OTHER) if not n.calls(COLLECTS) and not _of_torch(n)]
        told = [*draws_of_all(facts, OTHER), *whole_sorts(facts, OTHER)]  # PD126, 127 and 244 do
        told += made_and_loaded(facts, OTHER)  # and PD243
        seen, share = [n for n in seen if n not in told], share - sum(n.share for n in told)
        averages = averaging(seen)
        lines = averages or [n for n in seen if not n.small(least)]
        if share < facts.threshold("share") or not lines:
            return None
        waiting = mostly_waits(lines)
        rest = sum(line.share for line in lines if waits(line) != waiting)
        lines = [line for line in lines if waits(line) == waiting]
        part = min(share, sum(line.share for line in lines))  # looks are scaled to the stage
        what, taken = ("Waiting", part) if waiting else ("Python", max(part, share - rest))
        gone = UNKNOWN if waiting else rewritten(lines).ends
        return Finding(
            stage=OTHER,
            title=f"{what} between the stages takes {percent(taken)} of the training{at(lines[0])}",
            advice=_what_to_do(lines[0], averages=bool(averages)),
            change={},
            snippet=SNIPPET if averages else "",
            evidence=(
                Evidence(
                    metric="between the stages",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                *line_evidence(lines, 3),
            ),
            cause=self.cause,
            predicted=without(part, *(IN_PLACE if averages else gone)),
            confidence=0.7,
            effort="lines",
        )


class CollectsEachStep:
    """Memory is collected by hand so often that it takes a visible part of the training.

    ## What it does
    Looks for lines that call `gc.collect()` or `torch.cuda.empty_cache()`, or what calls these:
    accelerate's `release_memory` and `free_memory`.

    ## Why it is slow
    `gc.collect()` visits every object of the process, millions where a data set is a list of
    Python objects. `empty_cache()` makes the allocator ask the GPU's driver for all memory again.

    ## Evidence and threshold
    The share of the training in these lines.
    - `share` = 0.03 (source: our own choice; a smaller gain cannot be told from noise)

    ## What to change
    Remove the calls: Python collects by itself when it is time. Where large lists make that slow,
    `gc.freeze()` after they were made takes them out of it.

    ## How the gain is predicted
    The training without these lines; exact but for their share.

    ## When not to
    Where they keep the training from running out of memory; then once an epoch.
    """

    code: ClassVar[str] = "PD215"
    name: ClassVar[str] = "collects-each-step"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = "gc-frozen"
    cause: ClassVar[str] = "garbage-collection"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.03}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if lines that collect by hand take a visible share."""
        lines = [line for line in hot_lines(facts) if line.calls(COLLECTS)]
        share = min(1.0, sum(line.share for line in lines))
        if share < facts.threshold("share"):
            return None
        return Finding(
            stage=lines[0].stage or OTHER,
            title=f"Collecting garbage by hand takes {percent(share)} of the training"
            f"{at(lines[0])}",
            advice=f"Remove the call in {lines[0].place}; if it is needed to stay within memory, "
            "once an epoch will do.",
            change={"collect_each_step": False},
            snippet="gc.collect()\ngc.freeze()  # once, after the data was loaded",
            evidence=(
                Evidence(
                    metric="collecting",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, 0.8, 1.0, 1.0),
            confidence=0.85,
            effort="lines",
        )


def _of_torch(line: HotLine) -> bool:
    """Whether the time is in torch's own code, as far as names tell."""
    own = re.search(_FILES_OF_TORCH, line.file) or re.search(_CALLS_OF_TORCH, line.library)
    return own is not None


def _what_to_do(line: HotLine, *, averages: bool) -> str:
    if averages:
        how = "copies the model with copy.deepcopy" if copying(line) else "makes the model's state"
        return (
            f"{line.place} {how} to average its weights: move the average "
            " in place instead (torch._foreach_lerp_ on the parameters, and copy_ for the "
            "buffers), or use torch.optim.swa_utils.AveragedModel."
        )
    if copying(line):
        return (
            f"{line.place} makes a deep copy in the loop: copy only what changes (copy_ into "
            "tensors that are there), or only when the copy is needed."
        )
    if waits(line):
        return (
            f"{line.place} computes nothing, it waits: wait less often or less long, or in a "
            "thread beside the training, ahead of when what it waits for is needed."
        )
    if line.calls(r"\bupdate_bn\b"):
        return (
            f"{line.place} passes the whole loader through the model (update_bn): its statistics "
            "are needed once, before the averaged model is used."
        )
    if line.calls(_WAITS_FOR_GPU):
        return (
            f"{line.place} waits until the device has computed what is asked for: keep sums on the "
            "device and fetch them now and then."
        )
    return (
        f"Look at {line.place} first: do it with tensors instead of a loop, less often, or once "
        "before the training."
    )
