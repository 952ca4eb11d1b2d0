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
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.settings_used import settings_used, with_unused_part

_ALONE, _BESIDE = "gradients_unused_alone_of_backward", "gradients_unused_beside_of_backward"
_NUMBER, _MODULE = "gradients_unused", "gradients_unused_module"
_CALLED = "gradients_unused_called_at"
_AT_RATE_0, _OPTIMIZER_AT_RATE_0 = "gradients_at_rate_0", "optimizer_at_rate_0"
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


# -- what an optimizer has at a learning rate of 0 only ------------------------------------------


class Frozen:
    """A body that costs 30 at a rate of 0 and a head of 10 behind it, of one optimizer."""

    def __init__(self, clock: Clock, rate: Any = 0.0, head: Any = 1e-3) -> None:
        self.body, self.head = Teacher(clock), Layer(clock, 10)
        self.model = nn.Sequential(self.body, self.head)
        groups = [{"params": part.parameters(), "lr": lr} for part, lr in self._rates(rate, head)]
        self.optimizer = torch.optim.SGD(groups, lr=1e-3)

    def _rates(self, rate: Any, head: Any) -> list[tuple[nn.Module, Any]]:
        return [(self.body, rate), (self.head, head)]

    def train(self, steps: int = STEPS) -> None:
        for _ in range(steps):
            self.model(_x()).mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()


def _of_frozen(clock: Clock, train: Callable[[Frozen], None], **rates: Any) -> dict[str, Any]:
    with Watched(clock) as seen:
        frozen = Frozen(clock, **rates)
        train(frozen)
        seen.observer.optimizers.look_at_rates()
        return with_unused_part(settings_used(seen.observer), seen.observer)


def _all_trained(used: dict[str, Any]) -> None:
    assert used[_NUMBER] == 0.0
    assert not {_AT_RATE_0, _OPTIMIZER_AT_RATE_0, _ALONE} & set(used)


def test_a_body_whose_learning_rate_is_0(clock: Clock) -> None:
    used = _of_frozen(clock, Frozen.train)
    # the head's layer would give the body a gradient
    assert (used[_ALONE], used[_BESIDE]) == (pytest.approx(30 / 40), pytest.approx(10 / 40))
    assert (used[_NUMBER], used[_AT_RATE_0], used[_OPTIMIZER_AT_RATE_0]) == (0.0, 8 / 12, 8 / 12)
    assert _MODULE not in used


def test_a_body_at_0_beside_a_warm_up_and_a_decay_to_0(clock: Clock) -> None:
    def train(frozen: Frozen) -> None:
        of_step = (0.0, 0.5, 1.0, 1.0, 0.5, 0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(frozen.optimizer, lambda i: of_step[i % 6])
        for _ in range(STEPS):
            frozen.train(1)
            schedule.step()

    used = _of_frozen(clock, train)
    assert used[_AT_RATE_0] == 8 / 12
    assert used[_ALONE] == pytest.approx(30 / 40)


def test_a_body_that_is_in_no_optimizer_and_one_at_0_are_told_apart(clock: Clock) -> None:
    with Watched(clock) as seen:
        frozen, left_out = Frozen(clock), Layer(clock, 10)
        frozen.model.append(left_out)
        frozen.train()
        used = settings_used(seen.observer)
    assert (used[_NUMBER], used[_AT_RATE_0]) == (4 / 16, 8 / 16)


def test_a_layer_at_0_that_is_never_called_is_no_loss(clock: Clock) -> None:
    def train(frozen: Frozen) -> None:
        frozen.model.never = Layer(clock, 10)
        frozen.model.forward = lambda x: frozen.head(frozen.body(x))  # type: ignore[method-assign]
        never = {"params": frozen.model.never.parameters(), "lr": 0.0}
        frozen.optimizer.add_param_group(never)
        frozen.train()

    _all_trained(_of_frozen(clock, train, rate=1e-3))


def test_what_is_at_0_and_gets_no_gradients_is_no_loss(clock: Clock) -> None:
    def train(frozen: Frozen) -> None:
        frozen.body.requires_grad_(False)
        frozen.train()

    _all_trained(_of_frozen(clock, train))


def test_a_warm_up_of_all_that_begins_with_0(clock: Clock) -> None:
    def train(frozen: Frozen) -> None:
        for rate in (0.0, 1e-4, 2e-4, 3e-4, 4e-4, 5e-4):
            for group in frozen.optimizer.param_groups:
                group["lr"] = rate
            frozen.train(1)

    _all_trained(_of_frozen(clock, train))


def test_a_rate_of_0_for_all_says_nothing(clock: Clock) -> None:
    _all_trained(_of_frozen(clock, Frozen.train, head=0.0))


def test_layers_that_a_schedule_trains_later(clock: Clock) -> None:
    def train(frozen: Frozen) -> None:
        later = [lambda i: float(i > 1000), lambda i: 1.0]
        torch.optim.lr_scheduler.LambdaLR(frozen.optimizer, later)
        frozen.train()

    _all_trained(_of_frozen(clock, train, rate=1e-3))


@pytest.mark.parametrize("seen", [1, 0])
def test_layers_that_are_trained_later_by_hand(clock: Clock, seen: int) -> None:
    """The last step is looked into, or only the end is."""

    def train(frozen: Frozen) -> None:
        frozen.train(STEPS)
        frozen.optimizer.param_groups[0]["lr"] = 1e-3
        frozen.train(seen)

    _all_trained(_of_frozen(clock, train))


def test_what_the_first_steps_told_is_taken_back(clock: Clock) -> None:
    with Watched(clock) as watched:
        frozen = Frozen(clock)
        frozen.train()
        first = settings_used(watched.observer)
        assert first[_AT_RATE_0]
        frozen.optimizer.param_groups[0]["lr"] = 1e-3
        watched.observer.optimizers.look_at_rates()
        _all_trained(with_unused_part(first, watched.observer))


def test_what_no_optimizer_has_stays_for_nothing_where_a_rate_is_raised(clock: Clock) -> None:
    def train(frozen: Frozen) -> None:
        frozen.model.append(Layer(clock, 10))
        frozen.train()
        frozen.optimizer.param_groups[0]["lr"] = 1e-3

    used = _of_frozen(clock, train)
    assert used[_NUMBER] == 4 / 16
    assert not {_AT_RATE_0, _OPTIMIZER_AT_RATE_0, _ALONE} & set(used)


def test_layers_that_another_optimizer_trains(clock: Clock) -> None:
    with Watched(clock) as seen:
        frozen = Frozen(clock)
        other = torch.optim.SGD(frozen.body.parameters(), lr=1e-3)
        for _ in range(STEPS):
            frozen.train(1)
            other.step()
        _all_trained(settings_used(seen.observer))
        assert all(seen.observer.optimizers.uses(p) for p in frozen.model.parameters())


def test_layers_that_an_optimizer_trained_before(clock: Clock) -> None:
    def train(frozen: Frozen) -> None:
        groups = frozen.optimizer.param_groups
        frozen.optimizer = torch.optim.SGD(frozen.model.parameters(), lr=1e-3)
        frozen.train()
        frozen.optimizer = torch.optim.SGD(
            [{**group, "lr": lr} for group, lr in zip(groups, (0.0, 1e-3), strict=True)]
        )
        frozen.train()

    _all_trained(_of_frozen(clock, train))


@pytest.mark.parametrize("which", [0, 1])
def test_a_rate_that_is_a_tensor_is_not_asked_for_its_value(clock: Clock, which: int) -> None:
    class Asked(torch.Tensor):
        def __bool__(self) -> bool:
            raise AssertionError("its value was asked for")

    frozen, optimizers = Frozen(clock), Optimizers(lambda few, many: False)
    frozen.model(_x()).mean().backward()
    groups = frozen.optimizer.param_groups
    groups[which]["lr"] = torch.zeros(()).as_subclass(Asked)
    optimizers.add_group(frozen.optimizer, [p for group in groups for p in group["params"]])
    optimizers.look_at_rates()
    assert all(optimizers.uses(p) for p in frozen.model.parameters())


def test_where_rates_stay_alike_a_look_changes_nothing(clock: Clock) -> None:
    with Watched(clock) as seen:
        frozen = Frozen(clock)
        frozen.train(2)
        version = seen.observer.optimizers.version
        frozen.train()
        assert seen.observer.optimizers.version == version


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
        assert len(seen.observer.looks.unused_part._steps) == 5
        assert settings_used(seen.observer)[_ALONE] == pytest.approx(30 / 40)


def test_on_a_device_its_own_clock_tells_when_it_has_come_so_far(clock: Clock) -> None:
    with Watched(clock) as seen:
        pair, device = Pair(clock), Late(clock)
        for i in range(2 * STEPS):
            pair.update(_differ(pair))
            if i == 1:
                seen.observer.recorder.use_device(device)
        seen.observer.looks.unused_part._steps = dict(
            list(seen.observer.looks.unused_part._steps.items())[2:]
        )
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


def test_a_teacher_that_was_trained_before(clock: Clock) -> None:
    """Its optimizer has had its time when another one was made, though it is still there."""
    with Watched(clock) as seen:
        teacher, student = Teacher(clock), Layer(clock, 10)
        before = torch.optim.SGD(teacher.parameters(), lr=1e-3)
        for _ in range(30):
            teacher(_x()).mean().backward()
            before.step()
        assert seen.observer.looks.unused_part.settings() == {}
        optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
        for _ in range(30):
            (student(_x()) - teacher(_x())).pow(2).mean().backward()
            optimizer.step()
        found = seen.observer.looks.unused_part.settings()
        assert 0 < found[_ALONE] < 30 / 40  # of all backward passes
        assert found[_MODULE] == "Teacher"
        assert found[_NUMBER] > 0
        assert seen.observer.optimizers.main() is optimizer
        teacher(_x()).mean().backward()
        before.step()  # in use again
        assert seen.observer.looks.unused_part.settings() == {}


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
        assert not seen.observer.looks.unused_part._hooks
        assert teacher() is None
        assert all(reference() is None for reference in made)
        # what was found is known when the modules are gone, as at the end of a script
        assert seen.observer.looks.unused_part.settings()[_ALONE] == pytest.approx(30 / 40)


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
