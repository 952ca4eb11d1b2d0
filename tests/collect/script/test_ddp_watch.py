"""What is read of DDP's own log, from an object that looks like it."""

from __future__ import annotations

from typing import Any

import pytest

from perfdoctor.collect.script.ddp import DdpWatch


class DistributedDataParallel:
    """As many syncs a step as it is told; its log runs as torch's does."""

    broadcast_buffers = True
    static_graph = False

    def __init__(self, syncs: int = 1, buffers: int = 0, **log: Any) -> None:
        self.syncs, self._buffers, self._log = syncs, buffers, log
        self.done = self.reads = 0

    def modules(self) -> list[Any]:
        return [self]

    def parameters(self) -> list[Any]:
        return []

    def buffers(self) -> Any:
        return iter(range(self._buffers))

    def step(self) -> None:
        self.done += self.syncs

    def _get_ddp_logging_data(self) -> dict[str, Any]:
        self.reads += 1
        last = self.done - 1
        told = last if last <= 10 else max(10, last // 100 * 100)
        times = {"backward_comm_time": 5_000_000, "backward_compute_comm_overlap_time": 3_000_000}
        return {"iteration": told, "unused_parameter_size": 0, **times, **self._log}


def watched(model: Any, steps: int) -> dict[str, Any]:
    watch = DdpWatch()
    for count in range(1, steps + 1):
        model.step()
        watch.step(count, lambda: [model])
    found: dict[str, Any] = watch.settings().get("ddp_log", {})
    return found


@pytest.mark.parametrize(("syncs", "steps"), [(1, 3), (1, 300), (2, 3), (2, 300), (4, 50)])
def test_how_often_gradients_are_shared_is_counted_early_and_kept(syncs: int, steps: int) -> None:
    assert watched(DistributedDataParallel(syncs), steps)["syncs_per_step"] == pytest.approx(syncs)


def test_many_syncs_a_step_are_known_to_be_many() -> None:
    assert watched(DistributedDataParallel(20), 50)["syncs_per_step"] > 10


def test_communication_that_the_backward_pass_does_not_hide() -> None:
    assert watched(DistributedDataParallel(), 300)["exposed_s"] == pytest.approx(0.002)


def test_settings_of_ddp() -> None:
    found = watched(DistributedDataParallel(buffers=2, find_unused_parameters=1), 3)
    assert found["find_unused_parameters"] is True
    assert found["broadcast_buffers"] is True
    assert watched(DistributedDataParallel(), 3)["broadcast_buffers"] is False


def test_the_log_is_read_rarely() -> None:
    model = DistributedDataParallel()
    watched(model, 10_000)
    assert model.reads < 120


def test_without_ddp_there_is_nothing_to_tell() -> None:
    class Plain(DistributedDataParallel):
        pass

    assert watched(Plain(), 20) == {}


def test_a_log_that_cannot_be_read_is_let_be() -> None:
    class Broken(DistributedDataParallel):
        def _get_ddp_logging_data(self) -> dict[str, Any]:
            self.reads += 1
            raise RuntimeError("no logger")

    Broken.__name__ = "DistributedDataParallel"
    model = Broken()
    assert watched(model, 20) == {}
    assert model.reads == 1
