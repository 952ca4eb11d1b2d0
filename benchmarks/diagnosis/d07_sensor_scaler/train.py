"""Remaining-life regression from machine sensors (tabular, scikit-learn preprocessing)."""

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import PowerTransformer, StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset


def make_table(rows, sensors, seed):
    rng = np.random.default_rng(seed)
    x = rng.gamma(2.0, 1.0, (rows, sensors))
    life = np.log1p(x[:, :4]).sum(1) + 0.1 * rng.normal(size=rows)
    return x, life.astype(np.float32)


class SensorDataset(Dataset):
    def __init__(self, x, life):
        self.x, self.life = x, life
        self.power = PowerTransformer().fit(x)
        self.scaler = StandardScaler().fit(self.power.transform(x))
        self.pca = PCA(16, random_state=0).fit(self.scaler.transform(self.power.transform(x)))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        row = self.power.transform(self.x[i].reshape(1, -1))
        row = self.pca.transform(self.scaler.transform(row))
        return row[0].astype(np.float32), self.life[i]


class Regressor(nn.Module):
    def __init__(self, d_in=16, width=128):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(d_in, width),
            nn.ELU(),
            nn.Dropout(0.1),
            nn.Linear(width, width),
            nn.ELU(),
            nn.Linear(width, 1),
        )

    def forward(self, x):
        return self.net(x)[:, 0]


def run(epochs=4, batch_size=64, lr=3e-3):
    torch.manual_seed(1)
    dataset = SensorDataset(*make_table(1500, 20, seed=0))
    loader = DataLoader(
        dataset, batch_size=batch_size, shuffle=True, num_workers=2, persistent_workers=True
    )
    model = Regressor()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * len(loader))
    for epoch in range(epochs):
        errors = []
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.huber_loss(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            errors.append(loss.item())
        print(f"epoch {epoch} huber {np.mean(errors):.4f} lr {schedule.get_last_lr()[0]:.2e}")


if __name__ == "__main__":
    run()
