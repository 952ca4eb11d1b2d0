"""Topic classifier on bags of words; batches come from a generator."""

import random

import torch
from torch import nn

VOCAB, TOPICS = 1500, 10


def make_documents(n, rng):
    documents = []
    for _ in range(n):
        topic = rng.randrange(TOPICS)
        words = [rng.randrange(VOCAB) for _ in range(120)]
        words += [topic * 150 + rng.randrange(150) for _ in range(40)]
        documents.append((words, topic))
    return documents


def count_words(documents):
    counts = torch.zeros(len(documents), VOCAB)
    for row, (words, _) in zip(counts, documents, strict=True):
        row += torch.bincount(torch.tensor(words), minlength=VOCAB)
    topics = torch.tensor([topic for _, topic in documents])
    return counts / counts.sum(1, keepdim=True), topics


def batches(rows, topics, size, rng):
    order = list(range(len(rows)))
    rng.shuffle(order)
    for start in range(0, len(order) - size + 1, size):
        index = torch.tensor(order[start : start + size])
        yield rows[index], topics[index]


def main():
    rng = random.Random(4)
    torch.manual_seed(4)
    rows, topics = count_words(make_documents(2000, rng))
    model = nn.Sequential(nn.Linear(VOCAB, 200), nn.Tanh(), nn.Dropout(0.2), nn.Linear(200, TOPICS))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(12):
        right = total = 0
        for x, y in batches(rows, topics, 50, rng):
            model.zero_grad()
            logits = model(x)
            loss_fn(logits, y).backward()
            optimizer.step()
            right += (logits.argmax(1) == y).sum().item()
            total += len(y)
        print("epoch", epoch, "accuracy", round(right / total, 3))


main()
