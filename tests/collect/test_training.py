"""The training loop gives every moment to its stage, on a clock that moves only when told."""

from __future__ import annotations

import pytest
import torch
import toys
from fake_time import FakeClock, FakeDeviceClock
from torch import nn

import perfdoctor
from perfdoctor.collect import training
from perfdoctor.collect.assembly import stage_series
from perfdoctor.collect.options import BenchOptions
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.errors import PerfdoctorError, UserCodeError


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(training, "clock_for", lambda device: fake)
    return fake


class SlowDataset(toys.Points):
    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def __getitem__(self, index):
        self.clock.advance(self.seconds)
        return super().__getitem__(index)


class SlowModel(toys.Classifier):
    """Forward, a named stage inside it, and backward take known times."""

    def __init__(self, clock, *, forward=0.0, graph=0.0, backward=0.0):
        super().__init__()
        self.clock, self.forward_s, self.graph_s = clock, forward, graph
        self.fc.weight.register_hook(lambda grad: clock.advance(backward))

    def forward(self, x):
        self.clock.advance(self.forward_s)
        with perfdoctor.stage("graph_build"):
            self.clock.advance(self.graph_s)
        return super().forward(x)


class SlowSGD(torch.optim.SGD):
    def __init__(self, params, clock, seconds):
        super().__init__(params, lr=0.1)
        self.clock, self.seconds = clock, seconds

    def step(self, closure=None):
        self.clock.advance(self.seconds)
        return super().step(closure)


def run(factory, steps=5, **options) -> TrainingLoop:
    loop = TrainingLoop(factory, BenchOptions(device="cpu", **options))
    loop.run_steps(steps)
    loop.finish()
    return loop


def stages_of(loop, step=1):
    return {s.name: s.exposed_s[step] for s in stage_series(loop.steps)}


def test_every_stage_gets_its_own_time(clock):
    def collate(samples):
        clock.advance(0.5)
        return torch.utils.data.default_collate(samples)

    def loss(output, target):
        clock.advance(0.25)
        return nn.functional.cross_entropy(output, target)

    loop = run(
        lambda: toys.workload(
            model=SlowModel(clock, forward=2, graph=3, backward=5),
            dataset=SlowDataset(clock, 0.125),
            collate_fn=collate,
            loss=loss,
            optimizer=lambda params: SlowSGD(params, clock, 7),
        )
    )
    assert stages_of(loop) == pytest.approx(
        {
            "data_loading": 8 * 0.125 + 0.5,
            "forward": 2,
            "loss": 0.25,
            "backward": 5,
            "optimizer": 7,
            "other": 0,
            "graph_build": 3,
        }
    )


def test_the_stages_of_each_step_add_up_to_it(clock):
    loop = run(lambda: toys.workload(model=SlowModel(clock, forward=2, backward=1)))
    for step in loop.steps.times:
        assert sum(step.exposed_s.values()) == step.total_s == 3


def test_a_step_function_counts_as_forward_and_has_no_loss(clock):
    def step(model, batch):
        clock.advance(4)
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    stages = stages_of(run(lambda: toys.workload(step=step)))
    assert stages["forward"] == 4
    assert "loss" not in stages


def test_the_architecture_step_runs_as_often_as_asked(clock):
    def factory():
        return toys.searched_workload(
            arch_optimizer=lambda params: SlowSGD(params, clock, 6), arch_every=2
        )

    series = {s.name: s for s in stage_series(run(factory, steps=4).steps)}
    assert series["arch_step"].exposed_s.tolist() == pytest.approx(
        [6, float("nan"), 6, float("nan")], nan_ok=True
    )


def test_architecture_parameters_are_left_out_of_the_weights():
    loop = run(toys.searched_workload)
    optimised = [p for group in loop.optimizer.param_groups for p in group["params"]]
    assert not any(p is loop.workload.arch_parameters[0] for p in optimised)


def test_epochs_begin_where_the_data_ends():
    loop = run(lambda: toys.workload(dataset=toys.Points(24)), steps=7)
    assert loop.steps.starts().tolist() == [True, False, False, True, False, False, True]
    assert len(loop.steps.first_batch_s) == 3
    assert loop.steps_per_epoch == 3


def test_streams_are_trained_on_as_well():
    loop = run(lambda: toys.workload(dataset=toys.Stream(), batch_size=6), steps=4)
    assert loop.steps.samples().tolist() == [6, 6, 6, 6]
    assert loop.steps_per_epoch is None
    assert loop.steps.skipped == {"shard.tar": "bad member"}


def test_the_command_line_goes_before_the_workload():
    options = {"num_workers": 3, "prefetch_factor": 4, "pin_memory": False}
    loop = TrainingLoop(
        lambda: toys.workload(loader_options=options),
        BenchOptions(device="cpu", num_workers=0, batch_size=2),
    )
    assert loop.loader_arguments["num_workers"] == 0
    assert loop.loader_arguments["batch_size"] == 2
    assert "prefetch_factor" not in loop.loader_arguments


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_each_precision_trains_and_leaves_no_trace(precision):
    before = torch.get_float32_matmul_precision()
    loop = run(toys.workload, precision=precision)
    assert torch.isfinite(loop.last_loss)
    assert torch.get_float32_matmul_precision() == before


def test_the_same_seed_gives_the_same_losses():
    first, second = run(toys.workload, seed=5), run(toys.workload, seed=5)
    assert torch.equal(first.last_loss, second.last_loss)


def failing(error: Exception):
    class Model(toys.Classifier):
        def forward(self, x):
            raise error

    return Model()


def test_a_forward_that_fails_shows_the_users_traceback_and_not_ours():
    with pytest.raises(UserCodeError, match="forward of the model failed: ValueError: mine") as e:
        run(lambda: toys.workload(model=failing(ValueError("mine"))))
    assert "test_training.py" in e.value.details
    assert "perfdoctor/collect" not in e.value.details


def test_a_shape_mismatch_names_the_shapes():
    with pytest.raises(UserCodeError, match=r"its tensors were \(8, 4\) torch.float32"):
        run(lambda: toys.workload(model=nn.Linear(5, 2)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 65}, r"batch size 65 is larger than the dataset \(64 samples\)"),
        ({"dataset": toys.Points(0)}, "the dataset is empty"),
        ({"dataset": 5}, "the dataset is a int without __len__"),
        ({"model": nn.ReLU()}, "no parameters to train"),
        ({"loss": lambda o, t: o}, "one number to minimise, got"),
        ({"optimizer": lambda p: 3}, "made a int"),
        ({"arch_parameters": []}, "gave no parameters"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number from 1"),
        ({"batch_size": "8"}, "batch_size='8' must be a whole number from 1"),
        ({"arch_parameters": 5}, "the arch_parameters of the workload failed: TypeError"),
        ({"arch_every": 0}, r"arch_every=0\) must be a whole number from 1"),
        ({"arch_order": 3}, r"arch_order=3\) must be 1 or 2"),
        ({"loader_options": {"nonsense": 1}}, "the DataLoader refuses its arguments"),
        ({"step": lambda m, b: torch.zeros(())}, "must return the loss before its backward"),
        ({"device": "meta"}, "--device meta cannot be used here"),
        ({"dataset": toys.Broken()}, "the dataset failed: KeyError: 'no such column'"),
        ({"device": "cuda:99"}, "--device cuda:99"),
        ({"device": "quantum"}, "unknown device 'quantum'"),
    ],
)
def test_bad_input_is_one_line_that_names_it(changes, words):
    with pytest.raises(PerfdoctorError, match=words) as caught:
        loop = TrainingLoop(lambda: toys.workload(**changes), BenchOptions())
        loop.run_steps(1)
    assert "\n" not in str(caught.value)


def test_loading_behind_queued_device_work_is_hidden_and_not_exposed(monkeypatch):
    device = FakeDeviceClock()
    monkeypatch.setattr(training, "clock_for", lambda _: device)
    monkeypatch.setattr(training, "synchronise", lambda _: device.catch_up())

    class Queueing(toys.Classifier):
        def forward(self, x):
            device.work(5)  # returns at once; the device is busy for five seconds
            return super().forward(x)

    loop = run(lambda: toys.workload(model=Queueing(), dataset=SlowDataset(device, 0.25)), steps=6)
    series = {s.name: s for s in stage_series(loop.steps)}
    assert series["data_loading"].exposed_s[3] == pytest.approx(0)
    assert series["data_loading"].hidden_s[3] == pytest.approx(2)
    assert series["forward"].exposed_s[3] == pytest.approx(5)
    assert loop.steps.times[3].total_s == pytest.approx(5)
    assert sum(loop.steps.times[3].host_s.values()) == pytest.approx(2)


def test_an_optimizer_that_calls_back_gets_its_closure(clock):
    loop = run(
        lambda: toys.workload(
            model=SlowModel(clock, forward=2, backward=1),
            optimizer=lambda params: torch.optim.LBFGS(params, max_iter=2, max_eval=2),
        )
    )
    stages = stages_of(loop)
    assert stages["forward"] == 4  # two evaluations
    assert stages["backward"] == 2
    assert loop.steps.times[1].total_s == 6


def test_user_code_may_take_a_batch_apart(clock):
    class Named(toys.Points):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return {"x": x, "labels": y}

    loop = run(
        lambda: toys.workload(
            dataset=Named(), unpack=lambda batch: (batch["x"], batch.pop("labels"))
        )
    )
    loop.train(loop.captured[0])  # once more: the labels are still there


def test_the_worker_info_shows_the_users_dataset():
    class Asking(toys.Points):
        def __getitem__(self, index):
            assert torch.utils.data.get_worker_info().dataset is self
            return super().__getitem__(index)

    run(lambda: toys.workload(dataset=Asking(16)), steps=2, num_workers=1)


def test_the_search_has_a_loader_of_its_own(clock):
    loop = run(
        lambda: toys.searched_workload(
            val_dataset=toys.Points(5),
            loader_options={"sampler": list(range(64)), "drop_last": True},
        )
    )
    assert len(loop.steps.times) == 5


def test_stages_around_a_yield_do_not_break_the_timeline():
    class Lingering(toys.Stream):
        def __iter__(self):
            for sample in super().__iter__():
                with perfdoctor.stage("decode"):
                    yield sample

    loop = run(lambda: toys.workload(dataset=Lingering(), batch_size=4), steps=4)
    assert len(loop.steps.times) == 4
