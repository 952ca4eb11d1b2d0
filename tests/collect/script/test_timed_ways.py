"""Two ways to compute the same, timed in turns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from perfdoctor.collect.script.timed_ways import Took, two_ways


def timed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> tuple[list[str], Took, Took]:
    """Which way was gone in which turn, and the times; each way takes so long, the second twice."""
    now, gone = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    x = torch.ones(3, requires_grad=True)

    def way(name: str, takes: float) -> Callable[[], torch.Tensor]:
        def compute() -> torch.Tensor:
            gone.append(name)
            now[0] += takes
            return x * 2

        return compute

    return gone, *two_ways(way("now", seconds), way("then", 2 * seconds), (x,))


def test_they_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, now, then = timed(monkeypatch, 0.01)
    assert gone == ["now", "then"] * 4
    assert (now.forward_s, then.forward_s) == pytest.approx((0.01, 0.02))
    assert (now.backward_s, now.both_s) == pytest.approx((0.0, 0.01))


def test_what_takes_long_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, now, _ = timed(monkeypatch, 1.0)
    assert gone == ["now", "then"] * 2  # and once to find its memory
    assert now.forward_s == 1.0
