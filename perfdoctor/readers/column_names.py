"""What the names of columns mean, in lines of JSON and in tables."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import numpy as np

from perfdoctor.readers.environment_steps import counts_training, tells_of_episodes
from perfdoctor.readers.labels import Meaning, label_of
from perfdoctor.readers.records import METRIC, TRAIN, VALIDATION
from perfdoctor.readers.vocabulary import meaning_of, names_whole_step
from perfdoctor.readers.word_sets import word_set
from perfdoctor.record import Bools, Floats

_TIMESTAMPS = word_set(
    "timestamp _timestamp time_stamp wall_time walltime datetime date finishtime finish_time ts "
    "logged_at created_at @timestamp asctime time unix_time"
)
#: Seconds since 1970 lie between these (2001 and 2096); or they are milli-, micro-, nanoseconds.
_SINCE_1970 = (1e9, 4e9)
_PARTS_OF_S = (1e-3, 1e-6, 1e-9)
PHASE_KEYS = frozenset(("mode", "phase", "ph", "split", "stage", "set"))
PHASES = {"train": TRAIN, "training": TRAIN, "tr": TRAIN, "trn": TRAIN} | dict.fromkeys(
    ("val", "valid", "validation", "va", "eval", "ev", "test", "te", "dev"), VALIDATION
)
_DURATIONS = frozenset(("unclear_s", "elapsed_s", "step_s", "epoch_s", "train_s"))
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


def moment_or(meaning: Meaning, number: float) -> Meaning:
    """The meaning, or a moment where a duration would be of decades: "clock_ms" of 1.7e12."""
    low, high = _SINCE_1970
    is_moment = meaning.role in _DURATIONS and low <= number * meaning.scale <= high
    return Meaning("time") if is_moment else meaning


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


def column_role(name: str) -> str | None:
    """The role of a column of whole numbers by its name."""
    found = name_meaning(name, False, True)
    return None if found is None else found.role


def is_part_of_step(name: str) -> bool:
    """Whether a name is of a time of steps, but not of whole ones: "timing_s/update_actor"."""
    found = name_meaning(name, False, False)
    return found is not None and found.role == "step_s" and not names_whole_step(label_of(name))


def of_game(names: Collection[str]) -> bool:
    """Whether the steps of a table are those of a game: it tells of episodes, and no counter has
    a name that says it counts what is trained."""
    labels = [label_of(name) for name in names]
    if not tells_of_episodes(labels):
        return False
    counters = [label for name, label in zip(names, labels, strict=True) if _counts(name)]
    return not any(counts_training(label) for label in counters)


def _counts(name: str) -> bool:
    return column_role(name) == "step"
