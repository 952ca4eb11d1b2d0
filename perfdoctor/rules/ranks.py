"""PD601 to PD606: several ranks that train together, as an observed script shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.observed import RUNS, without
from perfdoctor.rules.wording import count, grouped, on_cuda, percent, seconds, stage_words
from perfdoctor.stages import BACKWARD, DATA_LOADING, FORWARD, LOSS, OPTIMIZER, OTHER

COMMUNICATION_CAUSE = "exposed-communication"
_SKEW = "rank_skew"
_DDP = "configuration.ddp_log"
#: Of a predicted gain, as an exponent: what was seen side by side may differ from the whole
#: training by as much as shares may (our own choice, as for other shares of a run).
_ERROR = 0.15
#: Communication that goes away when gradients are sent in 16 bits, or half as often; at least
#: half of that where the number of messages and not their size is what takes time.
_LESS = (0.25, 0.5, 1.0)
_COMPUTING = (FORWARD, LOSS, BACKWARD, OPTIMIZER)

_SAME_SHARE = """\
sampler = DistributedSampler(dataset)  # every rank gets as many samples
loader = DataLoader(dataset, sampler=sampler)  # and your other arguments
for epoch in range(epochs):
    sampler.set_epoch(epoch)"""
_RARELY = """\
if dist.get_rank() == 0 and step % 100 == 0:
    report()  # what one rank alone does, all the others wait for"""
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
_ALL_VALIDATE = """\
validation = DataLoader(held_out, sampler=DistributedSampler(held_out, shuffle=False))
total = evaluate(model, validation)  # on every rank, its own part
dist.all_reduce(total)"""


class StragglerRank:
    """One rank is slower than the others, which wait for it in every step.

    ## What it does
    Lays the same steps of all ranks side by side and compares what each needs by itself, without
    waiting for others.

    ## Why it is slow
    Gradients are shared in every step, so a step takes all ranks as long as the slowest needs.

    ## Evidence and threshold
    How much longer the slowest rank needs than the median one, and how often it is the slowest.
    - `skew` = 0.1 (source: our own choice, the step time of equal ranks on a loaded machine
      differed by up to 6 %)
    - `slowest_in` = 0.6 (source: our own choice; two equal ranks take turns and have 0.5 each)

    ## What to change
    Give all ranks the same work and the same means: as many samples of the same kind, disks and
    cores alike; what only one rank does belongs between the steps, and seldom.

    ## How the gain is predicted
    The steps as they were seen, with all ranks that are slower than the median one as fast as
    that; the interval is over parts of the run.

    ## When not to
    Where ranks have different devices on purpose, give the slow ones smaller batches instead.
    """

    code: ClassVar[str] = "PD601"
    name: ClassVar[str] = "straggler-rank"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "straggler-rank"
    thresholds: ClassVar[Mapping[str, float]] = {"skew": 0.10, "slowest_in": 0.60}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the same rank is the slowest most of the time, and by enough."""
        if not _several(facts):
            return None
        skew, often = facts.number(f"{_SKEW}.skew"), facts.number(f"{_SKEW}.slowest_in")
        least, mostly = facts.threshold("skew"), facts.threshold("slowest_in")
        if skew < least or often < mostly:
            return None
        rank = int(facts.number(f"{_SKEW}.slowest"))
        stage = facts.text(f"{_SKEW}.stage") if facts.has(f"{_SKEW}.stage") else OTHER
        excess_s = facts.known(f"{_SKEW}.stage_excess_s")
        more = "" if excess_s is None else f", {seconds(excess_s)} more than the median rank"
        return Finding(
            stage=stage,
            title=f"Rank {rank} needs {percent(skew)} longer for a step than the median rank, and "
            f"all others wait for it: in {stage_words(stage)}{more}",
            advice=_how_to_catch_up(rank, stage),
            change={"equal_ranks": True},
            snippet=_RARELY if stage == OTHER else _SAME_SHARE if stage == DATA_LOADING else "",
            evidence=(
                Evidence(
                    metric=f"rank {rank} slower by", value=skew, unit="of its step", threshold=least
                ),
                Evidence(metric="slowest in", value=often, unit="share of steps", threshold=mostly),
                *_excess(stage, excess_s),
            ),
            cause=self.cause,
            predicted=_if_even(facts),
            confidence=0.85,
            effort="lines",
        )


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
        if not _several(facts):
            return None
        took_s, step_s = (facts.number(f"{_SKEW}.{n}") for n in ("communication_s", "step_s"))
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


class RankWorksAlone:
    """Between the steps one rank validates, saves or reports, and all others wait.

    ## What it does
    Compares what the ranks do between their steps.

    ## Why it is slow
    All others stand in the next collective until that rank has come back.

    ## Evidence and threshold
    What the rank does more than the median one, as a share of the training.
    - `share` = 0.05 (source: our own choice, as for validation that comes too often)

    ## What to change
    Let every rank validate a part of the data and add up the results; save in the background or
    more seldom.

    ## How the gain is predicted
    The work shared by all ranks: all of that time but one rank's part of it goes away, or half of
    it at least.

    ## When not to
    Where a metric cannot be put together from parts, gather the predictions instead.
    """

    code: ClassVar[str] = "PD606"
    name: ClassVar[str] = "rank-works-alone"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "rank-works-alone"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if one rank's work between the steps takes a visible share."""
        if not _several(facts):
            return None
        share = facts.number(f"{_SKEW}.between_s") / facts.number(f"{_SKEW}.step_s")
        if share < facts.threshold("share"):
            return None
        rank, stage = facts.number(f"{_SKEW}.between_rank"), facts.text(f"{_SKEW}.between_stage")
        ranks = facts.number("ranks")
        return Finding(
            stage=stage,
            title=f"Rank {grouped(rank)} alone works between the steps, mostly "
            f"{stage_words(stage)}, and all others wait: {percent(share)} of the training",
            advice="Let every rank do its part of it and add up the results; what only one can do, "
            "such as saving, more seldom or in the background.",
            change={"alone_between_steps": False},
            snippet=_ALL_VALIDATE if stage == "validation" else _RARELY,
            evidence=(
                Evidence(
                    metric=f"rank {grouped(rank)} alone",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
            ),
            cause=self.cause,
            predicted=without(share, 0.5, 1 - 1 / ranks, 1.0),
            confidence=0.75,
            effort="lines",
        )


def _several(facts: Facts) -> bool:
    """Whether several ranks trained together.

    Raises `Missing` where they did but cannot be laid side by side.
    """
    if (facts.known("ranks") or 1) < 2:
        return False
    if not facts.has(_SKEW):
        if (facts.known("configuration.world_size") or 1) < 2:
            return False
        raise Missing(_SKEW, "too few steps of two ranks at the same time")
    return True


def _is_on(facts: Facts, path: str) -> bool:
    return facts.has(path) and facts.get(path) is True


def _uses_ddp(facts: Facts) -> bool:
    return _is_on(facts, "configuration.ddp")


def _how_to_catch_up(rank: int, stage: str) -> str:
    if stage == DATA_LOADING:
        return (
            f"See why rank {rank} gets its data later: more or longer samples, a slower disk, "
            "cores that something else uses. Give every rank as many samples of the same kind."
        )
    if stage in _COMPUTING:
        return (
            f"See why rank {rank} computes longer: larger or longer batches, a slower or a shared "
            "device, cores that something else uses. Spread long samples over all ranks."
        )
    return (
        f"See what rank {rank} does besides in each step, such as logging or metrics: do that "
        "seldom, or after the step's gradients are shared."
    )


def _excess(stage: str, excess_s: float | None) -> tuple[Evidence, ...]:
    if excess_s is None:
        return ()
    return (Evidence(metric=f"more in {stage_words(stage)}", value=excess_s, unit="s"),)


def _if_even(facts: Facts) -> Prediction:
    speedup = max(1.0, facts.number(f"{_SKEW}.speedup"))
    low, high = (facts.number(f"{_SKEW}.speedup_ci.{end}") for end in (0, 1))
    return Prediction(
        speedup=speedup,
        low=min(low, speedup ** (1 - _ERROR)),
        high=max(high, speedup ** (1 + _ERROR)),
        model="ranks-even",
    )


def _fewer_syncs(facts: Facts, syncs: float) -> Prediction | None:
    exposed_s = facts.known(f"{_DDP}.exposed_s")
    if exposed_s is None:
        return None
    share = exposed_s * (syncs - 1) / facts.number("steps.time.mean_s")
    return without(min(1.0, share), 0.5, 1.0, 1.0)
