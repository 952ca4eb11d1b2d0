"""What an observed script on a GPU could try: settings that are off, on a GPU that has them, where
the arithmetic that they are about takes time. What they gain only a trial tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.logs import device_memory_share, whole_number
from perfdoctor.rules.measured import COMPUTING, computing_share
from perfdoctor.rules.wording import loader_snippet, percent
from perfdoctor.stages import FORWARD

_PRODUCTS = "configuration.multiplied_in_products"
_CONVOLUTIONS = "configuration.multiplied_in_convolutions"
_RECURRENT = "configuration.multiplied_in_recurrent_layers"
#: A multiplication and an addition, once forward and twice backward.
_OPERATIONS = 6
#: The first with units for matrices of 16 bits, and with TF32 (CUDA C++ Programming Guide, compute
#: capabilities).
_VOLTA, _AMPERE = (7, 0), (8, 0)
_CONFIDENCE = 0.3
_VERIFY = "perfdoctor run --verify train.py"


@dataclass(frozen=True)
class Arithmetic:
    """What a step computes.

    Attributes:
        share: forward, loss and backward, of the training. products, convolutions: parts (0–1) of
            what is multiplied. per_s: floating-point operations a second while it computes.
    """

    share: float
    products: float
    convolutions: float
    per_s: float


def arithmetic(facts: Facts) -> Arithmetic:
    """Raises `Missing` where it was not counted, or computing not timed."""
    products, convolutions = facts.number(_PRODUCTS), facts.number(_CONVOLUTIONS)
    whole = max(1.0, products + convolutions + (facts.known(_RECURRENT) or 0.0))
    share = computing_share(facts)
    step_s = sum(facts.known(f"stages.{stage}.p50_s") or 0.0 for stage in COMPUTING)
    if step_s <= 0:
        raise Missing(f"stages.{FORWARD}.p50_s")
    rate = _OPERATIONS * whole / step_s
    return Arithmetic(share, products / whole, convolutions / whole, rate)


def tf32_untried(facts: Facts, cause: str) -> Finding | None:
    """PD203 of an observed script in float32: products keep full precision unless told otherwise,
    cuDNN's convolutions do not."""
    full = facts.text("configuration.matmul_precision") == "highest"
    if not full or not facts.has("environment.cuda") or capability(facts) < _AMPERE:
        return None
    counted = arithmetic(facts)
    if not _takes_time(facts, counted, counted.products):
        return None
    return Finding(
        stage=FORWARD,
        title="Matrix products run in full float32 on a GPU that has TF32",
        advice=f"Allow TF32 with one line at the start of the script. {only_a_trial(facts)}",
        change={"precision": "tf32"},
        snippet='torch.set_float32_matmul_precision("high")',
        evidence=_evidence(facts, counted, "matrix products", counted.products),
        cause=cause,
        confidence=_CONFIDENCE,
        safety="numerics",
        optional=True,
    )


def channels_last_untried(facts: Facts, cause: str) -> Finding | None:
    """PD222 of an observed script in 16 bits."""
    path = "configuration.channels_last"  # told of models with two-dimensional convolutions only
    half = facts.has(path) and facts.text("configuration.precision") in ("bf16", "fp16")
    if not half or facts.flag(path) or not facts.has("environment.cuda"):
        return None  # another vendor's GPU
    if capability(facts) < _VOLTA:
        return None
    counted = arithmetic(facts)
    if not _takes_time(facts, counted, counted.convolutions):
        return None
    return Finding(
        stage=FORWARD,
        title="Convolutions in 16 bits with channels first, where kernels want them last",
        advice=f"Put the model and its images into channels-last layout. {only_a_trial(facts)}",
        change={"channels_last": True},
        snippet="model = model.to(memory_format=torch.channels_last)\n"
        "images = images.to(device, memory_format=torch.channels_last)",
        evidence=_evidence(facts, counted, "convolutions", counted.convolutions),
        cause=cause,
        confidence=_CONFIDENCE,
        effort="lines",
        safety="numerics",
        optional=True,
    )


def larger_batch_untried(facts: Facts, cause: str) -> Finding | None:
    """PD205 of an observed script that computes so little a second that what a step costs whatever
    its batch must weigh, on a device with room for twice the batch."""
    now, memory = int(facts.number("configuration.batch_size")), device_memory_share(facts)
    if memory is None:
        raise Missing("memory.peak_share")
    samples = whole_number(facts, "configuration.dataset_size")
    small = samples is not None and 2 * now > samples
    if small or 2 * memory >= facts.threshold("memory_share"):
        return None
    counted = arithmetic(facts)
    slow = counted.per_s < facts.threshold("flops_per_s")
    if not slow or counted.share < facts.threshold("share"):
        return None
    return Finding(
        stage=FORWARD,
        title=f"The GPU computes {_rate(counted.per_s)} with a batch of {now}, far below what it "
        "can",
        advice=f"Try batch_size={2 * now}, and scale the learning rate with it. "
        f"{only_a_trial(facts)}",
        change={"batch_size": 2 * now},
        snippet=loader_snippet(facts, batch_size=2 * now),
        evidence=(
            Evidence(
                metric="arithmetic",
                value=counted.per_s,
                unit="FLOP/s",
                threshold=facts.threshold("flops_per_s"),
            ),
            Evidence(
                metric="twice the memory",
                value=2 * memory,
                unit="share of memory",
                threshold=facts.threshold("memory_share"),
            ),
        ),
        cause=cause,
        confidence=_CONFIDENCE,
        safety="semantics",
        optional=True,
    )


def only_a_trial(facts: Facts) -> str:
    """A script of several processes is tried by its own launcher alone."""
    alone = (facts.known("configuration.world_size") or 1) <= 1
    return f"What it gains only a trial tells{f'; `{_VERIFY}` makes one' if alone else ''}."


def capability(facts: Facts) -> tuple[int, int]:
    """Compute capability of the GPU that trains. Raises `Missing`."""
    _, _, index = facts.text("environment.device").partition(":")
    path = f"environment.gpu.{index if index.isdigit() else 0}.capability"
    major, _, minor = facts.text(path).partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise Missing(path)
    return int(major), int(minor)


def _takes_time(facts: Facts, counted: Arithmetic, part: float) -> bool:
    """Whether this part of the arithmetic is most of it, and enough to take a visible time."""
    mostly = part >= facts.threshold("mostly") and counted.share >= facts.threshold("share")
    return mostly and counted.per_s * part >= facts.threshold("flops_per_s")


def _evidence(facts: Facts, counted: Arithmetic, what: str, part: float) -> tuple[Evidence, ...]:
    return (
        Evidence(
            metric=what,
            value=part,
            unit="share of arithmetic",
            threshold=facts.threshold("mostly"),
        ),
        Evidence(
            metric="forward, loss and backward",
            value=counted.share,
            unit="share of training",
            threshold=facts.threshold("share"),
            where=f"{percent(counted.share)} of the training, {_rate(counted.per_s)}",
        ),
    )


def _rate(per_s: float) -> str:
    return f"{per_s / 1e12:.2g} TFLOP/s"
