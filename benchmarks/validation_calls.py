"""What is left of validation whose calls are put together, or keep what they know: two tables.

    python benchmarks/validation_calls.py [--repeats 15]

Small models as trainings on a CPU have them, in one thread, by its processor time. The first table:
a call on one sample, a sample's part of a batch without gradients, and its part of the training's
forward pass, from which PD512 predicts (`perfdoctor/rules/validation_calls.py`). The second: token
by token on the whole prefix and on the last position with what is kept, beside what PD511 predicts
from the calls on the prefix alone; and how much of what that says goes really does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

BATCH, POSITIONS, FIRST_CALLS = 64, 48, 3


class Forecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 96, batch_first=True), nn.Linear(96, 1)

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    def forward(self, x: Any) -> Any:
        return self.layers(x).mean(1)


def convolutions(channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(3):
        layers += [
            nn.Conv2d(channels if i else 3, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        ]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


MODELS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "GRU of 96, 60 positions": lambda: (Forecaster(), (60, 5)),
    "three attention layers of 64, 32 positions": lambda: (Encoder(), (32, 64)),
    "convolutions of 16, 32 × 32": lambda: (convolutions(16), (3, 32, 32)),
    "convolutions of 64, 64 × 64": lambda: (convolutions(64), (3, 64, 64)),
    "three linear layers of 256": lambda: (
        nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        ),
        (64,),
    ),
}


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.GRU | nn.LSTM], width: int) -> None:
        super().__init__()
        self.table, self.rnn = nn.Embedding(50, 64), kind(64, width, batch_first=True)
        self.head = nn.Linear(width, 50)

    def forward(self, tokens: Any, state: Any = None) -> Any:
        out, state = self.rnn(self.table(tokens), state)
        return self.head(out), state


class Attending(nn.Module):
    """A causal transformer that keeps keys and values."""

    def __init__(self, width: int, layers: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.table, self.heads = nn.Embedding(50, width), heads
        self.attention = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.mixed = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(layers)
        )
        self.head = nn.Linear(width, 50)

    def forward(self, tokens: Any, state: Any = None) -> Any:
        x, kept = self.table(tokens), []
        for i, (attention, mixed) in enumerate(zip(self.attention, self.mixed, strict=True)):
            q, k, v = (
                part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for part in attention(x).chunk(3, -1)
            )
            if state is not None:
                k, v = (torch.cat(pair, 2) for pair in zip(state[i], (k, v), strict=True))
            kept.append((k, v))
            out = functional.scaled_dot_product_attention(q, k, v, is_causal=state is None)
            x = x + out.transpose(1, 2).flatten(2)
            x = x + mixed(x)
        return self.head(x), kept


GENERATING: dict[str, Callable[[], nn.Module]] = {
    "GRU of 160": lambda: Recurrent(nn.GRU, 160),
    "LSTM of 256": lambda: Recurrent(nn.LSTM, 256),
    "three attention layers of 64": lambda: Attending(64),
    "three attention layers of 256": lambda: Attending(256),
}


def timed(call: Callable[[], Any]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began


def of_one(make: Callable[[], tuple[nn.Module, tuple[int, ...]]], repeats: int) -> str:
    model, shape = make()
    one, batch = torch.randn(1, *shape), torch.randn(BATCH, *shape)
    times: list[tuple[float, float, float]] = []
    for _ in range(repeats):
        model.train()
        forward = timed(lambda: model(batch)) / BATCH
        model.eval()
        with torch.no_grad():
            times.append((timed(lambda: model(one)), timed(lambda: model(batch)) / BATCH, forward))
    single, together, forward = (statistics.median(column) for column in zip(*times, strict=True))
    return (
        f"{single * 1e6:9.0f} {together * 1e6:9.1f} {forward * 1e6:9.1f} "
        f"{together / single:7.3f} {together / forward:8.2f}"
    )


@torch.no_grad()
def of_prefixes(make: Callable[[], nn.Module], rows: int, repeats: int) -> str:
    model, tokens = make().eval(), torch.randint(0, 50, (rows, POSITIONS))
    lengths = range(1, POSITIONS + 1)
    whole = [
        statistics.median(timed(lambda n=n: model(tokens[:, :n])) for _ in range(repeats))  # type: ignore[misc]
        for n in lengths
    ]
    kept: list[float] = []
    for _ in range(repeats):
        state, spent = None, 0.0
        for n in lengths:
            began = time.thread_time()
            _, state = model(tokens[:, n - 1 : n], state)
            spent += time.thread_time() - began
        kept.append(spent)
    all_s, kept_s = sum(whole), statistics.median(kept)
    first_s = POSITIONS * statistics.median(whole[:FIRST_CALLS])
    goes = (all_s - kept_s) / (all_s - first_s) if all_s > first_s else float("nan")
    return f"{all_s * 1e3:9.1f} {kept_s * 1e3:9.1f} {first_s * 1e3:9.1f} {goes:8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"{'one sample at a time':45} one, µs in batch  forward    left ÷forward")
    for name, make in MODELS.items():
        print(f"{name:45} {of_one(make, repeats)}", flush=True)
    print(f"\n{'token by token, ms':45}   prefix      kept predicted     goes")
    for name, generating in GENERATING.items():
        for rows in (1, BATCH):
            case = f"{name}, {rows} rows"
            print(f"{case:45} {of_prefixes(generating, rows, repeats)}", flush=True)


if __name__ == "__main__":
    main()
