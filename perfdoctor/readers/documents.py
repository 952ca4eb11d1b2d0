"""Files that are one JSON document: wandb's summary, perfdoctor's reports, and what loads them."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeGuard

from perfdoctor import schema
from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.cells import as_text, line_count
from perfdoctor.readers.records import LONGEST_S, Reading

#: The head of a file up to which it is parsed to tell what it is.
_SMALL = 400_000
_LONG = 18
_REPORT_HEAD = 4000
_PER_SECOND = r"(?:per_?sec(?:ond)?s?|_ps|/s(?:ec)?)(?![a-z])"
_TIME = r"_?(?:time|timing|duration)_?(?:in_)?"
_SECONDS = r"(?:s(?:ec(?:ond)?s?)?)?(?![a-z0-9]|_[a-z])"
_STEP, _MS = r"(?:step|iter(?:ation)?|batch)", r"(?:ms|milliseconds?)(?![a-z])"
_SAMPLE = r"(?:sample|image|img|example|seq(?:uence)?|clip|graph)"
#: Names that tell a time or a rate and its unit → fact, and what its value is multiplied with.
_NAMED = tuple(
    (re.compile(pattern), fact, scale)
    for pattern, fact, scale in (
        (rf"{_SAMPLE}s?_?{_PER_SECOND}", "samples_per_s", 1.0),
        (rf"tok(?:en)?s?_?{_PER_SECOND}", "tokens_per_s", 1.0),
        (rf"(?:{_STEP}|it|batche)s?_?{_PER_SECOND}", "steps_per_s", 1.0),
        (rf"{_STEP}{_TIME}{_MS}", "step_s", 1e-3),
        (rf"{_STEP}{_TIME}{_SECONDS}", "step_s", 1.0),
        (rf"epoch{_TIME}{_MS}", "epoch_s", 1e-3),
        (rf"epoch{_TIME}{_SECONDS}", "epoch_s", 1.0),
    )
)
#: Others that concern speed; they keep their name.
_SPEED = re.compile(r"throughput|runtime|duration|elapsed|(?:^|[/_. ])(?:time|mfu|fps)(?:$|[/_. ])")
_EVALUATION = re.compile(r"(?:^|[/_.])(?:eval|val|valid|validation|test)(?:$|[/_.])")
_OF_ONE_DEVICE = re.compile(r"per_(?:gpu|device|rank|chip|card)")
_TRAINED_STEPS = re.compile(r"(?:train(?:er)?[/_.])?global_step")
_MAX_NAME = 120


def load(path: str, data: str | bytes) -> Any:
    """The document in `data`.

    Raises:
        PerfdoctorError: it is not JSON, or cut off.
    """
    text = as_text(data).rstrip("\0 \t\r\n")
    try:
        return json.loads(text, parse_int=_whole)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        cut = error.pos >= len(text) - 1 or error.msg.startswith("Unterminated")
        why = "it ends too early" if cut else error.msg
        raise _unreadable(f"{path} is not whole JSON: {where}: {why}") from None
    except (RecursionError, ValueError) as error:
        raise _unreadable(f"{path} cannot be read as JSON: {error}") from None


def _unreadable(message: str) -> PerfdoctorError:
    way_out = "copy the file again when it is written, or give the run's text log instead"
    return PerfdoctorError(f"{message}; {way_out}", slug="json-unreadable")


def small_object(head: str) -> dict[str, Any] | None:
    """The head of a file as one JSON object, if that is all the file holds."""
    if len(head) > _SMALL or not head.lstrip("\ufeff \t\r\n").startswith("{"):
        return None
    try:
        found = json.loads(head.lstrip("\ufeff").rstrip("\0 \t\r\n"), parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _whole(digits: str) -> int | float:
    """Python refuses to convert whole numbers of thousands of digits, and floats overflow."""
    return int(digits) if len(digits) < _LONG else float(digits)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether JSON gave a number (true and false are none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether JSON gave a number that is neither NaN nor infinite."""
    return is_number(value) and math.isfinite(value)


def as_object(path: str, document: Any) -> dict[str, Any]:
    """The document, which must be an object.

    Raises:
        PerfdoctorError: it is a list or a plain value.
    """
    if isinstance(document, dict):
        return document
    kind = type(document).__name__
    raise PerfdoctorError(
        f"{path}: a JSON object was expected, not a {kind}; choose another --format",
        slug="json-unexpected",
    )


class WandbSummary:
    """The last value of everything that was logged. `_step` counts calls of log(), not steps."""

    name = "wandb_summary_json"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1."""
        named = name.endswith("wandb-summary.json") and head.lstrip("\ufeff \r\n").startswith("{")
        found = small_object(head)
        if found is None:
            return 0.9 if named else 0.0
        if "_wandb" in found or {"_runtime", "_step"} <= set(found) or named:
            return 0.98
        return 0.0

    def read(self, path: str, data: str | bytes) -> Reading:
        """Facts: wall_s, logged_steps, ended_at (seconds since 1970), rates and times by name."""
        text = as_text(data)
        values = dict(_flat(as_object(path, load(path, text))))
        facts: dict[str, float] = {}
        for name, fact in _WANDB.items():
            if name in values:
                facts.setdefault(fact, values[name])
        for name, value in values.items():
            facts = dict(_speed(name, value)) | facts
        if not 0 <= facts.get("wall_s", 0.0) < LONGEST_S:
            del facts["wall_s"]
        return Reading(
            path=path, format=self.name, framework="wandb", facts=facts,
            device_rates=any(_OF_ONE_DEVICE.search(name.lower()) for name in values),
            lines=line_count(text), notes=("the time of the run, and the last value of all else",),
        )  # fmt: skip


_WANDB = {
    "_runtime": "wall_s",
    "_wandb.runtime": "wall_s",
    "_step": "logged_steps",
    "_timestamp": "ended_at",
}


def _flat(summary: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Numbers by their path; nested names are joined by dots, as wandb shows them."""
    pending = deque(summary.items())
    while pending:
        name, value = pending.popleft()
        if isinstance(value, dict):
            pending.extend((f"{name}.{key}"[:_MAX_NAME], inner) for key, inner in value.items())
        elif is_finite(value):
            yield name[:_MAX_NAME], float(value)


def _speed(name: str, value: float) -> Iterator[tuple[str, float]]:
    """The fact that a logged name tells, if it has to do with speed."""
    if name.startswith("_"):
        return
    lowered = name.lower().replace("-", "_").replace(" ", "_")
    evaluated = _EVALUATION.search(lowered) is not None
    for pattern, fact, scale in () if evaluated else _NAMED:
        if pattern.search(lowered) is not None:
            yield fact, value * scale
            return
    if not evaluated and _TRAINED_STEPS.fullmatch(lowered):
        yield "steps", value
    elif _SPEED.search(lowered) is not None:
        yield name, value


class PerfdoctorReport:
    """A report of this or an earlier perfdoctor."""

    name = "perfdoctor_report"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1."""
        start = head[:_REPORT_HEAD].lstrip("\ufeff \t\r\n")
        marks = ('"schema_version"', '"tool"', "perfdoctor")
        return 0.99 if start.startswith("{") and all(mark in start for mark in marks) else 0.0

    def read(self, path: str, data: str | bytes) -> Reading:
        """The report itself.

        Raises:
            PerfdoctorError: not a report, cut off, or written by a newer perfdoctor.
        """
        text = as_text(data)
        version = as_object(path, load(path, text)).get("schema_version")
        if not isinstance(version, int) or version < 1:
            raise PerfdoctorError(
                f"{path} is not a perfdoctor report: it has no schema_version", slug="not-a-report"
            )
        report = schema.from_json(text.encode(), where=path)
        return Reading(
            path=path, format=self.name, framework=report.source.framework, report=report,
            configuration=report.configuration, lines=line_count(text),
        )  # fmt: skip
