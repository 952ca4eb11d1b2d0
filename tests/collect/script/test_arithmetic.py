"""What a step multiplies is read off the graph of its backward pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_observing import Clock, Watched
from told_shapes import told_shapes
from torch import nn

from perfdoctor.collect.script.arithmetic import Arithmetic
from perfdoctor.collect.script.looks_of_training import _graph
from perfdoctor.collect.script.padded_batches import arithmetic_per_position
from perfdoctor.collect.script.settings_used import _matmul_precision


def _counted(output: torch.Tensor) -> Arithmetic:
    found = Arithmetic()
    found.add(_graph(output.sum()))
    return found


def test_a_product_multiplies_rows_by_both_sides_of_its_weight() -> None:
    found = _counted(nn.Linear(16, 4)(torch.rand(8, 16)))
    assert found == Arithmetic(products=8 * 16 * 4)


@told_shapes
@pytest.mark.parametrize("half", [False, True])
def test_a_convolution_multiplies_its_filter_for_each_number_it_gives(half: bool) -> None:
    """Under autocast its weight is cast on the way."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        output = nn.Conv2d(3, 5, 3)(torch.rand(2, 3, 10, 10))
    assert _counted(output) == Arithmetic(convolutions=2 * 5 * 8 * 8 * 27)


@pytest.mark.parametrize("layer", [nn.Conv1d(8, 5, 3), nn.LSTM(8, 4)])
def test_nothing_is_told_where_torch_tells_no_shapes(layer: nn.Module) -> None:
    outputs = layer(torch.rand(2, 8, 8))
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    functions = [type(type(f).__name__, (), {})() for f in _graph(outputs.sum())]
    product = SimpleNamespace(_saved_mat2_sym_sizes=(4, 4), _saved_mat1_sym_sizes=(2, 4))
    found = Arithmetic()
    found.add([product, *functions])
    assert set(found.settings().values()) == {None}
    assert arithmetic_per_position([product, *functions], [(2, 8)]) is None


@told_shapes
def test_images_that_are_cut_into_patches_are_mostly_products() -> None:
    patches, layer = nn.Conv2d(3, 32, 4, stride=4), nn.Linear(32, 128)
    tokens = patches(torch.rand(2, 3, 16, 16)).flatten(2).transpose(1, 2)
    found = _counted(layer(tokens))
    assert found == Arithmetic(products=2 * 16 * 32 * 128, convolutions=2 * 32 * 16 * 48)


def test_a_graph_without_any_tells_nothing() -> None:
    seen: dict[str, Any] = _counted(torch.rand(4, requires_grad=True) * 2).settings()
    assert set(seen.values()) == {None}


def test_the_precision_of_products_is_told_by_its_older_name() -> None:
    """torch refuses to, once a script has chosen by the newer one."""
    assert _matmul_precision(torch) == torch.get_float32_matmul_precision()

    def refuses() -> str:
        raise RuntimeError("a mix of the legacy and new APIs")

    chosen = SimpleNamespace(fp32_precision="tf32")
    torch_like = SimpleNamespace(
        get_float32_matmul_precision=refuses,
        backends=SimpleNamespace(cuda=SimpleNamespace(matmul=chosen)),
    )
    assert _matmul_precision(torch_like) == "high"
    chosen.fp32_precision = "ieee"
    assert _matmul_precision(torch_like) == "highest"
    chosen.fp32_precision = "none"
    assert _matmul_precision(torch_like) is None


def test_an_observed_step_is_counted_once() -> None:
    with Watched(Clock()) as seen:
        model = nn.Linear(16, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            model(torch.rand(8, 16)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert seen.observer.looks.now.arithmetic.settings()["multiplied_in_products"] == 8 * 16 * 4
