"""Whether a line is of training, of validation or of neither."""

from __future__ import annotations

import re
from collections.abc import Sequence

from perfdoctor.readers.bars import PROGRESS_BAR
from perfdoctor.readers.lexer import Kind
from perfdoctor.readers.line_values import Seen
from perfdoctor.readers.records import OTHER_PHASE, TRAIN, VALIDATION

_PHASE_WORDS = re.compile(r"[A-Za-z]+|[\u4e00-\u9fff]+")
VALIDATION_WORDS = frozenset(
    "val valid validation validate validating eval evaluation evaluating evaluate test tests "
    "testing dev cv inference 验证 测试 评估".split()
)
TRAIN_WORDS = frozenset("train training trn 训练".split())
_OTHER_WORDS = frozenset(
    "download downloading loading tokenizing map mapping filter filtering generating preprocessing "
    "extracting grouping saving caching scanning fetching sanity resolving building "
    "tokenization processing dataset".split()
)


def phase_of(line: str, seen: Sequence[Seen]) -> float:
    """From the words before the first value, and words alone in brackets."""
    first = next((v.token for v in seen if v.token.kind not in (Kind.MOMENT, Kind.OPAQUE)), None)
    head = line[: first.start] if first is not None else line
    if head[-2:].strip() in (":", "=") and first is not None:
        head = head  # "Val loss: 0.3" is of the validation as well
    words = {w.lower() for w in _PHASE_WORDS.findall(head[-120:])}
    marked = {w.lower() for w in re.findall(r"[(\[\"']([a-zA-Z]{2,10})[)\]\"']", line[:200])}
    words |= marked & (VALIDATION_WORDS | TRAIN_WORDS)
    if words & TRAIN_WORDS:
        return TRAIN
    if words & VALIDATION_WORDS:
        return VALIDATION
    return OTHER_PHASE if words & _OTHER_WORDS and PROGRESS_BAR.search(line) else TRAIN
