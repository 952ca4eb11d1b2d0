"""Copies that a script does not wait for, in trials."""

from __future__ import annotations

import torch

from perfdoctor.collect.rerun.copying import non_blocking


def test_copies_from_the_host_return_at_once_unless_the_script_says_otherwise(monkeypatch):
    seen = []

    def to(self, *args, **kwargs):
        seen.append((args, kwargs))
        return self

    monkeypatch.setattr(torch.Tensor, "to", to)
    host, elsewhere = torch.zeros(2), torch.zeros(2, device="meta")
    with non_blocking(torch, value=True):
        host.to("cuda")
        host.to("cuda", torch.float16)
        host.to("cuda", non_blocking=False)
        host.to("cuda", torch.float16, False)
        elsewhere.to("cpu")
    host.to("cuda")
    asked = [kwargs.get("non_blocking") for _, kwargs in seen]
    assert asked == [True, True, False, None, None, None]
    assert torch.Tensor.to is to


def test_conversions_on_the_host_are_what_they_were():
    numbers = torch.arange(3)
    with non_blocking(torch, value=True):
        assert numbers.to(torch.float64).dtype == torch.float64
        assert numbers.to(torch.zeros(1)).dtype == torch.float32
        assert numbers.to("cpu") is numbers
