"""What a script printed while it was observed, read as `analyze` reads a log.

It tells what observing cannot, how good the model was at the end of each epoch. Times stay those
that were measured.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perfdoctor.metrics import choose, judge
from perfdoctor.record import EpochSeries, Floats, Run

if TYPE_CHECKING:
    from perfdoctor.collect.script.printed import Printed, PrintedLine
    from perfdoctor.readers.records import Records

#: Without these words nothing judges a model, and the readers need not be loaded.
_JUDGES = re.compile(
    r"(?i)val|test|eval|dev|acc|top.?[15]|map|iou|f1|bleu|rouge|dice|auc|score|reward|psnr|ssim"
    r"|err|mae|mse|ppl|perplexity"
)
_DIGIT = re.compile(r"\d")
#: A metric that says itself that it is not of the training.
_SAYS = re.compile(r"val|test|eval")
#: Lines that are read; more would take longer than the end of a run may. Of more of them, those
#: that judge: an epoch is judged once, its steps print most lines. Of these the last after a step:
#: what is printed at length before the first one, or of each file, is no result.
_MOST_LINES, _AFTER_A_STEP = 1500, 5
#: How often a metric is told in an epoch that is judged at its end (once, or of two parts); told
#: more often it is of batches, and one batch judges nothing.
_OFTEN = 2
#: Fewer epochs show no best one.
_FEWEST = 3
#: A phase (see `metrics.Judge`) that judges the training and not its data: what falls there as the
#: training goes on may not fall elsewhere.
_OF_TRAINING = 3
_TARGET = re.compile(
    r"(?<![A-Za-z0-9])(target_(?:accuracy|metric))['\"]?\s?[=:]\s?([0-9]{1,6}(?:\.[0-9]{1,9})?)"
)
_QUOTED = 100
_ESCAPES = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]")


@dataclass(frozen=True)
class _Rows:
    """What the lines tell, and the epoch (by its index) that each row is of."""

    records: Records
    lines: Sequence[PrintedLine]
    epoch: Floats

    @property
    def step(self) -> NDArray[np.int64]:
        """Steps that had ended when the row was printed."""
        steps = np.array([line.step for line in self.lines], dtype=np.int64)
        return steps[self.records.line - 1]


def with_printed(run: Run, printed: Printed) -> Run:
    """`run` with the metrics of its epochs, where the script printed them; else as it is."""
    try:
        return _with_printed(run, printed)
    except Exception:  # lines of anyone's making; the report does not need them
        return run


def _with_printed(run: Run, printed: Printed) -> Run:
    lines = _few([line for line in printed.lines() if _DIGIT.search(line.text)])
    if not any(_JUDGES.search(line.text) for line in lines):
        return run
    records = _read(lines)
    if not len(records):
        return run
    found = (
        _of_measured(run, run.epochs, _Rows(records, lines, np.full(len(records), np.nan)))
        if run.epochs is not None
        else _of_printed(run, records, lines, whole=printed.whole)
    )
    if found is None:
        return run
    note = f"How good the model was after each epoch is as the script printed it: {_example(found)}"
    return replace(
        run,
        epochs=found,
        configuration=_target(lines) | run.configuration,
        notes=(*run.notes, f"{note}."),
    )


def _few(lines: list[PrintedLine]) -> list[PrintedLine]:
    if len(lines) <= _MOST_LINES:
        return lines
    judging = [line for line in lines if _JUDGES.search(line.text)]
    after: dict[int, deque[PrintedLine]] = {}
    for line in judging:
        after.setdefault(line.step, deque(maxlen=_AFTER_A_STEP)).append(line)
    judging = [line for few in after.values() for line in few]
    return judging if len(judging) <= _MOST_LINES else []


def _read(lines: Sequence[PrintedLine]) -> Records:
    from perfdoctor.readers import formats
    from perfdoctor.readers.rows import prepared
    from perfdoctor.readers.run_facts import with_run_facts

    text = "\n".join(line.text for line in lines) + "\n"
    reading = formats.read_held("what the script printed", text.encode("utf-8", "replace"))
    return prepared(with_run_facts(reading))


def _of_measured(run: Run, epochs: EpochSeries, rows: _Rows) -> EpochSeries | None:
    """The epochs that were measured, each with what was printed after its first step and before
    that of the next. None where the script counts epochs in another way."""
    first = np.flatnonzero(run.epoch_start)
    if first.size != epochs.number.size:
        return None
    index = np.searchsorted(first, rows.step - 1, side="right") - 1.0
    rows = replace(rows, epoch=np.where(index >= 0, index, np.nan))
    metrics, told = _metrics(rows, np.arange(float(first.size)))
    counted_from = _counted_from(rows, told)
    if not metrics or counted_from is None:
        return None
    return replace(
        epochs,
        number=np.arange(float(first.size)) + counted_from,
        metrics=metrics,
        told=_quoted(rows, told, metrics),
    )


def _counted_from(rows: _Rows, told: NDArray[np.int64]) -> float | None:
    """The number of the first epoch, 1 where none are printed; None where the numbers do not fit
    what was measured."""
    at = told[told >= 0]
    apart = rows.records.whole_epochs[at] - rows.epoch[at]
    apart = apart[np.isfinite(apart)]  # the first rows may come before any number
    if not apart.size:
        return 1.0
    return float(apart[0]) if np.all(apart == apart[0]) and apart[0] >= 0 else None


def _of_printed(
    run: Run, records: Records, lines: Sequence[PrintedLine], *, whole: bool
) -> EpochSeries | None:
    """Epochs that only the lines tell of, by when their last one was printed."""
    epoch = records.whole_epochs
    numbers: Floats = np.unique(epoch[np.isfinite(epoch)])
    if not whole or numbers.size < max(_FEWEST, int(run.epoch_start.sum())):
        return None
    index: Floats = np.where(np.isfinite(epoch), np.searchsorted(numbers, epoch), np.nan)
    rows = _Rows(records, lines, index)
    metrics, told = _metrics(rows, np.arange(float(numbers.size)))
    if not metrics or (np.diff(rows.step) < 0).any() or (told < 0).any():
        return None
    at_s = np.array([lines[line - 1].at_s for line in records.line[told]])
    if (np.diff(at_s) <= 0).any():
        return None
    return EpochSeries(
        number=numbers,
        time_s=np.full(numbers.size, np.nan),
        at_s=at_s,
        metrics=metrics,
        told=_quoted(rows, told, metrics),
    )


def _metrics(rows: _Rows, numbers: Floats) -> tuple[dict[str, Floats], NDArray[np.int64]]:
    """What judges the model, and the row that told it last in each epoch; -1 where none did."""
    from perfdoctor.readers.epochs import metrics_of

    found: dict[str, Floats] = {}
    told = np.full(numbers.size, -1, dtype=np.int64)
    for name, values in metrics_of(rows.records, rows.epoch, numbers).items():
        one = judge(name)
        if one is None or one.rank[0] >= _OF_TRAINING or np.isfinite(values).sum() < _FEWEST:
            continue
        at = _told_by(rows, name)
        if at.size > _OFTEN * numbers.size:
            continue
        found[name] = values
        np.maximum.at(told, rows.epoch[at].astype(np.int64), at)
    return found, told


def _told_by(rows: _Rows, name: str) -> NDArray[np.int64]:
    """The rows with a metric, which the training's and the validation's may share: the name of the
    latter's then says so, as `metrics_of` added it."""
    from perfdoctor.readers.records import VALIDATION

    columns, role = rows.records.columns, f"metric:{name}"
    validation, told = rows.records.column("phase") == VALIDATION, np.isfinite(rows.epoch)
    if role not in columns:
        role, told = f"metric:{name.removeprefix('val_')}", told & validation
    elif not _SAYS.search(name):
        told &= ~validation
    return np.flatnonzero(np.isfinite(columns[role]) & told)


def _quoted(rows: _Rows, told: NDArray[np.int64], metrics: dict[str, Floats]) -> tuple[str, ...]:
    """The last line of each epoch that tells the metric which judges it; else any."""
    chosen = choose(metrics)
    if chosen is not None:
        at, judging = _told_by(rows, chosen.name), np.full_like(told, -1)
        np.maximum.at(judging, rows.epoch[at].astype(np.int64), at)
        told = np.where(judging >= 0, judging, told)
    texts = ["" if i < 0 else rows.lines[rows.records.line[i] - 1].text for i in told]
    return tuple(_ESCAPES.sub("", text).strip()[:_QUOTED] for text in texts)


def _example(epochs: EpochSeries) -> str:
    return f'"{next(text for text in reversed(epochs.told) if text)}"'


def _target(lines: Sequence[PrintedLine]) -> dict[str, Any]:
    """What the script says it is to reach, if it says one value only."""
    found = {match.groups() for line in lines if (match := _TARGET.search(line.text))}
    return {name: float(value) for name, value in found} if len(found) == 1 else {}
