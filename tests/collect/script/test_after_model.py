"""Where the model ends and the loss begins."""

from __future__ import annotations

import pytest
from torch import nn

from perfdoctor.collect.script.after_model import AfterModel


def _whole() -> nn.Module:
    return nn.ModuleDict({"trunk": nn.Linear(2, 2), "head": nn.Linear(2, 1)})


@pytest.mark.parametrize(("calls", "first"), [(1, 110), (15, 250), (16, 100), (400, 100)])
def test_a_head_called_in_a_loop_is_part_of_the_loss(calls, first):
    model, after = _whole(), AfterModel()
    after.forward_ends(model, 100)
    for call in range(calls):
        after.forward_ends(model["head"], 110 + 10 * call)
    assert after.first == first


def test_parts_are_the_forward_where_the_whole_is_not_called():
    model, after = _whole(), AfterModel()
    after.forward_ends(model, 100)
    after.backward_ends()
    assert after.first == 100
    for call in range(40):
        after.forward_ends(model["trunk"], 200 + call)
        after.forward_ends(model["head"], 300 + call)
    assert after.first == 339


def test_another_model_ends_the_loss_of_the_first():
    model, other, after = _whole(), _whole(), AfterModel()
    after.forward_ends(model, 100)
    for call in range(20):
        after.forward_ends(model["head"], 110 + call)
    after.forward_ends(other, 500)
    assert after.first == 500
    after.forward_ends(model["head"], 510)
    assert after.first == 510
