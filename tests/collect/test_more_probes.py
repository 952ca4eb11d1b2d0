"""Probes of data, layout, memory and compiling: what they compare, and that they leave no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import toys
from torch import nn
from torch.utils.data import Dataset

from perfdoctor.collect import data_probes, memory, model_probes
from perfdoctor.collect.options import BenchOptions
from perfdoctor.collect.training import TrainingLoop


class Random(toys.Points):
    def __getitem__(self, index: int) -> Any:
        return torch.rand(4), index % 2


class Images(Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        return torch.full((3, 8, 8), float(index)), index % 2


class Convolutions(nn.Sequential):
    def __init__(self) -> None:
        blocks = [nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)]
        super().__init__(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def begun(workers: int = 0, **changes: Any) -> TrainingLoop:
    options = BenchOptions(device="cpu", num_workers=workers)
    loop = TrainingLoop(lambda: toys.workload(**changes), options)
    loop.run_steps(2)
    loop.finish()
    return loop


def test_samples_that_come_out_the_same_could_be_kept() -> None:
    arms = data_probes.cached_samples(begun(), "fp32")
    assert arms is not None
    assert arms.details == {"same_each_time": 1.0, "sample_bytes": 4 * 4 + 8}
    made, kept = arms.now(), arms.changed()
    assert all(torch.equal(a, b) for a, b in zip(made, kept, strict=True))


def test_random_samples_could_not() -> None:
    arms = data_probes.cached_samples(begun(dataset=Random()), "fp32")
    assert arms is not None
    assert arms.details is not None
    assert arms.details["same_each_time"] == 0.0


def test_a_stream_or_a_slow_dataset_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_probes.cached_samples(begun(dataset=toys.Stream()), "fp32") is None
    monkeypatch.setattr(data_probes, "_SLOWEST_S", -1.0)
    assert data_probes.cached_samples(begun(), "fp32") is None


def test_neighbours_are_compared_with_samples_from_all_over() -> None:
    asked: list[int] = []

    class Watched(toys.Points):
        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return super().__getitem__(index)

    arms = data_probes.neighbouring_samples(begun(dataset=Watched(10_000)), "fp32")
    assert arms is not None
    asked.clear()
    arms.changed()
    assert asked == list(range(asked[0], asked[0] + 8))
    asked.clear()
    arms.now()
    assert max(asked) - min(asked) > 1000
    assert data_probes.neighbouring_samples(begun(), "fp32") is None


def test_a_batch_is_handed_over_as_it_is_and_as_one_tensor() -> None:
    arms = data_probes.handed_over(begun(workers=1), "fp32")
    assert arms is not None
    assert arms.details is not None
    assert (arms.details["tensors"], arms.details["batch_bytes"]) == (2.0, 8 * (4 * 4 + 8))
    assert arms.details["handover_s"] > 0
    assert [t.shape for t in arms.now()] == [(8, 4), (8,)]
    assert arms.changed().numel() == 8 * (4 * 4 + 8)
    assert data_probes.handed_over(begun(), "fp32") is None


def test_the_other_layout_is_tried_on_a_copy() -> None:
    loop = begun(model=Convolutions(), dataset=Images())
    before = [p.detach().clone() for p in loop.eager_model.parameters()]
    arms = model_probes.channels_last(loop, "fp32")
    assert arms is not None
    arms.now(), arms.changed()
    assert loop.model is loop.eager_model
    assert all(
        torch.equal(a, b) and b.is_contiguous()
        for a, b in zip(before, loop.eager_model.parameters(), strict=True)
    )
    assert model_probes.channels_last(begun(), "fp32") is None


def test_four_times_the_batch_is_made_of_what_was_captured() -> None:
    arms = model_probes.larger_batch(2)(begun(), "fp32")
    assert arms is not None
    assert arms.details is not None
    assert (arms.scale, arms.details["batch_size"]) == (4.0, 32.0)


def test_both_ways_to_save_memory_are_measured_where_it_is_tight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = begun(model=Convolutions(), dataset=Images())
    assert model_probes.accumulation(loop, "fp32") is None
    monkeypatch.setattr(memory, "total_bytes", lambda device: 1)
    halves = model_probes.accumulation(loop, "fp32")
    again = model_probes.gradient_checkpointing(loop, "fp32")
    assert halves is not None
    assert again is not None
    for arms in (halves, again):
        assert arms.details is not None
        assert 0 < arms.details["kept_bytes_after"] < arms.details["kept_bytes"]
        arms.now(), arms.changed()
    assert all("forward" not in vars(block) for block in loop.eager_model)
    assert all(p.grad is None for p in loop.eager_model.parameters())


def test_gradients_are_the_same_with_blocks_run_again() -> None:
    loop = begun(model=Convolutions(), dataset=Images())
    blocks = model_probes._blocks(loop.eager_model)
    batch = loop.captured[0]

    def gradients() -> list[torch.Tensor]:
        loop.eager_model.zero_grad()
        loop.loss_of(batch).backward()
        return [p.grad.clone() for p in loop.eager_model.parameters() if p.grad is not None]

    plain = gradients()
    with model_probes._checkpointed(blocks):
        again = gradients()
    assert all(torch.allclose(a, b) for a, b in zip(plain, again, strict=True))
