"""Sampling ends for the reason it gives."""

from __future__ import annotations

import numpy as np
import pytest
import toys

from perfdoctor.collect import sampling
from perfdoctor.collect.options import BenchOptions, no_progress
from perfdoctor.collect.sampling import StopRule, sample
from perfdoctor.collect.training import TrainingLoop


class Rule(StopRule):
    """A stop rule at a fixed time."""

    def elapsed_s(self) -> float:
        return self.started_s


def rule(elapsed_s: float, **options) -> Rule:
    return Rule(BenchOptions(**options), budget_s=10, started_s=elapsed_s)


STEADY = np.random.default_rng(0).normal(1, 0.02, 100)
NOISY = np.random.default_rng(0).normal(1, 0.5, 40)


def test_a_well_known_median_ends_it():
    assert rule(5).reason(STEADY) == "precision"


def test_an_uncertain_median_goes_on():
    assert rule(5).reason(NOISY) is None


def test_few_steps_go_on_however_alike():
    assert rule(5).reason(np.ones(20)) is None


def test_rare_waits_and_counters_get_some_time():
    assert rule(0.5).reason(STEADY) is None


def test_the_budget_ends_it():
    assert rule(10).reason(NOISY) == "budget"


def test_a_fixed_number_of_steps_is_kept_to():
    assert rule(5, iterations=200).reason(STEADY) is None
    assert rule(5, iterations=100).reason(STEADY) == "iterations"
    assert rule(5, iterations=100, warmup=10).reason(STEADY) is None
    assert rule(50, iterations=200).reason(STEADY) is None  # long past the budget


@pytest.mark.parametrize("iterations", [1, 7])
def test_exactly_as_many_steps_are_made_as_asked(iterations):
    loop = TrainingLoop(toys.workload, BenchOptions(device="cpu", iterations=iterations))
    result = sample(loop, 10, no_progress)
    assert result.stop == "iterations"
    assert len(loop.steps.times) == len(loop.steps.infos) == iterations


class Interrupting(toys.Classifier):
    """Ctrl-C in the sixth forward pass."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 6:
            raise KeyboardInterrupt
        return super().forward(x)


def test_an_interrupt_keeps_the_steps_made_before_it(monkeypatch):
    monkeypatch.setattr(sampling, "_chunk", lambda loop, rule: 1)
    loop = TrainingLoop(
        lambda: toys.workload(model=Interrupting()), BenchOptions(device="cpu", iterations=50)
    )
    assert sample(loop, 10, no_progress).stop == "interrupted"
    assert len(loop.steps.times) == len(loop.steps.infos) == 5  # the sixth never ended


def test_an_interrupt_before_the_first_step_goes_through():
    class AtOnce(Interrupting):
        calls = 5

    loop = TrainingLoop(lambda: toys.workload(model=AtOnce()), BenchOptions(device="cpu"))
    with pytest.raises(KeyboardInterrupt):
        sample(loop, 10, no_progress)
