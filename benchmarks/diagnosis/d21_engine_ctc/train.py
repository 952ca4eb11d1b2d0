"""Line reader trained with CTC on an engine with event handlers."""

import random
from collections import defaultdict, deque
from enum import Enum

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CHARS = 26


class Event(Enum):
    STEP_DONE = 1
    EPOCH_DONE = 2


class Engine:
    """Runs `process` on every batch and calls the handlers of each event."""

    def __init__(self, process):
        self.process = process
        self.handlers = defaultdict(list)
        self.state = {"epoch": 0, "step": 0, "output": None}

    def on(self, event, every=1):
        def register(handler):
            self.handlers[event].append((every, handler))
            return handler

        return register

    def fire(self, event, count):
        for every, handler in self.handlers[event]:
            if count % every == 0:
                handler(self)

    def run(self, data, max_epochs):
        for _ in range(max_epochs):
            self.state["epoch"] += 1
            for batch in data:
                self.state["output"] = self.process(batch)
                self.state["step"] += 1
                self.fire(Event.STEP_DONE, self.state["step"])
            self.fire(Event.EPOCH_DONE, self.state["epoch"])


class Lines(Dataset):
    def __init__(self, n, seed):
        rng = random.Random(seed)
        self.texts = [[rng.randrange(1, CHARS + 1) for _ in range(60)] for _ in range(n)]
        g = torch.Generator().manual_seed(seed)
        self.glyphs = torch.randn(CHARS + 1, 32, 4, generator=g)

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, i):
        text = self.texts[i]
        strip = self.glyphs[text].permute(1, 0, 2).flatten(1)
        return strip, torch.tensor(text)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(32, 32, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(32, 32, 4, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Conv1d(32, CHARS + 1, 3, padding=1)

    def forward(self, x):
        return self.head(self.conv(x)).permute(2, 0, 1).log_softmax(-1)


def decode(log_probs):
    texts = []
    for path in log_probs.argmax(-1).T.tolist():
        texts.append([c for k, c in enumerate(path) if c and (k == 0 or path[k - 1] != c)])
    return texts


def edit_distance(a, b):
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        current = [i]
        for j, y in enumerate(b, 1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (x != y)))
        previous = current
    return previous[-1]


def main():
    torch.manual_seed(2)
    loader = DataLoader(Lines(512, 0), batch_size=32, shuffle=True)
    model = Reader()
    criterion = nn.CTCLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    recent = deque(maxlen=8)

    def process(batch):
        strips, targets = batch
        log_probs = model(strips)
        lengths = torch.full((len(strips),), len(log_probs))
        loss = criterion(log_probs, targets, lengths, torch.full((len(strips),), targets.shape[1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent.append((log_probs.detach(), targets))
        return loss.item()

    trainer = Engine(process)
    rates = []

    @trainer.on(Event.STEP_DONE)
    def character_error_rate(engine):
        wrong = total = 0
        for log_probs, targets in recent:
            for text, truth in zip(decode(log_probs), targets.tolist(), strict=True):
                wrong += edit_distance(text, truth)
                total += len(truth)
        rates.append(wrong / total)

    @trainer.on(Event.EPOCH_DONE)
    def report(engine):
        loss = engine.state["output"]
        print(f"epoch {engine.state['epoch']} loss {loss:.4f} cer {rates[-1]:.3f}")

    trainer.run(loader, max_epochs=5)


if __name__ == "__main__":
    main()
