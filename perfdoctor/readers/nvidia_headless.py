"""Columns of nvidia-smi's CSV without a header, told by what is in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from perfdoctor.readers.cells import moment, numbers
from perfdoctor.readers.samples import TIME

USED, TOTAL, IDENTITY = "used", "total", "identity"
_WITH_A_UNIT = ("%", "MiB", "W", "MHz")
_WITH_UNIT = re.compile(r"([-0-9.,]{1,20}) ?(%|MiB|MB|GiB|W|MHz)")
_PLAIN = re.compile(
    r"[-+0-9.]{1,20}|\[?(?:N/A|Not Supported|Unknown Error|Insufficient Permissions|Not Found)\]?"
    r"|P[0-9]{1,2}|GPU-[0-9a-f-]{36}|[0-9A-F]{4,8}:[0-9A-F]{2}:[0-9A-F]{2}\.[0-9]"
    r"|(?:NVIDIA|GeForce|Tesla|Quadro|TITAN|RTX|A100|H100|GRID|Graphics)[\w .()/-]{0,60}"
    r"|Enabled|Disabled|Default|Active|Not Active|Yes|No"
)
_COOL, _HOT = 20, 110
#: No machine has more GPUs of different sizes.
_SIZES = 16


def first_of_each(roles: Sequence[str | None]) -> list[str | None]:
    """Of several columns with one role the first keeps it."""
    return [role if role not in roles[:i] else None for i, role in enumerate(roles)]


def guessed_roles(table: Sequence[Sequence[str]]) -> list[str | None] | None:
    """A role for each column; None where the rows are not nvidia-smi's.

    Percentages are taken in the order in which people ask: how busy the GPU, then its memory.
    """
    columns = list(zip(*table, strict=True))
    kinds = [_kind(column) for column in columns]
    if None in kinds or not any(kind in _WITH_A_UNIT for kind in kinds):
        return None
    percents = iter(("gpu", "gpu_memory_busy"))
    roles: list[str | None] = []
    for kind, column in zip(kinds, columns, strict=True):
        if kind == "%":
            roles.append(next(percents, None))
        elif kind == "plain":
            roles.append(_plain_role(column))
        else:
            roles.append({"W": "gpu_power_w", "MHz": "gpu_clock_mhz", TIME: TIME}.get(kind or ""))
    for position, role in _memory_roles(kinds, columns):
        roles[position] = role
    return first_of_each(roles)


def _kind(column: Sequence[str]) -> str | None:
    """Unit of the cells, "time", "plain" or, where they are nothing of nvidia-smi's, None."""
    units = {match[2] for cell in column if (match := _WITH_UNIT.fullmatch(cell))}
    rest = [cell for cell in column if not _WITH_UNIT.fullmatch(cell)]
    if len(units) == 1 and all(_PLAIN.fullmatch(cell) for cell in rest):
        unit = units.pop()
        return "MiB" if unit in ("MB", "GiB") else unit
    if not units and all(moment(cell) == moment(cell) for cell in rest):
        return TIME
    return "plain" if not units and all(_PLAIN.fullmatch(cell) for cell in rest) else None


def _plain_role(column: Sequence[str]) -> str | None:
    if column[0].startswith("GPU-") or ":" in column[0]:
        return IDENTITY
    values = numbers(column)
    if np.isnan(values).any() or (values % 1).any():
        return None
    if values.min() >= _COOL and values.max() <= _HOT:
        return "gpu_temperature_c"
    return IDENTITY if values.max() < _COOL and values.min() >= 0 else None


def _memory_roles(
    kinds: Sequence[str | None], columns: Sequence[Sequence[str]]
) -> list[tuple[int, str]]:
    """One column is what is used; of two the larger is all there is, if it never changes.

    Of three, used and free cannot be told apart.
    """
    places = [position for position, kind in enumerate(kinds) if kind == "MiB"]
    values = {place: numbers(columns[place]) for place in places}
    if len(places) == 1:
        return [(places[0], USED)]
    if len(places) != 2:
        return []
    used, total = sorted(places, key=lambda place: float(np.nanmean(values[place])))
    fixed = np.unique(values[total]).size <= min(_SIZES, max(1, values[total].size // 2))
    return [(used, USED), (total, TOTAL)] if fixed else []
