"""What an observed model says of itself: attention, sides that 8 does not divide, compiling."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from torch import nn

from perfdoctor.collect.script.settings_used import _attention, _compiled, _misaligned


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


@pytest.mark.parametrize("graphs", [0, 2])
def test_a_function_that_was_compiled_shows_by_its_graphs(
    graphs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = {"stats": {"unique_graphs": graphs}, "graph_break": {}}
    compiler = SimpleNamespace(counters=counters, get_compilation_metrics=list)
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", compiler)
    assert _compiled([nn.Linear(2, 2)]) is _compiled([]) is (graphs > 0)


def test_a_module_is_compiled_before_it_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo.utils", raising=False)
    model = nn.Sequential(nn.Linear(2, 2))
    assert not _compiled([model])
    model[0]._compiled_call_impl = print  # as Module.compile sets it
    assert _compiled([model])
