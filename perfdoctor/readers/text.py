"""Lines of text of any kind → records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfdoctor.readers.fields import Hints, Template, analyse
from perfdoctor.readers.headers import Headers, with_header
from perfdoctor.readers.lexer import Dialect
from perfdoctor.readers.lines import Chunk, chunks
from perfdoctor.readers.records import Records, empty
from perfdoctor.readers.settings_in_logs import printed_settings
from perfdoctor.readers.shapes import ShapeReader, stack
from perfdoctor.record import Floats, UnreadLine

#: A line with digits and one of these looks as if it told a time.
_TIMED = re.compile(
    rb"(?i)(?<![a-z_])(?:time|secs?|seconds|elapsed|it/s|s/it|ms|took)(?![a-z])"
    rb"|samples/s|tok(?:en)?s?/s|\xe8\x80\x97\xe6\x97\xb6"
)
_SAMPLES = 5
#: What lines with settings hold; so many such lines are looked at, of so many characters.
_SETTINGS = (b"Namespace(", b"batch_size", b"batch-size")
_MOST_SETTINGS, _LONGEST = 40, 8000
#: What stands around a log in Markdown; so many of them are of a diary, not of code.
_FENCE, _MOST_FENCES = b"```", 1000
LineTemplate = Callable[[str], Template]


@dataclass
class TextRecords:
    """What reading gave."""

    records: Records = field(default_factory=empty)
    lines: int = 0
    unread: int = 0
    unread_samples: list[UnreadLine] = field(default_factory=list)
    device_rates: bool = False
    cut: int = 0
    settings: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    fences: list[int] = field(default_factory=list)


def read_text(
    path: str,
    blocks: Iterable[bytes],
    dialect: Dialect,
    hints: Hints,
    template_of: LineTemplate | None = None,
    progress: Callable[[int], None] | None = None,
) -> TextRecords:
    """All records of a text. `template_of` reads a line in place of the general analysis."""
    result, headers = TextRecords(), Headers()

    def find(chunk: Chunk, i: int) -> Template:
        line = chunk[i].decode("utf-8", "replace")
        if template_of is not None:
            return template_of(line)
        found = analyse(line, dialect, hints)
        header = headers.above(chunk, i, line, dialect)
        found = found if header is None else with_header(found, line, header, dialect)
        result.device_rates |= found.device_rates
        return found

    reader = ShapeReader(find, lambda shape: _TIMED.search(shape) is not None, (*_SETTINGS, _FENCE))
    columns: list[tuple[int, dict[str, Floats]]] = []
    numbers: list[NDArray[np.int64]] = []
    for chunk, block in reader.read_all(chunks(blocks)):
        numbers.append(chunk.number[block.rows])
        columns.append((block.rows.size, block.columns))
        _note(result, path, chunk, block.unread)
        _note_settings(result, chunk, block.noted)
        if progress is not None:
            progress(chunk.size)
    if columns:
        result.records = Records(np.concatenate(numbers), stack(columns))
    return result


def _note(result: TextRecords, path: str, chunk: Chunk, unread: list[int]) -> None:
    result.lines = int(chunk.number[-1]) if chunk.number.size else result.lines
    result.unread += len(unread) + chunk.cut
    result.cut += chunk.cut
    for i in unread[: _SAMPLES - len(result.unread_samples)]:
        text = chunk[i][:200].decode("utf-8", "replace")
        result.unread_samples.append(UnreadLine(path=path, line=int(chunk.number[i]), text=text))


def _note_settings(result: TextRecords, chunk: Chunk, rows: Iterable[int]) -> None:
    """A run that is started again, or another one in the same file, prints its settings anew; in a
    diary it stands in another block."""
    fences = [row for row in sorted(rows) if chunk[row].lstrip().startswith(_FENCE)]
    result.fences += chunk.number[fences[: _MOST_FENCES - len(result.fences)]].tolist()
    rows = set(rows).difference(fences)
    for row in sorted(rows)[: _MOST_SETTINGS - len(result.settings)]:
        found = printed_settings(chunk[row][:_LONGEST].decode("utf-8", "replace"))
        if found:
            result.settings.append((int(chunk.number[row]), found))
