"""Lines of a validation that join what the model gave for its batches, or go over all of that.

transformers' `Trainer` keeps the outputs of every batch for `compute_metrics`, joined anew with
each batch; loops of people's own do so with `all = torch.cat([all, outputs])`.
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Callable, Sequence
from typing import Literal

from perfdoctor.collect.script.libraries import USER
from perfdoctor.collect.script.sample_calls import last_name
from perfdoctor.collect.script.source import module_of, statement_at
from perfdoctor.collect.script.stacks import Frame

KeptOutputs = Literal["joined", "scored"]
_TRAINERS = ("transformers", "accelerate")
#: How `Trainer.evaluation_loop` keeps outputs, and on several devices gets those of all.
_KEEPS = frozenset(
    [
        "torch_pad_and_concatenate",
        "numpy_pad_and_concatenate",
        "nested_concat",
        "nested_numpify",
        "to_cpu_and_numpy",
        "get_arrays",
        "gather_for_metrics",
        "pad_across_processes",
    ]
)
_EVALUATES = frozenset(["evaluation_loop", "prediction_loop"])
#: What a subclass of `Trainer` writes itself of that loop: the model's call is in it.
_OWN_STEP = "prediction_step"
#: What is called with each batch, before anything is kept.
_REDUCES = "preprocess_logits_for_metrics"
_JOINS = ("cat", "concat", "concatenate", "vstack", "hstack", "append")


def kept_outputs(stack: Sequence[Frame], owner: Callable[[Frame], str]) -> KeptOutputs | None:
    """What the innermost frames do within `Trainer`'s evaluation: `joined` where they keep outputs,
    `scored` where the user's metrics go over all that were kept; None for anything else.

    Args:
        stack: innermost frame first.
        owner: whose code a frame is, as `Libraries.of` names it.
    """
    loop = next((i for i, f in enumerate(stack) if _is_loop(f, owner)), None)
    if loop is None:
        return None
    inner = stack[:loop]
    if any(f.name in _KEEPS and owner(f) in _TRAINERS for f in inner):
        return "joined"
    called = inner[-1] if inner else None
    if called is None or owner(called) != USER or called.name == _OWN_STEP:
        return None
    line = linecache.getline(stack[loop].file, stack[loop].line)
    return None if _REDUCES in line else "scored"


@functools.lru_cache(maxsize=256)
def joins_to_itself(file: str, line: int) -> bool:
    """Whether a line sets a name to what joins that name with more, by its source."""
    module = module_of(file)
    statement = None if module is None else statement_at(module, line)
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return False
    target = ast.unparse(statement.targets[0])
    calls = (n for n in ast.walk(statement.value) if isinstance(n, ast.Call))
    joins = (call for call in calls if last_name(call) in _JOINS)
    return any(target == ast.unparse(part) for call in joins for part in _joined(call))


def _joined(call: ast.Call) -> list[ast.expr]:
    """`torch.cat([a, b])`, `np.append(a, b)`: what is joined."""
    first = call.args[0] if call.args else None
    return first.elts if isinstance(first, (ast.List, ast.Tuple)) else call.args[:2]


def _is_loop(frame: Frame, owner: Callable[[Frame], str]) -> bool:
    return frame.name in _EVALUATES and owner(frame) == _TRAINERS[0]
