"""Names of rates: what is counted in each second."""

from __future__ import annotations

import re

from perfdoctor.readers.labels import Label, Meaning
from perfdoctor.readers.units import BYTES, Unit
from perfdoctor.readers.word_sets import ETA, MEAN, VALIDATION, word_set

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
    "sample samples image images img imgs example examples ex seq seqs sequences sentences clips "
    "videos frames graphs items fps ips imps sps instances"
)
_TOKENS = word_set("token tokens tok toks word words wps tps tgt src tgs")
#: Steps of these are what a game plays, and samples to the training.
_PLAYED = word_set("env envs environment simulator sim game agent")
#: How fast one of these moves is no rate of a training.
_MOVES = word_set(
    "wind motor fan vehicle car ego robot agent linear angular cmd joint wheel walking engine rotor"
)
_STEPS_RATE = word_set(
    "it its iter iters iteration iterations step steps batch batches update updates ups hz itps upd"
)


def rate_of(label: Label, unit: Unit) -> Meaning | None:
    """What a value with a unit per second is."""
    if label.any(ETA):
        return None
    mean = "_mean" if label.any(MEAN) else ""
    if unit.thing == "epoch":
        return None
    thing = unit.thing
    if thing == "sample" and label.any(_TOKENS):
        thing = "token"
    if thing == "step" and label.any(_PLAYED) and label.any(("step", "steps")):
        thing = "sample"
    phase = "validation:" if label.any(VALIDATION) else ""
    return Meaning(f"{phase}{thing}s_per_s{mean}", unit.scale, unit.device or _device(label))


def _device(label: Label) -> bool:
    return label.any(("gpu", "device", "card")) and label.any(("per",))


def is_rate(label: Label) -> bool:
    """Whether the name alone tells of a rate."""
    if label.any(("lr", "learning", "drop", "dropout", "sample", "error", "ratio")) and not (
        label.any(("sec", "second", "seconds"))
    ):
        return False
    if label.any(("speed",)) and label.any(_MOVES):
        return False
    return label.any(_RATE) or _PER_SECOND.search(label.text) is not None


def named_rate(label: Label, unit: Unit | None) -> Meaning | None:
    """ "samples_per_sec", "wps", "throughput", "tokens/s" as the name of the value."""
    scale = _MULTIPLE.get(unit.scale, 1.0) if unit is not None and unit.kind == BYTES else 1.0
    if label.any(ETA) or label.any(("flops", "tflops", "request", "requests")):
        return None
    match = _PER_SECOND.search(label.text)
    top = (match["top"] or match["bar"] or "") if match is not None else ""
    if label.any(_TOKENS):
        thing = "token"
    elif label.any(("hz",)) and label.any(_SAMPLES):
        thing = "sample"
    elif top in _STEPS_RATE or (not top and label.any(_STEPS_RATE - {"batch"})):
        thing = "sample" if label.any(_PLAYED) else "step"
    elif label.any(_SAMPLES) or label.any(_RATE - {"rate"}):
        thing = "sample"
    elif label.any(_STEPS_RATE):
        thing = "step"
    else:
        return None
    mean = "_mean" if label.any(MEAN) else ""
    phase = "validation:" if label.any(VALIDATION) else ""
    return Meaning(f"{phase}{thing}s_per_s{mean}", scale, _device(label) or label.any(("tgs",)))
