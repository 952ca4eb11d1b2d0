"""Calls of a model in validation: on a prefix that grows, on one sample, and what looks like it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_observing import Clock, Watched
from torch import nn

VOCABULARY, WIDTH, ROWS = 12, 8, 16


class Decoder(nn.Module):
    """Each position takes 10, and each call 5."""

    def __init__(self, clock: Clock, *, batch_first: bool = True) -> None:
        super().__init__()
        self.clock, self.table = clock, nn.Embedding(VOCABULARY, WIDTH)
        self.rnn = nn.GRU(WIDTH, WIDTH, batch_first=batch_first)
        self.out = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
        self.clock.spend(5 + 10 * (tokens.shape[1] if tokens.dim() > 1 else 1))
        out: torch.Tensor = self.out(self.table(tokens % VOCABULARY))
        return out


class Net(nn.Module):
    """Each call takes 10, of any shape."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.scale = clock, nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        self.clock.spend(10)
        return x * self.scale


class Ranker(nn.Module):
    """Two layers of 10 with 3 between them, and with no call of the whole to predict."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.layers = clock, nn.ModuleList([Net(clock), Net(clock)])
        self.head = Net(clock)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.predict(x)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
            self.clock.spend(3)
        made: torch.Tensor = self.head(x)
        return made


Validate = Callable[[Any], object]


def found(
    model: Any,
    clock: Clock,
    validate: Validate,
    batch: torch.Tensor | None = None,
    epochs: int = 3,
) -> dict[str, Any]:
    """The settings of a training that is validated so after each epoch of two steps."""
    batch = torch.randint(0, VOCABULARY, (ROWS, 9)) if batch is None else batch
    with Watched(clock) as seen:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(epochs):
            model.train()
            for _ in range(2):
                optimizer.zero_grad()
                model(batch).sum().backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                validate(model)
    return seen.observer.looks.validation_calls.settings(seen.state.loop.loops())


def greedy(model: Any, rows: int = ROWS, length: int = 10) -> torch.Tensor:
    tokens = torch.zeros(rows, 1, dtype=torch.long)
    for _ in range(length):
        last = model(tokens)[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, last], 1)
    return tokens


def made(validate: Validate, **options: Any) -> dict[str, Any]:
    clock = Clock()
    return found(Decoder(clock, **options), clock, validate)


def of_net(validate: Validate, *shape: int) -> dict[str, Any]:
    clock = Clock()
    return found(Net(clock), clock, validate, torch.ones(*shape))


# -- prefixes ----------------------------------------------------------------------------------


def test_a_prefix_that_grows_is_told_with_its_place_lengths_and_times() -> None:
    settings = made(lambda model: [greedy(model) for _ in range(2)])
    assert (settings["prefix_calls"], settings["prefix_first"]) == (10, 1)
    assert (settings["prefix_last"], settings["prefix_of_calls"]) == (10, 1.0)
    assert settings["prefix_in"] == "greedy"
    assert settings["prefix_at"].startswith("test_validation_calls.py:")
    assert settings["prefix_of_validation"] == 1.0
    # 5 + 10 n for n from 1 to 10; three first ones: 15, 25, 35
    assert settings["prefix_left"] == pytest.approx(250 / 600)
    assert settings["prefix_least"] == pytest.approx(150 / 600)


def test_of_a_prefix_that_begins_long_a_line_tells_what_one_position_takes() -> None:
    def roll_out(model: Any) -> None:
        tokens = torch.zeros(ROWS, 6, dtype=torch.long)
        for _ in range(8):
            tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], 1)

    settings = made(roll_out)
    assert settings["prefix_first"] == 6
    assert settings["prefix_least"] == pytest.approx(15 / (5 + 10 * 9.5))


def test_what_is_not_in_the_rows_is_part_of_the_validation() -> None:
    def both(model: Any) -> None:
        for _ in range(10):
            model(torch.zeros(ROWS, 9, dtype=torch.long))
        greedy(model)

    settings = made(both)
    assert settings["prefix_of_calls"] == 0.5
    assert settings["prefix_of_validation"] == pytest.approx(600 / (600 + 950))


def _cached(model: Any) -> None:
    for n in range(1, 20):
        mask = torch.ones(ROWS, n, dtype=torch.long)
        model(torch.zeros(ROWS, 1, dtype=torch.long), attention_mask=mask)


def _cached_by_name(model: Any) -> None:
    for n in range(1, 20):
        model(torch.zeros(ROWS, 1, dtype=torch.long), torch.zeros(ROWS, n, WIDTH))


def _by_length(model: Any) -> None:
    for n in range(1, 20):
        model(torch.randint(0, VOCABULARY, (ROWS, n)))


def _as_it_comes(model: Any) -> None:
    for n in (9, 4, 7, 7, 8, 5, 6, 9, 3, 8, 8, 2) * 2:
        model(torch.zeros(ROWS, n, dtype=torch.long))


def _last_smaller(model: Any) -> None:
    for rows in [ROWS] * 20 + [3]:
        model(torch.zeros(rows, 9, dtype=torch.long))


def _sliding(model: Any) -> None:
    tokens = torch.zeros(ROWS, 9, dtype=torch.long)
    for _ in range(20):
        tokens = torch.cat([tokens[:, 1:], model(tokens)[:, -1:].argmax(-1)], 1)


def _few(model: Any) -> None:
    greedy(model, length=5)


@pytest.mark.parametrize(
    "validate",
    [_cached, _cached_by_name, _by_length, _as_it_comes, _last_smaller, _sliding, _few],
)
def test_these_compute_no_prefix_again(validate: Validate) -> None:
    assert made(validate)["prefix_calls"] == 0


def test_batches_that_grow_in_training_are_not_looked_at() -> None:
    clock = Clock()
    model = Decoder(clock)

    def validate(model: Any) -> None:
        with torch.enable_grad():
            greedy(model)

    assert "prefix_calls" not in found(model, clock, validate)


def test_a_teacher_that_is_called_within_the_steps_is_not_looked_at() -> None:
    clock = Clock()
    with Watched(clock) as seen:
        model, teacher = Decoder(clock), Decoder(clock).eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(6):
            optimizer.zero_grad()
            with torch.no_grad():
                target = greedy(teacher, rows=1)
            model(target).sum().backward()
            optimizer.step()
    assert seen.observer.looks.validation_calls.settings(seen.state.loop.loops()) == {}


# -- one sample at a time ----------------------------------------------------------------------


def _each(model: Any) -> None:
    for x in torch.ones(20, 4):
        model(x[None])


def test_one_sample_after_another_is_told_with_its_place_and_time() -> None:
    settings = of_net(_each, ROWS, 4)
    assert (settings["alone_calls"], settings["alone_of_calls"]) == (20, 1.0)
    assert (settings["alone_batch"], settings["alone_size"]) == (ROWS, 1.0)
    assert settings["alone_in"] == "_each"
    assert settings["alone_of_validation"] == 1.0
    assert settings["alone_s"] == pytest.approx(10e-9)


def test_a_comprehension_goes_over_samples_too() -> None:
    settings = of_net(lambda model: sum(model(x[None]).sum() for x in torch.ones(20, 4)), ROWS, 4)
    assert settings["alone_calls"] == 20


def test_what_is_added_up_is_not_fed_back() -> None:
    def summed(model: Any) -> None:
        total, kept = torch.zeros(1, 4), []
        for x in torch.ones(20, 4):
            total = total + model(x[None])
            kept.append(total)

    assert of_net(summed, ROWS, 4)["alone_calls"] == 20


def _steps_of_one(model: Any, x: torch.Tensor) -> torch.Tensor:
    for _ in range(6):
        x = x - model(x)
    return x


def test_a_roll_out_of_each_sample_is_a_loop_over_samples() -> None:
    def each(model: Any) -> None:
        for x in torch.ones(4, 4):
            _steps_of_one(model, x[None])

    settings = of_net(each, ROWS, 4)
    assert (settings["alone_calls"], settings["alone_in"]) == (24, each.__qualname__[-4:])


def test_a_comprehension_that_makes_the_arguments_feeds_nothing_back() -> None:
    def each(model: Any) -> None:
        for x in torch.ones(20, 4):
            model(*[part[None] for part in [x]])

    assert of_net(each, ROWS, 4)["alone_calls"] == 20


def _ranked(batch: torch.Tensor) -> dict[str, Any]:
    def each(model: Any) -> None:
        for x in torch.ones(20, 4):
            model.clock.spend(100)
            model.predict(x[None])

    clock = Clock()
    return found(Ranker(clock), clock, each, batch)


def test_layers_that_a_method_calls_are_one_call_of_their_model() -> None:
    settings = _ranked(torch.ones(ROWS, 4))
    assert (settings["alone_calls"], settings["alone_size"]) == (20, 1.0)
    assert settings["alone_s"] == pytest.approx(36e-9)
    assert settings["alone_of_validation"] == pytest.approx(36 * 20 / (136 * 20 - 100))


def test_a_pair_masks_sizes_are_no_batch() -> None:
    mask = torch.ones(9, 9, dtype=torch.bool)

    def each(model: Any) -> None:
        for x in torch.ones(20, 9, 4):
            model(x[None], mask)

    clock = Clock()
    assert found(Net(clock), clock, each, torch.ones(ROWS, 9, 4))["alone_calls"] == 20


def test_samples_twice_as_large_as_the_trainings_are_told_so() -> None:
    def larger(model: Any) -> None:
        for x in torch.ones(20, 8):
            model(x[None])

    assert of_net(larger, ROWS, 4)["alone_size"] == 2.0


def _one_sample_drawn(model: Any) -> None:
    x = torch.ones(1, 4)
    for _ in range(30):
        x = x - model(x)


def _pictures_of_any_size(model: Any) -> None:
    for n in range(20):
        model(torch.ones(1, 3, 8 + n, 9 + n % 3))


def _batches(model: Any) -> None:
    for _ in range(20):
        model(torch.ones(4, 4))


def _one_left_over(model: Any) -> None:
    for rows in (4, 4, 4, 1) * 10:
        model(torch.ones(rows, 4))


@pytest.mark.parametrize(
    "validate", [_one_sample_drawn, _pictures_of_any_size, _batches, _one_left_over]
)
def test_these_are_no_samples_one_by_one(validate: Validate) -> None:
    assert of_net(validate, ROWS, 4)["alone_calls"] == 0


@pytest.mark.parametrize(("batch_first", "calls"), [(True, 20), (False, 0)])
def test_where_batches_come_second_a_position_with_a_state_is_no_sample(
    batch_first: bool, calls: int
) -> None:
    def each(model: Any) -> None:
        for _ in range(20):
            model(torch.zeros(1, ROWS, dtype=torch.long), torch.zeros(1, ROWS, WIDTH))

    assert made(each, batch_first=batch_first)["alone_calls"] == calls


def test_a_batch_of_one_in_training_is_told() -> None:
    assert of_net(_each, 1, 4)["alone_batch"] == 1


# -- how much is looked at ---------------------------------------------------------------------


def test_only_the_first_calls_of_the_first_validations_are_looked_at() -> None:
    clock = Clock()
    looked = 0

    class Shape(torch.Tensor):
        @property
        def is_cpu(self) -> bool:  # type: ignore[override]
            nonlocal looked
            looked += 1
            return True

    def validate(model: Any) -> None:
        x = torch.ones(1, 4).as_subclass(Shape)
        for _ in range(300):
            model(x)

    found(Net(clock), clock, validate, torch.ones(ROWS, 4), epochs=12)
    assert 0 < looked <= 8 * 200


@pytest.mark.parametrize(("rows", "kept"), [(2_000_000, False), (20, True)])
def test_no_view_of_a_large_tensor_is_kept(rows: int, kept: bool) -> None:
    lived: list[bool] = []

    def validate(model: Any) -> None:
        whole = torch.ones(rows, 4)
        storage = weakref.ref(whole.untyped_storage())
        model(whole[:2])
        del whole
        lived.append(storage() is not None)

    of_net(validate, ROWS, 4)
    assert lived == [kept] * 3


def test_a_failure_ends_this_and_nothing_else() -> None:
    class Odd(torch.Tensor):
        @property
        def is_cpu(self) -> bool:  # type: ignore[override]
            raise RuntimeError

    settings = of_net(lambda model: model(torch.ones(1, 4).as_subclass(Odd)), ROWS, 4)
    assert settings == {}  # and `Watched` saw no failure


def test_without_validation_there_is_nothing_to_tell() -> None:
    assert of_net(lambda model: None, ROWS, 4) == {}
