"""Training loops as people write them, observed: where each planted cost must appear.

Time passes only where a loop says so, so every figure is exact.
"""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import perfdoctor
from perfdoctor.collect.script.assembly import stages_of
from perfdoctor.collect.script.observer import Observer
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.patches import Patches
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.script_run import holds
from perfdoctor.collect.script.settings_used import (
    remade_elsewhere,
    settings_used,
    steps_per_iterator,
    validation_waits,
)
from perfdoctor.collect.script.state import State
from perfdoctor.collect.script.step_rows import EPOCH, MOST_LABELS, SAMPLES


class Clock:
    """Nanoseconds that pass when a loop spends them."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def __deepcopy__(self, memo: object) -> Clock:
        return self

    def spend(self, nanoseconds: int) -> None:
        self.now += nanoseconds


class Samples(Dataset[Any]):
    """Numbers; each costs `cost`."""

    def __init__(self, clock: Clock, count: int = 8, cost: int = 3) -> None:
        self.clock, self.count, self.cost = clock, count, cost

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.clock.spend(self.cost)
        return torch.full((4,), float(i)), torch.tensor(float(i))


class Net(nn.Module):
    """A linear layer whose forward costs 10 and whose backward costs 20."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.layer = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock.spend(10)
        out: torch.Tensor = self.layer(x)
        if out.requires_grad:
            out.register_hook(lambda grad: self.clock.spend(20))
        return out.squeeze(-1)


class Watched:
    """An observed stretch of code."""

    def __init__(self, clock: Clock, *, skims: bool = False) -> None:
        self.observer = Observer(
            Recorder(clock),
            Optimizers(lambda few, many: any(holds(m, few, many) for m in self._trained())),
            skims=skims,
        )
        self.state = State(self.observer, on_failure=self._failed)
        self.patches = Patches(self.state)
        self.failures: list[Exception] = []

    def __enter__(self) -> Watched:
        self.patches.install()
        return self

    def __exit__(self, *error: object) -> None:
        self.patches.remove()
        self.observer.recorder.end()
        assert not self.failures

    def totals(self) -> dict[str, int]:
        """Nanoseconds per stage over everything."""
        found: dict[str, int] = {}
        for stage, spent in zip(
            stages_of(self.observer), self.observer.recorder.totals, strict=False
        ):
            if spent:
                found[stage] = found.get(stage, 0) + spent
        return found

    def per_step(self) -> list[dict[str, int]]:
        """Nanoseconds per stage of each step."""
        found = []
        for row in self.observer.recorder.steps.rows().sums:
            stages: dict[str, int] = {}
            for stage, spent in zip(stages_of(self.observer), row, strict=False):
                if spent:
                    stages[stage] = stages.get(stage, 0) + int(spent)
            found.append(stages)
        return found

    @property
    def steps(self) -> int:
        return self.observer.recorder.steps.steps

    def samples(self) -> list[int]:
        return [int(n) for n in self.observer.recorder.steps.rows().sums[:, SAMPLES]]

    def _trained(self) -> list[Any]:
        return self.observer.modules.trained()

    def _failed(self, error: Exception) -> None:
        self.failures.append(error)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _mse(clock: Clock, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    clock.spend(2)
    return ((out - y) ** 2).mean()


def _parts(clock: Clock) -> tuple[Net, torch.optim.Optimizer, DataLoader[Any]]:
    model = Net(clock)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return model, optimizer, DataLoader(Samples(clock), batch_size=4)


def test_a_plain_loop_is_told_apart_exactly(clock: Clock) -> None:
    with Watched(clock) as seen:
        clock.spend(100)  # imports, data
        model, optimizer, loader = _parts(clock)
        for _ in range(3):
            for x, y in loader:
                loss = _mse(clock, model(x), y)
                optimizer.zero_grad()
                loss.backward()
                clock.spend(1)  # a norm of the gradients, say
                optimizer.step()
                clock.spend(5)  # a print
    assert seen.steps == 6
    assert seen.samples() == [4] * 6
    assert seen.totals() == {
        "start_up": 100,
        "data_loading": 6 * 12,
        "forward": 60,
        "loss": 12,
        "backward": 120,
        "other": 6 * 1 + 6 * 5,
    }


def test_the_first_batch_of_each_epoch_marks_it(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        for _ in range(3):
            for x, y in loader:
                _mse(clock, model(x), y).backward()
                optimizer.step()
    assert seen.observer.recorder.steps.rows().sums[:, EPOCH].tolist() == [1, 0, 1, 0, 1, 0]


def _epochs_begin(seen: Watched) -> list[int]:
    starts = seen.observer.recorder.steps.rows().sums[:, EPOCH].tolist()
    return [step for step, begins in enumerate(starts) if begins]


@pytest.mark.parametrize("order", ["second", "first", "after the weights"])
def test_iterators_that_are_thrown_away_within_an_epoch_begin_none(
    clock: Clock, order: str
) -> None:
    with Watched(clock) as seen:
        model = Search(clock, registered=True)
        optimizer = torch.optim.SGD(model.weights(), lr=1e-3)
        architect = torch.optim.Adam([model.alphas], lr=1e-3)
        training = DataLoader(Samples(clock, count=16), batch_size=4)
        held_out = DataLoader(Samples(clock, count=12), batch_size=4)

        def search(batch: Any) -> None:
            _mse(clock, model(batch[0]), batch[1]).backward()
            architect.step()

        if order == "first":
            next(iter(held_out))  # for a look at its shapes
        for _ in range(3):
            batches = iter(training)
            for _ in range(4):
                first = next(iter(held_out)) if order == "first" else None
                x, y = next(batches)
                if order != "after the weights":
                    search(first or next(iter(held_out)))
                _mse(clock, model(x), y).backward()
                optimizer.step()
                if order == "after the weights":
                    search(next(iter(held_out)))
    assert seen.steps == 12
    assert _epochs_begin(seen) == [0, 4, 8]


@pytest.mark.parametrize("short_first", [True, False])
def test_a_short_loader_that_starts_again_within_an_epoch_begins_none(
    clock: Clock, short_first: bool
) -> None:
    def again(loader: Any) -> Iterator[Any]:
        while True:
            yield from loader

    with Watched(clock) as seen:
        model, optimizer, _ = _parts(clock)
        labelled = again(DataLoader(Samples(clock, count=8), batch_size=4))
        unlabelled = DataLoader(Samples(clock, count=20), batch_size=4)
        if short_first:
            next(labelled)  # for a look at its shapes
        for _ in range(4):
            pairs = zip(labelled, unlabelled) if short_first else zip(unlabelled, labelled)  # noqa: B905
            for (x, y), (z, _) in pairs:
                _mse(clock, model(torch.cat([x, z])), torch.cat([y, y])).backward()
                optimizer.step()
    assert seen.steps == 20
    assert _epochs_begin(seen) == [0, 5, 10, 15]


def test_epochs_go_on_once_another_loader_is_done_with(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)

        def train(batches: Any) -> None:
            for x, y in batches:
                _mse(clock, model(x), y).backward()
                optimizer.step()

        long = DataLoader(Samples(clock, count=80), batch_size=4)
        train(long)
        for _ in range(5):
            train(loader)  # of its first two, nothing tells yet that they are not within an epoch
        train(long)
    assert _epochs_begin(seen) == [0, 24, 26, 28, 30]


@pytest.mark.parametrize("others", [1, 3])
def test_loaders_that_take_turns_begin_epochs_with_the_longest(clock: Clock, others: int) -> None:
    with Watched(clock) as seen:
        model, optimizer, _ = _parts(clock)
        tasks = [DataLoader(Samples(clock, count=16), batch_size=4)]
        tasks += [DataLoader(Samples(clock, count=8), batch_size=4) for _ in range(others)]
        for _ in range(4):
            for task in tasks:
                for x, y in task:
                    _mse(clock, model(x), y).backward()
                    optimizer.step()
    each = 4 + 2 * others
    assert _epochs_begin(seen) == [0, each, 2 * each, 3 * each]


def test_loaders_that_nothing_is_trained_with_are_not_remembered_without_end(clock: Clock) -> None:
    with Watched(clock) as seen:
        kept = [DataLoader(Samples(clock, count=n), batch_size=4) for n in range(1, 200)]
        for loader in kept:
            list(loader)
        assert len(seen.observer._begun) <= len(seen.observer.loaders.values()) < len(kept)


def test_a_loader_without_an_end_begins_no_epoch_beside_one_with_an_end(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        forever = iter(DataLoader(Samples(clock), batch_size=4, sampler=itertools.cycle(range(8))))
        for _ in range(6):
            for x, y in loader:
                z, _ = next(forever)
                _mse(clock, model(torch.cat([x, z])), torch.cat([y, y])).backward()
                optimizer.step()
    begun = _epochs_begin(seen)
    assert begun[:1] + begun[-3:] == [0, 6, 8, 10]


def test_the_steps_of_each_iterator_are_among_the_settings(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        for _ in range(3):
            for x, y in loader:
                _mse(clock, model(x), y).backward()
                optimizer.step()
    counted = {"steps_per_iterator": 2.0, "batches_per_iterator": 2.0}
    assert steps_per_iterator(seen.observer) == counted


@pytest.mark.parametrize(("count", "seen_as"), [(80, True), (8, False)])
def test_iterators_of_another_loader_that_are_thrown_away_are_counted(
    clock: Clock, count: int, seen_as: bool
) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        search = DataLoader(Samples(clock, count), batch_size=4)
        for _ in range(3):
            for x, y in loader:
                _mse(clock, model(x), y).backward()
                z, w = next(iter(search))
                _mse(clock, model(z), w).backward()
                optimizer.step()
    found = remade_elsewhere(seen.observer)
    taken = {"remade_iterators": 6, "remade_batches_each": 1.0, "remade_s": 6 * 4 * 3e-9}
    assert found == (pytest.approx(taken) if seen_as else {})


@pytest.mark.parametrize("epochs", [1, 3])
def test_an_iterator_for_a_look_is_none_of_those_that_train(clock: Clock, epochs: int) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        for _ in range(2):
            next(iter(loader))
        for _ in range(epochs):
            for x, y in loader:
                _mse(clock, model(x), y).backward()
                optimizer.step()
    known = {2.0} if epochs > 1 else set()
    found = steps_per_iterator(seen.observer)
    assert {v for k, v in found.items() if k == "steps_per_iterator"} == known


def test_a_step_of_several_batches_uses_an_iterator_up_in_fewer_steps(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        for _ in range(3):
            for x, y in loader:
                _mse(clock, model(x), y).backward()
            optimizer.step()
    counted = {"steps_per_iterator": 1.0, "batches_per_iterator": 2.0}
    assert steps_per_iterator(seen.observer) == counted


@pytest.mark.parametrize("habit", ["eval and no_grad", "eval only", "neither"])
def test_validation_is_told_from_training(clock: Clock, habit: str) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        validation = DataLoader(Samples(clock, cost=7), batch_size=4)
        for _ in range(2):
            for x, y in loader:
                _mse(clock, model(x), y).backward()
                optimizer.step()
            if habit != "neither":
                model.eval()
            with torch.set_grad_enabled(habit != "eval and no_grad"):
                for x, _ in validation:
                    model(x)
                    clock.spend(4)
            model.train()
    totals = seen.totals()
    assert totals["data_loading"] == 4 * 12
    assert totals["forward"] == 4 * 10
    assert totals["validation"] + totals.get("other", 0) + totals.get("loss", 0) - 4 * 2 == (
        4 * (28 + 10 + 4)
    )
    if habit == "eval and no_grad":
        assert totals["validation"] == 4 * (28 + 10 + 4)
    waited_s = validation_waits(seen.observer)["validation_waits_s"]
    assert waited_s == pytest.approx(4 * 28e-9)
    assert totals["validation"] >= 4 * (28 + 10)


def test_a_teacher_without_gradients_is_part_of_the_forward(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        teacher = Net(clock).eval()
        for x, _ in loader:
            with torch.no_grad():
                wanted = teacher(x)
            _mse(clock, model(x), wanted).backward()
            optimizer.step()
    assert seen.totals()["forward"] == 2 * 20
    assert "validation" not in seen.totals()


def test_gradient_accumulation_makes_one_step_of_several_batches(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        for _ in range(3):
            for x, y in loader:
                _mse(clock, model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert seen.steps == 3
    assert seen.samples() == [8, 8, 8]


def test_a_closure_s_computing_is_not_the_optimizer_s(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        for x, y in loader:

            def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
                optimizer.zero_grad()
                loss = _mse(clock, model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)
    assert seen.steps == 2
    assert seen.totals() == {"data_loading": 24, "forward": 20, "loss": 4, "backward": 40}


def test_batches_without_a_loader_count_by_the_model_s_input(clock: Clock) -> None:
    def batches() -> Iterator[torch.Tensor]:
        for _ in range(3):
            clock.spend(50)
            yield torch.ones(5, 4)

    with Watched(clock) as seen:
        model = Net(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for x in batches():
            model(x).mean().backward()
            optimizer.step()
    assert seen.samples() == [5, 5, 5]


def test_hand_written_updates_make_steps_too(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Net(clock)
        loader = DataLoader(Samples(clock), batch_size=2)
        for x, y in loader:
            _mse(clock, model(x), y).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 1e-3 * p.grad
                    p.grad = None
    assert seen.steps == 4


class Search(nn.Module):
    """Two paths weighed by architecture parameters."""

    def __init__(self, clock: Clock, registered: bool) -> None:
        super().__init__()
        self.left, self.right = Net(clock), Net(clock)
        self.wide = nn.Linear(4, 64)
        alphas = torch.zeros(2)
        self.alphas = nn.Parameter(alphas) if registered else alphas.requires_grad_()

    def weights(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if name != "alphas"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.softmax(self.alphas, 0)
        out: torch.Tensor = a[0] * self.left(x) + a[1] * self.right(x) + self.wide(x).mean()
        return out


@pytest.mark.parametrize("registered", [True, False])
def test_an_architecture_step_is_a_stage_of_its_own(clock: Clock, registered: bool) -> None:
    with Watched(clock) as seen:
        model = Search(clock, registered)
        optimizer = torch.optim.SGD(model.weights(), lr=1e-3)
        architect = torch.optim.Adam([model.alphas], lr=1e-3)
        validation = DataLoader(Samples(clock), batch_size=4)
        for x, y in DataLoader(Samples(clock, count=16), batch_size=4):
            vx, vy = next(iter(validation))
            architect.zero_grad()
            unrolled = copy.deepcopy(model)
            _mse(clock, unrolled(vx), vy).backward()
            clock.spend(9)
            architect.step()
            optimizer.zero_grad()
            _mse(clock, model(x), y).backward()
            optimizer.step()
    assert seen.steps == 4
    after_first = seen.per_step()[1:]
    assert after_first == 3 * [
        {
            "data_loading": 2 * 12,
            "arch_step": 20 + 2 + 40 + 9,
            "forward": 20,
            "loss": 2,
            "backward": 40,
        }
    ]


def test_a_gan_has_no_architecture_step(clock: Clock) -> None:
    with Watched(clock) as seen:
        generator, critic = nn.Sequential(Net(clock), nn.ReLU(), nn.Unflatten(0, (4, 1))), None
        critic = nn.Sequential(nn.Linear(1, 64), nn.Linear(64, 1))
        g = torch.optim.Adam(generator.parameters())
        d = torch.optim.Adam(critic.parameters())
        for x, _ in DataLoader(Samples(clock), batch_size=4):
            fake = generator(x)
            critic(fake.detach()).mean().backward()
            d.step()
            critic(fake).mean().backward()
            g.step()
    assert seen.steps == 2
    assert "arch_step" not in seen.totals()


@pytest.mark.parametrize("few_first", [True, False])
def test_two_optimizers_of_one_model_make_no_architecture_step(
    clock: Clock, few_first: bool
) -> None:
    with Watched(clock) as seen:
        model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1))
        bias = [model[2].bias]
        wide = torch.optim.SGD([*model[0].parameters(), model[2].weight], lr=1e-3)
        few = torch.optim.SGD(bias, lr=1e-3)
        for x, y in DataLoader(Samples(clock, count=16), batch_size=4):
            _mse(clock, model(x).squeeze(-1), y).backward()
            for optimizer in (few, wide) if few_first else (wide, few):
                optimizer.step()
    assert seen.steps == 4
    assert "arch_step" not in seen.totals()


def test_operations_of_a_step_are_counted_in_all_its_backward_passes(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, _ = _parts(clock)
        for _ in range(4):
            for _ in range(3):
                out = model(torch.ones(5, 4))
                pairs = [(out[i] - out[0]) ** 2 for i in range(5)]
                torch.stack(pairs).sum().backward()
            optimizer.step()
    of_one_loss = 5 * 4 + 2  # two elements, a difference and a square of each; stack and sum
    assert seen.observer.looks.now.loss_nodes == 3 * of_one_loss
    assert seen.observer.looks.now.autograd_nodes == 3 * (
        of_one_loss + 3
    )  # addmm, transpose and squeeze


def test_a_stage_that_the_script_names_is_one_of_its_own(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        for x, y in loader:
            with perfdoctor.stage("graph_build"):
                clock.spend(11)
            _mse(clock, model(x), y).backward()
            optimizer.step()
    assert seen.totals()["graph_build"] == 22
    with perfdoctor.stage("graph_build"):
        clock.spend(1)
    assert seen.totals()["graph_build"] == 22


def test_saving_is_a_checkpoint(clock: Clock, tmp_path: Any) -> None:
    class Slow:
        def __reduce__(self) -> Any:
            clock.spend(30)
            return (int, ())

    with Watched(clock) as seen:
        torch.save({"a": Slow()}, tmp_path / "a.pt")
    assert seen.totals()["checkpoint"] == 30


def test_an_exception_in_any_part_leaves_the_account_right(clock: Clock) -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            clock.spend(8)
            raise ValueError("no")

    class FailingSteps(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            clock.spend(6)
            raise ValueError("no")

    with Watched(clock) as seen:
        model, _, loader = _parts(clock)
        failing = FailingSteps(model.parameters(), lr=1.0)
        broken = Fails()
        for x, _ in loader:
            with pytest.raises(ValueError, match="no"):
                broken(x)
            with pytest.raises(ValueError, match="no"):
                failing.step()
        for x, y in loader:
            _mse(clock, model(x), y).backward()
        assert seen.observer.recorder.depth <= 1
    assert seen.totals()["data_loading"] == 48
    assert sum(seen.observer.recorder.totals[:MOST_LABELS]) == clock.now


def test_everything_is_as_before_when_it_is_over(clock: Clock) -> None:
    from torch.optim.optimizer import _global_optimizer_pre_hooks
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    def places() -> list[Any]:
        owners = (nn.Module, torch.autograd, torch.optim.Optimizer, DataLoader, torch)
        names = ("__call__", "eval", "backward", "grad", "zero_grad", "add_param_group", "save")
        found = [vars(owner).get(name) for owner in owners for name in names]
        return [*found, vars(_BaseDataLoaderIter)["__next__"], len(_global_optimizer_pre_hooks)]

    before = places()
    with Watched(clock):
        assert places() != before
    assert places() == before


def test_models_and_optimizers_can_be_copied_and_pickled_meanwhile(clock: Clock) -> None:
    with Watched(clock):
        model = nn.Linear(4, 1)
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        text = pickle.dumps((model, copy.deepcopy(optimizer)))
    assert b"perfdoctor" not in text
    assert "perfdoctor" not in repr(vars(model))


def test_a_failure_of_the_observer_ends_only_the_observation(clock: Clock) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    seen = Watched(clock)
    with pytest.raises(AssertionError), seen:
        model, optimizer, loader = _parts(clock)
        seen.observer.backward_begins = broken  # type: ignore[method-assign,assignment]
        seen.patches.remove()
        seen.state.active = True
        seen.patches.install()
        for x, y in loader:
            _mse(clock, model(x), y).backward()
            optimizer.step()
    assert not seen.state.active
    assert [str(e) for e in seen.failures] == ["a bug of ours"]


Train = Callable[[], list[float]]


def _train() -> list[float]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters())
    data = torch.randn(32, 4)
    losses = []
    for x in DataLoader(data, batch_size=8, shuffle=True):  # type: ignore[arg-type,var-annotated]
        loss = model(x).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_losses_are_the_same_to_the_last_bit(clock: Clock) -> None:
    plain = _train()
    with Watched(clock):
        observed = _train()
    assert observed == plain


def test_an_optimizer_that_is_left_over_is_not_the_one_that_trains(clock: Clock) -> None:
    with Watched(clock) as seen:
        model, left_over, loader = _parts(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for x, y in (batch for _ in range(10) for batch in loader):
            _mse(clock, model(x), y).backward()
            optimizer.step()
    assert left_over.param_groups
    assert seen.steps == 20 - 10


def test_a_second_phase_of_the_training_with_an_optimizer_of_its_own_has_steps(
    clock: Clock,
) -> None:
    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        finetuning = torch.optim.SGD(list(model.parameters())[:1], lr=1e-3)
        for which, epochs in ((optimizer, 2), (finetuning, 150), (optimizer, 2)):
            for x, y in (batch for _ in range(epochs) for batch in loader):
                _mse(clock, model(x), y).backward()
                which.step()
    assert seen.steps == 4 + 300 - 200 + 4


@pytest.mark.parametrize("way", ["no_grad", "data", "replaced"])
def test_an_architecture_step_by_hand_is_one_too(clock: Clock, way: str) -> None:
    with Watched(clock) as seen:
        model = Search(clock, registered=False)
        optimizer = torch.optim.SGD(model.weights(), lr=1e-3)
        validation = iter(DataLoader(Samples(clock, count=64), batch_size=4))
        for x, y in DataLoader(Samples(clock, count=16), batch_size=4):
            vx, vy = next(validation)
            loss = _mse(clock, model(vx), vy)
            (gradient,) = torch.autograd.grad(loss, [model.alphas])
            clock.spend(9)
            if way == "no_grad":
                with torch.no_grad():
                    model.alphas -= gradient
            elif way == "data":
                model.alphas.data.sub_(gradient)
            else:
                model.alphas.data = model.alphas.data - gradient
            clock.spend(1)
            optimizer.zero_grad()
            _mse(clock, model(x), y).backward()
            optimizer.step()
    assert seen.steps == 4
    assert seen.observer.searches.count == 4
    assert seen.per_step()[1:] == 3 * [
        {
            "data_loading": 2 * 12,
            "arch_step": 20 + 2 + 9 + 1,  # that far no gradient flows through the paths
            "forward": 20,
            "loss": 2,
            "backward": 40,
        }
    ]


def test_gradients_that_change_nothing_are_no_architecture_step(clock: Clock) -> None:
    with Watched(clock) as seen:
        model = Search(clock, registered=False)
        optimizer = torch.optim.SGD(model.weights(), lr=1e-3)
        for x, y in DataLoader(Samples(clock, count=16), batch_size=4):
            x.requires_grad_()
            out = model(x)
            torch.autograd.grad(out.sum(), model.alphas, retain_graph=True)
            torch.autograd.grad(out.sum(), x, retain_graph=True)
            _mse(clock, out, y).backward()
            optimizer.step()
    assert seen.steps == 4
    assert "arch_step" not in seen.totals()


@pytest.mark.parametrize("reentrant", [True, False, None])
def test_gradient_checkpointing_is_seen_however_it_is_done(
    clock: Clock, reentrant: bool | None
) -> None:
    from torch.utils.checkpoint import checkpoint

    with Watched(clock) as seen:
        model, optimizer, loader = _parts(clock)
        for x, y in (batch for _ in range(3) for batch in loader):
            out = model(x)
            if reentrant is not None:
                out = checkpoint(torch.sin, out, use_reentrant=reentrant)
            _mse(clock, out, y).backward()
            optimizer.step()
    assert settings_used(seen.observer).get("gradient_checkpointing") == (
        None if reentrant is None else True
    )


def test_steps_of_other_threads_are_counted_and_nothing_else_of_them(clock: Clock) -> None:
    def train(steps: int) -> None:
        model, optimizer, _ = _parts(clock)
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()

    with Watched(clock) as seen:
        threads = [threading.Thread(target=train, args=(n,)) for n in (3, 4)]
        for thread in threads:
            thread.start()
            thread.join()
        assert seen.state.settings() == {"steps_in_other_threads": 7}
        assert seen.observer.recorder.count == 0
    train(2)  # nobody looks any more
    assert seen.state.settings() == {"steps_in_other_threads": 7}


def test_a_training_in_the_main_thread_has_no_steps_elsewhere(clock: Clock) -> None:
    model, optimizer, loader = _parts(clock)
    with Watched(clock) as seen:
        for x, y in loader:
            optimizer.zero_grad()
            _mse(clock, model(x), y).backward()
            optimizer.step()
    assert seen.steps == 2
    assert seen.state.settings() == {}
