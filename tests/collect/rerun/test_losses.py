"""The first losses of a script, however its gradients are scaled."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch.optim import optimizer as optimizers

from perfdoctor.collect.rerun.losses import Losses


@pytest.fixture
def losses(monkeypatch):
    kind = torch.amp.GradScaler
    monkeypatch.setattr(torch.Tensor, "backward", torch.Tensor.backward)  # and back again
    monkeypatch.setattr(kind, "scale", kind.scale)
    monkeypatch.setattr(optimizers, "_global_optimizer_pre_hooks", OrderedDict())
    made = Losses()
    made.install(torch)
    made.note_scaling(kind)
    return made


def test_the_scale_that_a_step_was_left_out_with_is_no_part_of_its_loss(losses):
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    scales = []
    for _ in range(3):
        scales.append(scaler.get_scale())
        scaler.scale((3.0 * weight).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.step_ends()
    assert scales[-1] < scales[0]  # it found gradients that are infinite
    assert losses.losses[-1] == 3.0
    assert all(norm == 3.0 for norm in losses.gradient_norms) and losses.gradient_norms


def test_losses_that_are_not_scaled_are_as_they_are(losses):
    weight = torch.nn.Parameter(torch.ones(1))
    torch.amp.GradScaler("cpu").scale(weight * 5.0)
    (3.0 * weight).sum().backward()
    losses.step_ends()
    assert losses.losses == [3.0]
