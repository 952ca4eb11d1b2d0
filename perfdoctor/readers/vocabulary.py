"""What the names in logs mean: a label and a unit → a role (see records.py) and a scale."""

from __future__ import annotations

from perfdoctor.readers.labels import Label, Meaning
from perfdoctor.readers.rates import is_rate, named_rate, rate_of
from perfdoctor.readers.records import METRIC
from perfdoctor.readers.units import BYTES, COUNT, INVERSE, PERCENT, RATE, TIME, Unit
from perfdoctor.readers.word_sets import ETA, MEAN, OF_EPISODES, STEP, VALIDATION, word_set

_EPOCH = word_set("epoch epochs ep")
_TIME = word_set(
    "time times timer timing sec secs second seconds s duration dur took takes taken cost costs "
    "runtime t dt ms msec us wall walltime elapsed wallclock spent tt"
)
_ELAPSED = word_set(
    "elapsed total wall walltime wallclock cumulative cum since used passed uptime overall "
    "runtime so sofar accumulated"
)
#: Words → the stage whose time it is. In order: the first that is there counts.
_STAGES: tuple[tuple[frozenset[str], str], ...] = (
    (word_set("arch architecture architect alpha alphas"), "arch_step"),
    (word_set("h2d copy transfer togpu todevice cuda"), "h2d_copy"),
    (word_set("checkpoint ckpt save saving checkpointing"), "checkpoint"),
    (
        word_set(
            "data dataload loading load loader dataloader dataloading fetch fetching reader "
            "reading read loaded input io smp batchwait wait waiting waited datatime "
            "dataset"
        ),
        "data_loading",
    ),
    (word_set("allreduce comm communication nccl reduce sync gather"), "communication"),
    (word_set("forward fwd fw fp forwards"), "forward"),
    (word_set("backward bwd bw backwards backprop bp"), "backward"),
    (word_set("optim optimizer optimizing opt optimizerstep"), "optimizer"),
    (word_set("metric metrics"), "metrics"),
    (word_set("logging logger plot visualize visualization"), "logging"),
)
_TRAIN = word_set("train training")
_FILLERS = word_set(
    "per log print current cur this last one each used interval process it exec execution"
)
_NOT_TRAINING = word_set("latency preprocess postprocess nms pid ttft tpot itl request requests")
#: Composer counts batches and samples as "time/batch", perhaps with the phase before it.
_COUNTED_TIME = {"time_batch": "step", "time_epoch": "epoch", "time_iteration": ""}
_COUNTED_TIME |= dict.fromkeys(
    ("time_sample", "time_token", "time_batch_in_epoch", "time_sample_in_epoch",
     "time_token_in_epoch", "time_token_in_iteration", "time_batch_in_iteration"), ""
)  # fmt: skip
_MEMORY = word_set("mem memory gpumem vram maxmem reserved allocated cuda_mem")
#: What a machine has, or has left, is no memory that the training took; unless it says it was.
_CAPACITY = word_set(
    "size total limit available avail free capacity installed physical budget quota"
)
#: "CPU KV cache usage: 0.0%" is of what a server keeps there.
_CACHE = word_set("cache kv offload swap")
#: "mem_len=256" is of a model that remembers.
_LENGTHS = word_set("len length tokens dim slots bank")
_TAKEN = word_set(
    "used use usage allocated alloc reserved cached peak taken consumed consumption active"
)
_STEP_TOTAL = word_set("max total num")
#: Steps of a simulated environment: a training step takes many of them, or none.
_ENVIRONMENT_STEPS = word_set("timestep timesteps frame frames")
_ENVIRONMENT = word_set("env envs environment agent simulator sim game sampled rollout")
#: "save_steps", "log_interval", "skipped iterations": steps that count something else
_NOT_COUNTING = word_set(
    "per every interval warmup skip micro save log accumulation accum each skipped nan number"
)
#: "BAD EPOCHS (no improvement): 2": so many passed without a better result.
_WAITED = word_set("bad improvement improving improved stale stagnating patience")
#: "num_samples_in_batch" is of one batch.
_THINGS = word_set("samples images tokens sequences sentences")
_SIZE = word_set("size bs bsz batchsize")
_METRIC_WORDS = word_set(
    "loss lr acc accuracy top prec precision recall f1 map iou miou bleu ppl perplexity auc wer "
    "cer error err mae rmse mse psnr ssim fid score reward return grad norm scale momentum wd "
    "decay temperature epsilon entropy dice kl weight mfu tflops flops gamma beta warmup seed "
    "params parameters patience bpc bpb nll"
)


def meaning_of(label: Label, unit: Unit | None, *, integer: bool, clock: bool) -> Meaning | None:
    """What a value with this label and unit is; None if nothing that matters here.

    `clock`: it was written as h:mm:ss or in several units, and so is a duration.
    """
    counted = _COUNTED_TIME.get(label.text.removeprefix("train_")) if integer else None
    if counted is not None:
        return Meaning(counted) if counted else None
    unit = unit or label.unit
    if unit is not None and unit.kind == RATE:
        return rate_of(label, unit)
    if unit is not None and unit.kind == INVERSE:
        return _inverse(label, unit)
    if unit is not None and unit.kind == COUNT and not label.words:
        return None
    if is_rate(label) and not clock and (unit is None or unit.kind != TIME):
        return named_rate(label, unit)
    if clock or _is_duration(label, unit, integer):
        return _duration(label, unit)
    if unit is not None and unit.kind == BYTES and _is_memory(label):
        return Meaning("memory_bytes", unit.scale)
    counter = _counter(label, integer)
    return counter or _hardware(label, unit, integer) or _metric(label)


def names_whole_step(label: Label) -> bool:
    """Whether the name of a step's time says nothing else: "update_actor" is a part of one."""
    return set(label.words) <= _TIME | STEP | MEAN | _TRAIN | _FILLERS | _ELAPSED | {"full", "one"}


def _inverse(label: Label, unit: Unit) -> Meaning | None:
    if label.any(ETA):
        return None
    mean = "_mean" if label.any(MEAN) else ""
    match unit.thing:
        case "step":
            return Meaning(f"{_stage(label) or 'step'}_s{mean}", unit.scale)
        case "epoch":
            return Meaning("epoch_s", unit.scale)
        case "sample":
            return Meaning("sample_s", unit.scale)
    return None


def _is_duration(label: Label, unit: Unit | None, integer: bool) -> bool:
    if unit is not None and unit.kind == TIME:
        return True
    if unit is not None and unit.kind in (BYTES, PERCENT):
        return False
    if label.any(_METRIC_WORDS - {"mse"}) or label.any(_SIZE):
        return False
    if label.any(("eta",)):
        return True
    if label.words == ("cost",):
        return False  # another name of the loss
    if label.words == ("s",) and integer:
        return False  # llm.c counts its steps as "s:12"
    if label.any(_TIME - {"t", "s", "i"}) or (label.words and label.words[-1] in ("t", "s")):
        return not label.any(("timestep", "timesteps", "timestamp", "times", "stamp"))
    # "Batch 0.818", "Data 0.002": a decimal under the name of a part of the step
    words = label.words[1:] if label.words[:1] == ("t",) else label.words  # "T_fw", "t_io"
    named = label.any(("batch", "iter", "step", "bt", "dt")) or _stage(label) is not None
    return named and not integer and len(words) == 1


def _duration(label: Label, unit: Unit | None) -> Meaning | None:
    scale = unit.scale if unit is not None and unit.kind == TIME else _scale(label)
    if label.any(ETA) or label.any(_NOT_TRAINING):
        return None
    if label.any(("speed",)) and not label.any(STEP):
        return None  # "Speed: 0.8ms inference per image"
    mean = "_mean" if label.any(MEAN) else ""
    stage = _stage(label)
    if stage is None and label.any(("compute", "calc")) and not label.any(STEP):
        return Meaning("compute_s", scale)
    named = set(label.words) - _TIME
    if named and named <= {"train", "training"} and not label.any(_ELAPSED):
        return Meaning("train_s", scale)
    validates = label.any(VALIDATION)
    per_step = label.any(STEP) and not label.any(_EPOCH)
    if stage is not None and not (stage == "data_loading" and label.any(("train",)) and per_step):
        return Meaning(f"{stage}_s{mean}", scale)
    if validates:
        return Meaning("validation_s", scale)
    if label.any(_EPOCH):
        return Meaning("epoch_s", scale)
    if per_step:
        return Meaning(f"step_s{mean}", scale)
    if label.text in ("train_wall", "gpu_wall"):
        return None  # fairseq's sum of training only, beside "wall"
    if label.any(_ELAPSED):
        return Meaning("elapsed_s", scale)
    if label.any(("image", "img", "sample", "example")):
        return Meaning("sample_s", scale)
    part = not set(label.words) <= _TIME | MEAN | _TRAIN | _FILLERS
    return Meaning("unclear_s" if not mean else "unclear_s_mean", scale, part=part)


def _scale(label: Label) -> float:
    """Seconds per printed unit where only the name can tell: "step_time_ms"."""
    last = label.words[-1] if label.words else ""
    table = {"ms": 1e-3, "msec": 1e-3, "millis": 1e-3, "us": 1e-6, "ns": 1e-9}
    table |= dict.fromkeys(("min", "mins", "minutes"), 60.0) | dict.fromkeys(
        ("hours", "hrs", "hour"), 3600.0
    )
    return table.get(last, 1e-3 if label.any(("ms", "msec", "milliseconds")) else 1.0)


def _stage(label: Label) -> str | None:
    for words, stage in _STAGES:
        if label.any(words):
            return stage
    # Megatron's "batch-generator"; the generator of a GAN is a model
    return "data_loading" if label.any(("generator",)) and label.any(("batch",)) else None


def _counter(label: Label, integer: bool) -> Meaning | None:
    if label.text == "wpb":  # fairseq: words per batch
        return Meaning("tokens_per_step")
    if label.any(_SIZE):
        batch = label.any(("batch", "bs", "bsz", "batchsize"))
        return Meaning("batch_size") if batch and integer else None
    if label.any(_METRIC_WORDS) or (label.any(("ep",)) and label.any(OF_EPISODES)):
        return None  # "ep_rew_mean": "ep" is short for the episodes of a game as well
    if label.any(("epoch", "epochs", "ep")) and label.any(_WAITED):
        return None
    if label.any(("epoch", "epochs", "ep")) and len(label.words) <= 4:
        total = label.any(_STEP_TOTAL)
        if label.any(STEP - {"i", "it"}):
            return None
        return Meaning("epoch_total" if total else "epoch")
    if not integer or len(label.words) > 4:
        return None
    if label.any(("rank", "worker")) and not label.any(("world",)):
        return Meaning("rank")
    if label.any(_ENVIRONMENT_STEPS) or (label.any(STEP) and label.any(_ENVIRONMENT)):
        return Meaning("env_steps")
    if label.any(STEP):
        if label.any(_NOT_COUNTING) or label.any(_THINGS):
            return None
        total = label.any(_STEP_TOTAL) and not label.any(("global",))
        return Meaning("step_total" if total and "num_updates" not in label.text else "step")
    if label.words and label.words[-1] == "episode":
        return Meaning("episode")
    return None


def _is_memory(label: Label) -> bool:
    if (label.any(_CAPACITY) and not label.any(_TAKEN)) or label.any(_LENGTHS):
        return False
    return label.any(_MEMORY) or label.any(("gpu", "max"))


def _hardware(label: Label, unit: Unit | None, integer: bool) -> Meaning | None:
    if label.any(("gpu", "cuda")) and label.any(("util", "utilization", "utilisation", "load")):
        return Meaning("gpu")
    if _is_memory(label) and label.any(_MEMORY) and (unit is None or unit.kind != PERCENT):
        scale = (
            unit.scale if unit is not None and unit.kind == BYTES else _memory_scale(label, integer)
        )
        return Meaning("memory_bytes", scale)
    if label.any(("cpu",)) and unit is not None and unit.kind == PERCENT and not label.any(_CACHE):
        return Meaning("cpu")
    return None


def _memory_scale(label: Label, integer: bool) -> float:
    for word, scale in (("gb", 2**30), ("gib", 2**30), ("kb", 2**10), ("bytes", 1), ("g", 2**30)):
        if label.any((word,)):
            return float(scale)
    # "max mem: 1942" of the MetricLogger family and mmcv is in MiB, "gpumem 5.1" in GiB
    return float(2**20 if integer else 2**30)


def _metric(label: Label) -> Meaning | None:
    if not label.words or len(label.words) > 6:
        return None
    return Meaning(METRIC + label.text)
