"""What the names of columns mean, in lines of JSON and in tables."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import numpy as np

from perfdoctor.readers.environment_steps import counts_training, tells_of_episodes
from perfdoctor.readers.labels import Meaning, label_of
from perfdoctor.readers.records import METRIC, TRAIN, VALIDATION
from perfdoctor.readers.vocabulary import meaning_of
from perfdoctor.readers.word_sets import word_set
from perfdoctor.record import Bools, Floats

_TIMESTAMPS = word_set(
    "timestamp _timestamp time_stamp wall_time walltime datetime date finishtime finish_time ts "
    "logged_at created_at @timestamp asctime time unix_time"
)
#: Seconds since 1970 lie between these (2001 and 2096); or they are milli-, micro-, nanoseconds.
_SINCE_1970 = (1e9, 4e9)
_PARTS_OF_S = (1e-3, 1e-6, 1e-9)
PHASE_KEYS = frozenset(("mode", "phase", "split", "stage", "set"))
PHASES = {"train": TRAIN, "training": TRAIN} | dict.fromkeys(
    ("val", "valid", "validation", "eval", "test", "dev"), VALIDATION
)
_ELAPSED = frozenset(("_runtime", "train_runtime"))


def column_meaning(name: str, *, clock: bool, whole: bool, large: bool) -> Meaning | None:
    """The meaning of a column by its name; `large`: as seconds since 1970 are."""
    if large and name.lower() in _TIMESTAMPS:
        return Meaning("time")
    return name_meaning(name, clock, whole)


def is_large(numbers: Floats) -> Bools:
    """As moments since 1970 are."""
    found: Bools = numbers > _SINCE_1970[0]
    return found


def since_1970(numbers: Floats) -> Floats:
    """Seconds, whatever part of them was counted; numbers that can be no moment are NaN."""
    low, high = _SINCE_1970
    found = np.where(numbers <= high, numbers, np.nan)
    for part in _PARTS_OF_S:
        found = np.where((numbers * part >= low) & (numbers * part <= high), numbers * part, found)
    return found


@lru_cache(maxsize=5000)
def name_meaning(name: str, clock: bool, integer: bool) -> Meaning | None:
    """The meaning of a name alone."""
    if name in _ELAPSED:
        return Meaning("elapsed_s")
    label = label_of(name)
    if label.text in ("eta_seconds", "eta"):
        return None
    found = meaning_of(label, None, integer=integer, clock=clock)
    if found is None or found.role.startswith(METRIC):
        return None if not label.words else Meaning(METRIC + name)
    return found


def of_game(names: Collection[str]) -> bool:
    """Whether the steps of a table are those of a game: it tells of episodes, and no counter has
    a name that says it counts what is trained."""
    labels = [label_of(name) for name in names]
    if not tells_of_episodes(labels):
        return False
    counters = [label for name, label in zip(names, labels, strict=True) if _counts(name)]
    return not any(counts_training(label) for label in counters)


def _counts(name: str) -> bool:
    found = name_meaning(name, False, True)
    return found is not None and found.role == "step"
