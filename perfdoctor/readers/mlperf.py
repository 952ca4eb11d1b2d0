"""MLPerf's own log lines: moments at which epochs, blocks and evaluations begin and end."""

from __future__ import annotations

import re
from collections.abc import Iterable

from perfdoctor.readers.records import TRAIN, VALIDATION, Records, from_rows

_LINE = re.compile(
    r":::MLLOG (?P<json>\{.{1,4000})"
    r"|:::MLL (?P<s6>[0-9.]{10,24}) (?P<k6>\w{1,60}): ?(?P<v6>.{0,400})"
    r"|:::MLPv[0-9.]{1,8} \S{1,40} (?P<s5>[0-9.]{10,24}) \([^)]{0,200}\) "
    r"(?P<k5>\w{1,60})(?:: ?(?P<v5>.{0,200}))?"
)
_TIME_MS = re.compile(r'"time_ms": ?([0-9.]{10,24})')
#: Milliseconds since 1970 of 2001; fewer are of a clock that began at another time.
_LEAST_MS = 1e12
_KEY = re.compile(r'"key": ?"(\w{1,60})"')
_EPOCH = re.compile(r'"(?:epoch_num|first_epoch_num|epoch)": ?([0-9.]{1,9})')
_STARTS = {"epoch_start": "epoch", "block_start": "epoch", "eval_start": "eval"}
_STOPS = {"epoch_stop": "epoch", "block_stop": "epoch", "eval_stop": "eval"}


def is_mlperf(line: str) -> bool:
    """Whether it is one of these lines."""
    return line.lstrip().startswith(":::ML") or ":::MLLOG" in line[:200] or ":::MLP" in line[:200]


def read_events(lines: Iterable[tuple[int, str]]) -> Records:
    """One row for each epoch and each evaluation."""
    rows: list[dict[str, float]] = []
    numbers: list[int] = []
    open_: dict[str, tuple[float, float]] = {}
    counted = 0.0
    for number, line in lines:
        event = _event(line)
        if event is None:
            continue
        time, key, value = event
        if key == "train_epoch":  # the first generation marks beginnings only
            key = "epoch_start"
            if "epoch" in open_:
                begin, epoch = open_.pop("epoch")
                rows.append({"epoch": epoch, "epoch_s": time - begin, "time": time, "phase": TRAIN})
                numbers.append(number)
        if key in _STARTS and _STARTS[key] not in open_:
            counted += _STARTS[key] == "epoch"
            open_[_STARTS[key]] = (time, value if value is not None else counted)
        elif key in _STOPS and _STOPS[key] in open_:
            kind = _STOPS[key]
            begin, epoch = open_.pop(kind)
            role = "epoch_s" if kind == "epoch" else "validation_s"
            phase = TRAIN if kind == "epoch" else VALIDATION
            rows.append({"epoch": epoch, role: time - begin, "time": time, "phase": phase})
            numbers.append(number)
    return from_rows(rows, numbers)


def _event(line: str) -> tuple[float, str, float | None] | None:
    match = _LINE.search(line[:6000])
    if match is None:
        return None
    if match["json"] is not None:
        time, key = _TIME_MS.search(match["json"]), _KEY.search(match["json"])
        if time is None or key is None or float(time.group(1)) < _LEAST_MS:
            return None
        return float(time.group(1)) / 1e3, key.group(1), _number(_EPOCH.search(match["json"]))
    stamp, key_, value = match["s6"] or match["s5"], match["k6"] or match["k5"], match["v6"]
    if match["v5"] is not None and re.fullmatch(r"[0-9]{1,6}", match["v5"].strip()):
        return float(stamp), key_, float(match["v5"])
    return float(stamp), key_, _number(_EPOCH.search(value or ""))


def _number(match: re.Match[str] | None) -> float | None:
    return None if match is None else float(match.group(1))
