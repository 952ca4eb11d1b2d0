"""trainer_state.json of the Hugging Face Trainer: its log, and its speed at the end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfdoctor.readers.cells import as_text, line_count
from perfdoctor.readers.documents import as_object, is_finite, is_number, load
from perfdoctor.readers.huggingface import FRAMEWORK, RUNTIME, rates
from perfdoctor.readers.records import METRIC, TRAIN, VALIDATION, Reading, Records, from_rows

#: Keys of an entry that have a role of their own; ms-swift and TRL add some.
_ROLES: dict[str, tuple[str, float]] = {
    "step": ("step", 1.0),
    "epoch": ("epoch", 1.0),
    "step_time": ("step_s", 1.0),
    "train_tokens_per_second": ("tokens_per_s", 1.0),
    "eval_samples_per_second": ("samples_per_s", 1.0),
    "eval_steps_per_second": ("steps_per_s", 1.0),
    "memory(GiB)": ("memory_bytes", 2.0**30),
    "train_speed(iter/s)": ("steps_per_s_mean", 1.0),
    "train_speed(s/it)": ("step_mean_s", 1.0),
}
_SETTINGS = ("max_steps", "num_train_epochs", "logging_steps", "eval_steps", "save_steps")


class HfTrainerState:
    """trainer_state.json: a record every `logging_steps`, without times; speed at the end only."""

    name = "hf_trainer_state"

    def score(self, name: str, head: str) -> float:
        """How sure it is, 0–1."""
        start = head.lstrip("\ufeff \t\r\n")
        if not start.startswith("{") or '"log_history"' not in start:
            return 0.0
        return 0.99 if '"global_step"' in start else 0.6

    def read(self, path: str, data: str | bytes) -> Reading:
        """Losses and evaluations by step; time and speed of the whole as facts."""
        text = as_text(data)
        state = as_object(path, load(path, text))
        history = state.get("log_history")
        history = history if isinstance(history, list) else []
        entries = [entry for entry in history if isinstance(entry, dict)]
        lines = _entry_lines(text, len(entries))
        kept = [i for i, entry in enumerate(entries) if RUNTIME not in entry]
        records = _records([entries[i] for i in kept], [lines[i] for i in kept], state)
        facts, notes = _facts(state, entries)
        return Reading(
            path=path, format=self.name, framework=FRAMEWORK, records=records, facts=facts,
            configuration=_configuration(state, facts), lines=line_count(text),
            unread=len(history) - len(entries), notes=notes,
        )  # fmt: skip


def _entry_lines(text: str, count: int) -> list[int]:
    """The line on which each entry of log_history begins; its number where that cannot be told."""
    decoder = json.JSONDecoder()
    position = text.find("[", text.find('"log_history"'))
    line = 1 + text.count("\n", 0, position)
    lines: list[int] = []
    try:
        while len(lines) < count:
            begin = text.index("{", position)
            line += text.count("\n", position, begin)
            lines.append(line)
            _, position = decoder.raw_decode(text, begin)
            line += text.count("\n", begin, position)
    except (ValueError, RecursionError):
        return list(range(1, count + 1))
    return lines


def _records(
    entries: Sequence[Mapping[str, Any]], lines: Sequence[int], state: Mapping[str, Any]
) -> Records:
    records = from_rows([_row(entry) for entry in entries], lines)
    totals = {"step_total": state.get("max_steps"), "epoch_total": state.get("num_train_epochs")}
    columns = {
        role: np.full(len(records), float(total))
        for role, total in totals.items()
        if is_finite(total) and total > 0 and len(records)
    }
    return Records(records.line, {**records.columns, **columns})


def _row(entry: Mapping[str, Any]) -> dict[str, float]:
    evaluated = any(key.startswith("eval_") for key in entry)
    row = {"phase": VALIDATION if evaluated else TRAIN}
    for key, value in entry.items():
        if is_number(value):
            role, scale = _ROLES.get(key, (METRIC + key, 1.0))
            row[role] = value * scale
    if evaluated:
        row["validation_s"] = _evaluation_s(entry) or math.nan
    return row


def _evaluation_s(entry: Mapping[str, Any]) -> float:
    """Seconds of an evaluation; with several data sets each has an entry of its own."""
    times = (v for k, v in entry.items() if k.startswith("eval_") and k.endswith("_runtime"))
    return float(sum(value for value in times if is_finite(value)))


@dataclass(frozen=True)
class _Session:
    """One call of train(): its summary entry, steps done in it, evaluation within it."""

    result: Mapping[str, Any]
    steps: float
    validation_s: float


def _sessions(entries: Sequence[Mapping[str, Any]]) -> list[_Session]:
    """A resumed run whose sessions all came to their end has several summaries."""
    sessions: list[_Session] = []
    validation_s, done = 0.0, 0.0
    for entry in entries:
        validation_s += _evaluation_s(entry)
        if is_finite(entry.get(RUNTIME)):
            step = entry.get("step")
            reached = float(step) if is_finite(step) else done
            steps = reached - done if reached >= done else reached
            sessions.append(_Session(entry, steps, validation_s))
            validation_s, done = 0.0, reached
    return sessions


def _facts(
    state: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, float], tuple[str, ...]]:
    sessions = _sessions(entries)
    known = {"steps": state.get("global_step"), "epochs": state.get("epoch")}
    known["total_flos"] = state.get("total_flos")
    facts = {name: float(value) for name, value in known.items() if is_finite(value)}
    evaluated_s = sum(_evaluation_s(entry) for entry in entries)
    if evaluated_s > 0:
        facts["validation_s"] = evaluated_s
    if not sessions:
        return facts, ("no train_runtime: the run did not end, so nothing tells its speed",)
    return facts | _speed(sessions, state), _notes(sessions)


def _speed(sessions: Sequence[_Session], state: Mapping[str, Any]) -> dict[str, float]:
    """Steps and time of all sessions; evaluation in between is not part of a step.

    The Trainer divides max_steps by the time, however many steps were really done.
    """
    last = sessions[-1].result
    wall_s = float(sum(session.result[RUNTIME] for session in sessions))
    steps = sum(session.steps for session in sessions)
    trained_s = wall_s - sum(session.validation_s for session in sessions)
    facts = {**rates(last), "wall_s": wall_s}
    for derived in ("epochs", "epoch", "step", "validation_s", "samples_per_s", "steps_per_s"):
        facts.pop(derived, None)
    if steps <= 0 or trained_s <= 0:
        return facts
    facts["step_s"] = trained_s / steps
    facts["steps_per_s"] = steps / trained_s
    samples = _samples_per_step(last, state)
    if samples is not None:
        facts["samples_per_s"] = samples * steps / trained_s
        facts["samples_per_step"] = samples
    return facts


def _samples_per_step(result: Mapping[str, Any], state: Mapping[str, Any]) -> float | None:
    """Samples in an optimizer step, over all devices and accumulated batches."""
    rate, runtime, steps = (
        result.get("train_samples_per_second"), result.get(RUNTIME), state.get("max_steps"),
    )  # fmt: skip
    if not (is_finite(rate) and is_finite(runtime) and is_finite(steps) and steps > 0):
        return None
    samples = rate * runtime / steps
    return samples if samples > 0 else None


def _notes(sessions: Sequence[_Session]) -> tuple[str, ...]:
    notes = ["speed is known for the whole run only: records have no times"]
    if sum(session.validation_s for session in sessions) > 0:
        notes.append("evaluation was taken out of the time of a step")
    if len(sessions) > 1:
        notes.append(f"{len(sessions)} sessions added up")
    return tuple(notes)


def _configuration(state: Mapping[str, Any], facts: Mapping[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: state[name] for name in _SETTINGS if is_finite(state.get(name)) and state[name] > 0
    }
    batch = state.get("train_batch_size")
    if is_finite(batch):
        found["batch_size"] = batch
    samples = facts.get("samples_per_step")
    whole = None if samples is None else round(samples)
    if samples is not None and whole and abs(samples - whole) < 0.02 * whole and whole != batch:
        found["global_batch_size"] = whole
    return found
