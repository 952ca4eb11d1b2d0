"""Character language model: bfloat16 autocast, gradients accumulated over four micro-batches."""

import argparse

import torch
from torch import nn


class CharGPT(nn.Module):
    def __init__(self, vocab, d=160, heads=4, layers=3, context=96):
        super().__init__()
        self.token = nn.Embedding(vocab, d)
        self.place = nn.Embedding(context, d)
        layer = nn.TransformerEncoderLayer(d, heads, 4 * d, 0.0, "gelu", batch_first=True)
        self.body = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(d, vocab)

    def forward(self, ids):
        length = ids.shape[1]
        x = self.token(ids) + self.place.weight[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        return self.head(self.body(x, mask=mask, is_causal=True))


def corpus():
    words = ["the", "loss", "falls", "and", "rises", "while", "training", "goes", "on"]
    return " ".join(words[(i * i + i // 3) % len(words)] for i in range(20_000))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--updates", type=int, default=22)
    ap.add_argument("--accumulate", type=int, default=4)
    ap.add_argument("--micro-batch", type=int, default=12)
    ap.add_argument("--context", type=int, default=96)
    args = ap.parse_args()
    torch.manual_seed(1)
    text = corpus()
    chars = sorted(set(text))
    data = torch.tensor([chars.index(c) for c in text])
    model = CharGPT(len(chars), context=args.context)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    for update in range(1, args.updates + 1):
        total = 0.0
        for _ in range(args.accumulate):
            start = torch.randint(0, len(data) - args.context - 1, (args.micro_batch, 1))
            rows = data[start + torch.arange(args.context + 1)]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(rows[:, :-1])
            loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
            (loss / args.accumulate).backward()
            total += loss.item() / args.accumulate
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if update % 5 == 0:
            print(f"update {update} loss {total:.4f}")


if __name__ == "__main__":
    main()
