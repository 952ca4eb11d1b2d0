"""Numbers as words, and the code that is pasted."""

from __future__ import annotations

from typing import Any

import pytest

from perfdoctor.rules import Facts
from perfdoctor.rules.wording import (
    count,
    listed,
    loader_snippet,
    percent,
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


def test_shares_sizes_and_counts() -> None:
    assert [percent(v) for v in (0.624, 0.0512, 0.0)] == ["62 %", "5.1 %", "0 %"]
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
