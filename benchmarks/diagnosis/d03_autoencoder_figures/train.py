"""Convolutional autoencoder on drawn shapes; reconstructions are saved as pictures."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CONFIG = {"epochs": 4, "batch_size": 32, "lr": 1e-3, "plot_every": 10, "out": "figures"}


class Shapes(Dataset):
    """Filled circles and boxes."""

    def __init__(self, n, size=40, seed=3):
        rng = np.random.default_rng(seed)
        yy, xx = np.mgrid[:size, :size]
        self.images = np.zeros((n, 1, size, size), np.float32)
        for k in range(n):
            cy, cx = rng.integers(10, size - 10, 2)
            r = rng.integers(4, 10)
            if k % 2:
                self.images[k, 0] = (yy - cy) ** 2 + (xx - cx) ** 2 < r * r
            else:
                self.images[k, 0] = (abs(yy - cy) < r) & (abs(xx - cx) < r)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return torch.from_numpy(self.images[i])


class AutoEncoder(nn.Module):
    def __init__(self, latent=32):
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(32 * 100, latent),
        )
        self.decode = nn.Sequential(
            nn.Linear(latent, 32 * 100),
            nn.GELU(),
            nn.Unflatten(1, (32, 10, 10)),
            nn.ConvTranspose2d(32, 16, 2, 2),
            nn.GELU(),
            nn.ConvTranspose2d(16, 1, 2, 2),
        )

    def forward(self, x):
        return self.decode(self.encode(x))


def save_grid(step, images, outputs, losses):
    fig, axes = plt.subplots(3, 6, figsize=(9, 5))
    for col in range(6):
        axes[0, col].imshow(images[col, 0], cmap="gray")
        axes[1, col].imshow(outputs[col, 0].detach().sigmoid(), cmap="gray")
        axes[2, col].plot(losses)
    fig.suptitle(f"step {step}")
    fig.tight_layout()
    fig.savefig(Path(CONFIG["out"]) / f"step{step:05d}.png")
    plt.close(fig)


def train():
    Path(CONFIG["out"]).mkdir(exist_ok=True)
    torch.manual_seed(0)
    loader = DataLoader(Shapes(1280), batch_size=CONFIG["batch_size"], shuffle=True, drop_last=True)
    net = AutoEncoder()
    opt = torch.optim.AdamW(net.parameters(), lr=CONFIG["lr"])
    bce = nn.BCEWithLogitsLoss()
    losses = []
    for epoch in range(CONFIG["epochs"]):
        for batch in loader:
            out = net(batch)
            loss = bce(out, batch)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            losses.append(loss.item())
            if len(losses) % CONFIG["plot_every"] == 0:
                save_grid(len(losses), batch, out, losses)
        print("epoch", epoch, "loss", round(sum(losses[-len(loader) :]) / len(loader), 4))


train()
