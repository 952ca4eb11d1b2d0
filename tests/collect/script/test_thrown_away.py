"""Gradients that are thrown away: models of known cost, on a clock that they drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_loss_part import Costs
from test_observing import Clock, Watched
from torch import nn

_PART = "thrown_away_of_backward"
STEPS = 6


class Model(nn.Module):
    """Two linear layers, between which a backward pass costs so much."""

    def __init__(self, clock: Clock, cost: int) -> None:
        super().__init__()
        self.clock, self.cost = clock, cost
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = Costs.apply(self.first(x), self.clock, self.cost)  # type: ignore[no-untyped-call]
        out: torch.Tensor = self.last(torch.tanh(hidden))
        return out


class Pair:
    """A generator whose backward costs 30, a discriminator's 10, and an optimizer of each."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.g, self.d = Model(clock, 30), Model(clock, 10)
        self.of_g = torch.optim.SGD(self.g.parameters(), lr=1e-3)
        self.of_d = torch.optim.SGD(self.d.parameters(), lr=1e-3)

    def fake(self) -> torch.Tensor:
        made: torch.Tensor = self.g(torch.ones(5, 4))
        return made

    def d_step(self, fake: torch.Tensor, **how: Any) -> None:
        loss = self.d(torch.zeros(5, 4)).mean() - self.d(fake).mean()
        self.of_d.zero_grad()
        loss.backward(**how)
        self.of_d.step()

    def g_step(self) -> None:
        loss = self.d(self.fake()).mean()
        self.of_g.zero_grad()
        loss.backward()
        self.of_g.step()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _told(clock: Clock, step: Callable[[Any], None], made: Callable[[Clock], Any] = Pair) -> Any:
    """What is found in a few such steps."""
    with Watched(clock) as seen:
        parts = made(clock)
        for _ in range(STEPS):
            step(parts)
        return seen.observer.looks.thrown_away.settings()


# -- what is thrown away ------------------------------------------------------------------------


def test_a_discriminator_s_step_through_the_generator(clock: Clock) -> None:
    def step(gan: Pair) -> None:
        gan.d_step(gan.fake())
        gan.g_step()

    found = _told(clock, step)
    # in the discriminator's step 10 for each of its calls and 30 thrown away; then 10 and 30
    assert found[_PART] == pytest.approx(30 / 90)
    assert found["thrown_away_module"] == "Model"
    assert found["thrown_away_made_at"].startswith("test_thrown_away.py:")
    assert found["thrown_away_used_at"] != found["thrown_away_made_at"]


def test_several_of_these_for_one_of_the_generator_s(clock: Clock) -> None:
    def step(gan: Pair) -> None:
        for _ in range(3):
            gan.d_step(gan.fake())
        gan.g_step()

    assert _told(clock, step)[_PART] == pytest.approx(3 * 30 / (3 * 50 + 40))


def test_what_runs_after_the_generator_s_part_is_not_its(clock: Clock) -> None:
    def step(gan: Pair) -> None:
        real = gan.d(torch.zeros(5, 4)).mean()  # older than the generator's call: comes after it
        loss = real - gan.d(gan.fake()).mean()
        gan.of_d.zero_grad()
        loss.backward()
        gan.of_d.step()
        gan.g_step()

    assert _told(clock, step)[_PART] == pytest.approx(30 / 90)


def test_an_output_that_is_reshaped_and_joined_on_its_way(clock: Clock) -> None:
    def step(gan: Pair) -> None:
        both = torch.cat([torch.zeros(5, 4), gan.fake().view(5, 4) * 2])
        gan.of_d.zero_grad()
        gan.d(both).mean().backward()
        gan.of_d.step()
        gan.g_step()

    assert _told(clock, step)[_PART] == pytest.approx(30 / 80)


def test_a_graph_that_the_generator_s_step_goes_through_again(clock: Clock) -> None:
    def step(gan: Pair) -> None:
        fake = gan.fake()
        gan.d_step(fake, retain_graph=True)
        gan.of_g.zero_grad()
        gan.d(fake).mean().backward()
        gan.of_g.step()

    assert _told(clock, step)[_PART] == pytest.approx(30 / 90)


def test_gradients_that_are_set_to_zero(clock: Clock) -> None:
    def step(gan: Pair) -> None:
        gan.d_step(gan.fake())
        gan.of_g.zero_grad(set_to_none=False)
        gan.d(gan.fake()).mean().backward()
        gan.of_g.step()

    assert _told(clock, step)[_PART] == pytest.approx(30 / 90)


def test_a_generator_of_several_modules_that_are_called_one_by_one(clock: Clock) -> None:
    class Parts(Pair):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            self.mapping = nn.Linear(4, 4)
            self.of_g.add_param_group({"params": self.mapping.parameters()})

        def fake(self) -> torch.Tensor:
            made: torch.Tensor = self.g(self.mapping(torch.ones(5, 4)))
            return made

    def step(gan: Parts) -> None:
        gan.d_step(gan.fake())
        gan.g_step()

    assert _told(clock, step, Parts)[_PART] == pytest.approx(30 / 90)


def test_closures_that_the_optimizers_call(clock: Clock) -> None:
    def step(gan: Pair) -> None:
        def of_d() -> torch.Tensor:
            gan.of_d.zero_grad()
            loss: torch.Tensor = gan.d(gan.fake()).mean()
            loss.backward()
            return loss

        def of_g() -> torch.Tensor:
            gan.of_g.zero_grad()
            loss: torch.Tensor = gan.d(gan.fake()).mean()
            loss.backward()
            return loss

        gan.of_d.step(of_d)
        gan.of_g.step(of_g)

    assert _told(clock, step)[_PART] == pytest.approx(30 / 80)


# -- what is healthy ----------------------------------------------------------------------------


def _quiet(clock: Clock, step: Callable[[Any], None], made: Callable[[Clock], Any] = Pair) -> None:
    found = _told(clock, step, made)
    assert found == {_PART: 0.0}


@pytest.mark.parametrize("way", ["detach", "no_grad", "requires_grad_", "inputs"])
def test_a_discriminator_s_step_without_the_generator(clock: Clock, way: str) -> None:
    def step(gan: Pair) -> None:
        if way == "detach":
            gan.d_step(gan.fake().detach())
        elif way == "no_grad":
            with torch.no_grad():
                fake = gan.fake()
            gan.d_step(fake)
        elif way == "requires_grad_":
            gan.g.requires_grad_(False)
            gan.d_step(gan.fake())
            gan.g.requires_grad_(True)
        else:
            real = gan.d(torch.zeros(5, 4)).mean()
            gan.of_d.zero_grad()
            (real - gan.d(gan.fake()).mean()).backward(inputs=list(gan.d.parameters()))
            gan.of_d.step()
        gan.g_step()

    _quiet(clock, step)


def test_a_critic_that_the_actor_s_gradient_goes_through(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        state = torch.ones(5, 4)
        pair.of_d.zero_grad()
        (pair.d(state) - 1).pow(2).mean().backward()
        pair.of_d.step()
        pair.of_g.zero_grad()
        (-pair.d(pair.g(state))).mean().backward()
        pair.of_g.step()

    _quiet(clock, step)


def test_gradients_that_are_added_up_over_several_batches(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        for _ in range(2):
            pair.of_d.zero_grad()
            pair.d(pair.fake()).mean().backward()
            pair.of_d.step()
        pair.of_g.step()
        pair.of_g.zero_grad()

    _quiet(clock, step)


def test_both_are_trained_by_one_loss(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        pair.d(pair.fake()).mean().backward()
        for one in (pair.of_d, pair.of_g):
            one.step()
            one.zero_grad()

    _quiet(clock, step)


def test_an_optimizer_that_clears_what_it_has_used(clock: Clock) -> None:
    class Clearing(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step(closure)
            self.zero_grad()

    class Cleared(Pair):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            self.of_g = Clearing(self.g.parameters(), lr=1e-3)

    def step(pair: Pair) -> None:
        pair.of_d.zero_grad()
        pair.d(pair.fake()).mean().backward()
        pair.of_d.step()
        pair.of_g.step()

    _quiet(clock, step, Cleared)


def test_a_scaler_that_leaves_out_the_first_steps_of_one(clock: Clock) -> None:
    count = 0

    def step(pair: Pair) -> None:
        nonlocal count
        count += 1
        pair.of_d.zero_grad()
        pair.of_g.zero_grad()
        pair.d(pair.fake()).mean().backward()
        pair.of_d.step()
        if count != 3:  # infinite, say
            pair.of_g.step()

    _quiet(clock, step)


def test_one_that_is_not_updated_yet(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        pair.of_d.zero_grad()
        pair.of_g.zero_grad()
        pair.d(pair.fake()).mean().backward()
        pair.of_d.step()

    assert _told(clock, step) == {}


def test_gradients_that_are_kept_and_combined_before_any_step(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        hidden, kept = [pair.fake() for _ in range(2)], []
        for one in hidden:
            pair.of_g.zero_grad()
            pair.d(one).mean().backward()
            kept.append([p.grad.clone() for p in pair.g.parameters() if p.grad is not None])
        for p, *gradients in zip(pair.g.parameters(), *kept, strict=True):
            p.grad = torch.stack(gradients).mean(0)
        pair.of_g.step()
        pair.of_d.step()
        pair.of_d.zero_grad()

    _quiet(clock, step)


def test_sharpness_aware_minimisation(clock: Clock) -> None:
    class Sharp(torch.optim.Optimizer):
        def __init__(self, parameters: Any) -> None:
            super().__init__(parameters, {})
            self.base = torch.optim.SGD(self.param_groups, lr=1e-3)

        @torch.no_grad()
        def climb(self, sign: float) -> None:
            for p in self.param_groups[0]["params"]:
                p.add_(p.grad, alpha=sign)
            self.zero_grad()

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            self.base.step()

    class Sharpened(Pair):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            self.sharp = Sharp([*self.g.parameters(), *self.d.parameters()])

    def step(pair: Sharpened) -> None:
        pair.d(pair.fake()).mean().backward()
        pair.sharp.climb(0.1)
        pair.d(pair.fake()).mean().backward()
        pair.sharp.step()
        pair.sharp.zero_grad()

    _quiet(clock, step, Sharpened)


class Mixed(nn.Module):
    """Weights and the numbers that choose among them, in one model."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.stem, self.a, self.b = (Model(clock, 30) for _ in range(3))
        self.alphas = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = torch.softmax(self.alphas, 0)
        stem = self.stem(x)
        out: torch.Tensor = chosen[0] * self.a(stem) + chosen[1] * self.b(stem)
        return out


def test_the_architecture_s_step_of_a_supernet(clock: Clock) -> None:
    class Search:
        def __init__(self, clock: Clock) -> None:
            self.net = Mixed(clock)
            weights = [p for name, p in self.net.named_parameters() if name != "alphas"]
            self.weights = torch.optim.SGD(weights, lr=1e-3)
            self.alphas = torch.optim.Adam([self.net.alphas], lr=1e-3)

    def step(search: Search) -> None:
        for optimizer in (search.alphas, search.weights):
            optimizer.zero_grad()
            search.net(torch.ones(5, 4)).mean().backward()
            optimizer.step()

    _quiet(clock, step, Search)


def test_two_losses_that_share_no_model_and_one_backward_pass(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        x = torch.ones(5, 4)
        pair.of_d.zero_grad()
        (pair.d(x).mean() + pair.g(x).mean()).backward()
        pair.of_d.step()
        pair.of_g.zero_grad()
        pair.g(x).mean().backward()
        pair.of_g.step()

    _quiet(clock, step)


def test_inputs_that_are_optimised_too(clock: Clock) -> None:
    class Latent(Pair):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            self.z = torch.ones(5, 4, requires_grad=True)

        def fake(self) -> torch.Tensor:
            made: torch.Tensor = self.g(self.z)
            return made

    def step(pair: Latent) -> None:
        pair.d_step(pair.fake())
        with torch.no_grad():
            pair.z -= pair.z.grad  # type: ignore[operator]
        pair.z.grad = None
        pair.g_step()

    _quiet(clock, step, Latent)


def test_parameters_that_both_optimizers_have(clock: Clock) -> None:
    class Shared(Pair):
        def __init__(self, clock: Clock) -> None:
            self.g, self.d = Model(clock, 30), Model(clock, 10)
            self.of_d = torch.optim.SGD([*self.d.parameters(), *self.g.parameters()], lr=1e-3)
            self.of_g = torch.optim.SGD(self.g.parameters(), lr=1e-3)

    def step(pair: Shared) -> None:
        pair.d_step(pair.fake())
        pair.g_step()

    _quiet(clock, step, Shared)


def test_a_target_that_is_an_average_of_the_model(clock: Clock) -> None:
    class Averaged(Pair):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            self.target = Model(clock, 30)

    def step(pair: Averaged) -> None:
        with torch.no_grad():
            aim = pair.target(torch.ones(5, 4))
        for one in (pair.of_d, pair.of_g):
            one.zero_grad()
        (pair.d(pair.fake()) - aim).pow(2).mean().backward()
        for one in (pair.of_d, pair.of_g):
            one.step()
        with torch.no_grad():
            for p, q in zip(pair.target.parameters(), pair.g.parameters(), strict=True):
                p.lerp_(q, 0.1)

    _quiet(clock, step, Averaged)


@pytest.mark.parametrize("detached", [True, False])
def test_a_penalty_on_the_discriminator_s_gradients(clock: Clock, detached: bool) -> None:
    def step(gan: Pair) -> None:
        fake = gan.fake().detach() if detached else gan.fake()
        between = (0.5 * fake.detach() + 0.1).requires_grad_()
        (slope,) = torch.autograd.grad(gan.d(between).sum(), between, create_graph=True)
        loss = gan.d(fake).mean() + (slope.norm(dim=1) - 1).pow(2).mean()
        gan.of_d.zero_grad()
        loss.backward()
        gan.of_d.step()
        gan.g_step()

    found = _told(clock, step)
    assert found[_PART] == 0 if detached else found[_PART] > 0.2


def test_the_real_ones_judged_again_in_the_generator_s_step(clock: Clock) -> None:
    def step(gan: Pair) -> None:
        gan.d_step(gan.fake().detach())
        gan.of_g.zero_grad()
        (gan.d(gan.fake()) - gan.d(torch.zeros(5, 4))).mean().backward()
        gan.of_g.step()

    _quiet(clock, step)


def test_a_part_of_the_graph_that_is_computed_again_is_not_known(clock: Clock) -> None:
    from torch.utils.checkpoint import checkpoint

    class Headed(Pair):
        def __init__(self, clock: Clock) -> None:
            super().__init__(clock)
            self.head = nn.Linear(4, 1)
            self.of_d.add_param_group({"params": self.head.parameters()})

    def step(gan: Headed) -> None:
        judged: Any = checkpoint(gan.d, gan.fake(), use_reentrant=True)
        gan.of_d.zero_grad()
        gan.head(judged).mean().backward()
        gan.of_d.step()
        gan.g_step()

    _quiet(clock, step, Headed)


def test_one_optimizer_throws_nothing_away(clock: Clock) -> None:
    class One:
        def __init__(self, clock: Clock) -> None:
            self.model = Model(clock, 30)
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)

    def step(one: One) -> None:
        one.optimizer.zero_grad()
        one.model(torch.ones(5, 4)).mean().backward()
        one.optimizer.step()

    _quiet(clock, step, One)


# -- how it is looked at ------------------------------------------------------------------------


def test_too_few_turns_say_nothing(clock: Clock) -> None:
    with Watched(clock) as seen:
        gan = Pair(clock)
        for _ in range(2):
            for _ in range(5):
                gan.d_step(gan.fake())
            gan.g_step()
        assert seen.observer.looks.thrown_away.settings() == {}


def test_steps_that_are_not_looked_into_end_what_was_begun(clock: Clock) -> None:
    with Watched(clock) as seen:
        gan = Pair(clock)
        for _ in range(8):
            seen.state.noting = True
            gan.d_step(gan.fake())
            seen.state.noting = False
            for _ in range(3):
                gan.g_step()
        assert _PART not in seen.observer.looks.thrown_away.settings()


class Late:
    """A device's clock, which tells of a moment once that is past."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.reached = clock, False

    def now(self) -> tuple[int]:
        return (self.clock(),)

    def seconds(self, start: tuple[int], end: tuple[int]) -> float | None:
        return (end[0] - start[0]) * 1e-9 if self.reached else None

    def host_seconds(self, start: tuple[int], end: tuple[int]) -> float:
        return (end[0] - start[0]) * 1e-9


def test_on_a_device_its_own_clock_tells_when_it_has_come_so_far(clock: Clock) -> None:
    with Watched(clock) as seen:
        gan, device = Pair(clock), Late(clock)
        for i in range(STEPS):
            gan.d_step(gan.fake())
            gan.g_step()
            if i == 1:
                seen.observer.recorder.use_device(device)
        assert seen.observer.looks.thrown_away.settings() == {}
        device.reached = True
        assert seen.observer.looks.thrown_away.settings()[_PART] == pytest.approx(30 / 90)


def _ticking() -> Any:
    ticks = iter(range(10_000_000))
    return lambda: next(ticks)


def test_without_a_device_s_clock_the_host_s_tells_nothing_of_it() -> None:
    with Watched(_ticking()) as seen:
        first, last = (nn.Linear(4, 4, device="meta") for _ in range(2))
        of_first, of_last = (torch.optim.SGD(m.parameters(), lr=1e-3) for m in (first, last))
        for _ in range(STEPS):
            for optimizer in (of_last, of_first):
                optimizer.zero_grad()
                last(first(torch.ones(5, 4, device="meta"))).mean().backward()
                optimizer.step()
        assert seen.observer.looks.thrown_away.settings() == {}


def test_a_graph_that_is_too_large_to_be_walked_says_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(gan: Pair) -> None:
        gan.d_step(gan.fake())
        gan.g_step()

    monkeypatch.setattr("perfdoctor.collect.script.thrown_away._MOST_NODES", 25)
    assert _told(clock, step) == {}


def test_gradients_that_are_used_while_nobody_looks(clock: Clock) -> None:
    with Watched(clock) as seen:
        gan = Pair(clock)
        for _ in range(STEPS):
            seen.state.noting = True
            gan.g_step()
            gan.d_step(gan.fake())
            seen.state.noting = False
            for _ in range(3):
                gan.of_g.step()
            gan.of_g.zero_grad()
        assert seen.observer.looks.thrown_away.settings() == {}


def test_a_graph_that_is_kept_has_no_hook_any_more(clock: Clock) -> None:
    with Watched(clock) as seen:
        gan = Pair(clock)
        fake = gan.fake()
        gan.d_step(fake, retain_graph=True)
        (part,) = seen.observer.looks.thrown_away._waiting
        assert len(part.marks) == 2
        fake.sum().backward()
        assert len(part.marks) == 2


def test_no_hook_and_no_tensor_stays_after_a_backward_pass(clock: Clock) -> None:
    import gc
    import weakref

    with Watched(clock) as seen:
        gan = Pair(clock)
        fakes = []
        for _ in range(STEPS):
            fake = gan.fake()
            gan.d_step(fake)
            fakes.append(weakref.ref(fake))
            del fake
            gan.g_step()
        gc.collect()
        assert not seen.observer.looks.thrown_away._hooks
        assert all(reference() is None for reference in fakes)


def test_looking_ends_after_so_many_passes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfdoctor.collect.script.thrown_away._MOST_PASSES", 9)
    with Watched(clock) as seen:
        gan = Pair(clock)
        for _ in range(20):
            gan.d_step(gan.fake())
            gan.g_step()
        assert len(seen.observer.looks.thrown_away._passes) == 9
        assert seen.observer.looks.thrown_away.settings()[_PART] == pytest.approx(30 / 90)


def _gradients() -> list[torch.Tensor]:
    torch.manual_seed(3)
    gan = Pair(Clock())
    found = []
    for _ in range(STEPS):
        gan.d_step(gan.g(torch.randn(5, 4)))
        gan.g_step()
        for model in (gan.d, gan.g):
            found += [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return [*found, torch.rand(3)]


def test_gradients_and_random_numbers_are_the_same_to_the_last_bit() -> None:
    plain = _gradients()
    with Watched(_ticking()) as seen:
        observed = _gradients()
        assert seen.observer.looks.thrown_away.settings()[_PART] > 0
    assert all(torch.equal(a, b) for a, b in zip(observed, plain, strict=True))
