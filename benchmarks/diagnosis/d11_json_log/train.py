"""Click model with a JSON log for the dashboard."""

import json
import os
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class JsonLogger:
    def __init__(self, path):
        self.file = Path(path).open("w")  # noqa: SIM115

    def log(self, record):
        self.file.write(json.dumps(record, indent=1, sort_keys=True) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self):
        self.file.close()


class ClickNet(nn.Module):
    def __init__(self, fields=12, cardinality=500, dim=16):
        super().__init__()
        self.embed = nn.Embedding(fields * cardinality, dim)
        self.register_buffer("offset", torch.arange(fields) * cardinality)
        self.mlp = nn.Sequential(nn.Linear(fields * dim, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(self, x):
        return self.mlp(self.embed(x + self.offset).flatten(1)).squeeze(1)


def summarise(step, epoch, loss, logits, model):
    return {
        "step": step,
        "epoch": epoch,
        "loss": loss.item(),
        "predictions": [round(v, 6) for v in logits.sigmoid().tolist()],
        "weights": {k: v.detach().flatten()[:400].tolist() for k, v in model.named_parameters()},
    }


def main():
    torch.manual_seed(6)
    x = torch.randint(0, 500, (25_600, 12))
    y = ((x[:, 0] + x[:, 3]) % 3 == 0).float()
    loader = DataLoader(TensorDataset(x, y), batch_size=128, shuffle=True)
    model = ClickNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    logger = JsonLogger("metrics.jsonl")
    step = 0
    for epoch in range(4):
        for fields, clicked in loader:
            optimizer.zero_grad()
            logits = model(fields)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, clicked)
            loss.backward()
            optimizer.step()
            step += 1
            logger.log(summarise(step, epoch, loss, logits, model))
            print(f"epoch {epoch} step {step} loss {loss.item():.6f}", flush=True)
    logger.close()


if __name__ == "__main__":
    main()
