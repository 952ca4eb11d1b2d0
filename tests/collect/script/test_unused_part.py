"""Gradients that no optimizer uses: modules of known cost, on a clock that they drive."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_observing import Clock, Watched
from test_thrown_away import Late
from torch import nn

from perfdoctor.collect.script import unused_part
from perfdoctor.collect.script.settings_used import settings_used

_ALONE, _BESIDE = "gradients_unused_alone_of_backward", "gradients_unused_beside_of_backward"
_NUMBER, _MODULE = "gradients_unused", "gradients_unused_module"
_CALLED = "gradients_unused_called_at"
STEPS = 6


class Scaled(torch.autograd.Function):
    """A layer whose backward costs so much."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, clock: Clock, cost: int
    ) -> torch.Tensor:
        ctx.clock, ctx.cost = clock, cost
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        ctx.clock.spend(ctx.cost)
        x, weight = ctx.saved_tensors
        return grads[0] * weight, (grads[0] * x).sum(0), None, None


class Layer(nn.Module):
    def __init__(self, clock: Clock, cost: int) -> None:
        super().__init__()
        self.clock, self.cost = clock, cost
        self.weight = nn.Parameter(torch.full((4,), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = Scaled.apply(x, self.weight, self.clock, self.cost)  # type: ignore[no-untyped-call]
        return out


class Teacher(nn.Module):
    """Two layers that cost 15 each."""

    def __init__(self, clock: Clock, cost: int = 15) -> None:
        super().__init__()
        self.layers = nn.Sequential(Layer(clock, cost), nn.Tanh(), Layer(clock, cost))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


class Pair:
    """A student whose backward costs 10, with the only optimizer, and a teacher of 30."""

    def __init__(self, clock: Clock) -> None:
        self.teacher, self.student = Teacher(clock).eval(), Layer(clock, 10)
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=1e-3)

    def update(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _x() -> torch.Tensor:
    return torch.ones(5, 4)


def _differ(pair: Pair) -> torch.Tensor:
    made: torch.Tensor = (pair.student(_x()) - pair.teacher(_x())).pow(2).mean()
    return made


def _told(clock: Clock, step: Callable[[Pair], None], steps: int = STEPS) -> dict[str, Any]:
    with Watched(clock) as seen:
        pair = Pair(clock)
        for _ in range(steps):
            step(pair)
        return settings_used(seen.observer)


def _quiet(clock: Clock, step: Callable[[Pair], None]) -> None:
    used = _told(clock, step)
    assert _ALONE not in used
    assert not used.get(_NUMBER)


# -- what is for nothing -------------------------------------------------------------------------


def test_a_teacher_that_is_called_with_gradients_on(clock: Clock) -> None:
    used = _told(clock, lambda pair: pair.update(_differ(pair)))
    assert used[_ALONE] == pytest.approx(30 / 40)
    assert used[_BESIDE] == 0.0
    assert used[_NUMBER] == 8 / 12
    assert used[_MODULE] == "Teacher"
    assert used[_CALLED].startswith("test_unused_part.py:")


def test_a_fixed_network_in_the_loss_does_half_of_its_work_for_something(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        pair.update(pair.teacher(pair.student(_x())).mean())

    used = _told(clock, step)
    assert used[_ALONE] == 0.0
    assert used[_BESIDE] == pytest.approx(30 / 40)


def test_a_teacher_whose_gradients_are_cleared_and_that_stays_as_it_is(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        pair.teacher.zero_grad()
        pair.update(_differ(pair))

    assert _told(clock, step)[_ALONE] == pytest.approx(30 / 40)


def test_a_target_network_that_follows_and_whose_gradients_nobody_clears(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        pair.update(_differ(pair))
        with torch.no_grad():
            for p in pair.teacher.parameters():
                p.lerp_(pair.student.weight, 0.1)

    used = _told(clock, step)
    assert used[_ALONE] == pytest.approx(30 / 40)
    assert used[_NUMBER] == 8 / 12


def test_backward_passes_without_the_teacher_count_too(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        pair.update(_differ(pair))
        pair.update(pair.student(_x()).mean())

    used = _told(clock, step, 2 * STEPS)
    assert used[_ALONE] == pytest.approx(30 / 50, abs=0.03)


def test_a_part_of_the_trained_model_is_timed_and_has_no_module_of_its_own(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = nn.Sequential(Teacher(clock), Layer(clock, 10))
        optimizer = torch.optim.SGD(model[1].parameters(), lr=1e-3)
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(_x()).mean().backward()
            optimizer.step()
        used = settings_used(seen.observer)
    # the head's layer would give the encoder a gradient
    assert (used[_ALONE], used[_BESIDE]) == (pytest.approx(30 / 40), pytest.approx(10 / 40))
    assert used[_NUMBER] == 8 / 12
    assert _MODULE not in used


def test_an_image_that_is_optimised_through_a_network(clock: Clock) -> None:
    with Watched(clock) as seen:
        image, network = nn.Parameter(_x()), Teacher(clock)
        optimizer = torch.optim.SGD([image], lr=1e-3)
        for _ in range(STEPS):
            optimizer.zero_grad()
            network(image).mean().backward()
            optimizer.step()
        used = settings_used(seen.observer)
    assert (used[_NUMBER], used[_ALONE], used[_BESIDE]) == (1.0, 0.0, 1.0)


# -- what is not ---------------------------------------------------------------------------------


def test_a_teacher_without_gradients(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        with torch.no_grad():
            target = pair.teacher(_x())
        pair.update((pair.student(_x()) - target).pow(2).mean())

    _quiet(clock, step)


def test_a_teacher_whose_output_is_detached(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        target = pair.teacher(_x()).detach()
        pair.update((pair.student(_x()) - target).pow(2).mean())

    _quiet(clock, step)


def test_a_teacher_that_is_frozen(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        pair.teacher.requires_grad_(False)
        pair.update(_differ(pair))

    _quiet(clock, step)


def test_a_network_that_is_updated_by_hand(clock: Clock) -> None:
    def step(pair: Pair) -> None:
        pair.update(_differ(pair))
        for p in pair.teacher.parameters():
            assert p.grad is not None
            p.data -= 0.1 * p.grad
            p.grad.zero_()

    _quiet(clock, step)


def test_a_network_whose_gradients_are_copied_to_the_one_that_is_updated(clock: Clock) -> None:
    """As the workers of A3C and the learners of first-order MAML do."""
    with Watched(clock) as seen:
        shared = Teacher(clock)
        optimizer = torch.optim.SGD(shared.parameters(), lr=1e-3)
        shared(_x())
        local = copy.deepcopy(shared)
        for _ in range(STEPS):
            local.load_state_dict(shared.state_dict())
            local.zero_grad()
            local(_x()).mean().backward()
            for p, q in zip(shared.parameters(), local.parameters(), strict=True):
                p.grad = q.grad
            optimizer.step()
        used = settings_used(seen.observer)
    assert _ALONE not in used
    assert not used.get(_NUMBER)


def test_gradients_of_an_old_model_that_are_looked_at_before(clock: Clock) -> None:
    """As elastic weight consolidation does, once for each task."""
    with Watched(clock) as seen:
        pair = Pair(clock)
        pair.teacher(_x()).mean().backward()
        for _ in range(STEPS):
            pair.update(pair.student(_x()).mean())
        used = settings_used(seen.observer)
    assert _ALONE not in used
    assert not used.get(_NUMBER)


def test_parameters_that_an_optimizer_gets_later(clock: Clock) -> None:
    with Watched(clock) as seen:
        pair = Pair(clock)
        for _ in range(STEPS):
            pair.update(_differ(pair))
        pair.optimizer.add_param_group({"params": list(pair.teacher.parameters())})
        pair.update(_differ(pair))
        used = settings_used(seen.observer)
    assert _ALONE not in used
    assert used[_NUMBER] == 0.0


def test_two_networks_with_an_optimizer_each(clock: Clock) -> None:
    with Watched(clock) as seen:
        pair = Pair(clock)
        other = torch.optim.SGD(pair.teacher.parameters(), lr=1e-3)
        for _ in range(STEPS):
            pair.update(_differ(pair))
            other.step()
        used = settings_used(seen.observer)
    assert _ALONE not in used
    assert used[_NUMBER] == 0.0


# -- looking costs little and changes nothing ----------------------------------------------------


def test_where_optimizers_have_all_that_gets_gradients_no_graph_is_walked(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("a graph was walked")

    monkeypatch.setattr(unused_part, "owned_graph", fail)
    _quiet(clock, lambda pair: pair.update(pair.student(_x()).mean()))


def test_a_graph_that_is_too_large_to_be_walked_says_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unused_part, "_MOST_NODES", 5)
    _quiet(clock, lambda pair: pair.update(_differ(pair)))


def test_too_few_steps_time_nothing_and_count_all_the_same(clock: Clock) -> None:
    used = _told(clock, lambda pair: pair.update(_differ(pair)), 3)
    assert _ALONE not in used
    assert used[_NUMBER] == 8 / 12


def test_looking_ends_after_so_many_steps(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_part, "_MOST_STEPS", 5)
    with Watched(clock) as seen:
        pair = Pair(clock)
        for _ in range(20):
            pair.update(_differ(pair))
        assert len(seen.observer.unused_part._steps) == 5
        assert settings_used(seen.observer)[_ALONE] == pytest.approx(30 / 40)


def test_on_a_device_its_own_clock_tells_when_it_has_come_so_far(clock: Clock) -> None:
    with Watched(clock) as seen:
        pair, device = Pair(clock), Late(clock)
        for i in range(2 * STEPS):
            pair.update(_differ(pair))
            if i == 1:
                seen.observer.recorder.use_device(device)
        seen.observer.unused_part._steps = dict(list(seen.observer.unused_part._steps.items())[2:])
        assert _ALONE not in settings_used(seen.observer)
        device.reached = True
        assert settings_used(seen.observer)[_ALONE] == pytest.approx(30 / 40)


def test_without_a_device_s_clock_the_host_s_tells_nothing_of_it() -> None:
    ticks = iter(range(10_000_000))
    with Watched(lambda: next(ticks)) as seen:  # type: ignore[arg-type]
        teacher, student = (nn.Linear(4, 4, device="meta") for _ in range(2))
        optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
        for _ in range(STEPS):
            x = torch.ones(5, 4, device="meta")
            (student(x) - teacher(x)).pow(2).mean().backward()
            optimizer.step()
        used = settings_used(seen.observer)
    assert _ALONE not in used
    assert used[_NUMBER] == 0.5


def test_no_hook_and_no_tensor_stays(clock: Clock) -> None:
    with Watched(clock) as seen:
        pair, made = Pair(clock), []
        for _ in range(STEPS):
            loss = _differ(pair)
            made.append(weakref.ref(loss))
            pair.update(loss)
            del loss
        teacher = weakref.ref(pair.teacher)
        del pair
        gc.collect()
        assert not seen.observer.unused_part._hooks
        assert teacher() is None
        assert all(reference() is None for reference in made)
        assert seen.observer.unused_part.settings() == {}


def test_gradients_are_the_same_to_the_last_bit(clock: Clock) -> None:
    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(0)
        teacher, student = (nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2))
        optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
        for _ in range(STEPS):
            x = torch.randn(5, 8)
            (student(x) - teacher(x)).pow(2).mean().backward()
            optimizer.step()
        return [p.grad for m in (teacher, student) for p in m.parameters() if p.grad is not None]

    plain = gradients()
    with Watched(clock):
        observed = gradients()
    assert all(torch.equal(a, b) for a, b in zip(plain, observed, strict=True))
