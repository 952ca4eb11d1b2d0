"""A table of names and units, and what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfdoctor.readers.labels import Meaning, label_of
from perfdoctor.readers.units import unit_of
from perfdoctor.readers.vocabulary import meaning_of


def meaning(
    name: str, unit: str = "", *, integer: bool = False, clock: bool = False
) -> Meaning | None:
    return meaning_of(label_of(name), unit_of(unit), integer=integer, clock=clock)


TIMES = [
    ("step_time", "ms", "step_s", 1e-3), ("step_time", "", "step_s", 1),
    ("step_time_ms", "", "step_s", 1e-3),
    ("batch_time", "s", "step_s", 1), ("iter_time", "", "step_s", 1),
    ("time/step", "ms", "step_s", 1e-3),
    ("elapsed time per iteration (ms)", "", "step_s", 1e-3), ("StepTime", "ms", "step_s", 1e-3),
    ("iteration time", "s", "step_s", 1), ("avg step time", "ms", "step_s_mean", 1e-3),
    ("data_time", "", "data_loading_s", 1), ("data", "s", "data_loading_s", 1),
    ("dataloader wait", "ms", "data_loading_s", 1e-3), ("fwd_time", "ms", "forward_s", 1e-3),
    ("forward", "ms", "forward_s", 1e-3), ("backward_ms", "", "backward_s", 1e-3),
    ("bwd", "s", "backward_s", 1),
    ("optimizer_time", "", "optimizer_s", 1), ("h2d", "ms", "h2d_copy_s", 1e-3),
    ("allreduce", "ms", "communication_s", 1e-3), ("arch_time", "s", "arch_step_s", 1),
    ("checkpoint save time", "s", "checkpoint_s", 1), ("epoch time", "s", "epoch_s", 1),
    ("epoch_duration", "min", "epoch_s", 60), ("val_time", "", "validation_s", 1),
    ("eval time", "s", "validation_s", 1), ("elapsed", "s", "elapsed_s", 1),
    ("total time", "h", "elapsed_s", 3600),
    ("wall", "", "elapsed_s", 1), ("train_time", "s", "train_s", 1), ("time", "", "unclear_s", 1),
    ("took", "s", "unclear_s", 1), ("耗时", "秒", "unclear_s", 1),
    ("每步耗时", "毫秒", "step_s", 1e-3),
    ("数据加载耗时", "秒", "data_loading_s", 1), ("验证耗时", "秒", "validation_s", 1),
    ("前向耗时", "毫秒", "forward_s", 1e-3),
]  # fmt: skip


@pytest.mark.parametrize(("name", "unit", "role", "scale"), TIMES)
def test_names_of_times(name: str, unit: str, role: str, scale: float) -> None:
    found = meaning(name, unit)
    assert found is not None
    assert (found.role, found.scale) == (role, pytest.approx(scale))


RATES = [
    ("throughput", "samples/s", "samples_per_s", 1), ("samples_per_sec", "", "samples_per_s", 1),
    ("samples/s", "", "samples_per_s", 1), ("images/sec", "", "samples_per_s", 1),
    ("img_per_s", "", "samples_per_s", 1),
    ("ips", "", "samples_per_s", 1), ("fps", "", "samples_per_s", 1),
    ("wps", "", "tokens_per_s", 1),
    ("tokens_per_second", "", "tokens_per_s", 1), ("tok/s", "", "tokens_per_s", 1),
    ("tps", "", "tokens_per_s", 1),
    ("it/s", "", "steps_per_s", 1), ("steps_per_sec", "", "steps_per_s", 1),
    ("global_step/sec", "", "steps_per_s", 1),
    ("speed", "it/s", "steps_per_s", 1), ("speed", "s/it", "step_s", 1),
    ("avg throughput", "samples/s", "samples_per_s_mean", 1),
    ("吞吐量", "样本/秒", "samples_per_s", 1), ("速度", "步/秒", "steps_per_s", 1),
    ("train_samples_per_second", "", "samples_per_s", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "unit", "role", "scale"), RATES)
def test_names_of_rates(name: str, unit: str, role: str, scale: float) -> None:
    found = meaning(name, unit)
    assert found is not None
    assert (found.role, found.scale) == (role, pytest.approx(scale))


@pytest.mark.parametrize(
    "name", ["tokens_per_sec_per_gpu", "samples/s/gpu", "images/sec per gpu", "tokens/s/device"]
)
def test_names_of_rates_of_one_device(name: str) -> None:
    found = meaning(name)
    assert found is not None
    assert found.role in ("tokens_per_s", "samples_per_s")
    assert found.device


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("step", "step"), ("Iter", "step"), ("iteration", "step"), ("global_step", "step"),
        ("batch", "step"),
        ("num_updates", "step"), ("epoch", "epoch"), ("Epoch", "epoch"), ("轮", "epoch"),
        ("第几步", "step"),
        ("rank", "rank"), ("batch_size", "batch_size"), ("global_batch_size", "batch_size"),
        ("max_steps", "step_total"),
        ("total_epochs", "epoch_total"), ("[rank", "rank"),
    ],
)  # fmt: skip
def test_names_of_counters(name: str, role: str) -> None:
    found = meaning(name, integer=True)
    assert found is not None
    assert found.role == role


@pytest.mark.parametrize(
    ("name", "unit", "scale"),
    [("max mem", "", 2**20), ("gpu_mem", "GB", 2**30), ("mem_gb", "", 2**30),
    ("memory", "MiB", 2**20), ("显存", "GB", 2**30)],
)  # fmt: skip
def test_names_of_memory(name: str, unit: str, scale: float) -> None:
    assert meaning(name, unit, integer=True) == Meaning("memory_bytes", scale)


@pytest.mark.parametrize(
    "name", ["eta", "ETA", "remaining time", "time left", "estimated time", "剩余时间", "预计还需"]
)
def test_what_remains_is_not_what_was_spent(name: str) -> None:
    for unit, clock in (("", True), ("s", False), ("h", False)):
        assert meaning(name, unit, clock=clock) is None


@pytest.mark.parametrize(
    ("name", "metric"),
    [("loss", "loss"), ("val_loss", "val_loss"), ("Acc@1", "acc_1"), ("lr", "lr"),
    ("learning_rate", "learning_rate"),
     ("mAP", "m_ap"), ("grad_norm", "grad_norm"), ("dropout_rate", "dropout_rate"),
     ("cost", "cost")],
)  # fmt: skip
def test_other_names_are_metrics(name: str, metric: str) -> None:
    assert meaning(name) == Meaning(f"metric:{metric}")


@pytest.mark.parametrize(
    "name", ["micro_batch", "steps_per_epoch", "warmup_steps", "log_interval steps", "save_steps"]
)
def test_settings_with_a_counter_s_name_are_no_counters(name: str) -> None:
    found = meaning(name, integer=True)
    assert found is None or found.role not in ("step", "epoch")


def test_a_unit_in_the_name_s_parentheses_is_taken_off() -> None:
    label = label_of("forward time (ms)")
    assert label.unit is not None
    assert (label.text, label.unit.scale) == ("forward_time", 1e-3)


def test_levels_of_loggers_are_no_part_of_a_name() -> None:
    assert label_of("INFO step time").words == label_of("step time").words


@given(st.text(max_size=120), st.sampled_from(["", "s", "ms", "it/s", "s/it", "%", "MB", "steps"]))
@settings(max_examples=200, deadline=None)
def test_any_name_means_something_or_nothing(name: str, unit: str) -> None:
    for integer in (True, False):
        for clock in (True, False):
            found = meaning(name, unit, integer=integer, clock=clock)
            assert found is None or (found.role and found.scale > 0)


@pytest.mark.parametrize(
    "name",
    ["sys_mem_size", "total memory", "GPU memory limit", "available_memory", "free GPU memory",
     "max memory size"],
)  # fmt: skip
def test_what_memory_a_machine_has_is_none_that_was_taken(name: str) -> None:
    found = meaning(name, "GB")
    assert found is None or found.role != "memory_bytes"


@pytest.mark.parametrize(
    "name", ["max mem", "total memory allocated", "peak memory size", "memory"]
)
def test_memory_that_was_taken_is_told_by_its_name(name: str) -> None:
    assert meaning(name, "GB") == Meaning("memory_bytes", 2.0**30)


@pytest.mark.parametrize(
    "name",
    ["timesteps", "total_timesteps", "num_frames", "env_steps", "num_env_steps",
     "num_steps_sampled", "agent steps"],
)  # fmt: skip
def test_steps_of_an_environment_are_none_of_the_training(name: str) -> None:
    assert meaning(name, integer=True) == Meaning("env_steps")


@pytest.mark.parametrize("name", ["rollout/ep_rew_mean", "ep_len_mean", "ep_return"])
def test_what_is_told_of_episodes_counts_no_epochs(name: str) -> None:
    found = meaning(name)
    assert found is None or found.role.startswith("metric:")
