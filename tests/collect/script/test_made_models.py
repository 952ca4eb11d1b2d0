"""Modules that are made within the steps: by whose line, and what becomes of them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from made import NAMES, at, library, script, seen, user

from perfdoctor.collect.script.attribution import Attribution
from perfdoctor.collect.script.kinds_of_work import START_UP
from perfdoctor.collect.script.made_models import MadeModel, constructors, made_model
from perfdoctor.collect.script.stacks import Frame
from perfdoctor.stages import DATA_LOADING

_NUMBERS = itertools.count()
LINEAR = library("torch/nn/modules/linear.py", "Linear.__init__")
DRAW = library("torch/nn/init.py", "kaiming_uniform_")
NET = user("Net.__init__", 5, "/home/me/net.py")
KNOWN = {(LINEAR.file, LINEAR.first_line): "Linear", (NET.file, NET.first_line): "Net"}


def _is_user(frame: Frame) -> bool:
    return "site-packages" not in frame.file


def _made(text: str, *callers: str) -> MadeModel | None:
    """What is made in the line of `text` that ends with "# here", and what its callers are."""
    file = f"/home/me/{next(_NUMBERS)}/twins.py"  # trees are kept by file
    names = script(text, file)
    code = {name: names[name].__code__ for name in ("step", *callers)}
    inner = at(code["step"], "# here")
    outer = [at(code[name], f"# in {name}") for name in callers]
    return made_model([DRAW, LINEAR, NET, inner, *outer], KNOWN, _is_user)


def _step(*lines: str) -> MadeModel | None:
    return _made("def step(model, x):\n" + "".join(f"    {line}\n" for line in lines))


@pytest.mark.parametrize(
    "lines",
    [
        ["twin = Net()  # here", "twin.load_state_dict(model.state_dict())"],
        ["twin = Net().to(x.device)  # here", "twin.eval()", "twin.head.bias.data.copy_(x)"],
        [
            "self.twin = Net()  # here",
            "with no_grad():",
            "    for a, b in zip(self.twin.parameters(), model.parameters()):",
            "        a.copy_(b)",
        ],
        [
            "twin = Net()  # here",
            "for a, b in zip(twin.parameters(), model.parameters()):",
            "    a.data = b.clone()",
        ],
        ["twin = Net()  # here", "twin = twin.cuda()", "copy_weights(model, twin)", "twin(x)"],
        ["if x:", "    twin = Net()  # here", "    twin.load_state_dict(x)"],
        ["twin = Net()  # here", "s = SGD(twin.parameters(), 1)", "twin.load_state_dict(x)"],
    ],
)
def test_values_that_are_overwritten_at_once(lines: list[str]) -> None:
    assert _step(*lines) == MadeModel(3, "Net", filled=True)


@pytest.mark.parametrize(
    "lines",
    [
        ["twin = Net()  # here", "y = twin(x)", "twin.load_state_dict(x)"],
        ["twin = Net()  # here", "for x in model:", "    twin(x)", "    twin.load_state_dict(x)"],
        ["twin = Net()  # here", "model.load_state_dict(twin.state_dict())"],
        ["twin = Net()  # here", "other = deepcopy(twin)"],
        ["twin = Net()  # here", "weights = list(twin.parameters())", "y = twin(x)"],
        ["y = Net()(x)  # here", "y.backward()"],
        ["y = Net().eval().loss(x)  # here", "y.backward()"],
    ],
)
def test_values_that_are_used(lines: list[str]) -> None:
    assert _step(*lines) == MadeModel(3, "Net", filled=False)


@pytest.mark.parametrize(
    "lines",
    [
        ["self.net = Net()  # here", "y = self.net(x)"],
        ["nets[x] = Net()  # here"],
        ["nets.append(Net())  # here"],
        ["if model is None:", "    model = Net()  # here", "y = model(x)"],
        ["return Net()  # here"],
        ["score = trained(Net())  # here", "score.backward()"],
        ["net, made = Net(), 1  # here", "net(x)"],
        [
            "net = Net()  # here",
            "steps = SGD([{'params': net.parameters()}], 0.1)",
            "for x in model:",
            "    net(x)",
            "net.load_state_dict(x)",
        ],
    ],
)
def test_what_may_be_kept_for_the_next_step_is_not_told(lines: list[str]) -> None:
    assert _step(*lines) is None


def test_what_is_returned_is_followed_to_the_callers() -> None:
    text = """
    def step():
        twin = Net()  # here
        return twin.cuda()

    def copied(model):
        return step()  # in copied

    def unrolled(model):
        twin = copied(model)  # in unrolled
        twin.load_state_dict(model.state_dict())
    """
    assert _made(text, "copied", "unrolled") == MadeModel(3, "Net", filled=True)
    assert _made(text.replace("load_state_dict", "loss"), "copied", "unrolled") == MadeModel(
        3, "Net", filled=False
    )
    assert _made(text, "copied") is None


def test_what_torch_makes_when_it_compiles_is_none_of_the_script() -> None:
    compiles = library("torch/_dynamo/output_graph.py", "OutputGraph.compile")
    helper = library("timm/factory.py", "compile")
    file = f"/home/me/{next(_NUMBERS)}/twins.py"
    names = script("def step(model, x):\n    y = compile(model)(x)  # here\n    return y(x)", file)
    here = at(names["step"].__code__, "# here")
    assert made_model([LINEAR, helper, here], KNOWN, _is_user) == MadeModel(2, "Linear", False)
    assert made_model([LINEAR, compiles, here], KNOWN, _is_user) is None
    assert made_model([DRAW, helper, here], KNOWN, _is_user) is None


def test_all_that_a_model_is_made_of_belongs_to_the_line_that_makes_it() -> None:
    text = "def step(model):\n    twin = Net()  # here\n    twin.load_state_dict(model)\n"
    names = script(text, f"/home/me/{next(_NUMBERS)}/twins.py")
    here = at(names["step"].__code__, "# here")
    block = replace(NET, line=6)
    stacks = ([DRAW, LINEAR, NET, here], [LINEAR, block, here], [user("weights", 9), NET, here])
    samples = [seen(*stack, label=2) for stack in stacks]
    (line,) = Attribution(samples, NAMES, constructors=KNOWN).lines()
    assert (line.line, line.callee, line.count) == (here.line, "Net.__init__", 30)
    assert (line.makes, line.fills, line.stage) == ("Net", True, "forward")
    for beside in (START_UP, DATA_LOADING):
        names = ["other", "after_forward", beside]
        lines = Attribution(samples, names, constructors=KNOWN).lines()
        assert len(lines) == 3
        assert not any(one.makes for one in lines)


def test_constructors_are_those_of_modules_but_not_of_what_compiles() -> None:
    import torch

    class Mine(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(1, 1)

    known = constructors()
    code = Mine.__init__.__code__
    assert known[code.co_filename, code.co_firstlineno] == "Mine"
    names = set(known.values())
    assert {"Linear", "Module", "Sequential"} <= names
    assert "GraphModule" not in names
    assert type(Mine()).__name__ == "Mine"
