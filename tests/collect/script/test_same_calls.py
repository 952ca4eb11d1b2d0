"""Functions that the forward pass calls with the same arguments in each step, and those that look
like them."""

from __future__ import annotations

import itertools
import random
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_observing import Clock, Watched
from torch import nn
from torch.utils.checkpoint import checkpoint

from perfdoctor.collect.script.value_keys import Reader, Unfit, print_of

SIZE = 8
EDGES = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(1))
BANK = torch.zeros(SIZE)
COUNT = itertools.count()
ONE = torch.ones(2, SIZE)
KEPT: dict[str, int] = {"step": 0}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def nothing_compiled() -> None:
    """Another test may have compiled a model, and then nobody looks."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


class Distance(nn.Module):
    """A loss that is a module, with a matrix that it makes each time."""

    def forward(self, out: torch.Tensor) -> torch.Tensor:
        return (out @ normalised(EDGES)).sum()


class Model(nn.Module):
    """A linear layer on something that a function makes."""

    def __init__(self, part: Callable[[Model, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.part, self.layer = part, nn.Linear(SIZE, SIZE)
        self.teacher = nn.Linear(SIZE, SIZE).requires_grad_(False)
        self.mask_of = Mask()
        self.width, self.step, self.settings = SIZE, 0, Settings()
        self.register_buffer("mean", torch.zeros(SIZE))
        self.scale = nn.Parameter(torch.ones(SIZE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.step += 1
        return self.layer(x) + self.part(self, x).sum()

    def own_mask(self, size: int) -> torch.Tensor:
        return torch.ones(size, self.width).triu()

    def faded(self, size: int) -> torch.Tensor:
        return torch.ones(size, size) * (1 / self.step)

    def pruned(self, least: float) -> torch.Tensor:
        return self.layer.weight.detach().abs() > least

    def pruned_by_a_helper(self) -> torch.Tensor:
        return self.pruned(100.0) | self.pruned(200.0)

    def large(self) -> torch.Tensor:
        return self.scale.detach() > 100

    def running_mean(self) -> torch.Tensor:
        self.mean += 1
        return self.mean / self.mean.sum()


class Settings:
    """A plain object with numbers that a schedule changes, or leaves."""

    def __init__(self) -> None:
        self.size, self.rate = SIZE, 1.0


class Mask(nn.Module):
    """A module without parameters."""

    def forward(self, size: int) -> torch.Tensor:
        return torch.ones(size, size).triu()


def normalised(edges: torch.Tensor) -> torch.Tensor:
    return edges / degree(edges)


def degree(edges: torch.Tensor) -> torch.Tensor:
    return edges.sum(1, keepdim=True)


def sparse(edges: torch.Tensor, names: list[str], *, size: int = 2) -> torch.Tensor:
    return (edges * size).to_sparse()


def noise(size: int) -> torch.Tensor:
    return torch.randn(size)


def dropped(edges: torch.Tensor) -> torch.Tensor:
    return nn.functional.dropout(edges, 0.5)


def counted(size: int) -> torch.Tensor:
    return torch.full((size,), float(next(COUNT)))


def scheduled(settings: Settings) -> torch.Tensor:
    return torch.ones(settings.size) * settings.rate


def fixed(settings: Settings) -> torch.Tensor:
    return torch.ones(settings.size)


def by_global() -> torch.Tensor:
    return torch.full((SIZE,), float(KEPT["step"]))


def teaching(teacher: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return teacher(x)


def remembered(bank: torch.Tensor) -> torch.Tensor:
    return bank * 2


def checked(size: int) -> None:
    assert size > 0


def hardly_noisy(size: int) -> torch.Tensor:
    return torch.rand(size) > 2


def rows(size: int) -> Any:
    yield from range(size)


def interrupted(by: Callable[[], float]) -> torch.Tensor:
    by()
    return EDGES * 2


def signs(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().abs() > 100


def trained(seen: Watched, model: Model, batches: Any = None, steps: int = 14) -> set[str]:
    """Trains on the same data in each step, or on `batches`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for step in range(steps):
        KEPT["step"] = step
        model(ONE if batches is None else next(batches)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sys.getprofile() is None
    names = seen.state.same_calls.found().items()
    return {name for (file, _), name in names if file == __file__}  # and not the test's clock


def found(clock: Clock, part: Callable[[Model, torch.Tensor], Any]) -> set[str]:
    with Watched(clock) as seen:
        return trained(seen, Model(part))


# -- the same in each step ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (lambda model, x: normalised(EDGES), {"normalised"}),
        (lambda model, x: normalised(EDGES) + normalised(EDGES.T @ EDGES), set()),
        (lambda model, x: sparse(EDGES, ["a", "b"], size=3), {"sparse"}),
        (lambda model, x: model.own_mask(len(x)), {"own_mask"}),
        (lambda model, x: model.mask_of(SIZE), {"forward"}),
        (lambda model, x: fixed(model.settings), {"fixed"}),
        (lambda model, x: remembered(BANK), {"remembered"}),
    ],
)
def test_what_is_given_the_same_and_gives_the_same_is_found(
    clock: Clock, part: Any, names: set[str]
) -> None:
    last = {name.rpartition(".")[2] for name in found(clock, part)}
    assert names <= last and bool(names) == bool(last - {"degree"})


def test_a_function_of_several_sizes_is_the_same_where_all_of_them_come_again(clock: Clock) -> None:
    def anchors(size: int) -> torch.Tensor:
        return torch.arange(size).float()

    names = found(clock, lambda model, x: sum(anchors(size).sum() for size in (2, 4, 8)))
    assert names == {"anchors"}


def test_each_step_has_batches_of_its_own_and_the_function_data_that_stay(clock: Clock) -> None:
    batches = (torch.full((2, SIZE), float(step)) for step in range(20))
    with Watched(clock) as seen:
        model = Model(lambda model, x: normalised(EDGES))
        assert "normalised" in trained(seen, model, batches)


@pytest.mark.parametrize(
    ("loss", "names"),
    [
        (lambda out: (out * remembered(EDGES)[:2]).sum(), {"remembered"}),
        (lambda out: Distance()(out), {"normalised"}),
        (lambda out: (out * torch.rand(2, SIZE)).sum(), set()),
        (lambda out: signs(out).sum() + out.sum(), set()),
    ],
)
def test_what_the_loss_calls_is_found_as_well(clock: Clock, loss: Any, names: set[str]) -> None:
    with Watched(clock) as seen:
        model = Model(lambda model, x: x)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        for _ in range(14):
            loss(model(ONE)).backward()
            assert sys.getprofile() is None
            optimizer.step()
            optimizer.zero_grad()
        told = set(seen.state.same_calls.found().values())
        assert {name for name in told if "__" not in name} - {"degree"} == names


def test_what_perfdoctor_draws_in_the_midst_of_it_is_not_the_function_s(clock: Clock) -> None:
    ours = types.FunctionType(
        (lambda: random.random()).__code__, {"random": random, "__name__": "perfdoctor.collect.x"}
    )

    def part(model: Model, x: torch.Tensor) -> torch.Tensor:
        return interrupted(ours)

    assert found(clock, part) == {"interrupted"}
    assert found(clock, lambda model, x: interrupted(random.random)) == set()


def test_without_a_backward_pass_the_look_ends_with_the_update(clock: Clock) -> None:
    with Watched(clock):
        model = Model(lambda model, x: normalised(EDGES))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        for _ in range(14):
            model(ONE)
            optimizer.step()
            assert sys.getprofile() is None


# -- healthy code that looks alike ----------------------------------------------------------------


def changing(model: Model, x: torch.Tensor) -> torch.Tensor:
    BANK[model.step % SIZE] += 1
    return remembered(BANK)


def changing_behind(model: Model, x: torch.Tensor) -> torch.Tensor:
    BANK.data += 1
    return remembered(BANK)


def scheduling(model: Model, x: torch.Tensor) -> torch.Tensor:
    model.settings.rate *= 0.9
    return scheduled(model.settings)


def averaging(model: Model, x: torch.Tensor) -> torch.Tensor:
    for ours, theirs in zip(model.teacher.parameters(), model.layer.parameters(), strict=True):
        ours.data.lerp_(theirs.data, 0.1)
    return teaching(model.teacher, ONE)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(lambda model, x: normalised(model.layer(x)), id="activations"),
        pytest.param(lambda model, x: normalised(EDGES.clone()), id="made anew"),
        pytest.param(lambda model, x: normalised(model.layer.weight), id="weights"),
        pytest.param(lambda model, x: signs(model.layer.weight), id="signs of weights"),
        pytest.param(lambda model, x: model.pruned(100.0), id="weights of its own, no gradient"),
        pytest.param(lambda model, x: noise(SIZE), id="noise"),
        pytest.param(lambda model, x: dropped(EDGES), id="dropout"),
        pytest.param(lambda model, x: counted(SIZE), id="a counter"),
        pytest.param(lambda model, x: model.faded(SIZE), id="an attribute that counts"),
        pytest.param(scheduling, id="a schedule in an object"),
        pytest.param(changing, id="a tensor that is changed in place"),
        pytest.param(lambda model, x: by_global(), id="a global that changes"),
        pytest.param(lambda model, x: model.running_mean(), id="statistics"),
        pytest.param(averaging, id="a moving average of the weights"),
        pytest.param(lambda model, x: model.pruned_by_a_helper(), id="weights through a helper"),
        pytest.param(lambda model, x: model.large(), id="a parameter of its own, no gradient"),
        pytest.param(lambda model, x: hardly_noisy(SIZE), id="noise that does not show"),
        pytest.param(changing_behind, id="a tensor that is changed behind its version"),
        pytest.param(lambda model, x: checked(SIZE) or x, id="no result"),
        pytest.param(lambda model, x: x + sum(rows(3)), id="a generator"),
        pytest.param(
            lambda model, x: checkpoint(model.layer, x, use_reentrant=False), id="recomputed"
        ),
    ],
)
def test_what_changes_or_may_change_is_not_found(clock: Clock, part: Any) -> None:
    assert found(clock, part) <= {"degree"}


def test_a_function_of_the_batch_is_not_found(clock: Clock) -> None:
    batches = (torch.full((2, SIZE), float(step)) for step in range(20))
    with Watched(clock) as seen:
        model = Model(lambda model, x: normalised(x) + noise(SIZE))
        assert trained(seen, model, batches) == set()


def test_a_function_that_is_called_in_some_steps_is_not_found(clock: Clock) -> None:
    def part(model: Model, x: torch.Tensor) -> torch.Tensor:
        return normalised(EDGES) if model.step < 8 else x

    assert found(clock, part) == set()


@pytest.mark.parametrize("times", [0, 2])
def test_a_function_that_is_called_more_or_less_often_now_and_then_is_not_found(
    clock: Clock, times: int
) -> None:
    def part(model: Model, x: torch.Tensor) -> torch.Tensor:
        count = times if model.step == 7 else 1
        return x.sum() + sum(normalised(EDGES).sum() for _ in range(count))

    with Watched(clock) as seen:
        assert trained(seen, Model(part), steps=30) == set()


def test_a_size_that_changes_in_a_later_epoch_is_not_the_same(clock: Clock) -> None:
    def part(model: Model, x: torch.Tensor) -> torch.Tensor:
        return model.own_mask(4 if model.step < 8 else 5)

    assert found(clock, part) == set()


def test_a_short_training_tells_nothing(clock: Clock) -> None:
    with Watched(clock) as seen:
        assert trained(seen, Model(lambda model, x: normalised(EDGES)), steps=6) == set()


# -- what is compared -----------------------------------------------------------------------------


def test_what_is_trained_fits_neither_as_argument_nor_as_result() -> None:
    weight = nn.Parameter(torch.ones(2))
    for call, value in ((Reader([]).key, weight), (print_of, weight * 2)):
        with pytest.raises(Unfit) as why:
            call(value)
        assert why.value.weights


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (torch.arange(6.0), torch.arange(1, 7.0)),
        (torch.zeros(300, 40), torch.ones(300, 40)),
        (torch.ones(4, 4).to_sparse(), (torch.ones(4, 4) * 2).to_sparse()),
        (torch.tensor(1), torch.tensor(2)),
        (np.zeros(5), np.ones(5)),
        ({"a": [1, None]}, {"a": [1, 2]}),
        (Settings(), [Settings()]),
        (torch.ones(1, 2).expand(10**6, 2), torch.zeros(1, 2).expand(10**6, 2)),
        (torch.ones(3, dtype=torch.bfloat16), torch.ones(3)),
    ],
)
def test_results_are_told_apart_by_their_elements(value: Any, other: Any) -> None:
    assert print_of(value) == print_of(value)
    assert print_of(value) != print_of(other)


def test_objects_are_the_same_while_they_live() -> None:
    reader, tensor = Reader([]), torch.ones(2)
    key = reader.key([tensor, 1])
    assert key == reader.key((tensor, 1))
    assert key != reader.key([torch.ones(2), 1])
    tensor += 1
    assert key != reader.key([tensor, 1])
    for unknown in (iter([1]), object(), torch.Generator(), [0] * 1000):
        with pytest.raises(Unfit):
            reader.key(unknown)


# -- and leaves the training alone ----------------------------------------------------------------


def test_someone_else_s_profiler_stays_in_place(clock: Clock) -> None:
    def theirs(frame: Any, event: str, arg: Any) -> None:
        pass

    with Watched(clock) as seen:
        model = Model(lambda model, x: normalised(EDGES))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        sys.setprofile(theirs)
        try:
            for _ in range(14):
                model(ONE).sum().backward()
                optimizer.step()
            assert sys.getprofile() is theirs
        finally:
            sys.setprofile(None)
        assert seen.state.same_calls.found() == {}


def test_where_something_is_compiled_nobody_looks(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Model(lambda model, x: normalised(EDGES))
        torch.compile(nn.Linear(2, 2), backend="eager")(torch.ones(1, 2))
        assert trained(seen, model) == set()


def test_an_error_in_the_model_ends_the_look(clock: Clock) -> None:
    def part(model: Model, x: torch.Tensor) -> torch.Tensor:
        if model.step == 4:
            raise ValueError("once")
        return normalised(EDGES)

    with Watched(clock) as seen:
        model = Model(part)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        for _ in range(14):
            try:
                model(ONE).sum().backward()
            except ValueError:
                assert sys.getprofile() is None
            optimizer.step()
        assert seen.state.active


def test_the_training_s_numbers_are_what_they_were(clock: Clock) -> None:
    def train() -> torch.Tensor:
        torch.manual_seed(3)
        model = Model(lambda model, x: dropped(EDGES) + noise(SIZE) + normalised(EDGES))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        for _ in range(14):
            model(ONE).sum().backward()
            optimizer.step()
        return model.layer.weight.detach().clone()

    alone = train()
    with Watched(clock):
        assert torch.equal(train(), alone)
