"""A script that trains on demand, changed between its steps; none of its files change."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from perfdoctor.collect.rerun.arm import spec_of
from perfdoctor.collect.sandbox import scratch_folder
from perfdoctor.collect.script.main_module import Script
from perfdoctor.errors import PerfdoctorError

TRAIN = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(32, 8), torch.randint(0, 2, (32,)))
loader = DataLoader(data, batch_size=4)
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.Adam(model.parameters(), foreach=False)
for epoch in range(EPOCHS):
    for x, y in loader:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.save(model.state_dict(), "model.pt")
print("done", file=open("log.txt", "w"))
"""


@pytest.fixture
def scratch():
    with scratch_folder() as folder:
        yield folder


def script(tmp_path: Path, text: str = TRAIN, epochs: int = 1000) -> Script:
    path = tmp_path / "train.py"
    path.write_text(textwrap.dedent(text).replace("EPOCHS", str(epochs)))
    return Script(str(path), ())


def started(spec):
    try:
        return spec.start()
    except PerfdoctorError as error:
        if error.slug == "no-sandbox":
            pytest.skip("this machine does not allow user namespaces")
        raise


CHANGES = [
    {"threads": 1},
    {"precision": "bf16"},
    {"optimizer_fused": True},
    {"optimizer_foreach": True},
    {"anomaly_detection": True},
    {"checkpoint_every_times": 10},
    {"gc_frozen": True},
    {"collect_each_step": False},
    {"num_workers": 1},
    {"batch_size": 8},
    {"cache_samples": True},
    {"free_loading": True},
]


@pytest.mark.slow
def test_every_change_is_made_and_taken_back(tmp_path, scratch):
    with started(spec_of(script(tmp_path), scratch, cwd=tmp_path)) as arm:
        assert arm.warm(3).size == 3
        for number, changes in enumerate(CHANGES):
            arm.add_mode(str(number), changes)
            assert arm.chunk(4, str(number)).step_s.size == 4, changes
            facts = arm.facts()
            assert facts.configuration["threads"] >= 1
        assert facts.configuration["precision"] == "fp32"
        assert len(facts.losses) == len(facts.gradient_norms) == 10
        assert facts.extra["steps_per_epoch"] == 8
        assert arm.chunk(4, str(CHANGES.index({"batch_size": 8}))).samples.tolist() == [8.0] * 4
        epoch = arm.chunk(8)
        assert epoch.starts.sum() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.slow
def test_a_change_from_the_start_shows_in_the_losses(tmp_path, scratch):
    with started(spec_of(script(tmp_path), scratch, cwd=tmp_path)) as arm:
        arm.add_mode("same", {})
        arm.add_mode("half", {"precision": "bf16"})
        plain = arm.facts().losses
        arm.warm(5)
        plain = arm.facts().losses
        assert arm.first_losses(5, "same")[0] == plain[:5]
        assert arm.first_losses(5, "half")[0] != plain[:5]


@pytest.mark.slow
def test_a_script_that_ends_is_begun_again(tmp_path, scratch):
    with started(spec_of(script(tmp_path, epochs=4), scratch, cwd=tmp_path)) as arm:
        first = arm.pid
        for _ in range(4):
            assert arm.chunk(10).step_s.size == 10
        assert arm.pid != first


@pytest.mark.slow
def test_a_script_that_is_too_short_says_so(tmp_path, scratch):
    with (
        started(spec_of(script(tmp_path, epochs=1), scratch, cwd=tmp_path)) as arm,
        pytest.raises(PerfdoctorError) as caught,
    ):
        arm.chunk(50)
    assert caught.value.slug == "script-too-short"


def test_a_script_that_fails_tells_why(tmp_path, scratch):
    failing = script(tmp_path, "import torch\nraise ValueError('no data here')\n")
    with pytest.raises(PerfdoctorError, match=r"no data here|user namespaces"):
        spec_of(failing, scratch, cwd=tmp_path).start()
