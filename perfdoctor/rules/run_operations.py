"""PD216: the model is made of very many operations that each have next to nothing to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.kept_graphs import graphs_are_kept
from perfdoctor.rules.measured import COMPUTING, is_trace
from perfdoctor.rules.observed import RUNS, HotLine, at, faster, hot_lines, share_in, stage_share
from perfdoctor.rules.pieces import piece_by_piece
from perfdoctor.rules.run_gains import up_to
from perfdoctor.rules.stepped_layers import moment_by_moment
from perfdoctor.rules.wording import grouped, on_cuda, percent, seconds
from perfdoctor.stages import BACKWARD, FORWARD

_NODES = "configuration.autograd_nodes"
#: torch's recurrent cells, each named after its module for whole sequences.
_CELL = r"(LSTM|GRU|RNN)Cell\b"
#: torch's modules for whole sequences, which on a CPU are many operations themselves.
_WHOLE_SEQUENCE = r"(?:LSTM|GRU|RNN)\.forward"
#: More than a small model; and an operation so short is mostly what starting it takes (see below).
_MANY, _SHORT_S = 300.0, 6e-5
#: A backward pass is two matrix products for one, and three where it recomputes the forward pass.
_LONG_BACKWARD = 3.0
#: So much of the forward pass has to lie in lines that can be written otherwise.
_MOSTLY = 0.5
#: A cell called for each step of a sequence ÷ torch's module for the whole, forward and backward:
#: least, median, most of twelve sizes (16 to 128 wide, 20 and 80 steps, batches of 8 and 64; torch
#: 2.13, processor time of one thread). The last is for operations of any other kind.
_LSTM, _OTHER_CELLS, _FUSED = (1.6, 4.0, 15.0), (1.0, 1.1, 1.3), (1.0, 1.6, 4.0)


class ManyTinyOperations:
    """The model is made of very many operations, each too small to keep the device busy.

    ## What it does
    Counts the operations that the backward pass goes through, once, and divides the time of
    forward, loss and backward by them. In the same graph it looks for torch's LSTM, and for its
    LSTM, GRU and RNN cells, called for one moment after the other, and for layers called on one
    piece of the batch after the other (frames, samples), where no input comes from an output; on a
    CPU it times that, after the training, beside one call for all.

    ## Why it is slow
    Starting an operation costs some microseconds in Python and in torch, forward and backward,
    whatever its size. A recurrent cell called in a loop over time, or loops over parameters,
    heads or experts, start thousands.

    ## Evidence and threshold
    Time per operation, forward and backward together, and how many there are; on a CPU the
    processor's time where that is less than what passed, as on a busy machine. Operations of the
    loss do not count: of these PD212 speaks.
    - `operation_s` = 3e-05 (source: own measurement on one core with torch 2.13: a loop over an
      LSTMCell takes 7 µs an operation, a narrow MLP 12 µs, a small transformer 62 µs, a small
      convolution 2 ms)
    - `cell_operation_s` = 6e-05 (source: our own choice, twice that where the line itself calls a
      cell of torch's, which a loop has to do)
    - `operations` = 300 (source: our own choice; fewer are a small model rather than a loop)

    In a profiler's trace as many kernels a step, their mean length, and a GPU that is idle
    between them.
    - `kernel_s` = 1e-05 (source: launching one takes the CPU five to ten microseconds; HTA counts
      kernels that are shorter than their launch)
    - `busy` = 0.5 (source: PyTorch's TensorBoard plug-in and nsys call a GPU that is busy for less
      than half of the time underused)

    ## What to change
    One operation for many: `nn.LSTM` or `nn.GRU` for the whole sequence, one batched matrix
    product for many small ones; `torch.compile`, which fuses them; on a GPU its mode
    "reduce-overhead", which starts them all at once.

    ## How the gain is predicted
    A range over the share of forward, loss and backward. An LSTMCell in a loop becomes 1.6, 4 or 15
    times as fast as nn.LSTM, other cells on a CPU 1, 1.1 or 1.3 times, since torch has no fused
    kernel for them there (own measurement, twelve sizes each); of other operations it is from
    nothing over 1.6 to 4 times (our own choice). An LSTM or a cell called moment by moment becomes
    as fast as it was timed in one call, 80 % of that at least; of what is done beside it for each
    moment goes from nothing to all but one of them, likely as much as of an activation that was
    timed both ways. Of layers called on pieces the largest is timed both ways, and an activation;
    of views all but one go. The operations that are repeated so count by their number and these
    times; 60 % of the lesser goes at least, and at most all but one piece. Where nothing was timed
    it is the range of other operations. From a trace a bound: no more than if the GPU were never
    idle.

    ## When not to
    Where the loop depends on what it has just computed in a way that no fused operation knows.
    """

    code: ClassVar[str] = "PD216"
    name: ClassVar[str] = "many-tiny-operations"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "compile"
    cause: ClassVar[str] = "tiny-operations"
    thresholds: ClassVar[Mapping[str, float]] = {
        "operation_s": 3e-5,
        "cell_operation_s": _SHORT_S,
        "operations": _MANY,
        "kernel_s": 1e-5,
        "busy": 0.5,
    }
    sources: ClassVar[tuple[str, ...]] = (*RUNS, "log", "trace")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if there are many operations and each takes next to no time."""
        if is_trace(facts):
            return launch_bound(facts, self.cause)
        if facts.from_log:
            return None
        count = facts.number(_NODES)
        if graphs_are_kept(facts):
            return None  # they were counted once for each pass, and PD232 speaks of these
        for stage in (BACKWARD, FORWARD):
            facts.number(f"stages.{stage}.p50_s")
        in_loops = moment_by_moment(facts, self.cause) or piece_by_piece(facts, self.cause)
        if in_loops is not None:
            return in_loops
        share = sum(stage_share(facts, stage) for stage in COMPUTING)
        each_s = _computing_s(facts, share) / max(1.0, count)
        cells = [n for n in hot_lines(facts, FORWARD) if n.calls(_CELL)]
        longest_s = facts.threshold("cell_operation_s" if cells else "operation_s")
        of_model = count - (facts.known("configuration.loss_nodes") or 0.0)
        if of_model < facts.threshold("operations") or each_s > longest_s:
            return None  # PD212 speaks of a loss of many operations
        lines = hot_lines(facts, FORWARD)
        own = [line for line in lines if not re.match(_WHOLE_SEQUENCE, line.library)]
        if lines and share_in(facts, own, FORWARD) < _MOSTLY:
            return None  # one operation already, as far as the script goes
        line = next(iter(cells), None) or _of_hottest_function(own)
        return Finding(
            stage=max((FORWARD, BACKWARD), key=lambda stage: stage_share(facts, stage)),
            title=f"The model is {grouped(count)} tiny operations a step, {seconds(each_s)} "
            f"each{at(line)}",
            advice=f"Let one operation do the work of many: {_instead(cells, line)}; or "
            "torch.compile the model, which fuses them.",
            change={"compile": "default"},
            snippet=_snippet(cells),
            evidence=(
                Evidence(
                    metric="operations in the backward pass",
                    value=count,
                    unit="",
                    threshold=facts.threshold("operations"),
                ),
                Evidence(
                    metric="time per operation, forward and backward",
                    value=each_s,
                    unit="s",
                    threshold=longest_s,
                ),
                Evidence(
                    metric="forward, loss and backward", value=share, unit="share of training"
                ),
            ),
            cause=self.cause,
            predicted=faster(share, *_fused(facts)),
            confidence=0.7,
            effort="lines",
            safety="numerics",
        )


def _of_hottest_function(lines: list[HotLine]) -> HotLine | None:
    """The hottest line of the function whose lines together take most."""
    shares: dict[str, float] = {}
    for line in lines:
        shares[line.function] = shares.get(line.function, 0.0) + line.share
    return max(lines, key=lambda one: (shares[one.function], one.share), default=None)


def _computing_s(facts: Facts, share: float) -> float:
    """Time of forward, loss and backward in a step; on a CPU no more than what was computed.

    Where others take the cores, most of a step is waiting for one.
    """
    wall_s = sum(facts.known(f"stages.{stage}.p50_s") or 0.0 for stage in COMPUTING)
    cpu_s = facts.known("steps.cpu_s")
    return wall_s if cpu_s is None or on_cuda(facts) else min(wall_s, cpu_s * share)


def signs_of_overhead(facts: Facts) -> str | None:
    """Why the computing of an observed script may be mostly overhead, in words; None if nothing
    tells so."""
    shares = {stage: facts.known(f"stages.{stage}.share") or 0.0 for stage in COMPUTING}
    count = facts.known(_NODES) or 0.0
    each_s = _computing_s(facts, sum(shares.values())) / max(1.0, count)
    if count >= _MANY and each_s <= _SHORT_S:
        return (
            f"but it is {grouped(count)} operations a step of {seconds(each_s)} each, which may be "
            "mostly what starting them takes"
        )
    times = shares[BACKWARD] / shares[FORWARD] if shares[FORWARD] > 0 else 0.0
    recomputes = facts.has("configuration.gradient_checkpointing")
    if times > _LONG_BACKWARD and not recomputes:
        of_loss = facts.known("configuration.loss_of_backward")
        why = (
            "what is done between them may add to it"
            if of_loss is None
            else f"{percent(of_loss)} of it go through the loss"
        )
        return (
            f"but the backward pass takes {times:.1f} times as long as the forward pass, where up "
            f"to 3 are usual: {why}"
        )
    return None


def _whole_sequence(line: HotLine) -> str:
    """torch's module for what the line calls a cell of."""
    found = re.search(_CELL, f"{line.library} {line.function}")
    return found.group(1) if found else "RNN"


def _instead(cells: list[HotLine], line: HotLine | None) -> str:
    if cells:
        return (
            f"nn.{_whole_sequence(cells[0])} over the whole sequence instead of the cell in a "
            "loop, one batched product instead of many small ones"
        )
    where = f"write `{line.function}`" if line is not None and line.function else "write the model"
    return (
        f"{where} over whole tensors, with one dimension more in place of a loop over tags, heads "
        "or experts; and what is recurrent with nn.LSTM or nn.GRU instead of a cell in a loop"
    )


def _snippet(cells: list[HotLine]) -> str:
    if cells:
        whole = f"self.rnn = nn.{_whole_sequence(cells[0])}(inputs, hidden, batch_first=True)"
        return f"{whole}\noutputs, last = self.rnn(x)  # the whole sequence at once, no loop"
    return (
        "model = torch.compile(model)  # or, in place of a loop over j:\n"
        "total = torch.logsumexp(scores.unsqueeze(1) + transitions, dim=2)  # all j at once"
    )


def _fused(facts: Facts) -> tuple[float, float, float]:
    """How many times as fast one operation for many is: least, likely, most."""
    lines = hot_lines(facts, *COMPUTING)
    if any(line.calls(r"LSTMCell") for line in lines):
        return _LSTM
    cells = any(line.calls(_CELL) for line in lines)
    return _OTHER_CELLS if cells and not on_cuda(facts) else _FUSED


def launch_bound(facts: Facts, cause: str) -> Finding | None:
    """PD216 from a trace: kernels so short that launching them takes longer."""
    kernels = facts.number("counters.kernel_count")
    steps = max(1.0, facts.known("counters.trace_steps") or 1.0)
    each_s = facts.number("counters.kernel_s") / max(1.0, kernels)
    busy, count = facts.number("counters.gpu_busy_share"), kernels / steps
    short = each_s <= facts.threshold("kernel_s") and count >= facts.threshold("operations")
    if not short or busy >= facts.threshold("busy"):
        return None
    return Finding(
        stage=FORWARD,
        title=f"{grouped(count)} kernels a step of {seconds(each_s)} each: the GPU waits for "
        "their launches",
        advice="Let one operation do the work of many, make the batch larger, or compile the "
        'model with mode="reduce-overhead", which launches them all at once.',
        change={"compile": "reduce-overhead"},
        snippet='model = torch.compile(model, mode="reduce-overhead")',
        evidence=(
            Evidence(
                metric="a kernel", value=each_s, unit="s", threshold=facts.threshold("kernel_s")
            ),
            Evidence(
                metric="GPU busy",
                value=busy,
                unit="share of time",
                threshold=facts.threshold("busy"),
            ),
        ),
        cause=cause,
        predicted=up_to(1 - busy),
        confidence=0.6,
        effort="lines",
        safety="numerics",
    )
