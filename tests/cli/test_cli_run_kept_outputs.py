"""`perfdoctor run` of scripts whose validation keeps the model's whole outputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from observed_script import reported

LOOP = """
import sys
import torch
from torch import nn

def evaluate(model, tokens, whole):
    model.eval()
    scores, kept = torch.empty(0, 16, 1500), []
    with torch.no_grad():
        for batch in tokens.split(8):
            logits = model(batch)
            if whole:
                scores = torch.cat([scores, logits])
            else:
                kept.append(logits.argmax(-1))
    model.train()
    found = scores.argmax(-1) if whole else torch.cat(kept)
    return (found == tokens).float().mean().item()

if __name__ == "__main__":
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(1500, 32), nn.Linear(32, 1500))
    optimizer = torch.optim.Adam(model.parameters())
    tokens = torch.randint(0, 1500, (400, 16))
    for epoch in range(3):
        for _ in range(30):
            batch = tokens[torch.randint(0, 400, (16,))]
            loss = nn.functional.cross_entropy(model(batch).flatten(0, 1), batch.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        evaluate(model, tokens, sys.argv[1] == "whole")
"""

TRAINER = """
import sys
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

def reduce(logits, labels):
    return logits.argmax(-1)

def compute_metrics(given):
    found = given.predictions if given.predictions.ndim == 2 else given.predictions.argmax(-1)
    return {"accuracy": float((found == given.label_ids).mean())}

if __name__ == "__main__":
    torch.manual_seed(0)
    tokens = torch.randint(0, 1500, (400, 16))
    data = [{"input_ids": row, "labels": row} for row in tokens]
    shape = dict(vocab_size=1500, n_positions=16, n_embd=16, n_layer=1, n_head=1)
    given = dict(num_train_epochs=3, per_device_train_batch_size=16, eval_strategy="epoch",
                 per_device_eval_batch_size=8, save_strategy="no", report_to="none", use_cpu=True)
    Trainer(
        model=GPT2LMHeadModel(GPT2Config(**shape, use_cache=False)),
        args=TrainingArguments("out", **given),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=None if sys.argv[1] == "whole" else reduce,
    ).train()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("word", "said"), [("whole", True), ("reduced", False)])
@pytest.mark.parametrize("script", [LOOP, TRAINER], ids=["loop", "trainer"])
def test_whole_outputs_that_are_joined_are_told(
    tmp_path: Path, script: str, word: str, said: bool
) -> None:
    if script == TRAINER:
        pytest.importorskip("transformers")
        pytest.importorskip("accelerate")
    report = reported(tmp_path, script, word, OMP_NUM_THREADS="1")
    joined = [line for line in report["hotspots"] if line.get("outputs") == "joined"]
    assert bool(joined) is said
    assert ("PD515" in [one["rule"] for one in report["recommendations"]]) is said
    if said:
        assert report["recommendations"][0]["rule"] == "PD515"
