"""Names in words: what stands before a value, taken apart; and what a name can mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from perfdoctor.readers.units import INVERSE, Unit, unit_of
from perfdoctor.readers.word_sets import word_set

#: The GHz of a device's clock stay one word: Hz alone are steps a second.
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])(?!Hz\b)")
_WORDS = re.compile(
    r"[Hh]2[Dd]|[A-Za-zµμ\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017f\u0400-\u04ff]+"
    r"|[\u3040-\u30ff\u4e00-\u9fff]+|[0-9]+"
)
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
    "エポック": "epoch", "ステップ": "step", "時間": "time", "損失": "loss", "訓練": "train",
    "検証": "val", "学習率": "lr", "残り": "eta",
}  # fmt: skip
#: What stands in the logs of people who write German, Italian, Spanish, Portuguese, French and
#: Russian: whole words, without the inflections that do not occur there.
_FOREIGN = {
    name: word
    for word, names in {
        "epoch": "epoche epochen epoca época epoque époque эпоха эпохи",
        "step": "schritt schritte passo paso pasos шаг",
        "iter": "iterazione iteracion iteración iteração itération итерация",
        "time": "zeit dauer durata tiempo duracion duración duração temps durée время",
        "eta": "restzeit verbleibend rimanente rimanenti restante restant осталось",
        "elapsed": "gesamtdauer gesamtzeit vergangen verstrichen trascorso transcurrido "
        "decorrido écoulé прошло",
        "val": "validierung validierungs validazione validacion validación validação валидация",
        "train": "addestramento entrenamiento treinamento entraînement обучение",
        "avg": "durchschnitt durchschnittlich durchschnittlicher durchschnittliche mittlere "
        "mittlerer medio media médio média moyen moyenne средняя среднее",
        "load": "laden ladezeit cargar caricamento chargement загрузка",
        "loss": "verlust perdita perdida pérdida perda perte потери",
        "acc": "genauigkeit accuratezza precisión précision точность",
    }.items()
    for name in names.split()
}


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
    if match is not None and (unit := _in_parentheses(match.group(1))) is not None:
        text = text[: len(text) - len(text[-64:]) + match.start()]
    elif (ratio := _RATIO_AT_END.search(text[-64:])) is not None:
        unit = unit_of(ratio.group(1))  # "examples/sec: 412", "ms/batch 287.6"
    words: list[str] = []
    names: list[str] = []
    for word in _WORDS.findall(_CAMEL.sub(" ", text[-96:])):
        lowered = word.lower()
        if word[0] >= "\u3040":
            words += _chinese(word)
        elif lowered not in _NOISE:
            words.append(_FOREIGN.get(lowered, lowered))
        if lowered not in _LEVELS:
            names.append(lowered)
    return Label(tuple(words), "_".join(names), unit or _unit_in_name(text))


def _in_parentheses(text: str) -> Unit | None:
    """ "mem (G)" is in bytes, "Batch (t)" is not: a small letter is a name there."""
    return unit_of(text) if len(text) > 1 or text in "sh" or not text.islower() else None


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
