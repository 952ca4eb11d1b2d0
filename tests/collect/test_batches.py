"""Batches of any structure."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from torch import nn

from perfdoctor.collect import batches
from perfdoctor.errors import PerfdoctorError

Pair = namedtuple("Pair", "x y")


def test_structures_keep_their_type():
    tree = {"a": [torch.ones(2), "text"], "b": Pair(torch.ones(2), 3)}
    doubled = batches.tree_map(lambda t: t * 2, tree)
    assert isinstance(doubled["b"], Pair)
    assert doubled["a"][1] == "text"
    assert doubled["b"].x.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("batch", "inputs", "target"),
    [
        ([1, 2], 1, 2),
        ((1, 2, 3), (1, 2), 3),
        ({"x": 1, "labels": 2}, {"x": 1, "labels": 2}, 2),
        ({"x": 1}, {"x": 1}, None),
        ([1], 1, None),
        (7, 7, None),
    ],
)
def test_batches_are_unpacked_as_people_expect(batch, inputs, target):
    assert batches.default_unpack(batch) == (inputs, target)


def test_tuples_become_positional_and_mappings_keyword_arguments():
    class Model(nn.Module):
        def forward(self, *args, **kwargs):
            return args, kwargs

    assert batches.call_model(Model(), (1, 2)) == ((1, 2), {})
    assert batches.call_model(Model(), {"x": 1}) == ((), {"x": 1})
    assert batches.call_model(Model(), 5) == ((5,), {})


def test_losses_follow_from_shapes():
    classes, logits = torch.tensor([0, 1]), torch.zeros(2, 3)
    assert batches.default_loss(logits, classes).item() == pytest.approx(1.0986, abs=1e-3)
    tokens = torch.zeros(2, 5, 7), torch.zeros(2, 5, dtype=torch.long)
    assert batches.default_loss(*tokens).dim() == 0
    maps = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    assert batches.default_loss(*maps).dim() == 0
    assert batches.default_loss(torch.ones(2, 1), torch.zeros(2)).item() == 1


def test_a_loss_that_the_model_computed_is_taken():
    assert batches.default_loss(torch.tensor(4.0), None) == 4
    assert batches.default_loss({"loss": torch.tensor(3.0)}, None) == 3
    assert batches.default_loss(Pair(torch.zeros(1, 2), 0), torch.tensor([1])) > 0


@pytest.mark.parametrize("pair", [("text", None), (torch.ones(2, 3), torch.ones(5))])
def test_where_no_loss_fits_the_way_out_is_named(pair):
    with pytest.raises(PerfdoctorError, match=r"give Workload\(loss=\.\.\.\)"):
        batches.default_loss(*pair)


def test_a_sample_and_a_double_batch_can_be_cut_from_it():
    batch = [torch.zeros(4, 3), {"y": torch.zeros(4), "scale": torch.tensor(2.0)}]
    assert batches.samples_in(batch) == 4
    assert batches.samples_in(batches.first_sample(batch)) == 1
    double = batches.joined(batch, batch)
    assert double[1]["y"].shape == (8,)
    assert double[1]["scale"].dim() == 0


def test_channels_last_applies_to_images_only():
    moved = batches.to_device(
        [torch.zeros(2, 3, 4, 4), torch.zeros(2)],
        torch.device("cpu"),
        non_blocking=False,
        channels_last=True,
    )
    assert moved[0].is_contiguous(memory_format=torch.channels_last)


def test_a_batch_class_of_its_own_moves_itself():
    class Graph:
        moved_to = None

        def to(self, device):
            self.moved_to = device
            return self

    graph = batches.to_device(Graph(), torch.device("cpu"), non_blocking=False)
    assert graph.moved_to == torch.device("cpu")
