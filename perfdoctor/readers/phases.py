"""Whether a line is of training, of validation or of neither."""

from __future__ import annotations

import re
from collections.abc import Sequence

from perfdoctor.readers.bars import PROGRESS_BAR
from perfdoctor.readers.lexer import Kind
from perfdoctor.readers.line_values import Seen
from perfdoctor.readers.records import OTHER_PHASE, TRAIN, VALIDATION
from perfdoctor.readers.word_sets import word_set

#: "epoch 1 validation: loss 1.5 time 11 s"
_ANNOUNCED = re.compile(r"(?<![A-Za-z0-9_])[Ee]poch #?[0-9]{1,6}[ ,|\-]{1,4}([A-Za-z]{2,12}):")
#: "Epoch 252: testing psnr = 34.52, time: 0.02"
_DOING = re.compile(
    r"[Ee]poch #?[0-9]{1,6}[ :,|\-]{1,4}([Tt]esting|[Vv]alidating|[Ee]valuating)(?![A-Za-z0-9_])"
)
#: "3: VALIDATION [0][0/5]": a rank, then what it does.
_RANKED = re.compile(r"^\s{0,20}[0-9]{1,5}: ([A-Za-z]{3,12}) ?[\[(:]")
#: "[1000] collection=training_eval/c4 loss=2.1": CLU's writer names what the values are of.
_COLLECTION = re.compile(r"(?<![A-Za-z_])collection=(?:[a-z]{1,20}_)?eval(?![a-z])")
#: "Initializing val dataset": what a validation will need, before any training.
_PREPARES = re.compile(
    r"(?i)\b(?:initiali[sz]|load|creat|build|prepar|construct|instantiat|read)[a-z]{0,6}\b"
    r"[^0-9:=]{0,20}\b(?:val|valid|validation|test|dev|eval|evaluation)\b[^0-9:=]{0,20}"
    r"\b(?:data|datasets?|dataloaders?|loaders?|set|split|sampler|images|samples|cameras)\b"
)
_PHASE_WORDS = re.compile(r"[A-Za-z]+|[\u4e00-\u9fff]+")
VALIDATION_WORDS = word_set(
    "val valid validation validate validating eval evaluation evaluating evaluate test tests "
    "testing dev cv inference 验证 测试 评估"
)
TRAIN_WORDS = word_set("train training trn 训练")
_OTHER_WORDS = word_set(
    "download downloading loading tokenizing map mapping filter filtering generating preprocessing "
    "extracting grouping saving caching scanning fetching sanity resolving building "
    "tokenization dataset capturing uploading unpacking converting rendering"
)
_NO_VALUES = (Kind.MOMENT, Kind.TIME_OF_DAY, Kind.OPAQUE)


def phase_of(line: str, seen: Sequence[Seen]) -> float:
    """From the words before the first value, and words alone in brackets."""
    first = next((v.token for v in seen if v.token.kind not in _NO_VALUES), None)
    head = line[: first.start] if first is not None else line
    words = {w.lower() for w in _PHASE_WORDS.findall(head[-120:])}
    marked = {w.lower() for w in re.findall(r"[(\[\"']([a-zA-Z]{2,10})[)\]\"']", line[:200])}
    words |= marked & (VALIDATION_WORDS | TRAIN_WORDS)
    words |= {m.group(1).lower() for m in _ANNOUNCED.finditer(line[:200])} & VALIDATION_WORDS
    words |= {m.group(1).lower() for m in _DOING.finditer(line[:200])}
    words |= {m.group(1).lower() for m in _RANKED.finditer(line[:200])}
    if _COLLECTION.search(line[:200]) is not None:
        return VALIDATION
    if words & TRAIN_WORDS:
        return TRAIN
    if words & VALIDATION_WORDS:
        return OTHER_PHASE if _PREPARES.search(head[-120:]) is not None else VALIDATION
    return OTHER_PHASE if words & _OTHER_WORDS and PROGRESS_BAR.search(line) else TRAIN
