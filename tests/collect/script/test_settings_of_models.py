"""What an observed model says of itself: attention, and sides that 8 does not divide."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from perfdoctor.collect.script.settings_used import _attention, _misaligned


def test_attention_is_what_a_transformers_model_says() -> None:
    model = nn.Linear(2, 2)
    assert _attention(model) is None
    model.config = SimpleNamespace(_attn_implementation="eager")  # type: ignore[assignment]
    assert _attention(model) == "eager"
    model.config = SimpleNamespace()  # type: ignore[assignment]
    assert _attention(model) is None


def test_misaligned_weights_are_counted_by_their_number() -> None:
    model = nn.Sequential(nn.Linear(8, 30), nn.Linear(16, 45), nn.Conv2d(3, 5, 3))
    assert _misaligned(model) == 1.0
    model = nn.Sequential(nn.Linear(8, 32), nn.Linear(8, 4))
    assert _misaligned(model) == pytest.approx(32 / (256 + 32))
    assert _misaligned(nn.Sequential(nn.ReLU())) is None
