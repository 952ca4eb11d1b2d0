"""Waiting for a GPU, where there is one that the script uses; here it is a simulated one."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest


class Cuda:
    """Stands in for `torch.cuda`."""

    def __init__(self) -> None:
        self.initialised, self.capturing, self.waited = True, False, []

    def is_initialized(self) -> bool:
        return self.initialised

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    def synchronize(self, device: object) -> None:
        self.waited.append(device)


@pytest.fixture
def cuda(monkeypatch):
    made = Cuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=made))
    return made


class Place:
    """Stands in for `torch.device`."""

    def __init__(self, kind: str) -> None:
        self.type = kind


def module(kind: str):
    parameter = SimpleNamespace(device=Place(kind))
    return SimpleNamespace(parameters=lambda: [parameter]), parameter.device


def device(*modules):
    from perfdoctor.collect.rerun.device import Device

    return Device(lambda: list(modules))


def test_it_waits_for_the_device_of_what_is_trained(cuda):
    on_gpu, place = module("cuda")
    device(on_gpu, module("cpu")[0]).settle()
    assert cuda.waited == [place]


def test_a_model_on_the_cpu_may_use_the_current_device_all_the_same(cuda):
    device(module("cpu")[0]).settle()
    assert cuda.waited == [None]


@pytest.mark.parametrize(("initialised", "capturing"), [(False, False), (True, True)])
def test_it_does_not_where_cuda_is_not_used_or_a_graph_is_captured(cuda, initialised, capturing):
    cuda.initialised, cuda.capturing = initialised, capturing
    device(module("cuda")[0]).settle()
    assert cuda.waited == []


def test_what_a_kernel_has_failed_with_is_left_to_the_script(cuda):
    def fails(device):
        raise RuntimeError("CUDA error: device-side assert triggered")

    cuda.synchronize = fails
    device(module("cuda")[0]).settle()
