"""What a training was given, its plan and its machine: numbers in a log that nothing counted."""

from __future__ import annotations

import re
from collections.abc import Sequence

from perfdoctor.readers.lexer import Kind
from perfdoctor.readers.line_values import Seen
from perfdoctor.readers.roles import Field
from perfdoctor.readers.word_sets import word_set

#: "BEGIN_EPOCH: 0", "start_step=500" are set; "Begin epoch 3" tells of one.
_BOUND = re.compile(
    r"(?i)(?<![A-Za-z])(?:begin|start|end|stop|first|initial|final|extra|resume)[_-]"
    r"(?:epochs?|steps?|iters?|iterations?)$"
)
#: "epochs: 30" as all that a line says
_PLAN = re.compile(r"(?i)(?<![\w.])epochs['\"]?\s{0,3}[:=]\s{0,3}[0-9]{1,7}['\",]{0,2}\s{0,8}$")
_OF_A_PLAN = frozenset({"epoch", "time", "clock", "rank"})
#: "INFO:   --T 2"
_OPTION = re.compile(r"(?<!\S)--[A-Za-z][\w-]{0,60}(?: {1,4}|=)[^\s-]\S{0,80}\s{0,8}$")
_NO_VALUES = (Kind.MOMENT, Kind.TIME_OF_DAY, Kind.OPAQUE)
#: "NVIDIA GeForce RTX 3090. Num GPUs = 1. Max memory: 23.558 GB."
_DEVICE = re.compile(
    r"\b(?:NVIDIA|GeForce|Tesla|Quadro|TITAN|RTX|GTX|Radeon|Instinct|[AHV]100|H200|B200|L40S?)\b"
)
_TAKEN = word_set("used usage allocated alloc reserved cached peak taken consumed")


def is_an_option(line: str, seen: Sequence[Seen]) -> bool:
    """Whether an option of the command and its value are all that a line says."""
    match = _OPTION.search(line[-200:])
    if match is None:
        return False
    begins = max(0, len(line) - 200) + match.start()
    return all(v.token.start > begins or v.token.kind in _NO_VALUES for v in seen)


def without_bounds(seen: Sequence[Seen]) -> None:
    """Where the training is to begin or to end is no counter of it."""
    for value in seen:
        counts = value.meaning is not None and value.meaning.role in ("epoch", "step")
        if counts and _BOUND.search(value.raw.strip()[-60:]) is not None:
            value.meaning = None


def only_plans(line: str, fields: Sequence[Field]) -> bool:
    """Whether how many epochs there are to be is all that a line says."""
    roles = {f.role for f in fields}
    return "epoch" in roles and roles <= _OF_A_PLAN and _PLAN.search(line[-80:]) is not None


def without_capacity(line: str, seen: Sequence[Seen]) -> None:
    """The memory in a line that names the device is the device's, unless it says it was taken."""
    if _DEVICE.search(line[:300]) is None:
        return
    for value in seen:
        memory = value.meaning is not None and value.meaning.role == "memory_bytes"
        if memory and not value.label.any(_TAKEN):
            value.meaning = None
