"""Units as logs write them, behind a value or in a label's parentheses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perfdoctor.readers.values import DAY_S, HOUR_S, MINUTE_S
from perfdoctor.readers.word_sets import word_set

TIME, RATE, INVERSE, BYTES, PERCENT, COUNT = (
    "time", "rate", "inverse", "bytes", "percent", "count",
)  # fmt: skip

_TIME_S = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒", "秒钟"), 1.0),
    **dict.fromkeys(("sek", "sekunde", "sekunden", "secondi", "segundo", "segundos"), 1.0),
    **dict.fromkeys(("seconde", "secondes", "с", "сек", "секунд"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds", "millis", "毫秒"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds", "微秒"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds", "纳秒"), 1e-9),
    **dict.fromkeys(("min", "mins", "minute", "minutes", "分钟", "分"), MINUTE_S),
    **dict.fromkeys(("minuten", "minuti", "minutos", "мин", "минут"), MINUTE_S),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "小时", "时"), HOUR_S),
    **dict.fromkeys(("day", "days", "天"), DAY_S),
}
#: What is counted → step, sample, token or epoch.
THINGS = {
    **dict.fromkeys(
        word_set(
            "it its iter iters iteration iterations step steps batch batches b minibatch "
            "minibatches update updates upd itr i 步 次 批 批次 迭代 次迭代 "
            "schritt schritte passo passi paso pasos шаг шага шагов"
        ),
        "step",
    ),
    **dict.fromkeys(
        word_set(
            "sample samples samp smp img imgs im ims image images example examples ex exs seq seqs "
            "sequence sequences sent sents sentence sentences item items graph graphs clip clips "
            "video videos frame frames utt utts utterance utterances row rows pair pairs doc docs "
            "record "
            "records query queries point points node nodes edges instance instances inst pic pics "
            "file files crop crops patch patches episode episodes position positions game games "
            "tile tiles kachel kacheln bild bilder beispiel beispiele "
            "spl molecule molecules kimg kimgs 样本 个样本 张 张图 张图片 条 个 帧 图 图片 图像"
        ),
        "sample",
    ),
    **dict.fromkeys(
        word_set(
            "tok toks token tokens tk word words w wd char chars character characters 词 字 tgt src"
        ),
        "token",
    ),
    **dict.fromkeys(word_set("epoch epochs ep eps 轮 轮次 个epoch"), "epoch"),
}
#: One of these is so many of its thing: StyleGAN counts thousands of images.
_MANY = {"kimg": 1e3, "kimgs": 1e3}
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_MULTIPLES = {"k": 1e3, "K": 1e3, "M": 1e6, "m": 1e6, "G": 1e9, "B": 1e9}
#: Words that are a rate in themselves.
_RATES = {
    "fps": "sample", "ips": "sample", "imps": "sample", "wps": "token", "tps": "token",
    "ups": "step", "hz": "step", "sps": "sample", "itps": "step", "qps": "sample",
}  # fmt: skip

#: "39.15K wps"; the MHz of a clock and the kHz of a sound are no steps.
_MANY_A_SECOND = re.compile(
    rf"\s?(?P<many>[kKM])\s?(?P<word>(?i:{'|'.join(w for w in _RATES if w != 'hz')}))"
    r"(?![A-Za-z0-9_=:/])"
)

_W = r"[A-Za-zµμ\u0400-\u04ff\u4e00-\u9fff]"
_RATIO = re.compile(
    rf"(?P<many>[kKM](?=\s|{_W}{{2}}))?\s?(?P<top>{_W}{{0,14}})(?:[_ ](?:steps?|images?))?\s?"
    rf"(?P<each>/\s?(?:gpu|GPU|device|card|chip|卡|rank)\s?(?=/))?"
    rf"(?:/|\bper\b|每)\s?(?P<bottom>{_W}{{1,14}})(?P<device>\s?(?:/|per)\s?(?:gpu|GPU|device|card|卡|rank))?"
)
_WORD = re.compile(rf"\s?(?P<word>{_W}{{1,14}})(?![A-Za-z0-9_=:]|/(?![0-9]))")
_SIZE = re.compile(r"\s?(?P<scale>[KMGTkmgt])?(?:i?[Bb](?:ytes?)?)?(?![A-Za-z0-9_/=])")
#: "epoch 5 step 10": the word belongs to the value behind it.
_NAMES_NEXT_VALUE = re.compile(r"\s*[:=]\s*[-+]?[0-9.nN]")
_NAMES_NEXT = re.compile(r"[\s:=#\[(]{0,12}[0-9]|\s?\([A-Za-z]{1,8}\)\s?[:=]")
_PERCENT = re.compile(r"\s?[%％]")


@dataclass(frozen=True)
class Unit:
    """`scale` turns the printed number into seconds, things per second, seconds per thing, bytes.

    `thing` is step, sample, token or epoch. `end` is where the unit ends in the line.
    """

    kind: str
    scale: float
    end: int
    thing: str | None = None
    device: bool = False


def unit_at(line: str, start: int) -> Unit | None:
    """The unit that begins at `start`, right behind a value."""
    percent = _PERCENT.match(line, start)
    if percent is not None:
        return Unit(PERCENT, 1.0, percent.end())
    many = _MANY_A_SECOND.match(line, start)
    if many is not None:
        return Unit(RATE, _MULTIPLES[many["many"]], many.end(), _RATES[many["word"].lower()])
    return _ratio(line, start) or _word(line, start) or _size(line, start)


def unit_of(text: str) -> Unit | None:
    """The unit that `text` is as a whole: "ms", "samples/sec", "s/it", "MB"."""
    text = text.strip()
    found = unit_at(text, 0) if text else None
    return found if found is not None and found.end == len(text) else None


def _ratio(line: str, start: int) -> Unit | None:
    match = _RATIO.match(line, start)
    if match is None or _NAMES_NEXT_VALUE.match(line, match.end()):
        return None  # "10 images/sec: 133.9": the name of the next value
    many = _MULTIPLES.get(match["many"] or "", 1.0)
    top, bottom = match["top"].lower(), match["bottom"].lower()
    device = match["device"] is not None or match["each"] is not None  # "tokens/gpu/second"
    if top not in _TIME_S or (top in THINGS and bottom in _TIME_S):
        thing = THINGS.get(top, "sample" if not top else None)
        if thing is None or bottom not in _TIME_S:
            return None
        many *= _MANY.get(top, 1.0)
        return Unit(RATE, many / _TIME_S[bottom], match.end(), thing, device)
    if bottom in THINGS:
        scale = _TIME_S[top] / _MANY.get(bottom, 1.0)
        return Unit(INVERSE, scale, match.end(), THINGS[bottom], device)
    return None


#: "12epoch:train:1-682batch:": without a space the word is of the number before it.
_ATTACHED = re.compile(r"(?:epoch|batch|iter|step)(?:s|es)?(?![A-Za-z0-9_=])")


def _word(line: str, start: int) -> Unit | None:
    counter = _ATTACHED.match(line, start)
    if counter is not None:
        return Unit(COUNT, 1.0, counter.end(), THINGS[counter.group()])
    match = _WORD.match(line, start)
    if match is None:
        return None
    word = match["word"]
    many = 1.0
    if word in _MULTIPLES and word != "B":
        return None
    lowered = word.lower()
    if lowered in _TIME_S and word not in ("S", "H", "D"):
        return Unit(TIME, _TIME_S[lowered], match.end())
    if lowered in _RATES:
        return Unit(RATE, many, match.end(), _RATES[lowered])
    named = lowered in THINGS and (len(lowered) > 1 or lowered in "轮步")
    attached = match.start("word") == start  # "13581it [4:24:24": never the name of what follows
    if named and (attached or not _NAMES_NEXT.match(line, match.end())):
        return Unit(COUNT, 1.0, match.end(), THINGS[lowered])
    return None


def _size(line: str, start: int) -> Unit | None:
    match = _SIZE.match(line, start)
    if match is None or match.end() == start or not match.group().strip():
        return None
    return Unit(BYTES, float(_BYTES[(match["scale"] or "").lower()]), match.end())
