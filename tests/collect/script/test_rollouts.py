"""Calls without gradients between the steps: acting, validation, and batches only passed through.

Time passes only where a loop says so, so every figure is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_observing import Clock, Net, Samples, Watched
from torch import nn
from torch.utils.data import DataLoader

from perfdoctor.collect.script.assembly import stages_of
from perfdoctor.collect.script.rollouts import Rollouts
from perfdoctor.collect.script.settings_used import acts_for_data


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _alone(call: Callable[[], None], calls: int = 8) -> None:
    """Calls it so far from the test that the test's own name is not among those looked at."""
    if calls:
        _alone(call, calls - 1)
    else:
        call()


class Agent:
    """A policy that makes a batch of its own for every step."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.policy = Net(clock)
        self.optimizer = torch.optim.SGD(self.policy.parameters(), lr=1e-3)

    @torch.no_grad()
    def through(self, times: int = 1, samples: int = 2) -> torch.Tensor:
        """Costs 10 for each call of the policy, on so many of a batch of five, and 3 beside it."""
        for _ in range(times):
            self.policy(torch.ones(samples, 4))
            self.clock.spend(3)
        return torch.ones(5, 4)

    def learn(self, x: torch.Tensor) -> None:
        self.policy(x).mean().backward()
        self.optimizer.step()


def test_who_acts_before_each_step_validates_nothing(clock: Clock) -> None:
    def loop() -> None:
        agent = Agent(clock)
        for _ in range(6):
            agent.learn(agent.through(4))

    with Watched(clock) as seen:
        _alone(loop)
    assert seen.observer.acts
    assert acts_for_data(seen.observer) == {
        "acts_for_data": True,
        "acting_s": pytest.approx(6 * 4 * (10 + 3) * 1e-9),
    }
    assert "validation" not in seen.totals()
    assert seen.totals()["other"] == 6 * 4 * (10 + 3)
    assert seen.totals()["forward"] == 6 * 10


def test_a_whole_batch_that_the_model_makes_for_a_step_is_a_forward(clock: Clock) -> None:
    """A critic's step: what the generator makes for it depends on its weights."""

    def loop() -> None:
        generator, critic = Agent(clock), Agent(clock)
        for _ in range(6):
            with torch.no_grad():
                fake = generator.policy(torch.ones(5, 4))
                clock.spend(3)
            critic.learn(torch.cat([torch.ones(5, 4), fake[:, None].expand(5, 4)]))
            generator.learn(torch.ones(5, 4))

    with Watched(clock) as seen:
        _alone(loop)
    assert seen.observer.acts
    # Of the first step nobody knows yet how large its batch is.
    assert [step["forward"] for step in seen.per_step()] == [20] + 5 * [30]
    assert [step["other"] for step in seen.per_step()[1:]] == 5 * [3]


def test_whole_batches_that_are_rarely_passed_through_stay_validation(clock: Clock) -> None:
    def loop() -> None:
        agent = Agent(clock)
        for i in range(60):
            if i % 10 == 9:
                agent.through(samples=5)
            agent.learn(torch.ones(5, 4))

    with Watched(clock) as seen:
        _alone(loop)
    assert not seen.observer.acts
    assert acts_for_data(seen.observer) == {}
    assert seen.totals()["validation"] == 6 * 13
    assert seen.totals()["forward"] == 60 * 10


NAMES = [
    ("collect_rollout", True),
    ("select_action", True),
    ("choose_actions", True),
    ("act", True),
    ("generate_experience", True),
    ("play_episode", True),
    ("evaluate", False),
    ("validate_on", False),
    ("extract_features", False),
    ("compute", False),
]


def _phases(clock: Clock, name: str) -> Watched:
    """Six phases among 60 steps, made in a function of that name."""
    names: dict[str, Any] = {"agent": Agent(clock)}
    exec(
        f"def {name}():\n    return agent.through()\n"
        "def loop():\n"
        "    for i in range(60):\n"
        f"        x = {name}() if i % 10 == 0 else batch\n"
        "        agent.learn(x)\n",
        names | {"batch": torch.ones(5, 4)},
        names,
    )
    loop, made = names["loop"], names[name]
    for function in (loop, made):
        function.__globals__.update(names)
    with Watched(clock) as seen:
        _alone(loop)
    return seen


@pytest.mark.parametrize(("name", "acts"), NAMES)
def test_rarer_phases_make_data_where_a_function_says_so(
    clock: Clock, name: str, acts: bool
) -> None:
    seen = _phases(clock, name)
    assert seen.observer.acts is acts
    stage = "other" if acts else "validation"
    assert seen.totals()[stage] == 6 * 13


def test_a_function_that_evaluates_before_each_step_validates(clock: Clock) -> None:
    agent = Agent(clock)

    def evaluate() -> torch.Tensor:
        return agent.through(samples=5)

    def loop() -> None:
        for _ in range(6):
            agent.learn(evaluate())

    with Watched(clock) as seen:
        _alone(loop)
    assert not seen.observer.acts
    assert seen.totals()["validation"] == 6 * 13


def test_evaluation_mode_is_validation_however_often(clock: Clock) -> None:
    def loop() -> None:
        agent = Agent(clock)
        for _ in range(6):
            agent.policy.train(False)
            x = agent.through()
            agent.policy.train()
            agent.learn(x)

    with Watched(clock) as seen:
        _alone(loop)
    assert not seen.observer.acts
    assert seen.totals()["validation"] == 6 * 13


def test_a_validation_on_a_loader_stays_one_without_evaluation_mode(clock: Clock) -> None:
    def loop() -> None:
        agent = Agent(clock)
        validation = DataLoader(Samples(clock, cost=7), batch_size=4)
        for _ in range(3):
            agent.learn(torch.ones(5, 4))
            with torch.no_grad():
                for x, _ in validation:
                    agent.policy(x)

    with Watched(clock) as seen:
        _alone(loop)
    assert not seen.observer.acts
    assert seen.totals()["validation"] == 3 * 2 * (10 + 28)
    assert seen.steps == 3


def test_the_loader_of_a_validation_is_not_what_acting_takes(clock: Clock) -> None:
    def loop() -> None:
        agent = Agent(clock)
        for _ in range(6):
            agent.learn(agent.through())
        validation = DataLoader(Samples(clock, cost=7), batch_size=4)
        agent.policy.eval()
        with torch.no_grad():
            for x, _ in validation:
                agent.policy(x)

    with Watched(clock) as seen:
        _alone(loop)
    assert seen.observer.acts
    assert seen.totals()["validation"] >= 2 * 28
    assert "validation" in stages_of(seen.observer)


def test_without_any_step_or_any_phase_nobody_acts() -> None:
    rollouts = Rollouts()
    assert not rollouts.are_told(0)
    assert not rollouts.are_told(10)
    _alone(rollouts.began, 20)
    assert not rollouts.are_told(0)
    assert rollouts.are_told(1)


# -- batches that are only passed through the model -------------------------------------------


def _train(clock: Clock, model: nn.Module, loader: DataLoader[Any], epochs: int = 2) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for x, _ in loader:
            model(x).mean().backward()
            optimizer.step()


def test_statistics_of_a_normalisation_are_no_forward_of_the_training(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = nn.Sequential(nn.BatchNorm1d(4), Net(clock))
        loader = DataLoader(Samples(clock, count=16), batch_size=4)
        _train(clock, model, loader)
        averaged = torch.optim.swa_utils.AveragedModel(model)
        torch.optim.swa_utils.update_bn(loader, averaged)
    # The first batch might still have been followed by a backward.
    assert seen.totals()["forward"] == 8 * 10 + 10
    assert seen.totals()["other"] == 3 * 10


def test_the_trained_model_passed_over_its_batches_is_none_either(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Net(clock)
        loader = DataLoader(Samples(clock, count=16), batch_size=4)
        _train(clock, model, loader)
        with torch.no_grad():
            for x, _ in loader:
                model(x)
    assert seen.totals()["forward"] == 8 * 10 + 10
    assert seen.totals()["other"] == 3 * 10


def test_a_pass_over_the_batches_ends_where_training_goes_on(clock: Clock) -> None:
    with Watched(clock) as seen:
        online, target = Net(clock), Net(clock)
        optimizer = torch.optim.SGD(online.parameters(), lr=1e-3)
        loader = DataLoader(Samples(clock, count=32), batch_size=4)
        for _ in range(2):
            for x, _ in loader:
                with torch.no_grad():
                    wanted = target(x)
                (online(x) - wanted).mean().backward()
                optimizer.step()
            with torch.no_grad():
                for x, _ in loader:
                    online(x)
    # The first batch of the second epoch may be one of the pass before it.
    assert [step["forward"] for step in seen.per_step()[9:]] == 7 * [2 * 10]


@pytest.mark.parametrize("optimizers", [1, 2])
@pytest.mark.parametrize("first", ["target", "online"])
def test_targets_without_gradients_before_each_backward_stay_forward(
    clock: Clock, first: str, optimizers: int
) -> None:
    with Watched(clock) as seen:
        online, target = Net(clock), Net(clock)
        optimizer, *_ = (torch.optim.SGD(online.parameters(), lr=1e-3) for _ in range(optimizers))
        for x, _ in DataLoader(Samples(clock, count=32), batch_size=4):
            if first == "online":
                out = online(x)
            with torch.no_grad():
                wanted = target(x) + online(x)
            if first == "target":
                out = online(x)
            (out - wanted).mean().backward()
            optimizer.step()
    # Of the first batch nothing tells yet that it is trained on.
    assert [step["forward"] for step in seen.per_step()[1:]] == 7 * [3 * 10]
    assert all(
        step.keys() <= {"data_loading", "forward", "backward"} for step in seen.per_step()[1:]
    )
