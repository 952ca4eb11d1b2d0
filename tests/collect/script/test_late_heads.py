"""Convolutions of one pixel right after an upsampling, told from a step's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, relu

from perfdoctor.collect.script.late_heads import LateHeads
from perfdoctor.collect.script.looks_of_training import _graph

HEAD = nn.Conv2d(8, 3, 1)


def seen(step: Callable[[torch.Tensor], torch.Tensor], *shape: int) -> LateHeads:
    """What is found in the graph of a step on features of that shape."""
    looks = LateHeads()
    looks.note(_graph(step(torch.randn(*(shape or (2, 8, 5, 6)), requires_grad=True)).sum()))
    return looks


def measured(looks: LateHeads) -> dict[str, Any]:
    looks.measure()
    return looks.settings()


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
def test_what_it_takes_and_gives_is_told_and_both_orders_are_timed(mode: str) -> None:
    found = measured(seen(lambda x: HEAD(interpolate(x, scale_factor=4, mode=mode))))
    told = [found[f"late_head_{name}"] for name in ("times", "takes", "gives")]
    assert told == [16.0, 8, 3]
    assert min(found[f"late_head_{name}"] for name in ("s", "left", "backward")) > 0


@pytest.mark.parametrize(("pixels", "mode"), [(1, "linear"), (3, "trilinear")])
def test_so_are_signals_and_volumes(pixels: int, mode: str) -> None:
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[pixels - 1](8, 3, 1, bias=False)
    shape = (2, 8, 4, 4, 4)[: 2 + pixels]
    found = measured(seen(lambda x: layer(interpolate(x, scale_factor=2, mode=mode)), *shape))
    assert found["late_head_times"] == 2.0**pixels


def test_one_that_is_made_of_layers_is_found_as_well() -> None:
    layers = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 1))
    assert measured(seen(layers))["late_head_times"] == 4.0


def test_two_alike_take_twice_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    once = measured(seen(lambda x: HEAD(interpolate(x, scale_factor=2))))
    twice = seen(lambda x: HEAD(interpolate(x, scale_factor=2)) + HEAD(interpolate(x, None, 2)))
    assert measured(twice)["late_head_s"] == 2 * once["late_head_s"]


@pytest.mark.parametrize(
    "step",
    [
        lambda x: interpolate(HEAD(x), scale_factor=4),
        lambda x: HEAD(relu(interpolate(x, scale_factor=4))),
        lambda x: nn.Conv2d(8, 3, 3)(interpolate(x, scale_factor=4)),
        lambda x: nn.Conv2d(8, 3, 1, stride=2)(interpolate(x, scale_factor=4)),
        lambda x: nn.Conv2d(8, 3, 1, padding=1)(interpolate(x, scale_factor=4)),
        lambda x: nn.Conv2d(8, 4, 1, groups=2)(interpolate(x, scale_factor=4)),
        lambda x: nn.Conv2d(8, 16, 1)(interpolate(x, scale_factor=4)),
        lambda x: HEAD(interpolate(x, scale_factor=0.5)),
        lambda x: nn.Linear(6, 3)(x),
    ],
    ids=[
        "before",
        "not linear between",
        "of several pixels",
        "with a stride",
        "with padding",
        "in groups",
        "that gives more channels",
        "after shrinking",
        "no convolution",
    ],
)
def test_others_are_not(step: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert measured(seen(step)) == {"late_head_s": 0.0}


def test_what_is_upsampled_for_others_too_is_not() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        large = interpolate(x, scale_factor=4)
        return HEAD(large).sum() + large.mean()

    assert measured(seen(step)) == {"late_head_s": 0.0}


def test_without_a_look_or_a_measurement_nothing_is_told() -> None:
    assert measured(LateHeads()) == {}
    assert seen(lambda x: HEAD(interpolate(x, scale_factor=4))).settings() == {}


def test_only_a_part_of_large_batches_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfdoctor.collect.script.late_heads._NUMBERS", 8 * 20 * 24)
    clock = iter(range(10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    found = measured(seen(lambda x: HEAD(interpolate(x, scale_factor=4)), 6, 8, 5, 6))
    assert found["late_head_s"] == 6 * 2.0  # a sample, forward and backward a tick each
