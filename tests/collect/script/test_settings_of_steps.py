"""What steps tell of themselves: graphs that are kept, gradients nobody uses, samplers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from test_observing import Clock, Samples, Watched
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

from perfdoctor.collect.script.settings_used import loader_settings, settings_used


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _used(seen: Watched) -> dict[str, Any]:
    return settings_used(seen.observer)


def _layers() -> tuple[nn.Linear, torch.optim.Optimizer]:
    model = nn.Linear(4, 1)
    return model, torch.optim.SGD(model.parameters(), lr=1e-3)


# -- graphs that are kept ---------------------------------------------------------------------


@pytest.mark.parametrize("way", ["tensor, by name", "tensor, by place", "function", "all names"])
def test_graphs_that_are_kept_count_however_it_is_asked_for(clock: Clock, way: str) -> None:
    with Watched(clock) as seen:
        model, optimizer = _layers()
        for _ in range(4):
            loss = model(torch.ones(2, 4)).sum()
            for _ in range(3):
                if way == "tensor, by name":
                    loss.backward(retain_graph=True)
                elif way == "tensor, by place":
                    loss.backward(None, True)
                elif way == "function":
                    torch.autograd.backward(loss, None, True)
                else:
                    torch.autograd.backward(tensors=loss, retain_graph=True)
            loss.backward()
            optimizer.step()
        assert _used(seen)["kept_graphs_per_step"] == 3


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
def test_a_graph_kept_to_be_differentiated_is_no_kept_graph(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer = _layers()
        for _ in range(4):
            x = torch.ones(2, 4, requires_grad=True)
            out = model(x).pow(2).sum()
            (slope,) = torch.autograd.grad(out, x, retain_graph=True, create_graph=True)
            for one in (slope.sum(), out):
                one.backward(retain_graph=True, create_graph=True)
            optimizer.step()
            optimizer.zero_grad()
        assert _used(seen)["kept_graphs_per_step"] == 0
        assert _used(seen)["differentiates_gradients"] is True


@pytest.mark.parametrize("way", ["by name", "by place", "not"])
def test_gradients_that_are_differentiated_are_told(clock: Clock, way: str) -> None:
    with Watched(clock) as seen:
        model, optimizer = _layers()
        for _ in range(4):
            x = torch.ones(2, 4, requires_grad=True)
            out = model(x).pow(2).sum()
            if way == "by name":
                torch.autograd.grad(out, x, create_graph=True)
            elif way == "by place":
                torch.autograd.grad(out, x, None, True, True)
            else:
                torch.autograd.grad(out, x, retain_graph=True)
            out.backward()
            optimizer.step()
        assert _used(seen)["differentiates_gradients"] is (way != "not")


def test_a_graph_kept_in_few_of_the_steps_is_not_kept_in_a_step(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer = _layers()
        for step in range(9):
            loss = model(torch.ones(2, 4)).sum()
            for _ in range(3 if step == 4 else 0):
                loss.backward(retain_graph=True)
            loss.backward()
            optimizer.step()
        assert _used(seen)["kept_graphs_per_step"] == 0


def test_the_graphs_of_several_batches_are_not_one_graph(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer = _layers()
        batches = iter(DataLoader(TensorDataset(torch.ones(24, 4)), batch_size=2))
        for _ in range(4):
            for _ in range(3):
                (batch,) = next(batches)
                model(batch).sum().backward(retain_graph=True)
            optimizer.step()
        assert _used(seen)["kept_graphs_per_step"] == 1


# -- gradients nobody uses ---------------------------------------------------------------------


class Encoded(nn.Module):
    """A head of 5 numbers on an encoder of 20."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.encoder(x))
        return out


@pytest.mark.parametrize("cleared", ["before", "after", "by the model"])
def test_an_encoder_that_only_the_optimizer_leaves_out_has_gradients_nobody_uses(
    clock: Clock, cleared: str
) -> None:
    with Watched(clock) as seen:
        model = Encoded()
        optimizer = torch.optim.SGD(model.head.parameters(), lr=1e-3)
        for _ in range(3):
            if cleared == "before":
                optimizer.zero_grad()
            if cleared == "by the model":
                model.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            if cleared == "after":
                optimizer.zero_grad()
        assert _used(seen)["gradients_unused"] == 20 / 25


def test_an_encoder_that_is_frozen_has_no_gradients(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Encoded()
        model.encoder.requires_grad_(False)
        optimizer = torch.optim.SGD(model.head.parameters(), lr=1e-3)
        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        assert _used(seen)["gradients_unused"] == 0.0


def test_an_encoder_frozen_after_it_got_gradients_gets_no_more(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Encoded()
        model(torch.ones(2, 4)).sum().backward()
        model.encoder.requires_grad_(False)
        optimizer = torch.optim.SGD(model.head.parameters(), lr=1e-3)
        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        assert _used(seen)["gradients_unused"] == 0.0


def test_what_is_left_out_and_gets_no_gradients_is_no_loss(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Encoded()
        model.unused = nn.Linear(4, 4)
        optimizer = torch.optim.SGD([*model.encoder.parameters(), *model.head.parameters()])
        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        assert _used(seen)["gradients_unused"] == 0.0


def test_two_optimizers_of_a_generator_and_its_critic_use_all_gradients(clock: Clock) -> None:
    with Watched(clock) as seen:
        generator, critic = nn.Linear(4, 8), nn.Linear(8, 1)
        g = torch.optim.Adam(generator.parameters())
        d = torch.optim.Adam(critic.parameters())
        for _ in range(3):
            fake = generator(torch.ones(2, 4))
            critic(fake.detach()).mean().backward()
            d.step()
            critic(fake).mean().backward()  # the critic's gradients of this stay
            g.step()
        assert _used(seen)["gradients_unused"] == 0.0


def test_gradients_that_an_optimizer_used_which_is_gone_were_used(clock: Clock) -> None:
    def train(model: nn.Module) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()

    with Watched(clock) as seen:
        kept = [Encoded() for _ in range(2)]
        for model in kept:
            train(model)
        assert _used(seen)["gradients_unused"] == 0.0


def test_without_an_optimizer_nobody_knows_which_gradients_are_used(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Encoded()
        for _ in range(3):
            model(torch.ones(2, 4)).sum().backward()
        assert "gradients_unused" not in _used(seen)


# -- samplers ----------------------------------------------------------------------------------


class Weighted(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return iter([0, 1, 2, 3])


class ByLength(BatchSampler):
    pass


class Drawing(BatchSampler):
    """Its length is known once all batches are drawn, which nobody but the script may do."""

    def __len__(self) -> int:
        return 3


def test_samplers_are_named_where_they_are_not_torch_s(clock: Clock) -> None:
    data = Samples(clock)
    for plain in (
        DataLoader(data, batch_size=2, shuffle=True),
        DataLoader(data, batch_size=2, sampler=RandomSampler(data)),
        DataLoader(data, batch_size=None),
    ):
        used = loader_settings(plain)
        assert (used["sampler"], used["batch_sampler"]) == (None, None)
    own = loader_settings(DataLoader(data, batch_size=2, sampler=Weighted()))
    assert (own["sampler"], own["batch_sampler"]) == ("Weighted", None)
    batches = ByLength(SequentialSampler(data), 2, drop_last=False)
    by_length = loader_settings(DataLoader(data, batch_sampler=batches))
    assert (by_length["sampler"], by_length["batch_sampler"]) == (None, "ByLength")
    assert by_length["batch_size"] == 2


def test_an_epoch_is_as_long_as_what_the_sampler_takes(clock: Clock) -> None:
    data = Samples(clock, 9)
    made = {
        "whole": DataLoader(data, batch_size=2, shuffle=True),
        "dropped": DataLoader(data, batch_size=2, drop_last=True),
        "few": DataLoader(data, batch_size=2, sampler=RandomSampler(data, num_samples=4)),
        "single": DataLoader(data, batch_size=None),
        "endless": DataLoader(data, batch_size=2, sampler=Weighted()),
        "own": DataLoader(data, batch_sampler=Drawing(SequentialSampler(data), 2, False)),
        "own inside": DataLoader(data, batch_size=2, sampler=Drawing(data, 2, False)),
    }
    known = {name: loader_settings(loader)["epoch_batches"] for name, loader in made.items()}
    told = {"whole": 5, "dropped": 4, "few": 2, "single": 9}
    assert known == told | dict.fromkeys(["endless", "own", "own inside"])


@pytest.mark.parametrize(
    ("default", "workers", "expected"),
    [("fork", 0, None), ("fork", 2, "fork"), ("spawn", 0, "spawn"), ("spawn", 2, "spawn")],
)
def test_how_workers_start_is_known_where_there_are_some_or_it_takes_long(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, default: str, workers: int, expected: str | None
) -> None:
    loader = DataLoader(Samples(clock), num_workers=workers)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: default)
    assert loader_settings(loader)["start_method"] == expected
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: None)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: [default, "other"])
    assert loader_settings(loader)["start_method"] == expected


def test_a_loader_s_own_way_of_starting_workers_counts(clock: Clock) -> None:
    loader = DataLoader(Samples(clock), num_workers=1, multiprocessing_context="forkserver")
    assert loader_settings(loader)["start_method"] == "forkserver"


class Rows:
    """Samples that lie in memory, in an attribute each of what they consist of."""

    def __init__(self, rows: Any) -> None:
        self.name, self.rows, self.mean = "rows", rows, torch.zeros(())

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("nobody asked for a sample")


@pytest.mark.parametrize("rows", [torch.ones(6, 2), np.ones((6, 1)), np.ones((6, 2), np.uint8)])
def test_samples_in_memory_are_known_without_asking_for_one(rows: Any) -> None:
    assert loader_settings(DataLoader(Rows(rows)))["dataset_in_memory"] is True
    part = Subset(Subset(Rows(rows), [1, 2, 3]), [0])
    assert loader_settings(DataLoader(part))["dataset_in_memory"] is True


@pytest.mark.parametrize(
    "rows",
    [
        torch.ones(5, 2),
        list(range(6)),
        torch.ones(()),
        torch.arange(6),
        np.array(["a.png"] * 6),
        np.array([["a.png", "cat"]] * 6),
        np.array([["a.png", 3]] * 6, dtype=object),
    ],
    ids=["fewer", "list", "one", "labels", "paths", "rows of texts", "rows of objects"],
)
def test_what_holds_no_row_for_each_sample_is_not_taken_for_them(rows: Any) -> None:
    assert loader_settings(DataLoader(Rows(rows)))["dataset_in_memory"] is None


class Odd:
    """What nobody may ask anything."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_a_data_set_that_fails_where_it_is_looked_into_ends_nothing() -> None:
    odd = type("Tensor", (Odd,), {})()
    used = loader_settings(DataLoader(Rows(odd), batch_size=2))
    assert used["dataset_in_memory"] is None
    assert (used["batch_size"], used["dataset_size"]) == (2, 6)


def test_who_puts_samples_together_is_named() -> None:
    def pad(samples: Any) -> Any:
        return samples

    data = Rows(torch.ones(6, 2))
    found = [
        loader_settings(loader)["collate"]
        for loader in (
            DataLoader(data, batch_size=2),
            DataLoader(data, batch_size=2, collate_fn=pad),
            DataLoader(data, batch_size=2, collate_fn=partial(pad)),
            DataLoader(data, batch_size=None),
        )
    ]
    assert found == ["default", "pad", "partial", "default_convert"]


def test_the_training_s_sampler_is_among_the_settings(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer = _layers()
        for x, _ in DataLoader(Samples(clock), batch_size=2, sampler=Weighted()):
            model(x).sum().backward()
            optimizer.step()
        used = _used(seen)
    assert used["sampler"] == "Weighted"
    assert "batch_sampler" not in used
