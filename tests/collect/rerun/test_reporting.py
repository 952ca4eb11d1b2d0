"""What a script reports is left out, whole functions of that name included."""

from __future__ import annotations

import inspect
import io
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from perfdoctor.collect.rerun.functions import place_of
from perfdoctor.collect.rerun.habits import Habit
from perfdoctor.collect.rerun.reporting import _TARGETS, FIGURES, LINES, Reporting
from perfdoctor.errors import PerfdoctorError


class Tracker:
    def __init__(self):
        self.lines = []

    def log(self, line):
        self.lines.append(line)
        return "written"


@pytest.fixture
def module(monkeypatch):
    made = ModuleType("a_tracker")
    made.Tracker = type("Tracker", (Tracker,), {"log": Tracker.log})
    made.save = lambda name: made.saved.append(name)
    made.saved = []
    monkeypatch.setitem(sys.modules, "a_tracker", made)
    return made


class Script:
    def __init__(self, module, around=(), **kind):
        self.now, self.module, self.prepared = 0, module, 0
        self.tracker = module.Tracker()
        self.habit = Habit(lambda: self.now)
        calls = {"a_tracker": ("Tracker.log", "save", "Nothing.of_that_name", "imwrite")}
        self.reporting = Reporting(self.habit, calls, lambda: set(around), "log lines", **kind)
        self.reporting.install()

    def train(self, steps):
        for _ in range(steps):
            self.now += 1
            self.tracker.log(self.now)
            self.tracker.log(-self.now)

    def report_progress(self):
        self.prepared += 1
        self.tracker.log(self.now)
        return self.now

    def train_by_function(self, steps):
        found = []
        for _ in range(steps):
            self.now += 1
            found.append(self.report_progress())
        return found


def test_the_calls_of_all_but_some_steps_are_left_out(module):
    script = Script(module)
    script.train(1)
    with script.reporting.one_in(3):
        script.train(6)
        script.reporting.check()
    script.train(1)
    assert script.tracker.lines == [1, -1, 4, -4, 7, -7, 8, -8]
    assert script.tracker.log("x") == "written"


def test_a_function_that_reports_by_its_name_is_left_out_with_what_it_computes(module):
    script = Script(module)
    script.train_by_function(1)
    with script.reporting.one_in(1):
        script.train_by_function(1)
    with script.reporting.one_in(0):
        assert script.train_by_function(3) == [2, 2, 2]
    assert script.prepared == 2
    assert script.train_by_function(1) == [6]


def test_a_function_that_does_more_is_called_all_the_same(module):
    script = Script(module, [place_of(Script.report_progress.__code__)])
    script.train_by_function(1)
    with script.reporting.one_in(0):
        script.train_by_function(3)
    assert script.prepared == 4 and script.tracker.lines == [1]


@pytest.mark.parametrize(("whole", "prepared"), [(True, 2), (False, 5)])
def test_a_figure_is_prepared_by_the_function_that_saves_it(module, whole, prepared):
    script = Script(module, [place_of(Script.train_by_function.__code__)], whole=whole)

    def save_grid(self):
        self.prepared += 1
        self.module.save(self.now)

    script.report_progress = lambda: save_grid(script)
    script.train_by_function(1)
    with script.reporting.one_in(1):
        script.train_by_function(1)
    with script.reporting.one_in(0):
        script.train_by_function(3)
    assert script.prepared == prepared and module.saved == [1, 2]


def test_calls_that_are_never_seen_are_told(module):
    script = Script(module)
    with script.reporting.one_in(2), pytest.raises(PerfdoctorError, match="log lines"):
        script.reporting.check()
    script.reporting.check()


def test_other_threads_report_as_they_like(module):
    script = Script(module)
    with script.reporting.one_in(0):
        other = threading.Thread(target=script.train, args=(2,))
        other.start()
        other.join()
    assert len(script.tracker.lines) == 4


def test_what_is_named_is_there():
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import writer

    for table in (LINES, FIGURES):
        for name in table["torch.utils.tensorboard.writer"]:
            assert callable(getattr(writer.SummaryWriter, name.partition(".")[2]))


def test_a_figure_that_is_written_to_memory_is_written(module):
    module.imwrite = lambda uri, image: module.saved.append(uri)
    script, memory = Script(module), io.BytesIO()
    script.now += 1
    with script.reporting.one_in(0):
        module.imwrite(memory, "image")
        module.imwrite(image="image", uri=memory)
        with pytest.raises(PerfdoctorError, match="log lines"):
            script.reporting.check()
        module.imwrite("grid.png", "image")
        module.imwrite(Path("grid.png"), "image")
    assert module.saved == [memory, memory]


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in FIGURES.items() for name in names if name in _TARGETS],
)
def test_where_a_figure_is_written_to_is_known(module, name):
    found = pytest.importorskip(module)
    for part in name.split("."):
        found = getattr(found, part)
    position, target = _TARGETS[name]
    assert list(inspect.signature(found).parameters)[position] == target
