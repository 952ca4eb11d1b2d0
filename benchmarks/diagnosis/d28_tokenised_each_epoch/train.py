"""Stars from the words of a review (made up here, with a fixed seed)."""

import random
import re

import torch
from torch import nn
from torch.utils.data import DataLoader

ONCE = False
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+|[^\w\s]")
BUCKETS = 4096


def reviews(n, seed):
    rng = random.Random(seed)
    words = ["".join(rng.choices("aeiourstlnmdkp", k=rng.randint(2, 9))) for _ in range(3000)]
    for _ in range(n):
        text = " ".join(rng.choices(words, k=rng.randint(120, 260)))
        yield text.capitalize() + ".", len(text) % 5


def tokens(text):
    return [hash_of(w) for w in WORD.findall(text.lower())]


def hash_of(word):
    value = 7
    for letter in word:
        value = (value * 31 + ord(letter)) % BUCKETS
    return value


def collate(batch):
    ids = [text if ONCE else tokens(text) for text, _ in batch]
    lengths = torch.tensor([0] + [len(i) for i in ids[:-1]])
    stars = torch.tensor([s for _, s in batch])
    return torch.tensor([i for one in ids for i in one]), lengths.cumsum(0), stars


torch.manual_seed(6)
data = [(tokens(text) if ONCE else text, stars) for text, stars in reviews(2400, 3)]
loader = DataLoader(data, batch_size=32, shuffle=True, collate_fn=collate)
model = nn.Sequential(nn.EmbeddingBag(BUCKETS, 128, mode="mean"), nn.ReLU(), nn.Linear(128, 5))
embed, rest = model[0], model[1:]
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(6):
    total = 0.0
    for ids, offsets, stars in loader:
        out = rest(embed(ids, offsets))
        loss = nn.functional.cross_entropy(out, stars)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    print(f"epoch {epoch}: {total / len(loader):.4f}")
