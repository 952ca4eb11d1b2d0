"""A workload as a user writes it: used by the tests of the command line."""

import os

import torch

import perfdoctor


class Data(torch.utils.data.Dataset):
    def __init__(self, count=64, scale=1.0):
        self.count, self.scale = count, scale

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.full((4,), index * self.scale), index % 2


class Slower(Data):
    def __getitem__(self, index):
        for _ in range(50):
            torch.randn(500).sum()
        return super().__getitem__(index)


class Net(torch.nn.Sequential):
    def __init__(self, width=8):
        super().__init__(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))


class Failing(torch.nn.Linear):
    def forward(self, x):
        raise ValueError("my own mistake")


def workload():
    return perfdoctor.Workload(model=Net(), dataset=Data(), batch_size=8)


def failing():
    return perfdoctor.Workload(model=Failing(4, 2), dataset=Data(), batch_size=8)


def interrupted():
    import signal

    class Interrupting(Net):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == int(os.environ["INTERRUPT_AT"]):
                os.kill(os.getpid(), signal.SIGINT)
            return super().forward(x)

    return perfdoctor.Workload(model=Interrupting(), dataset=Data(), batch_size=8)


def printing():
    print("hello from the workload")
    return workload()
