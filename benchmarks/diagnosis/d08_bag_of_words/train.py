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


def batches(documents, size, rng):
    order = list(range(len(documents)))
    rng.shuffle(order)
    for start in range(0, len(order) - size + 1, size):
        rows, topics = [], []
        for i in order[start : start + size]:
            words, topic = documents[i]
            row = [0.0] * VOCAB
            for word in words:
                row[word] += 1.0
            total = sum(row)
            rows.append([count / total for count in row])
            topics.append(topic)
        yield torch.tensor(rows), torch.tensor(topics)


def main():
    rng = random.Random(4)
    torch.manual_seed(4)
    documents = make_documents(2000, rng)
    model = nn.Sequential(nn.Linear(VOCAB, 200), nn.Tanh(), nn.Dropout(0.2), nn.Linear(200, TOPICS))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(12):
        right = total = 0
        for x, y in batches(documents, 50, rng):
            model.zero_grad()
            logits = model(x)
            loss_fn(logits, y).backward()
            optimizer.step()
            right += (logits.argmax(1) == y).sum().item()
            total += len(y)
        print("epoch", epoch, "accuracy", round(right / total, 3))


main()
