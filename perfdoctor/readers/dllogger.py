"""The lines of JSON that NVIDIA's DLLogger writes, whose "step" is a list of counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfdoctor.readers.files import Head, Source
from perfdoctor.readers.kinds import Progress, Score
from perfdoctor.readers.records import Reading
from perfdoctor.readers.settings_in_logs import printed_settings
from perfdoctor.readers.structured import read_json_lines

_BEGINS = 'DLLL {"'
_TRAIN, _VALIDATION = "train.", "val."
_WAIT, _COMPUTE, _WHOLE = "train.data_time", "train.compute_time", "train.step_time"
#: Beside the rate of whole steps that of their computing alone says nothing.
_ROLES = {"train.compute_ips": "", "train.compute_time": "compute_s"}
_SETTINGS_IN = 20_000


class DlLogger:
    """`[epoch, step]` counts a training step, `[epoch]` an epoch, and three numbers a step of a
    validation; where no list holds two numbers, one counts steps."""

    name = "nvidia_dllogger_json"
    title = "NVIDIA's DLLogger, as JSON"
    example = 'DLLL {"timestamp": "1600000000.5", "type": "LOG", "step": [0, 20], "data": {…}}'

    def score(self, head: Head) -> Score:
        """By its lines."""
        found = sum(line.startswith(_BEGINS) for line in head.sample)
        value = 0.96 * (found + 1) / (found + 1.5) if found else 0.0
        return Score(value, f"{found:,} lines of DLLogger in the part looked at")

    def read(self, source: Source, head: Head, progress: Progress) -> Reading:
        """Every logged step a record."""
        pairs = any(_is_pair(line) for line in head.lines)

        def record(row: dict[str, Any]) -> dict[str, Any]:
            return _record(row, pairs)

        table = read_json_lines(source.path, source.blocks(), _ROLES, progress, record)
        return Reading(
            path=source.path,
            format=self.name,
            framework=None,
            records=table.records(),
            configuration=printed_settings(head.text[:_SETTINGS_IN]),
            device_rates=table.device_rates,
            lines=table.last_line,
            unread=table.unread,
            unread_samples=tuple(table.unread_samples),
        )


def _is_pair(line: str) -> bool:
    """Whether the line's "step" is a list of two numbers or more."""
    _, found, rest = line.partition('"step": [')
    return bool(found) and "," in rest.partition("]")[0]


def _record(row: Mapping[str, Any], pairs: bool) -> dict[str, Any]:
    """What is logged, under the counters' own names; nothing of settings and units."""
    data, step = row.get("data"), row.get("step")
    if row.get("type") != "LOG" or not isinstance(data, dict) or isinstance(step, str):
        return {}
    counters = step if isinstance(step, list) else [step]
    found = {"timestamp": row.get("timestamp"), **_counted(counters, pairs), **data}
    trains = any(name.startswith(_TRAIN) for name in data)
    if len(counters) > 2 or (not trains and any(name.startswith(_VALIDATION) for name in data)):
        found["phase"] = "val"
    parts = [data.get(name) for name in (_WAIT, _COMPUTE)]
    if "step" in found and all(isinstance(part, int | float) for part in parts):
        found[_WHOLE] = sum(parts)  # one follows the other
    return found


def _counted(counters: list[Any], pairs: bool) -> dict[str, Any]:
    names = ("epoch", "step") if pairs else ("step",)
    return dict(zip(names, [*counters[:1], *counters[1:][-1:]], strict=False))
