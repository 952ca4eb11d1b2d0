"""Looks at a main thread that has left the script: the interpreter is ending."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from perfdoctor.collect.script.libraries import Libraries
from perfdoctor.collect.script.stacks import Frame, Sampled

#: What the interpreter calls when the script has ended, outside of everything: by module and name.
#: `atexit` itself has no frame, and registered functions of anyone else's are not told from others.
_OUTERMOST = frozenset(
    [
        ("threading", "_shutdown"),
        ("weakref", "_exitfunc"),
        ("logging", "shutdown"),
        ("multiprocessing.util", "_exit_function"),
        ("concurrent.futures.thread", "_python_exit"),
        ("concurrent.futures.process", "_python_exit"),
    ]
)


def parted(samples: Iterable[Sampled]) -> tuple[list[Sampled], list[Sampled]]:
    """Those of the script, and those of its end."""
    libraries = Libraries()
    script: list[Sampled] = []
    end: list[Sampled] = []
    for sample in samples:
        (end if _leaves(sample.stack, libraries) else script).append(sample)
    return script, end


def before_end(
    seconds: Mapping[str, float], end: Iterable[Sampled], stage_of: Sequence[str]
) -> dict[str, float]:
    """Seconds of each stage without what was the end's, which ran under the last label."""
    left = dict(seconds)
    for sample in end:
        stage = stage_of[sample.label]
        left[stage] = max(0.0, left.get(stage, 0.0) - sample.seconds)
    return left


def _leaves(stack: Sequence[Frame], libraries: Libraries) -> bool:
    if not stack:
        return False
    outermost = stack[-1]
    return (libraries.module(outermost.file), outermost.name) in _OUTERMOST
