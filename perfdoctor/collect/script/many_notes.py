"""The notes of many steps, added up at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfdoctor.collect.script.step_rows import EPOCH, SAMPLES, WIDTH

if TYPE_CHECKING:  # not before the script's first line, see `perfdoctor.running`
    import numpy as np
    from numpy.typing import NDArray

#: Among the labels noted: what is not a label. A relabelling changes what was noted before it.
STEP, RELABEL, SAMPLES_NOTED, EPOCHS_NOTED = -1, -2, -3, -4


@dataclass
class Running:
    """What is known of the unfinished step: nanoseconds per label, which label runs, since when."""

    spent: list[int]
    at: int
    since: int


def added_up(notes: list[int], running: Running) -> NDArray[np.int64]:
    """A row for each step that ends in `notes` (a label and a time, in turns); brings `running` to
    where they end. Not for notes with a relabelling."""
    import numpy as np

    table = np.array(notes, dtype=np.int64).reshape(-1, 2)
    what, value = table[:, 0], table[:, 1]
    ends = what == STEP
    step = np.cumsum(ends) - ends
    rows = np.zeros((int(ends.sum()) + 1, WIDTH), dtype=np.int64)
    rows[0] = running.spent
    timed = what >= 0
    labels, times = what[timed], value[timed]
    ran = np.concatenate(([running.at], labels[:-1])) if labels.size else labels
    np.add.at(rows, (step[timed], ran), np.diff(times, prepend=running.since))
    for noted, column in ((SAMPLES_NOTED, SAMPLES), (EPOCHS_NOTED, EPOCH)):
        np.add.at(rows[:, column], step[what == noted], value[what == noted])
    running.spent = rows[-1].tolist()
    if labels.size:
        running.at, running.since = int(labels[-1]), int(times[-1])
    return rows[:-1]
