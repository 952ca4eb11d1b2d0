"""Parts that are not trained: what they take, and whether they are given the same samples again."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from test_observing import Clock, Watched
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

COST, SAMPLES, BATCH = 7, 80, 10


@pytest.fixture(autouse=True)
def _nothing_is_compiled() -> Iterator[None]:
    """Nobody looks where something is, and other tests compile."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


class Encoder(nn.Module):
    """Costs 7."""

    def __init__(self, clock: Clock, *random: nn.Module) -> None:
        super().__init__()
        self.clock = clock
        self.layers = nn.Sequential(nn.Linear(4, 4), *random)

    def forward(self, x: Tensor) -> Any:
        self.clock.spend(COST)
        return self.layers(x)


class Net(nn.Module):
    """A head on an encoder that is not trained."""

    def __init__(self, encoder: nn.Module, before: nn.Module | None = None) -> None:
        super().__init__()
        self.before = before or nn.Identity()
        self.encoder = encoder
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.encoder(self.before(x)))

    def train(self, mode: bool = True) -> Net:
        super().train(mode)
        self.encoder.eval()
        return self


def trained(
    clock: Clock,
    model: nn.Module,
    parameters: Any,
    *,
    beside: Callable[[Tensor], object] = lambda x: None,
    changed: Callable[[Tensor], Tensor] = lambda x: x,
    epochs: int = 3,
) -> dict[str, Any]:
    """What is told of a training of these parameters."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    loader = DataLoader(TensorDataset(torch.randn(SAMPLES, 4)), BATCH, shuffle=True)
    with Watched(clock) as seen:
        for _ in range(epochs):
            model.train()
            for (x,) in loader:
                given = changed(x)
                beside(given)
                model(given).mean().backward()
                optimizer.step()
    return seen.observer.looks.fixed_parts.settings()


def with_encoder(*random: nn.Module, **how: Any) -> dict[str, Any]:
    return trained(*_with_encoder(*random), **how)


def _with_encoder(*random: nn.Module) -> tuple[Clock, Net, Any]:
    model = Net(Encoder(clock := Clock(), *random))
    return clock, model, model.head.parameters()


def test_a_part_of_the_model_is_told_with_what_it_takes_and_gives() -> None:
    found = with_encoder()
    assert found == {
        "fixed_part_s": pytest.approx(COST * 1e-9),
        "fixed_part_module": "Encoder",
        "fixed_part_repeats": pytest.approx(1.0, abs=0.15),
        "fixed_part_gives_bytes": 16,
    }


def test_so_is_a_teacher_beside_it() -> None:
    clock = Clock()
    teacher, model = Encoder(clock).eval(), nn.Linear(4, 1)
    taught = torch.no_grad()(teacher)
    found = trained(clock, model, model.parameters(), beside=taught)
    assert found["fixed_part_s"] == pytest.approx(COST * 1e-9)
    assert found["fixed_part_repeats"] > 0.8


def test_so_is_one_that_was_trained_before() -> None:
    clock = Clock()
    teacher, student = Encoder(clock), nn.Linear(4, 1)
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(300, 4)), BATCH, shuffle=True)
    with Watched(clock) as seen:
        for model in (teacher, student):
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
            for _ in range(3):
                for (x,) in loader:
                    if model is student:
                        teacher.eval()
                        with torch.no_grad():
                            teacher(x)
                    model(x).mean().backward()
                    optimizer.step()
    found = seen.observer.looks.fixed_parts.settings()
    assert found["fixed_part_module"] == "Encoder"
    assert found["fixed_part_repeats"] > 0.8


@pytest.mark.parametrize(
    ("changed", "at_most"),
    [
        (lambda x: x + torch.randn(4), 0.0),
        (lambda x: torch.where(torch.rand(len(x), 1) < 0.5, x, x.flip(1)), 0.7),
    ],
    ids=["noise", "a flip at random"],
)
def test_samples_that_are_changed_at_random_do_not_come_again(
    changed: Callable[[Tensor], Tensor], at_most: float
) -> None:
    assert with_encoder(changed=changed)["fixed_part_repeats"] <= at_most


def test_within_one_epoch_nothing_is_known_of_that() -> None:
    assert with_encoder(epochs=1)["fixed_part_repeats"] is None


def following(clock: Clock) -> dict[str, Any]:
    """A teacher that is an average of the model."""
    model = Encoder(clock)
    teacher = Encoder(clock).eval()

    def teach(x: Tensor) -> None:
        with torch.no_grad():
            teacher(x)
        for its, own in zip(teacher.parameters(), model.parameters(), strict=True):
            its.data.mul_(0.9).add_(own.data, alpha=0.1)

    return trained(clock, model, model.parameters(), beside=teach)


def trained_before(clock: Clock) -> dict[str, Any]:
    model = Net(Encoder(clock), before=nn.Linear(4, 4))
    return trained(clock, model, [*model.before.parameters(), *model.head.parameters()])


def all_trained(clock: Clock) -> dict[str, Any]:
    model = Net(Encoder(clock))
    return trained(clock, model, model.parameters())


def at_random(clock: Clock) -> dict[str, Any]:
    model = nn.Sequential(Encoder(clock, nn.Dropout()), nn.Linear(4, 1))
    return trained(clock, model, model[1].parameters())


@pytest.mark.parametrize("step", [following, trained_before, all_trained, at_random])
def test_others_are_not_told(step: Callable[[Clock], dict[str, Any]]) -> None:
    assert step(Clock()) == {"fixed_part_s": 0.0}


def test_what_was_found_is_known_when_the_model_is_gone() -> None:
    def main() -> tuple[Watched, weakref.ref[nn.Module]]:
        clock = Clock()
        model = Net(Encoder(clock))
        optimizer = torch.optim.SGD(model.head.parameters(), lr=1e-3)
        with Watched(clock) as seen:
            for _ in range(6):
                model.train()(torch.ones(BATCH, 4)).mean().backward()
                optimizer.step()
        return seen, weakref.ref(model)

    seen, model = main()
    gc.collect()
    assert model() is None
    assert seen.observer.looks.fixed_parts.settings()["fixed_part_module"] == "Encoder"


def test_without_a_step_nothing_is_told() -> None:
    with Watched(Clock()) as seen:
        pass
    assert seen.observer.looks.fixed_parts.settings() == {}


def test_a_compiled_model_with_such_a_part_is_compiled_once() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 1))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=1e-3)
    with torch._dynamo.config.patch(error_on_recompile=True), Watched(Clock()) as seen:
        for _ in range(6):
            compiled(torch.ones(4, 4)).sum().backward()
            optimizer.step()
    assert seen.steps == 6


@pytest.mark.parametrize("layer", [nn.Linear(4, 4, device="meta"), nn.LazyLinear(4)])
def test_weights_that_cannot_be_read_are_left_alone(layer: nn.Module) -> None:
    clock = Clock()
    model = nn.Linear(4, 1)
    model.unused = layer
    assert trained(clock, model, [model.weight, model.bias]) == {"fixed_part_s": 0.0}
