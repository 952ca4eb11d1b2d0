"""PD602 to PD605: how ranks that train together share gradients and work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import RUNS, without
from perfdoctor.rules.uneven_ranks import SKEW, several_ranks
from perfdoctor.rules.wording import count, on_cuda, percent, seconds
from perfdoctor.stages import BACKWARD, FORWARD

COMMUNICATION_CAUSE = "exposed-communication"
_DDP = "configuration.ddp_log"
#: Communication that goes away when gradients are sent in 16 bits, or half as often; at least
#: half of that where the number of messages and not their size is what takes time.
_LESS = (0.25, 0.5, 1.0)

_NO_SYNC = """\
for i, (x, y) in enumerate(loader):
    last = (i + 1) % {steps} == 0
    with contextlib.nullcontext() if last else model.no_sync():
        (loss_of(model(x), y) / {steps}).backward()
    if last:
        optimizer.step()
        optimizer.zero_grad()"""
_IN_16_BITS = """\
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

model.register_comm_hook(None, default_hooks.bf16_compress_hook)"""
_DDP_SNIPPET = """\
# torchrun --nproc-per-node GPUS train.py
dist.init_process_group("nccl")
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
model = DistributedDataParallel(model.cuda())
loader = DataLoader(dataset, sampler=DistributedSampler(dataset))  # and your other arguments"""


class ExposedCommunication:
    """Sharing gradients takes a large part of each step, and nothing hides it.

    ## What it does
    Looks at the time in collectives, and in DDP's sharing of gradients beyond the backward pass,
    of the rank that has least of it: it does not wait for others there.

    ## Why it is slow
    DDP shares gradients while the backward pass computes others. What is left when the pass has
    ended, every rank waits for.

    ## Evidence and threshold
    That time as a share of the training.
    - `share` = 0.1 (source: TraceML begins to warn from a share of 10 %)

    ## What to change
    Send gradients in 16 bits; share them only in every other backward pass (accumulation under
    `no_sync`); or more samples for each rank and step, so that there is more to compute.

    ## How the gain is predicted
    Half of that time goes away, between a quarter and all of it.

    ## When not to
    With accumulation, batches are larger: the learning rate has to fit them.
    """

    code: ClassVar[str] = "PD602"
    name: ClassVar[str] = "exposed-communication"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = COMMUNICATION_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if communication that no rank can hide takes a visible share."""
        if not several_ranks(facts):
            return None
        took_s, step_s = (facts.number(f"{SKEW}.{n}") for n in ("communication_s", "step_s"))
        share = min(1.0, took_s / step_s)
        if share < facts.threshold("share"):
            return None
        cuda = on_cuda(facts)
        return Finding(
            stage="communication",
            title=f"Sharing gradients takes {seconds(took_s)} of each step that nothing hides: "
            f"{percent(share)} of the training",
            advice="Send gradients in 16 bits, or share them only in every other backward pass "
            "(accumulation under no_sync)."
            if cuda
            else "Share gradients only in every other backward pass (accumulation under no_sync), "
            "or let fewer ranks compute with more threads each.",
            change={"gradients": "bf16"} if cuda else {"accumulate": 2},
            snippet=_IN_16_BITS if cuda else _NO_SYNC.format(steps=2),
            evidence=(
                Evidence(
                    metric="communication",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                Evidence(metric="each step", value=took_s, unit="s"),
            ),
            cause=self.cause,
            predicted=without(share, *_LESS),
            confidence=0.6,
            effort="lines",
            safety="numerics" if cuda else "semantics",
        )


class MissingNoSync:
    """Gradients are shared in every backward pass although they are accumulated over several.

    ## What it does
    Looks how often DDP shares gradients for one step of the optimizer.

    ## Why it is slow
    Gradients that are only added up need not be shared before the last pass: the others could
    stay on their rank.

    ## Evidence and threshold
    Times that gradients are shared for each step of the optimizer.
    - `syncs` = 1.5 (source: once is what it takes)

    ## What to change
    All backward passes but the last one under `model.no_sync()`, the forward pass included.

    ## How the gain is predicted
    The time that sharing takes beyond the backward pass, less often.

    ## When not to
    Where a model is called several times for one backward pass, nothing is accumulated.
    """

    code: ClassVar[str] = "PD603"
    name: ClassVar[str] = "missing-no-sync"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = COMMUNICATION_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"syncs": 1.5}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if gradients are shared more than once for a step."""
        if not _uses_ddp(facts):
            return None
        syncs = facts.number(f"{_DDP}.syncs_per_step")
        if syncs < facts.threshold("syncs"):
            return None
        times = round(syncs)
        return Finding(
            stage=BACKWARD,
            title=f"Gradients are shared {count(times, 'time')} for each step of the optimizer",
            advice="Run all backward passes of a step but the last one under model.no_sync().",
            change={"no_sync": True},
            snippet=_NO_SYNC.format(steps=times),
            evidence=(
                Evidence(
                    metric="gradients shared",
                    value=syncs,
                    unit="times a step",
                    threshold=facts.threshold("syncs"),
                ),
            ),
            cause=self.cause,
            predicted=_fewer_syncs(facts, syncs),
            confidence=0.85,
            effort="lines",
        )


class UnusedParametersSearched:
    """DDP looks for unused parameters in every step, and there are none.

    ## What it does
    Looks at DDP's `find_unused_parameters` and at what it finds.

    ## Why it is slow
    It walks the whole graph after each forward pass and shares what it found with all ranks.

    ## Evidence and threshold
    Bytes of parameters without a gradient: none.

    ## What to change
    Leave `find_unused_parameters` out; where parameters are unused but always the same ones,
    `static_graph=True` looks once.

    ## How the gain is predicted
    It is not: it depends on the number of operations in the graph.

    ## When not to
    Where some batches leave parameters out, DDP stops with an error without it.
    """

    code: ClassVar[str] = "PD604"
    name: ClassVar[str] = "unused-parameters-searched"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "unused-parameters-searched"
    thresholds: ClassVar[Mapping[str, float]] = {}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if it is on and finds nothing."""
        if not _uses_ddp(facts):
            return None
        looks = facts.flag(f"{_DDP}.find_unused_parameters")
        static = _is_on(facts, f"{_DDP}.static_graph")
        if not looks or static or facts.number(f"{_DDP}.unused_bytes") > 0:
            return None
        return Finding(
            stage=BACKWARD,
            title="DDP looks for unused parameters in every step, and finds none",
            advice="Leave find_unused_parameters out, or use static_graph=True.",
            change={"find_unused_parameters": False},
            snippet="model = DistributedDataParallel(model)",
            evidence=(Evidence(metric="unused parameters", value=0.0, unit="bytes"),),
            cause=self.cause,
            confidence=0.6,
        )


class DataParallel:
    """One process drives several GPUs through nn.DataParallel.

    ## What it does
    Looks for `nn.DataParallel` in the model that is trained on a GPU.

    ## Why it is slow
    It copies the model to every GPU in each step, gathers all outputs on one, and its threads
    share one Python: PyTorch recommends DistributedDataParallel even on one machine.

    ## Evidence and threshold
    The model's type; nothing is measured.

    ## What to change
    DistributedDataParallel with a process for each GPU, started by torchrun.

    ## How the gain is predicted
    It is not: it depends on the size of the model and on the number of GPUs.

    ## When not to
    In a notebook, where one process is all there is.
    """

    code: ClassVar[str] = "PD605"
    name: ClassVar[str] = "data-parallel"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "data-parallel"
    thresholds: ClassVar[Mapping[str, float]] = {}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the model is wrapped so, on a GPU."""
        if not _is_on(facts, "configuration.data_parallel") or not on_cuda(facts):
            return None
        gpus = len(facts.get("environment.gpu")) if facts.has("environment.gpu") else 0
        return Finding(
            stage=FORWARD,
            title="nn.DataParallel drives the GPUs from one process",
            advice="Use DistributedDataParallel, with a process for each GPU.",
            change={"ddp": True},
            snippet=_DDP_SNIPPET.replace("GPUS", str(gpus) if gpus > 1 else "GPUS"),
            evidence=(Evidence(metric="GPUs", value=float(gpus), unit=""),) if gpus else (),
            cause=self.cause,
            confidence=0.8,
            effort="lines",
            safety="semantics",
        )


def _is_on(facts: Facts, path: str) -> bool:
    return facts.has(path) and facts.get(path) is True


def _uses_ddp(facts: Facts) -> bool:
    return _is_on(facts, "configuration.ddp")


def _fewer_syncs(facts: Facts, syncs: float) -> Prediction | None:
    exposed_s = facts.known(f"{_DDP}.exposed_s")
    if exposed_s is None:
        return None
    share = exposed_s * (syncs - 1) / facts.number("steps.time.mean_s")
    return without(min(1.0, share), 0.5, 1.0, 1.0)
