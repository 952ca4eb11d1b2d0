"""A script that trains on demand, changed between its steps; none of its files change."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from perfdoctor.collect.arm import NO_TIME
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
        torch.load("model.pt")
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
    {"reads_at_once": 2},
    {"num_workers": 1, "start_every": 3},
    {"gradient_checkpointing": False},
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
        short = arm.chunk(6, str(CHANGES.index({"num_workers": 1, "start_every": 3})))
        own = [i for i, loading_s in short.own_starts if not loading_s]
        assert short.starts.sum() - len(own) == 2
        assert arm.chunk(8).starts.sum() in (1, 2)  # of the script and of its loader's twin
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
def test_a_batch_that_does_not_fit_ends_the_script_and_is_told_as_such(tmp_path, scratch):
    text = TRAIN.replace("loss = nn", "len(x) > 4 and torch.empty(2**60)\n        loss = nn")
    with started(spec_of(script(tmp_path, text), scratch, cwd=tmp_path)) as arm:
        arm.add_mode("more", {"batch_size": 8})
        with pytest.raises(PerfdoctorError, match="can't allocate memory") as caught:
            arm.warm(1, "more")
        assert (caught.value.slug, arm.trying) == ("out-of-memory", "more")
        assert arm.chunk(2).step_s.size == 2  # it is begun again
        with pytest.raises(PerfdoctorError) as caught:
            arm.add_mode("full", {"batch_size": 8})
            arm.first_losses(2, "full")
        assert caught.value.slug == "no-room"


LEAVING = """
import subprocess, sys
from multiprocessing import shared_memory
shared = shared_memory.SharedMemory(create=True, size=100)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
    start_new_session=True, env={})
print("left", child.pid, shared.name, flush=True)
"""


@pytest.mark.slow
def test_nothing_is_left_of_a_script_in_processes_shared_memory_or_its_folder(tmp_path, scratch):
    log = tmp_path / "log"
    spec = spec_of(script(tmp_path, LEAVING + TRAIN), scratch, cwd=tmp_path, log=log)
    with started(spec) as arm:
        arm.warm(2)
        _, child, name = log.read_text().split()
        assert psutil.pid_exists(int(child)) and list(scratch.iterdir())
    assert not psutil.pid_exists(int(child)) or psutil.Process(int(child)).status() == "zombie"
    assert not Path("/dev/shm", name).exists()
    assert list(scratch.iterdir()) == []


CHECKPOINTED = """
import torch
from torch.utils.checkpoint import checkpoint

model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
ran = []

def block(x):
    ran.append(1)
    return model(x)

for step in range(1000):
    x = torch.ones(2, 4, requires_grad=True)
    loss = checkpoint(block, x, use_reentrant=REENTRANT).sum()
    optimizer.zero_grad()
    loss.backward()
    assert len(ran) == (2 if step < 3 else 1), ran
    ran.clear()
    optimizer.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize("reentrant", ["True", "False"])
def test_recomputing_is_left_out_in_both_its_ways(tmp_path, scratch, reentrant):
    path = script(tmp_path, CHECKPOINTED.replace("REENTRANT", reentrant))
    with started(spec_of(path, scratch, cwd=tmp_path)) as arm:
        arm.warm(2)  # and the one that was made before
        arm.add_mode("kept", {"gradient_checkpointing": False})
        assert arm.chunk(3, "kept").step_s.size == 3


def test_a_script_has_the_environment_of_its_user(tmp_path, monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "")
    monkeypatch.setenv("OMP_WAIT_POLICY", "")
    spec = spec_of(script(tmp_path), tmp_path)
    assert spec.variables() == dict(os.environ)
    assert spec.changed({"environment": {"A": "1"}}).variables() == {**os.environ, "A": "1"}


@pytest.mark.slow
def test_a_script_that_ends_is_begun_again(tmp_path, scratch):
    with started(spec_of(script(tmp_path, epochs=4), scratch, cwd=tmp_path)) as arm:
        first = arm.pid
        for _ in range(4):
            assert arm.chunk(10).step_s.size == 10
        assert arm.pid != first


@pytest.mark.slow
def test_a_script_that_ends_too_late_is_not_begun_again(tmp_path, scratch):
    with started(spec_of(script(tmp_path, epochs=1), scratch, cwd=tmp_path)) as arm:
        first, arm.begins_until_s = arm.pid, time.perf_counter()
        with pytest.raises(PerfdoctorError) as caught:
            arm.chunk(50)
        assert (caught.value.slug, arm.pid) == (NO_TIME, first)


@pytest.mark.slow
def test_the_batches_of_a_changed_loader_are_compared_and_the_script_goes_on(tmp_path, scratch):
    with started(spec_of(script(tmp_path), scratch, cwd=tmp_path)) as arm:
        arm.add_mode("more", {"num_workers": 1})
        assert arm.batches("more", 3) == "same"
        assert arm.chunk(5, "more").step_s.size == 5


@pytest.mark.slow
def test_the_epochs_of_a_script_that_is_too_short_go_on(tmp_path, scratch):
    with started(spec_of(script(tmp_path, epochs=1), scratch, cwd=tmp_path)) as arm:
        assert arm.chunk(50).starts.sum() >= 5


@pytest.mark.slow
def test_a_script_that_is_too_short_says_so(tmp_path, scratch):
    few = script(tmp_path, TRAIN.replace("in loader:", "in list(loader):"), epochs=1)
    with (
        started(spec_of(few, scratch, cwd=tmp_path)) as arm,
        pytest.raises(PerfdoctorError) as caught,
    ):
        arm.chunk(50)
    assert caught.value.slug == "script-too-short"


def test_a_script_that_fails_tells_why(tmp_path, scratch):
    failing = script(tmp_path, "import torch\nraise ValueError('no data here')\n")
    with pytest.raises(PerfdoctorError, match=r"no data here|user namespaces"):
        spec_of(failing, scratch, cwd=tmp_path).start()


@pytest.mark.slow
@pytest.mark.parametrize(("made", "traits"), [("True", ["scaler"]), ("False", [])])
def test_whether_a_script_scales_its_gradients_is_known(tmp_path, scratch, made, traits):
    scaling = f"\nscaler = torch.amp.GradScaler('cpu', enabled={made})\ntorch.manual_seed(0)\n"
    path = script(tmp_path, TRAIN.replace("\ntorch.manual_seed(0)\n", scaling))
    with started(spec_of(path, scratch, cwd=tmp_path)) as arm:
        assert arm.facts().extra["traits"] == traits


SEARCHING = """
import torch
from torch import nn

class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(2))
        self.paths = nn.ModuleList(nn.Linear(64, 64) for _ in range(2))
    def weights(self):
        return list(self.paths.parameters())
    def forward(self, x):
        return sum(a * path(x) for a, path in zip(self.alpha.softmax(0), self.paths))

class Architect:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.Adam([model.alpha], lr=1e-3)
    def step(self, x):
        self.optimizer.zero_grad()
        loss = self.model(x).square().mean()
        loss.backward()
        self.optimizer.step()
        open("steps", "a").write("x")
        return loss

torch.manual_seed(0)
model = Mixed()
optimizer = torch.optim.SGD(model.weights(), lr=1e-3)
architect = Architect(model)
for step in range(100_000):
    x = torch.randn(8, 64)
    if step >= 4 and step % 2 == 0:
        architect.step(x).item()
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
"""


@pytest.mark.slow
def test_architecture_steps_are_left_out(tmp_path, scratch):
    def made() -> int:
        return sum(path.stat().st_size for path in scratch.rglob("steps"))

    with started(spec_of(script(tmp_path, SEARCHING), scratch, cwd=tmp_path)) as arm:
        arm.warm(30)
        facts = arm.facts()
        assert facts.configuration["arch_every"] == 2
        assert facts.extra["periods"] == {"arch_every": 1}
        arm.add_mode("less", {"arch_every": 10})
        arm.chunk(10, "less")
        before = made()
        arm.chunk(40, "less")
        assert made() - before == 4
        arm.chunk(1)
        before = made()
        arm.chunk(40)
        assert made() - before == 20
        assert arm.facts().configuration["arch_every"] == 2


BESIDE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

def tell(name):
    open(name, "a").write("x")

def evaluate():
    model.eval()
    with torch.no_grad():
        for x, y in valid:
            model(x)
    tell("validated")
    model.train()
    return 0.5

def report(epoch, score):
    print(epoch, score)
    tell("reported")

torch.manual_seed(0)
data = TensorDataset(torch.randn(400, 8), torch.randint(0, 2, (400,)))
loader, valid = DataLoader(data, batch_size=4), DataLoader(data, batch_size=40)
model = nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(10_000):
    for step, (x, y) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            report(epoch, loss.item())
    VALIDATION
    assert score == 0.5
"""
INLINE = """count = 0
    with torch.no_grad():
        for x, y in valid:
            model.eval()(x)
            count += 1
            tell("validated")
    model.train()
    score = 0.5 * count / count"""


def written(scratch: Path, name: str) -> int:
    return sum(path.stat().st_size for path in scratch.rglob(name))


def occasions_of(arm, mode, key, steps):
    found = arm.chunk(steps, mode).occasions.get(key, ())
    return [tuple(one) for one in found]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("validation", "each", "least"), [("score = evaluate()", 1, 0), (INLINE, 10, 1)]
)
def test_validations_are_left_out_or_see_one_batch(tmp_path, scratch, validation, each, least):
    path = script(tmp_path, BESIDE.replace("VALIDATION", validation))
    short = {"epoch_steps": 10}
    with started(spec_of(path, scratch, cwd=tmp_path)) as arm:
        arm.warm(5)
        arm.add_mode("made", {"validate_every_times": 1, **short})
        arm.add_mode("left out", {"validate_every_times": 0, **short})
        arm.chunk(30, "made")
        before = written(scratch, "validated")
        found = occasions_of(arm, "made", "validate_every_times", 20)
        assert len(found) == 2 and all(made for _, made in found)
        assert written(scratch, "validated") - before in (2 * each, 3 * each)
        arm.chunk(10, "left out")
        before = written(scratch, "validated")
        found = occasions_of(arm, "left out", "validate_every_times", 40)
        assert len(found) == 4 and not any(made for _, made in found)
        assert written(scratch, "validated") - before == 4 * least
        assert "validate_every_times" not in arm.facts().extra["periods"]
        assert arm.chunk(50).starts.sum() <= 1  # epochs are as long as they were


@pytest.mark.slow
def test_reports_are_left_out_with_the_function_that_makes_them(tmp_path, scratch):
    path = script(tmp_path, BESIDE.replace("VALIDATION", "score = 0.5"))
    with started(spec_of(path, scratch, cwd=tmp_path)) as arm:
        arm.warm(25)
        assert arm.facts().extra["periods"]["log_every_times"] == 10
        arm.add_mode("less", {"log_every_times": 5})
        arm.chunk(10, "less")
        before = written(scratch, "reported")
        arm.chunk(100, "less")
        assert written(scratch, "reported") - before == 2


@pytest.mark.slow
def test_a_function_that_reports_and_validates_is_no_report(tmp_path, scratch):
    both = BESIDE.replace("def evaluate", "def report_score")
    both = both.replace('    tell("validated")', '    print("validated")\n    tell("validated")')
    path = script(tmp_path, both.replace("VALIDATION", "score = report_score()"))
    short = {"epoch_steps": 10}
    with started(spec_of(path, scratch, cwd=tmp_path)) as arm:
        arm.add_mode("short", short)
        arm.chunk(30, "short")
        arm.add_mode("less", {"log_every_times": 5, **short})
        before = written(scratch, "validated")
        arm.chunk(40, "less")
        assert written(scratch, "validated") - before in (4, 5)


@pytest.mark.slow
def test_a_script_that_cannot_bear_a_change_says_how_it_ended(tmp_path, scratch):
    fails = INLINE.replace("0.5 * count / count", "0.5 if count == 10 else 1 / 0")
    path = script(tmp_path, BESIDE.replace("VALIDATION", fails))
    short = {"epoch_steps": 10}
    with started(spec_of(path, scratch, cwd=tmp_path)) as arm:
        arm.add_mode("made", {"validate_every_times": 1, **short})
        arm.chunk(30, "made")
        arm.add_mode("left out", {"validate_every_times": 0, **short})
        with pytest.raises(PerfdoctorError, match=r"with it the script ended.*division by zero"):
            arm.chunk(100, "left out")
