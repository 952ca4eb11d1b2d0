"""A training that ends in a way of its own: `training_endings.py WHERE`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import warnings
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, default_collate

WHERE = sys.argv[1]
BATCH, LAST = 4, 6


class Data(Dataset[Any]):
    def __len__(self) -> int:
        return 8 * BATCH

    def __getitem__(self, i: int) -> Any:
        if WHERE in ("dataset", "worker") and i == 17:
            raise ValueError("bad sample 17")
        return torch.full((4,), float(i)), torch.tensor(1.0)


def collate(items: Any) -> Any:
    if WHERE == "collate" and items[0][0][0] == 16:
        raise RuntimeError("cannot collate")
    return default_collate(items)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if WHERE == "forward" and x[0, 0] == 16:
            raise ArithmeticError("in forward")
        if WHERE == "warnings":
            warnings.warn("from the model", stacklevel=2)
        return self.layer(x).squeeze(-1)


class Sgd(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        super().step(closure)
        if WHERE == "optimizer" and made == LAST - 1:
            raise ValueError("in step")


class Unsavable:
    def __reduce__(self) -> Any:
        raise TypeError("cannot be saved")


def hook(gradient: torch.Tensor) -> None:
    if WHERE == "backward" and made == LAST - 1:
        raise ZeroDivisionError("in backward")


def deep() -> None:
    deep()


def bad_hook(*error: Any) -> None:
    print("hooked", error[0].__name__, file=sys.stderr)
    raise RuntimeError


def validate() -> None:
    model.eval()
    with torch.no_grad():
        model(torch.ones(2, 3))


def fail_in_a_thread() -> None:
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()


def by_signal(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def remove_output() -> None:
    shutil.rmtree("out", ignore_errors=True)


def bad_exit() -> None:
    sys.excepthook = bad_hook
    raise KeyError("lost")


ENDS = {
    "exit": lambda: sys.exit(5),
    "exit text": lambda: sys.exit("that was all"),
    "os._exit": lambda: os._exit(6),
    "SIGTERM": lambda: by_signal(signal.SIGTERM),
    "SIGINT": lambda: by_signal(signal.SIGINT),
    "too much memory": lambda: torch.empty(1 << 50),
    "thread": fail_in_a_thread,
    "removed output": remove_output,
    "another folder": lambda: os.chdir("/"),
    "validation": validate,
    "checkpoint": lambda: torch.save(Unsavable(), os.devnull),
    "recursion": deep,
    "excepthook": bad_exit,
}

torch.manual_seed(0)
model = Net()
optimizer = Sgd(model.parameters(), lr=1e-3)
made = 0
try:
    workers = int(WHERE == "worker")
    for x, y in DataLoader(Data(), BATCH, num_workers=workers, collate_fn=collate):
        optimizer.zero_grad()
        out = model(x)
        out.register_hook(hook)
        loss = nn.functional.mse_loss(
            out, y[:3] if WHERE == "loss" and made == LAST - 1 else y, reduction="mean"
        )
        loss.backward()
        optimizer.step()
        made += 1
        print(loss.item().hex(), flush=True)
        if made == LAST and WHERE in ENDS:
            ENDS[WHERE]()
finally:
    print("cleaned up", made, flush=True)
