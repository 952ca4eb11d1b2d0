"""PD221, PD231: the CPU waits for the GPU where it need not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside, is_trace
from perfdoctor.rules.observed import at, faster, hot_lines, is_run, line_evidence, without
from perfdoctor.rules.run_gains import up_to
from perfdoctor.rules.wording import count, on_cuda, percent
from perfdoctor.stages import OTHER

_WAITS = r"\.item\b|\.tolist\b|\.cpu\b|\.numpy\b|synchronize|\bnonzero\b"
#: What launching one by one costs a training of small operations (our own choice); large ones
#: hide it.
_BLOCKING = (1.0, 1.2, 2.0)


class ImplicitSynchronisation:
    """The CPU waits for the GPU within the step, which then has nothing to do next.

    ## What it does
    Looks for `.item()`, `.cpu()`, `print` of a tensor and the like among the hot lines of an
    observed script on CUDA, and for synchronising calls in a profiler's trace.

    ## Why it is slow
    A GPU works through a queue that the CPU fills ahead. A number asked for in the middle of a
    step makes the CPU wait until the queue is empty; then the GPU waits until it is filled again.

    ## Evidence and threshold
    The part of the time that the CPU spends in such calls.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Keep sums on the GPU and fetch them every hundred steps; masks (`torch.where`) instead of
    conditions on values; shapes that do not depend on values.

    ## How the gain is predicted
    Only a bound is known: where the GPU is busy all the same, waiting for it costs nothing.

    ## When not to
    One call at the end of each step costs little where the GPU is the bottleneck.
    """

    code: ClassVar[str] = "PD221"
    name: ClassVar[str] = "implicit-synchronisation"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "synchronisation"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = ("run", "monitor", "log", "trace")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on a GPU if waiting for it takes a visible part of the CPU's time."""
        if is_run(facts):
            return self._in_run(facts) if on_cuda(facts) else None
        if not is_trace(facts):
            return None
        active_s = facts.number("counters.active_s")
        share = facts.number("counters.sync_s") / active_s if active_s > 0 else 0.0
        busy = facts.known("counters.gpu_busy_share") or 0.0
        if share < facts.threshold("share"):
            return None
        steps = max(1.0, facts.known("counters.trace_steps") or 1.0)
        each = facts.number("counters.sync_count") / steps
        return Finding(
            stage=OTHER,
            title=f"The CPU waits for the GPU {count(max(1, round(each)), 'time')} a step, "
            f"{percent(share)} of the time",
            advice=_ADVICE,
            change={"sync_each_step": False},
            snippet=_SNIPPET,
            evidence=(
                beside(facts, "waiting for the GPU", share, "share", "share"),
                Evidence(metric="GPU busy", value=100 * busy, unit="%"),
            ),
            cause=self.cause,
            predicted=up_to(min(share, 1 - busy)),
            confidence=0.5,
            effort="lines",
        )

    def _in_run(self, facts: Facts) -> Finding | None:
        lines = [line for line in hot_lines(facts) if line.calls(_WAITS)]
        share = min(1.0, sum(line.share for line in lines))
        if not lines or share < facts.threshold("share"):
            return None
        return Finding(
            stage=lines[0].stage or OTHER,
            title=f"The CPU waits for the GPU in {percent(share)} of the training{at(lines[0])}",
            advice=_ADVICE,
            change={"sync_each_step": False},
            snippet=_SNIPPET,
            evidence=(
                beside(facts, "lines that wait for the GPU", share, "share of training", "share"),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, 0.0, 0.3, 1.0),
            confidence=0.5,
            effort="lines",
        )


class LaunchBlocking:
    """`CUDA_LAUNCH_BLOCKING=1` is set: each kernel is waited for.

    ## What it does
    Looks at the environment of an observed script on CUDA.

    ## Why it is slow
    The CPU launches a kernel, waits until it has ended, and only then launches the next. The
    variable is for finding the line that an error belongs to, and is easily forgotten.

    ## Evidence and threshold
    The variable itself; there is no threshold.

    ## What to change
    Remove it from the environment.

    ## How the gain is predicted
    A range over the whole training, from nothing where kernels are large to twice the speed.

    ## When not to
    While an error in a kernel is looked for.
    """

    code: ClassVar[str] = "PD231"
    name: ClassVar[str] = "launch-blocking-on"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "launch-blocking"
    thresholds: ClassVar[Mapping[str, float]] = {}
    sources: ClassVar[tuple[str, ...]] = ("run", "monitor")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires on CUDA if it is set."""
        if not on_cuda(facts) or not facts.flag("configuration.launch_blocking"):
            return None
        return Finding(
            stage="forward",
            title="CUDA_LAUNCH_BLOCKING=1: the CPU waits for each kernel before it launches the "
            "next",
            advice="Remove the variable from the environment; it is for finding errors.",
            change={"launch_blocking": False},
            snippet="unset CUDA_LAUNCH_BLOCKING",
            evidence=(Evidence(metric="CUDA_LAUNCH_BLOCKING", value=1, unit="on"),),
            cause=self.cause,
            predicted=faster(1.0, *_BLOCKING),
            confidence=0.8,
        )


_ADVICE = (
    "Keep sums on the GPU and fetch them now and then; no .item(), .cpu() or print of a tensor in "
    "each step."
)
_SNIPPET = (
    "running += loss.detach()  # stays on the GPU\n"
    "if step % 100 == 0:\n"
    "    print(step, (running / 100).item())"
)
