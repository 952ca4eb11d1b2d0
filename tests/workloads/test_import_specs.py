from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn
from torch.utils.data import DataLoader

from perfdoctor.errors import PerfdoctorError, UserCodeError
from perfdoctor.workloads import from_parts, from_spec

GOOD = """
    import torch
    import perfdoctor

    class Squares(torch.utils.data.Dataset):
        def __init__(self, count=4):
            self.count = count
        def __len__(self):
            return self.count
        def __getitem__(self, i):
            return torch.ones(3) * i, i * i

    class Net(torch.nn.Linear):
        def __init__(self, width=3):
            super().__init__(3, width)

    def workload():
        return perfdoctor.Workload(model=Net(), dataset=Squares(), name="first")

    def other():
        return perfdoctor.Workload(model=Net(), dataset=Squares(), name="second")

    not_callable = 3
"""


@pytest.fixture(autouse=True)
def clean_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test starts in its own folder, and leaves neither modules nor paths behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, text: str = GOOD) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(textwrap.dedent(text))
    return Path(path)


@pytest.mark.parametrize("spec", ["mine.py", "mine.py:workload", "mine", "mine:workload"])
def test_a_file_or_module_gives_its_function_workload(spec: str) -> None:
    write("mine.py")
    assert from_spec(spec)().name == "first"


@pytest.mark.parametrize("spec", ["mine.py:other", "mine:other"])
def test_another_function_can_be_named(spec: str) -> None:
    write("mine.py")
    assert from_spec(spec)().name == "second"


def test_a_module_in_a_package_below_the_working_directory_is_found() -> None:
    write("pkg/__init__.py", "")
    write("pkg/helper.py", "NAME = 'from the package'")
    write("pkg/train.py", GOOD.replace('"first"', "NAME") + "    from .helper import NAME\n")
    assert from_spec("pkg.train")().name == "from the package"


def test_a_file_imports_its_neighbours_as_a_script_would() -> None:
    write("deep/neighbour.py", "NAME = 'next door'")
    write("deep/mine.py", GOOD.replace('"first"', "NAME") + "    from neighbour import NAME\n")
    assert from_spec("deep/mine.py")().name == "next door"


def test_an_absolute_path_works_from_anywhere(tmp_path: Path) -> None:
    path = write("deep/mine.py")
    assert from_spec(f"{path.resolve()}:other")().name == "second"


def test_each_call_makes_a_fresh_model() -> None:
    write("mine.py")
    factory = from_spec("mine.py")
    assert factory().model is not factory().model


def test_classes_of_a_file_can_be_unpickled_by_spawned_workers() -> None:
    write("mine.py")
    dataset = from_spec("mine.py")().dataset
    loader = DataLoader(dataset, 2, num_workers=1, multiprocessing_context="spawn")
    assert [int(v) for _, y in loader for v in y] == [0, 1, 4, 9]


def test_two_files_of_one_name_do_not_get_in_each_others_way() -> None:
    write("a/mine.py")
    write("b/mine.py", GOOD.replace('"first"', '"from b"'))
    assert from_spec("a/mine.py")().name == "first"
    assert from_spec("b/mine.py")().name == "from b"
    assert from_spec("a/mine.py")().name == "first"


def test_a_file_named_like_a_standard_module_does_not_replace_it() -> None:
    write("random.py")
    assert from_spec("random.py")().name == "first"
    import random

    assert hasattr(random, "randint")


def test_an_import_that_raises_is_the_users_error_with_their_traceback_alone() -> None:
    write("mine.py", "def broken():\n    raise RuntimeError('no data\\nmore')\n\nbroken()\n")
    with pytest.raises(UserCodeError, match=r"cannot import mine.py: RuntimeError: no data$") as e:
        from_spec("mine.py")
    assert 'mine.py", line 4' in e.value.details
    assert "importlib" not in e.value.details
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import not_installed_here", "ModuleNotFoundError: No module named 'not_installed_here'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("spec", ["mine.py", "mine"])
def test_every_way_an_import_can_fail_is_reported(text: str, reason: str, spec: str) -> None:
    write("mine.py", text)
    with pytest.raises(UserCodeError, match=f"cannot import {spec}: {reason}"):
        from_spec(spec)


def test_a_function_that_raises_is_the_users_error() -> None:
    write("mine.py", "def workload():\n    return {}['missing']\n")
    factory = from_spec("mine.py")
    with pytest.raises(UserCodeError, match=r"mine.py raised KeyError: 'missing'") as caught:
        factory()
    assert caught.value.details.startswith("Traceback")
    assert "perfdoctor" not in caught.value.details


def test_a_function_that_needs_arguments_is_the_users_error() -> None:
    write("mine.py", "def workload(config): ...\n")
    with pytest.raises(UserCodeError, match=r"TypeError: workload.* missing 1 required"):
        from_spec("mine.py")()


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        ("{}", "return perfdoctor.Workload, got dict"),
        ("None", "return perfdoctor.Workload, got NoneType"),
        ("perfdoctor.Workload(model=Net, dataset=Squares())", "as the model, got the class Net"),
        ("perfdoctor.Workload(model=Net(), dataset=3)", "__getitem__ or __iter__, got int"),
        ("perfdoctor.Workload(model=Net(), dataset=Squares)", "got the class Squares"),
    ],
)
def test_a_wrong_return_is_refused_with_what_was_returned(returned: str, got: str) -> None:
    write("mine.py", GOOD + f"\n    def wrong():\n        return {returned}\n")
    factory = from_spec("mine.py:wrong")
    with pytest.raises(PerfdoctorError, match=f"mine.py:wrong must .*{got}"):
        factory()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gone.py", "gone.py does not exist"),
        ("gone.py:workload", "gone.py does not exist"),
        ("gone.module", "no module named 'gone' in .*; for a file write FILE.py"),
        ("mine.gone", "no module named 'mine.gone'"),
        ("mine.py:wrkload", r"no 'wrkload'; it has Squares, Net, workload, other \(write mine.py:"),
        ("empty.py", "no 'workload'; it defines no function or class"),
        ("mine.py:not_callable", "must be a function or a class .* not a int"),
        ("", "cannot tell a module from ''"),
        (":workload", "cannot tell a module from ':workload'"),
        ("folder/mine", r"write FILE.py\[:FUNCTION\]"),
        ("..mine", "cannot tell a module from"),
    ],
)
def test_a_bad_spec_is_refused_with_the_way_out(spec: str, message: str) -> None:
    write("mine.py")
    write("empty.py", "")
    with pytest.raises(PerfdoctorError, match=message) as caught:
        from_spec(spec)
    assert not isinstance(caught.value, UserCodeError)
    assert "\n" not in str(caught.value)


def test_parts_are_joined_with_their_arguments() -> None:
    write("mine.py")
    factory = from_parts("mine.py:Net", "mine:Squares", {"width": 7}, {"count": 9})
    first, second = factory(), factory()
    assert isinstance(first.model, nn.Linear)
    assert first.model.out_features == 7
    assert len(first.dataset) == 9
    assert first.model is not second.model
    assert first.dataset is second.dataset


def test_parts_from_an_installed_package_work() -> None:
    write("mine.py")
    arguments = {"in_features": 3, "out_features": 2}
    assert from_parts("torch.nn:Linear", "mine.py:Squares", arguments, {})().model.out_features == 2


def test_arguments_that_do_not_fit_are_the_users_error() -> None:
    write("mine.py")
    factory = from_parts("mine.py:Net", "mine.py:Squares", {"depth": 3}, {})
    with pytest.raises(UserCodeError, match=r"mine.py:Net raised TypeError: .*'depth'"):
        factory()


@pytest.mark.parametrize(
    ("model", "dataset", "message"),
    [
        ("mine.py", "mine.py:Squares", "write FILE.py:NAME or package.module:NAME"),
        ("mine.py:Squares", "mine.py:Squares", "torch.nn.Module as the model, got Squares"),
        ("mine.py:Net", "builtins:object", "__getitem__ or __iter__, got object"),
    ],
)
def test_wrong_parts_are_refused(model: str, dataset: str, message: str) -> None:
    write("mine.py")
    with pytest.raises(PerfdoctorError, match=message):
        from_parts(model, dataset, {}, {})()
