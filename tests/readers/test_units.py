"""Units behind values and in labels."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.readers.units import BYTES, COUNT, INVERSE, PERCENT, RATE, TIME, unit_at, unit_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("s", 1), ("sec", 1), ("secs.", None), ("seconds", 1), ("ms", 1e-3), ("msec", 1e-3),
        ("us", 1e-6),
        ("µs", 1e-6), ("ns", 1e-9), ("min", 60), ("minutes", 60), ("h", 3600), ("hours", 3600),
        ("day", 86400),
        ("秒", 1), ("毫秒", 1e-3), ("分钟", 60), ("小时", 3600), ("MS", 1e-3),
    ],
)  # fmt: skip
def test_units_of_time_scale_to_seconds(text: str, seconds: float | None) -> None:
    unit = unit_of(text)
    if seconds is None:
        assert unit is None
    else:
        assert unit is not None
        assert (unit.kind, unit.scale) == (TIME, pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "thing", "per_second"),
    [
        ("it/s", "step", 1), ("iter/s", "step", 1), ("steps/sec", "step", 1),
        ("batches/s", "step", 1),
        ("samples/s", "sample", 1), ("images/sec", "sample", 1), ("img/s", "sample", 1),
        ("imgs/s", "sample", 1),
        ("examples/second", "sample", 1), ("seq/s", "sample", 1), ("/s", "sample", 1),
        ("fps", "sample", 1),
        ("tok/s", "token", 1), ("tokens/sec", "token", 1), ("words/s", "token", 1),
        ("wps", "token", 1),
        ("k tok/s", "token", 1000), ("K samples/s", "sample", 1000), ("M tokens/s", "token", 1e6),
        ("samples per second", "sample", 1), ("it/min", "step", 1 / 60),
        ("samples/h", "sample", 1 / 3600),
        ("样本/秒", "sample", 1), ("步/秒", "step", 1), ("张/秒", "sample", 1),
        ("kimg/h", "sample", 1000 / 3600),
    ],
)  # fmt: skip
def test_rates_say_what_is_counted(text: str, thing: str, per_second: float) -> None:
    unit = unit_of(text)
    assert unit is not None
    assert (unit.kind, unit.thing, unit.scale) == (RATE, thing, pytest.approx(per_second))


@pytest.mark.parametrize(
    ("text", "thing", "seconds"),
    [
        ("s/it", "step", 1), ("ms/step", "step", 1e-3), ("sec/batch", "step", 1),
        ("s/iter", "step", 1),
        ("ms/sample", "sample", 1e-3), ("s/epoch", "epoch", 1), ("秒/步", "step", 1),
        ("us/sample", "sample", 1e-6),
        ("sec per step", "step", 1), ("sec/kimg", "sample", 1e-3),
    ],
)  # fmt: skip
def test_seconds_per_thing_are_no_rates(text: str, thing: str, seconds: float) -> None:
    unit = unit_of(text)
    assert unit is not None
    assert (unit.kind, unit.thing, unit.scale) == (INVERSE, thing, pytest.approx(seconds))


@pytest.mark.parametrize(
    "text", ["samples/s/gpu", "tok/s/device", "images/sec/GPU", "tokens/s/rank", "img/s / GPU"]
)
def test_a_rate_of_one_device_says_so(text: str) -> None:
    unit = unit_of(text)
    assert unit is not None
    assert unit.kind == RATE
    assert unit.device


@pytest.mark.parametrize(
    ("text", "scale"),
    [("MB", 2**20), ("MiB", 2**20), ("GB", 2**30), ("G", 2**30), ("KiB", 2**10), ("bytes", 1),
    ("TB", 2**40)],
)  # fmt: skip
def test_sizes_scale_to_bytes(text: str, scale: float) -> None:
    unit = unit_of(text)
    assert unit is not None
    assert (unit.kind, unit.scale) == (BYTES, scale)


def test_percent_and_counts_are_units_too() -> None:
    percent, count = unit_at("95 %", 2), unit_at("100 steps", 3)
    assert percent is not None
    assert count is not None
    assert (percent.kind, count.kind, count.thing) == (PERCENT, COUNT, "step")


@pytest.mark.parametrize("text", ["loss", "accuracy", "S", "foo/bar", "a/b", "", " ", "and", "s/s"])
def test_other_words_are_no_units(text: str) -> None:
    assert unit_of(text) is None


def test_the_name_of_the_next_value_is_no_unit_of_this_one() -> None:
    assert unit_at("10 images/sec: 133.9", 2) is None
    assert unit_at("epoch 5 step 10", 7) is None
    assert unit_at("3 steps: 17", 1) is None


@given(st.text(max_size=60), st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_unit_behind_its_start_or_none(text: str, start: int) -> None:
    start = min(start, len(text))
    unit = unit_at(text, start)
    assert unit is None or start < unit.end <= len(text)
