"""Whether work on all weights or gradients is done for a log, by the source."""

from __future__ import annotations

import ast
import itertools
import linecache
import textwrap

import pytest
from made import line_with

from perfdoctor.collect.script.source import function_at, module_of
from perfdoctor.collect.script.stacks import Frame
from perfdoctor.collect.script.weight_records import recorded

_FILES = itertools.count()


def _recorded(text: str, *places: str) -> bool:
    """Of the stack through the lines that hold these texts, innermost first."""
    file = f"/home/me/records{next(_FILES)}.py"
    text = textwrap.dedent(text)
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    return recorded([_frame(file, line_with(file, place)) for place in places], lambda frame: True)


def _frame(file: str, line: int) -> Frame:
    module = module_of(file)
    assert module is not None
    function = function_at(module, line)
    return Frame(file, line, *(("<module>", 1) if function is None else _place(function)))


def _place(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, int]:
    return function.name, function.lineno


CALLBACK = """
    class Watch(TrainerCallback):
        def describe(self, tensor):
            flat = tensor.detach().flatten()
            counts, edges = np.histogram(flat.numpy(), bins=30)
            return counts.tolist()

        def on_step_end(self, args, state, control, model=None, **kwargs):
            row = {"step": state.global_step}
            for name, weight in model.named_parameters():
                row[name] = self.describe(weight)
                if weight.grad is not None:
                    row[name + "/grad"] = self.describe(weight.grad)
            self.out.write(json.dumps(row))
"""


@pytest.mark.parametrize(
    "places",
    [
        ("np.histogram", "row[name] = "),
        ("flat = ", 'row[name + "/grad"]'),
        ("row[name] = ",),
        ("for name, weight",),
    ],
)
def test_all_that_a_callback_does_for_its_histograms_is_for_the_log(
    places: tuple[str, ...],
) -> None:
    assert _recorded(CALLBACK, *places)


def test_what_else_it_does_is_not() -> None:
    assert not _recorded(CALLBACK, "row = {")


@pytest.mark.parametrize(
    ("helper", "hot", "step"),
    [
        ("return {n: p.grad.norm().item() for n, p in net.named_parameters()}", "", "LOG"),
        ("flat = torch.cat([p.view(-1) for p in net.parameters()])\n", "", "LOG"),
        ("norms = []\nfor p in net.parameters():\n    norms.append(p.norm())\n", "append", "LOG"),
        ("total = 0\nfor p in WATCHED:\n    total += p.grad.norm()\n", "total +=", "LOG"),
        ("return float(grad_norm(net))", "", "LOG"),
        ("return [p.norm() for p in net.parameters()]", "", "KEEP"),
        ("return torch.histc(parameters_to_vector(net.parameters()))", "", "KEEP"),
    ],
)
def test_what_is_returned_is_followed(helper: str, hot: str, step: str) -> None:
    last = {
        "flat": "return torch.histc(flat, 20)",
        "norms": "return norms",
        "total": "return total",
    }
    lines = helper + last.get(helper.partition(" ")[0], "")
    body = textwrap.indent(lines, "    ")
    after = {"LOG": "writer.add_scalars('norms', found)", "KEEP": "history['w'].append(found)"}
    text = f"def measure(net):\n{body}\n\ndef main():\n    for x in data:\n"
    text += f"        found = measure(model)\n        {after[step]}\n"
    assert _recorded(text, hot or lines.splitlines()[-1], "found = ")
    assert not _recorded(text.replace(after[step], "adapt(found)"), hot or "return", "found = ")


@pytest.mark.parametrize(
    "line",
    [
        "print(sum(p.grad.norm() for p in model.parameters()))",
        "for n, p in model.named_parameters(): writer.add_histogram(n, p.grad, step)",
        "self.log_dict({n: p.grad.norm() for n, p in model.named_parameters()})",
        "wandb.log({'norm': max(p.norm() for p in model.parameters())})",
        "for n, p in model.named_parameters(): self.histograms[n] = torch.histc(p)",
        "for n, p in model.named_parameters(): self.seen[n] = torch.histc(p)",
    ],
)
def test_lines_that_log_at_once(line: str) -> None:
    assert _recorded(f"def main(self):\n    for x in data:\n        {line}", line)


@pytest.mark.parametrize(
    "line",
    [
        # averages, updates, checks, penalties and copies go through the parameters as well
        "for n, p in model.named_parameters(): self.shadow[n] = a * self.shadow[n] + b * p.data",
        "for a, p in zip(ema.parameters(), model.parameters()): a.lerp_(p, 0.01)",
        "for p in model.parameters(): p.data -= rate * p.grad",
        "for p in model.parameters(): p.grad = p.grad / world",
        "for p in model.parameters(): torch.add(p, p.grad, out=p)",
        "copies = {n: p.clone() for n, p in model.named_parameters()}",
        "for n, p in model.named_parameters():\n            if p.isnan().any(): print(n)",
        "norm = clip_grad_norm_(model.parameters(), 1.0); print(norm)",
        "entropy = sum(torch.log(p) for p in model.parameters())",
        "print(accuracy)",
        "counts = torch.histc(labels, 10)",
    ],
)
def test_what_changes_them_or_logs_nothing_is_none(line: str) -> None:
    assert not _recorded(
        f"def main(self):\n    for x in data:\n        {line}", line.split("\n")[0]
    )


@pytest.mark.parametrize(
    "after",
    [
        "if norm > 10:\n            continue",
        "penalty = 0.01 * norm\n        (loss + penalty).backward()",
        "if norm:\n            optimizer.zero_grad()",
        "self.adapt(norm)",
        "scale = 1 / norm\n        for p in model.parameters():\n            p.grad.mul_(scale)",
        "for p in model.parameters():\n            p.grad = p.grad / norm",
        "assert norm < 100",
    ],
)
def test_a_norm_that_decides_something_is_none_even_if_it_is_printed(after: str) -> None:
    text = f"""def main(self):
    for x in data:
        norm = sum(p.grad.norm() for p in model.parameters())
        print(norm)
        {after}
"""
    assert not _recorded(text, "norm = sum")
    assert _recorded(text.replace(after, "pass"), "norm = sum")


def test_a_batch_that_gets_gradients_is_no_parameter() -> None:
    text = """
    def main():
        for x in data:
            x.requires_grad_()
            loss(model(x)).backward()
            noise = x.grad.sign()
            print(loss)
    """
    assert not _recorded(text, "noise = ")


def test_without_source_nothing_is_said() -> None:
    assert not recorded([Frame("/home/me/gone.py", 3, "f", 1)], lambda frame: True)
