"""Tiny datasets, models and workloads for the tests of collecting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from perfdoctor import Workload
from perfdoctor.stages import stage
from perfdoctor.workload import UnreadableSampleError


class Points(Dataset):
    """Four features and a class."""

    def __init__(self, count: int = 64) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return torch.full((4,), float(index)), index % 2


class PartlyUnreadable(Points):
    """Every fifth sample cannot be read."""

    def __getitem__(self, index: int) -> Any:
        if index % 5 == 0:
            raise UnreadableSampleError(f"file{index}.jpg", "truncated")
        return super().__getitem__(index)


class Unreadable(Points):
    def __getitem__(self, index: int) -> Any:
        raise UnreadableSampleError(f"file{index}.jpg", "truncated")


class Broken(Points):
    def __getitem__(self, index: int) -> Any:
        raise KeyError("no such column")


class NamingAStage(Points):
    def __getitem__(self, index: int) -> Any:
        with stage("decode"):
            return super().__getitem__(index)


class Stream(IterableDataset):
    """Twelve samples, one of which is an error object as perfdoctor's own streams yield it."""

    def __iter__(self) -> Iterator[Any]:
        for index in range(12):
            if index == 3:
                yield UnreadableSampleError("shard.tar", "bad member")
            yield torch.full((4,), float(index)), index % 2


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class Searched(Classifier):
    """A classifier with one architecture parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.alpha


def workload(**changes: Any) -> Workload:
    fields: dict[str, Any] = {"model": Classifier(), "dataset": Points(), "batch_size": 8}
    return Workload(**(fields | changes))


def searched_workload(**changes: Any) -> Workload:
    model = Searched()
    return workload(model=model, arch_parameters=[model.alpha], **changes)


def searched_workload_second_order() -> Workload:
    return searched_workload(arch_order=2)
