"""Matrix factorisation with biases on implicit ratings."""

from pathlib import Path

import torch
from torch import nn

USERS, ITEMS, DIM = 60_000, 40_000, 32
BATCH, STEPS, SAVE_EVERY = 4096, 260, 50


class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.user = nn.Embedding(USERS, DIM)
        self.item = nn.Embedding(ITEMS, DIM)
        self.user_bias = nn.Embedding(USERS, 1)
        self.item_bias = nn.Embedding(ITEMS, 1)
        nn.init.normal_(self.user.weight, std=0.05)
        nn.init.normal_(self.item.weight, std=0.05)

    def forward(self, u, i):
        dot = (self.user(u) * self.item(i)).sum(-1)
        return dot + self.user_bias(u).squeeze(-1) + self.item_bias(i).squeeze(-1)


class Checkpointer:
    def __init__(self, folder, keep=2):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.keep = keep
        self.saved = []

    def save(self, step, model, optimizer, loss):
        path = self.folder / f"step_{step:06d}.pt"
        state = {
            "step": step,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "loss": loss,
        }
        torch.save(state, path)
        self.saved.append(path)
        if len(self.saved) > self.keep:
            self.saved.pop(0).unlink()


torch.manual_seed(0)
users = torch.randint(0, USERS, (STEPS * BATCH,))
items = torch.randint(0, ITEMS, (STEPS * BATCH,))
ratings = ((users * 31 + items * 17) % 5).float() / 4

model = Factors()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
checkpointer = Checkpointer("checkpoints")
for step in range(1, STEPS + 1):
    rows = slice((step - 1) * BATCH, step * BATCH)
    prediction = model(users[rows], items[rows])
    loss = nn.functional.mse_loss(prediction, ratings[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % SAVE_EVERY == 0:
        checkpointer.save(step, model, optimizer, loss.item())
    if step % 50 == 0:
        print(f"[{step}/{STEPS}] mse={loss.item():.4f}")
