"""Numbers as words, and the code that is pasted."""

from __future__ import annotations

from typing import Any

import pytest

from perfdoctor.rules import Facts
from perfdoctor.rules.wording import (
    count,
    duration,
    grouped,
    listed,
    loader_snippet,
    percent,
    rate,
    seconds,
    size,
    stage_words,
)


@pytest.mark.parametrize(
    ("value_s", "words"),
    [(12.34, "12 s"), (1.5, "1.5 s"), (0.0834, "83 ms"), (0.0037, "3.7 ms"), (4e-5, "40 µs")],
)
def test_seconds_have_a_unit_that_suits(value_s: float, words: str) -> None:
    assert seconds(value_s) == words


@pytest.mark.parametrize(
    ("value_s", "words"),
    [
        (0.0, "0 s"),
        (45.2, "45 s"),
        (59.9, "60 s"),
        (720.0, "12 min"),
        (3599.0, "1 h"),
        (18_600.0, "5 h 10 min"),
        (36e6, "10,000 h"),
    ],
)
def test_durations_of_runs_are_in_hours_and_minutes(value_s: float, words: str) -> None:
    assert duration(value_s) == words


def test_rates_keep_what_can_be_told_apart() -> None:
    assert [rate(v, "samples/s") for v in (0.12345, 53.72, 539.4, 2052.3, 19_670.4)] == [
        "0.123 samples/s",
        "53.7 samples/s",
        "539 samples/s",
        "2052 samples/s",
        "19,670 samples/s",
    ]
    assert [grouped(n) for n in (4600, 12, 1_251_000)] == ["4,600", "12", "1,251,000"]


def test_shares_sizes_and_counts() -> None:
    assert [percent(v) for v in (0.624, 0.0512, 0.0004, 0.0)] == ["62 %", "5.1 %", "<0.1 %", "0 %"]
    assert [size(v) for v in (1.5 * 2**30, 300 * 2**20)] == ["1.5 GiB", "300 MiB"]
    assert [count(n, "worker") for n in (1, 2)] == ["1 worker", "2 workers"]
    assert stage_words("data_loading") == "data loading"
    assert [listed(["a", "b", "c"][:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def snippet(configuration: dict[str, Any], **changes: Any) -> str:
    return loader_snippet(Facts({"configuration": configuration}), **changes)


def test_a_snippet_keeps_what_the_user_set_and_leaves_out_defaults() -> None:
    mine = {
        "batch_size": 48,
        "num_workers": 1,
        "prefetch_factor": 2,
        "pin_memory": True,
        "persistent_workers": False,
    }
    assert snippet(mine, num_workers=4) == (
        "loader = DataLoader(\n"
        "    dataset,\n"
        "    batch_size=48,\n"
        "    num_workers=4,\n"
        "    pin_memory=True,\n"
        ")  # and your other arguments"
    )


def test_a_snippet_without_workers_has_none_of_their_settings() -> None:
    shown = snippet({"batch_size": 48, "num_workers": 0, "prefetch_factor": 4}, batch_size=96)
    assert shown == "loader = DataLoader(\n    dataset,\n    batch_size=96,\n)" + (
        "  # and your other arguments"
    )
