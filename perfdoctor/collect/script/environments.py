"""Whether a frame is of an environment that an agent acts in, as in reinforcement learning.

Whatever it simulates, it has the two methods of Gym's interface: `reset` begins an episode, `step`
takes an action and gives what is seen then (https://gymnasium.farama.org/api/env/).
"""

from __future__ import annotations

import ast
import functools
import re

from perfdoctor.collect.script.source import FUNCTIONS, module_of
from perfdoctor.collect.script.stacks import Frame

#: Packages of environments, and of what runs many of them.
_NAMES = (
    "gymnasium gym pettingzoo dm_control dm_env ale_py minigrid mujoco procgen envpool brax"
    " stable_baselines3 supersuit pufferlib"
)
_PACKAGES = frozenset(_NAMES.split())
_METHODS = frozenset(["step", "reset"])
#: A base class with these words in its name computes with tensors.
_MODULES = ("Module", "Layer", "Optimizer", "Scheduler")
#: What a class does that trains: one that makes steps may be a trainer's, or an agent's.
_TRAINS = re.compile(r"\b(?:backward|zero_grad|parameters|criterion)\(")


def of_environment(frame: Frame, library: str) -> bool:
    """Whether it runs a method of an environment; `library` is whose file it is."""
    if library in _PACKAGES:
        return True
    owner, _, method = frame.function.rpartition(".")
    owner = owner.rpartition(".")[2]
    return bool(method) and owner in _environments(frame.file)


@functools.lru_cache(maxsize=256)
def _environments(file: str) -> frozenset[str]:
    """Names of the classes of a file that are environments."""
    module = module_of(file)
    nodes = [] if module is None else ast.walk(module)
    classes = (node for node in nodes if isinstance(node, ast.ClassDef))
    return frozenset(one.name for one in classes if _is_environment(one))


def _is_environment(one: ast.ClassDef) -> bool:
    methods = {node.name for node in one.body if isinstance(node, FUNCTIONS)}
    if not methods >= _METHODS:
        return False
    bases = [ast.unparse(base) for base in one.bases]
    computes = any(word in base for base in bases for word in _MODULES)
    return not computes and not _TRAINS.search(ast.unparse(one))
