"""What of a checkpoint's bytes is data, the same in each of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from perfdoctor.collect.script.module_roles import Modules
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.saved_data import SavedData


class _Training(SimpleNamespace):
    """A small trainer, whose state is some 10 kB beside 80 kB of data."""

    def __init__(self) -> None:
        model = nn.Sequential(nn.Linear(20, 40), nn.BatchNorm1d(40))
        optimizer = torch.optim.Adam(model.parameters())
        super().__init__(model=model, optimizer=optimizer, x=torch.zeros(1000, 20), step=0)
        self.step_once()

    def step_once(self) -> None:
        self.model(torch.ones(2, 20)).sum().backward()
        self.optimizer.step()
        self.step += 1


def _seen(training: _Training) -> SavedData:
    optimizers = Optimizers(lambda some, others: True)
    optimizers.add_group(training.optimizer, training.model.parameters())
    modules = Modules(optimizers)
    modules.role(training.model)
    return SavedData(modules, optimizers)


def _told(save: Callable[[_Training], Any], saves: int = 3) -> dict[str, Any]:
    training = _Training()
    seen = _seen(training)
    for _ in range(saves):
        seen.note(save(training))
        training.step_once()
    return seen.settings()


def _all_of(training: _Training) -> dict[str, Any]:
    held = vars(training).items()
    return {k: v.state_dict() if hasattr(v, "state_dict") else v for k, v in held}


def test_all_attributes_of_a_trainer_are_mostly_data() -> None:
    told = _told(_all_of)
    assert told["saved_data"] == pytest.approx(0.88, abs=0.03)
    assert told["saved_bytes"] == pytest.approx(91_000, rel=0.05)
    assert told["saved_data_named"] == "x"


def test_data_within_lists_and_dictionaries_is_named_by_what_holds_it() -> None:
    told = _told(lambda t: {"model": t.model.state_dict(), "splits": {"train": [t.x]}})
    assert told["saved_data_named"] == "splits"


def test_parts_of_one_storage_count_once() -> None:
    whole = torch.zeros(1000, 20)
    first, rest = whole[:900], whole[900:]
    told = _told(lambda t: {"first": first, "rest": rest, "again": first})
    assert told["saved_data"] == pytest.approx(1.0)
    assert told["saved_bytes"] == 80_000
    assert told["saved_data_named"].split(", ")[-1] == "rest"


@pytest.mark.parametrize(
    "save",
    [
        lambda t: t.model.state_dict(),
        lambda t: {"model": t.model.state_dict(), "optimizer": t.optimizer.state_dict()},
        lambda t: {k: v.clone().half() for k, v in t.model.state_dict().items()},
        lambda t: {"parameters": list(t.model.parameters())},
        lambda t: {"unknown": _OTHER.state_dict()},
        lambda t: {"teacher": _FROZEN},
        lambda t: {"best": _BEST},
        lambda t: {"moments": [s["exp_avg"] for s in t.optimizer.state.values()]},
        lambda t: {"batch": torch.rand(1000, 20)},
        lambda t: {"view": t.x[:1]},
    ],
)
def test_the_state_of_a_training_is_no_data(save: Callable[[_Training], Any]) -> None:
    assert _told(save)["saved_data"] == pytest.approx(0.0)


_OTHER = nn.Linear(100, 100)
_FROZEN = _OTHER.state_dict()  # the same tensors in each save
_BEST = [torch.zeros(40, 20), torch.zeros(40)]  # of the shapes of the model's


def test_what_is_written_to_is_no_data_as_a_replay_buffer() -> None:
    def save(training: _Training) -> dict[str, Any]:
        training.x[training.step] = 1.0
        return {"model": training.model.state_dict(), "buffer": training.x}

    assert _told(save)["saved_data"] == pytest.approx(0.0)


def test_what_was_made_in_inference_mode_has_no_counter_of_changes() -> None:
    with torch.inference_mode():
        features = torch.zeros(1000, 20)
    assert _told(lambda t: {"features": features})["saved_data"] == pytest.approx(1.0)


def test_a_single_save_and_one_without_tensors_tell_nothing() -> None:
    assert _told(_all_of, saves=1) == {}
    assert _told(lambda t: {"step": t.step}) == {}


def test_two_files_in_turns_are_compared_with_their_like() -> None:
    def save(training: _Training) -> Any:
        return {"data": training.x} if training.step % 2 else training.model.state_dict()

    assert _told(save, saves=4)["saved_data"] > 0.3


def test_only_the_first_saves_are_looked_into() -> None:
    training = _Training()
    seen = _seen(training)
    for _ in range(4):
        seen.note(training.model.state_dict())
    before = copy.copy(seen.settings())
    for _ in range(3):
        seen.note({"x": training.x})
    assert seen.settings() == before


def test_a_file_may_hold_more_than_tensors(tmp_path: Path) -> None:
    training, path = _Training(), tmp_path / "last.pt"
    seen = _seen(training)
    path.write_bytes(bytes(800_000))
    for _ in range(2):
        seen.note({"x": training.x}, str(path))
    assert seen.settings()["saved_data"] == pytest.approx(0.1)
    assert seen.settings()["saved_bytes"] == 800_000
    path.unlink()
    assert seen.settings()["saved_data"] == pytest.approx(1.0)
