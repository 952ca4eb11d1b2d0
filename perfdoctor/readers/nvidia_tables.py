"""`nvidia-smi` as people see it: its box, over and over, and the table of `nvidia-smi dmon`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from perfdoctor.readers.cells import as_text, lines_of, moment, number
from perfdoctor.readers.records import Reading
from perfdoctor.readers.samples import TIME, Rows, reading

_MIB = 2**20
_DAY_S = 86400.0
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ASCTIME = re.compile(
    rf"\b({'|'.join(_MONTHS)}) {{1,2}}([0-9]{{1,2}}) ([0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}})"
    r"( [AP]M)?(?: [A-Z]{2,5})? ([0-9]{4})"
)
_HEAD = 100_000
_BOX = "NVIDIA-SMI "
_GPU_LINE = re.compile(r"\| {1,4}([0-9]{1,3}) {1,3}\S")
_TEMPERATURE = re.compile(r"\b([0-9]{1,3})C\b")
_POWER = re.compile(r"\b([0-9]{1,4})W {0,4}/")  # behind the slash stands its limit
_MEMORY = re.compile(r"([0-9]{1,7}) ?Mi?B {0,4}/ {0,6}([0-9]{1,7}) ?Mi?B")
_BUSY = re.compile(r"([0-9]{1,3}) ?%")
_ISO = re.compile(r"[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}")


class NvidiaSmiTable:
    """Snapshots of the box, of all driver versions, each with a line for each GPU."""

    name = "nvidia_smi_table"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1."""
        lines = [line.strip() for line in lines_of(head[:_HEAD]) if line.strip()]
        gpus = sum(_values(line) is not None for line in lines)
        if not gpus:
            return 0.0
        boxed = sum(line.startswith(("|", "+")) for line in lines)
        return 0.97 if boxed > len(lines) / 2 else 0.3

    def read(self, path: str, data: str | bytes) -> Reading:
        """One record a snapshot, dated by the line above the box."""
        text = as_text(data)
        numbers: list[int] = []
        found: list[dict[str, float]] = []
        gpus: list[str] = []
        time, label = math.nan, ""
        for index, line in enumerate(lines_of(text), start=1):
            if not line.lstrip().startswith("|"):
                time = _date(line, time)
            elif _BOX in line:
                label = ""
            elif (values := _values(line)) is not None:
                numbers.append(index)
                gpus.append(label)
                found.append({TIME: time, **values})
            elif (match := _GPU_LINE.match(line.strip())) is not None:
                label = match[1]
        named = gpus if all(gpus) else None  # only the values' lines were kept, with grep say
        return reading(self.name, "nvidia-smi", path, text, _rows(numbers, found, named))


def _rows(
    numbers: Sequence[int], found: Sequence[dict[str, float]], gpus: Sequence[str] | None
) -> Rows:
    roles = dict.fromkeys(role for values in found for role in values)
    columns = {
        role: np.array([values.get(role, math.nan) for values in found], np.float64)
        for role in roles
    }
    return Rows(numbers, columns, gpus)


def _date(line: str, before: float) -> float:
    match = _ASCTIME.search(line[:200])
    if match is not None:
        month = _MONTHS.index(match[1]) + 1
        found = moment(f"{match[5]}-{month:02d}-{match[2]} {match[3]}")
        return found + _afternoon(match[4], match[3])
    iso = _ISO.search(line[:200])
    return before if iso is None else moment(iso.group())


def _afternoon(mark: str | None, clock: str) -> float:
    """Seconds that a 12-hour clock leaves out (or, just after midnight, adds)."""
    noon = clock.startswith("12")
    if mark == " PM":
        return 0.0 if noon else _DAY_S / 2
    return -_DAY_S / 2 if mark == " AM" and noon else 0.0


def _values(line: str) -> dict[str, float] | None:
    """A GPU's second line: fan, temperature and power | memory | how busy."""
    cells = line.strip().strip("|").split("|")
    memory = _MEMORY.search(cells[1]) if len(cells) == 3 else None
    if memory is None:
        return None
    used, total = float(memory[1]), float(memory[2])
    values = {"memory_bytes": used * _MIB}
    if total > 0:
        values["gpu_memory"] = 100 * used / total
    patterns = {
        "gpu": (_BUSY, 2),
        "gpu_power_w": (_POWER, 0),
        "gpu_temperature_c": (_TEMPERATURE, 0),
    }
    for role, (pattern, cell) in patterns.items():
        match = pattern.search(cells[cell])
        if match is not None:
            values[role] = float(match[1])
    return values


_DMON_ROLES = {
    "pwr": "gpu_power_w",
    "temp": "gpu_temperature_c",
    "gtemp": "gpu_temperature_c",
    "sm": "gpu",
    "mem": "gpu_memory_busy",
    "pclk": "gpu_clock_mhz",
    "fb": "memory_bytes",
}
_DMON_HEADER = re.compile(r"# ?(?:date[, ]{1,20})?(?:time[, ]{1,20})?gpu\b", re.IGNORECASE)
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})")


class NvidiaDmon:
    """Its header may come again and change; times only where `-o DT` asked for them."""

    name = "nvidia_dmon"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1."""
        for line in lines_of(head[:20_000]):
            names = _dmon_names(line)
            if names is not None:
                return 0.97 if set(names) & set(_DMON_ROLES) and "pid" not in names else 0.0
        return 0.0

    def read(self, path: str, data: str | bytes) -> Reading:
        """One record a round over the GPUs."""
        text = as_text(data)
        names: list[str] = []
        numbers: list[int] = []
        found: list[dict[str, float]] = []
        gpus: list[str] = []
        unread = []
        clock = _DmonClock()
        for index, line in enumerate(lines_of(text), start=1):
            if line.lstrip().startswith("#") or not line.strip():
                names = _dmon_names(line) or names
                continue
            cells = line.replace(",", " ").split()
            row = dict(zip(names, cells, strict=False))
            if len(cells) != len(names) or not row.get("gpu", "").isdigit():
                unread.append((index, line))
                continue
            numbers.append(index)
            gpus.append(row["gpu"])
            found.append({TIME: clock.seconds(row), **_dmon_values(row)})
        rows = _rows(numbers, found, gpus)
        return reading(self.name, "nvidia-smi", path, text, rows, unread, clock.notes)


def _dmon_names(line: str) -> list[str] | None:
    if not _DMON_HEADER.match(line.strip()):
        return None
    return line.replace("#", " ").replace(",", " ").lower().split()


def _dmon_values(row: dict[str, str]) -> dict[str, float]:
    values = {role: number(row[name]) for name, role in _DMON_ROLES.items() if name in row}
    if "memory_bytes" in values:
        values["memory_bytes"] *= _MIB
    return values


class _DmonClock:
    """The time of a row. Without a date the days are counted from 1970-01-01."""

    def __init__(self) -> None:
        self._days = 0
        self._before = -math.inf
        self.notes: list[str] = []

    def seconds(self, row: dict[str, str]) -> float:
        """Seconds since 1970; NaN without a time of day."""
        match = _CLOCK.fullmatch(row.get("time", ""))
        if match is None:
            return math.nan
        clock = int(match[1]) * 3600.0 + int(match[2]) * 60 + int(match[3])
        date = row.get("date")
        if date is not None:
            plain = date.replace("/", "").replace("-", "")
            return moment(f"{plain[:4]}-{plain[4:6]}-{plain[6:]} {match.group()}")
        if clock < self._before:
            self._days += 1
        self._before = clock
        if not self.notes:
            self.notes.append("times of day without a date")
        return self._days * _DAY_S + clock
