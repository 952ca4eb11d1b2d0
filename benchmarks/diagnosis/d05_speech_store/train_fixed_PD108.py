"""Keyword spotting from clips that lie in an object store."""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class StoreClient:
    """A bucket: each `get` is one request over the network."""

    ROUND_TRIP_S = 0.012

    def __init__(self, seed):
        self.seed = seed

    def get(self, key):
        time.sleep(self.ROUND_TRIP_S)
        rng = np.random.default_rng((self.seed, key))
        clip = rng.standard_normal((16, 64)).astype(np.float32)
        clip[key % 8] += 1.0
        return clip


class Clips(Dataset):
    def __init__(self, keys, client):
        self.keys = list(keys)
        self.client = client

    def __len__(self):
        return len(self.keys)

    def __getitems__(self, indices):
        if not hasattr(self, "pool"):
            self.pool = ThreadPoolExecutor(16)
        return list(self.pool.map(self.__getitem__, indices))

    def __getitem__(self, i):
        key = self.keys[i]
        return self.client.get(key), key % 8


class Spotter(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(16, 96, 5, padding=2),
            nn.BatchNorm1d(96),
            nn.ReLU(),
            nn.Conv1d(96, 96, 5, padding=2),
            nn.BatchNorm1d(96),
            nn.ReLU(),
        )
        self.out = nn.Linear(96, 8)

    def forward(self, x):
        return self.out(self.features(x).amax(-1))


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=2)
    ap.add_argument("--clips", type=int, default=768)
    ap.add_argument("--batch-size", type=int, default=24)
    ap.add_argument("--workers", type=int, default=2)
    opt = ap.parse_args()
    torch.manual_seed(0)

    loader = DataLoader(
        Clips(range(opt.clips), StoreClient(5)),
        opt.batch_size,
        shuffle=True,
        num_workers=opt.workers,
        persistent_workers=True,
    )
    model = Spotter()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    ce = nn.CrossEntropyLoss()
    for epoch in range(opt.epochs):
        hits, seen, total = 0, 0, 0.0
        for clips, labels in loader:
            logits = model(clips)
            loss = ce(logits, labels)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            hits += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
            total += loss.item() * len(labels)
        print(f"{epoch=} loss={total / seen:.3f} acc={hits / seen:.3f}")
