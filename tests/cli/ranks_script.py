"""A small training under DDP. `ranks_script.py FAULT RANK`: slow, kill or raise in that rank."""

from __future__ import annotations

import os
import signal
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

STEPS, BATCH = 48, 4
FAULT, WHO = sys.argv[1], int(sys.argv[2])
USUAL_S, SLOW_S = 0.005, 0.020


class Rows(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return STEPS * BATCH * dist.get_world_size()

    def __getitem__(self, i: int) -> torch.Tensor:
        slow = FAULT == "slow" and dist.get_rank() == WHO
        time.sleep(SLOW_S if slow else USUAL_S)
        return torch.ones(8)


def fail(step: int) -> None:
    if step != STEPS // 2 or dist.get_rank() != WHO:
        return
    if FAULT == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if FAULT == "raise":
        raise ValueError("planted")


def train() -> None:
    rows = Rows()
    loader = DataLoader(rows, batch_size=BATCH, sampler=DistributedSampler(rows))
    model = nn.parallel.DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step, batch in enumerate(loader):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        fail(step)


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    train()
    dist.destroy_process_group()
    os.write(1, f"rank {os.environ['RANK']} is done\n".encode())  # at once: the ranks share it
