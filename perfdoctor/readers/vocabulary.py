"""What the names in logs mean: a label and a unit → a role (see records.py) and a scale."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from perfdoctor.readers.records import METRIC
from perfdoctor.readers.units import BYTES, COUNT, INVERSE, PERCENT, RATE, TIME, Unit, unit_of
from perfdoctor.readers.word_sets import word_set

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORDS = re.compile(r"[Hh]2[Dd]|[A-Za-zµμ]+|[\u4e00-\u9fff]+|[0-9]+")
_NOISE = word_set(
    "info debug warning warn error root main trainer logger the of a for is in this and notice "
    "stdout stderr log args rank0 train_loop am pm"
)
_LEVELS = word_set("info debug warning warn error")
#: Chinese terms, looked for inside a label because words are not separated.
_CHINESE = {
    "剩余": "eta", "预计": "eta", "还需": "eta", "耗时": "time", "用时": "time", "时间": "time",
    "花费": "time", "时长": "time", "秒": "time", "毫秒": "ms", "吞吐": "throughput",
    "速度": "speed", "速率": "speed", "轮": "epoch", "周期": "epoch", "步": "step",
    "迭代": "iter", "批次": "batch", "批": "batch", "数据": "data", "加载": "load",
    "读取": "load", "前向": "forward", "反向": "backward", "优化": "optimizer",
    "验证": "val", "测试": "test", "评估": "eval", "训练": "train", "保存": "save",
    "显存": "gpumem", "内存": "memory", "累计": "elapsed", "已用": "elapsed", "总": "total",
    "平均": "avg", "学习率": "lr", "损失": "loss", "准确": "acc", "精度": "acc", "每": "per",
    "样本": "samples", "图像": "images", "图片": "images", "令牌": "tokens", "词": "tokens",
    "显卡": "gpu", "利用率": "util", "占用": "util",
}  # fmt: skip
_ETA = word_set("eta remain remaining remains left estimated finish expected togo")
_EPOCH = word_set("epoch epochs ep")
_STEP = word_set(
    "step steps iter iters iteration iterations it itr its batch batches minibatch update updates "
    "upd bch nupdates i idx"
)
_TIME = word_set(
    "time times timer timing sec secs second seconds s duration dur took takes taken cost costs "
    "runtime t dt ms msec us wall walltime elapsed wallclock spent tt"
)
_ELAPSED = word_set(
    "elapsed total wall walltime wallclock cumulative cum since used passed uptime overall "
    "runtime so sofar accumulated"
)
_MEAN = word_set("avg average mean running smoothed smooth ema moving aver averaged runningavg")
_VALIDATION = word_set(
    "val valid validation eval evaluation evaluate evaluating validating test testing dev "
    "inference infer"
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
            "dataset generator gen"
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
_FILLERS = word_set("per log print current cur this last one each used interval process it")
_NOT_TRAINING = word_set("latency preprocess postprocess nms pid")
#: Composer counts batches and samples as "time/batch", perhaps with the phase before it.
_COUNTED_TIME = {"time_batch": "step", "time_epoch": "epoch", "time_iteration": ""}
_COUNTED_TIME |= dict.fromkeys(
    ("time_sample", "time_token", "time_batch_in_epoch", "time_sample_in_epoch",
     "time_token_in_epoch", "time_token_in_iteration", "time_batch_in_iteration"), ""
)  # fmt: skip
_RATE = word_set(
    "speed throughput ips imps fps wps tps ups rate hz sps qps tput samplespersec itps"
)
#: "15.5K" of a rate is 15 500, not 15.5 KiB.
_MULTIPLE = {2.0**10: 1e3, 2.0**20: 1e6, 2.0**30: 1e9}
_PER_SECOND = re.compile(
    r"(?:^|_)(?:(?P<top>[a-z]+)_)?(?:per|p)_?(?:sec|secs|second|s)(?:_|$)"
    # "img_s" is a rate; "step_s" and "iter_s" are seconds
    r"|(?:^|_)(?P<bar>it|its|img|imgs|images|samples|tok|toks|tokens|words|steps|iters|frames|examples)_s$"
)
_SAMPLES = word_set(
    "sample samples image images img imgs example examples seq sequences sentences clips videos "
    "frames graphs items fps ips imps sps instances"
)
_TOKENS = word_set("token tokens tok toks word words wps tps tgt src tgs")
_STEPS_RATE = word_set(
    "it its iter iters iteration iterations step steps batch batches update updates ups hz itps upd"
)
_MEMORY = word_set("mem memory gpumem vram maxmem reserved allocated cuda_mem")
_STEP_TOTAL = word_set("max total num")
#: "save_steps", "log_interval", "skipped iterations": steps that count something else
_NOT_COUNTING = word_set(
    "per every interval warmup skip micro save log accumulation accum each skipped nan number"
)
_SIZE = word_set("size bs bsz batchsize")
_METRIC_WORDS = word_set(
    "loss lr acc accuracy top prec precision recall f1 map iou miou bleu ppl perplexity auc wer "
    "cer error err mae rmse mse psnr ssim fid score reward return grad norm scale momentum wd "
    "decay temperature epsilon entropy dice kl weight mfu tflops flops gamma beta warmup seed "
    "params parameters patience bpc bpb nll"
)


@dataclass(frozen=True)
class Meaning:
    """A role and what to multiply the printed value by. `device`: a rate of one device.

    `part`: the time has a name of its own that says nothing here, as "maintenance".
    """

    role: str
    scale: float = 1.0
    device: bool = False
    part: bool = False


@dataclass(frozen=True)
class Label:
    """A name in words. `text` is the normalised name, `units` a unit in its parentheses."""

    words: tuple[str, ...]
    text: str
    unit: Unit | None = None

    def any(self, vocabulary: Iterable[str]) -> bool:
        """Whether one of the words is in `vocabulary`."""
        return not set(self.words).isdisjoint(vocabulary)


_RATIO_AT_END = re.compile(
    r"(?:^|[\W_])([A-Za-zµμ]{1,14}\s?(?:/|\bper\b)\s?[A-Za-z]{1,14}"
    r"(?:\s?(?:/|per)\s?(?:gpu|GPU|device|rank|card|chip))?)\s*$"
)
#: "Timing/sec_per_tick", "sec/kimg" as the whole of a name or its end
_PER_THING = re.compile(
    r"(?:(?:^|[_/ ])(sec|secs|seconds|ms|s)[_ ]per[_ ]|(?:^| )(sec|secs|seconds|ms|s)/)"
    r"([A-Za-z]{1,14})\s{0,4}$"
)
_DEVICES = word_set("gpu device card rank node chip core worker")
_UNIT_IN_LABEL = re.compile(r"[(\[（]\s*([^()\[\]（）]{1,24}?)\s*[)\]）]\s*$")


@lru_cache(maxsize=20_000)
def label_of(text: str) -> Label:
    """The name `text` in words; a unit in parentheses at its end is taken off."""
    unit = None
    match = _UNIT_IN_LABEL.search(text[-64:])
    if match is not None and (unit := unit_of(match.group(1))) is not None:
        text = text[: len(text) - len(text[-64:]) + match.start()]
    elif (ratio := _RATIO_AT_END.search(text[-64:])) is not None:
        unit = unit_of(ratio.group(1))  # "examples/sec: 412", "ms/batch 287.6"
    words: list[str] = []
    names: list[str] = []
    for word in _WORDS.findall(_CAMEL.sub(" ", text[-96:])):
        lowered = word.lower()
        if word[0] >= "\u4e00":
            words += _chinese(word)
        elif lowered not in _NOISE:
            words.append(lowered)
        if lowered not in _LEVELS:
            names.append(lowered)
    return Label(tuple(words), "_".join(names), unit or _unit_in_name(text))


def _unit_in_name(text: str) -> Unit | None:
    """Seconds of a thing that is no training step are known to be so: "sec/tick"."""
    match = _PER_THING.search(text[-64:])
    if match is None:
        return None
    time, thing = match[1] or match[2], match[3]
    if thing.lower() in _DEVICES:
        return None  # "images/sec per gpu"
    return unit_of(f"{time}/{thing}") or Unit(INVERSE, 1.0, 0, "other")


def _chinese(word: str) -> list[str]:
    found = [meaning for term, meaning in _CHINESE.items() if term in word]
    return found or [word]


def meaning_of(label: Label, unit: Unit | None, *, integer: bool, clock: bool) -> Meaning | None:
    """What a value with this label and unit is; None if nothing that matters here.

    `clock`: it was written as h:mm:ss or in several units, and so is a duration.
    """
    counted = _COUNTED_TIME.get(label.text.removeprefix("train_")) if integer else None
    if counted is not None:
        return Meaning(counted) if counted else None
    unit = unit or label.unit
    if unit is not None and unit.kind == RATE:
        return _rate(label, unit)
    if unit is not None and unit.kind == INVERSE:
        return _inverse(label, unit)
    if unit is not None and unit.kind == COUNT and not label.words:
        return None
    if _is_rate(label):
        return _named_rate(label, unit)
    if clock or _is_duration(label, unit, integer):
        return _duration(label, unit)
    if unit is not None and unit.kind == BYTES and _is_memory(label):
        return Meaning("memory_bytes", unit.scale)
    counter = _counter(label, integer)
    return counter or _hardware(label, unit, integer) or _metric(label)


def _rate(label: Label, unit: Unit) -> Meaning | None:
    if label.any(_ETA):
        return None
    mean = "_mean" if label.any(_MEAN) else ""
    if unit.thing == "epoch":
        return None
    thing = unit.thing
    if thing == "sample" and label.any(_TOKENS):
        thing = "token"
    phase = "validation:" if label.any(_VALIDATION) else ""
    return Meaning(f"{phase}{thing}s_per_s{mean}", unit.scale, unit.device or _device(label))


def _device(label: Label) -> bool:
    return label.any(("gpu", "device", "card")) and label.any(("per",))


def _inverse(label: Label, unit: Unit) -> Meaning | None:
    if label.any(_ETA):
        return None
    mean = "_mean" if label.any(_MEAN) else ""
    match unit.thing:
        case "step":
            return Meaning(f"{_stage(label) or 'step'}_s{mean}", unit.scale)
        case "epoch":
            return Meaning("epoch_s", unit.scale)
        case "sample":
            return Meaning("sample_s", unit.scale)
    return None


def _is_rate(label: Label) -> bool:
    if label.any(("lr", "learning", "drop", "dropout", "sample", "error", "ratio")) and not (
        label.any(("sec", "second", "seconds"))
    ):
        return False
    return label.any(_RATE) or _PER_SECOND.search(label.text) is not None


def _named_rate(label: Label, unit: Unit | None) -> Meaning | None:
    """ "samples_per_sec", "wps", "throughput", "tokens/s" as the name of the value."""
    if unit is not None and unit.kind == TIME:
        return _duration(label, unit)
    scale = _MULTIPLE.get(unit.scale, 1.0) if unit is not None and unit.kind == BYTES else 1.0
    if label.any(_ETA) or label.any(("flops", "tflops")):
        return None
    match = _PER_SECOND.search(label.text)
    top = (match["top"] or match["bar"] or "") if match is not None else ""
    if label.any(_TOKENS):
        thing = "token"
    elif top in _STEPS_RATE or (not top and label.any(_STEPS_RATE - {"batch"})):
        thing = "step"
    elif label.any(_SAMPLES) or label.any(_RATE - {"rate"}):
        thing = "sample"
    elif label.any(_STEPS_RATE):
        thing = "step"
    else:
        return None
    mean = "_mean" if label.any(_MEAN) else ""
    phase = "validation:" if label.any(_VALIDATION) else ""
    return Meaning(f"{phase}{thing}s_per_s{mean}", scale, _device(label) or label.any(("tgs",)))


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
    named = label.any(("batch", "iter", "step", "bt", "dt")) or _stage(label) is not None
    return named and not integer and len(label.words) == 1


def _duration(label: Label, unit: Unit | None) -> Meaning | None:
    scale = unit.scale if unit is not None and unit.kind == TIME else _scale(label)
    if label.any(_ETA) or label.any(_NOT_TRAINING):
        return None
    if label.any(("speed",)) and not label.any(_STEP):
        return None  # "Speed: 0.8ms inference per image"
    mean = "_mean" if label.any(_MEAN) else ""
    stage = _stage(label)
    if stage is None and label.any(("compute", "calc")) and not label.any(_STEP):
        return Meaning("compute_s", scale)
    named = set(label.words) - _TIME
    if named and named <= {"train", "training"} and not label.any(_ELAPSED):
        return Meaning("train_s", scale)
    validates = label.any(_VALIDATION)
    per_step = label.any(_STEP) and not label.any(_EPOCH)
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
    part = not set(label.words) <= _TIME | _MEAN | _TRAIN | _FILLERS
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
    return None


def _counter(label: Label, integer: bool) -> Meaning | None:
    if label.text == "wpb":  # fairseq: words per batch
        return Meaning("tokens_per_step")
    if label.any(_SIZE):
        batch = label.any(("batch", "bs", "bsz", "batchsize"))
        return Meaning("batch_size") if batch and integer else None
    if label.any(_METRIC_WORDS):
        return None
    if label.any(("epoch", "epochs", "ep")) and len(label.words) <= 4:
        total = label.any(_STEP_TOTAL)
        if label.any(_STEP - {"i", "it"}):
            return None
        return Meaning("epoch_total" if total else "epoch")
    if not integer or len(label.words) > 4:
        return None
    if label.any(("rank", "worker")) and not label.any(("world",)):
        return Meaning("rank")
    if label.any(_STEP):
        if label.any(_NOT_COUNTING):
            return None
        total = label.any(_STEP_TOTAL) and not label.any(("global",))
        return Meaning("step_total" if total and "num_updates" not in label.text else "step")
    if label.any(("nupdates", "timesteps", "timestep")):
        return Meaning("step")
    if label.words and label.words[-1] == "episode":
        return Meaning("episode")
    return None


def _is_memory(label: Label) -> bool:
    return label.any(_MEMORY) or label.any(("gpu", "max"))


def _hardware(label: Label, unit: Unit | None, integer: bool) -> Meaning | None:
    if label.any(("gpu", "cuda")) and label.any(("util", "utilization", "utilisation", "load")):
        return Meaning("gpu")
    if _is_memory(label) and label.any(_MEMORY) and (unit is None or unit.kind != PERCENT):
        scale = unit.scale if unit is not None and unit.kind == BYTES else _memory_scale(label)
        return Meaning("memory_bytes", scale)
    if label.any(("cpu",)) and unit is not None and unit.kind == PERCENT:
        return Meaning("cpu")
    return None


def _memory_scale(label: Label) -> float:
    for word, scale in (("gb", 2**30), ("gib", 2**30), ("kb", 2**10), ("bytes", 1), ("g", 2**30)):
        if label.any((word,)):
            return float(scale)
    return float(2**20)  # "max mem: 1942" of the MetricLogger family and mmcv is in MiB


def _metric(label: Label) -> Meaning | None:
    if not label.words or len(label.words) > 6:
        return None
    return Meaning(METRIC + label.text)
