"""From sampled stacks to the user's lines, and what the time is that no hook explains.

Seconds here are those of looks (see `sampler`): their shares within one label are right, how long
the label took in all is the recorder's to say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from perfdoctor.collect.script import recorder, work
from perfdoctor.collect.script.batch_source import BatchSource, BatchStatement
from perfdoctor.collect.script.kept_outputs import KeptOutputs, kept_outputs
from perfdoctor.collect.script.kinds_of_work import AFTER_FORWARD, CALLS_MODULE, START_UP, Kinds
from perfdoctor.collect.script.libraries import FRAMEWORKS, OWN, STDLIB, USER, Libraries
from perfdoctor.collect.script.loop_finder import LoopFacts
from perfdoctor.collect.script.made_anew import made_anew
from perfdoctor.collect.script.made_models import Constructors, MadeModel, made_model
from perfdoctor.collect.script.source import asked_at_once, calls_at, loops_around
from perfdoctor.collect.script.stacks import Frame, Sampled
from perfdoctor.stages import DATA_LOADING, OTHER

#: Calls of a framework behind which lies the whole training.
_TRAINS = frozenset(["fit", "train", "run", "test", "validate", "predict", "evaluate", "launch"])
#: perfdoctor's files that run the script; what lies outside of them is not the script's.
_LAUNCHERS = frozenset(["launch.py", "pipeline.py", "__main__.py"])
#: Functions that stand between a call and what is called.
_WRAPPERS = frozenset(["contextlib", "functools", "torch.utils._contextlib"])
#: Where the operators of tensors are, as far as they are not in C.
_TENSOR = "torch._tensor"
#: Calls that take the time of their line, whatever else it calls.
_HEAVY = re.compile(r"\blinalg\.(?!\w*norm)|\b(?:eigh?|svd|cholesky|pinv|inverse|qr|cdist)$")
#: What waits for a result that was asked for before, perhaps long before.
_AWAITS = re.compile(r"\b(?:Future\.result|\w*Result\.get)$")
#: Stages whose lines tell of themselves what is made: before the steps, between them, of samples.
_MADE_BESIDE = frozenset([START_UP, "shut_down", DATA_LOADING, work.VALIDATION, work.CHECKPOINT])
#: 97.5 % quantile of the normal distribution, for intervals of 95 %.
_Z = 1.959964

_Stack = Sequence[Frame]


@dataclass(frozen=True)
class Line:
    """A line of the user's (or of a framework) and the library function that it calls.

    `share` is that of all looks, `count` how many they were; `process` main or worker. `callee`
    is a qualified name, or as the source writes it where a call has no frame; None where it is the
    line's own work. `made_anew`: see there, of lines that make batches. `makes`: the class of a
    module that is made there within the steps, `fills` whether its values are overwritten at once.
    `loops`: those around a line of the validation; `outputs`: see `kept_outputs`.
    """

    file: str
    line: int
    function: str
    library: str | None
    callee: str | None
    stage: str
    seconds: float
    share: float
    process: str
    count: int = 0
    made_anew: str | None = None
    makes: str | None = None
    fills: bool = False
    loops: int = 0
    outputs: KeptOutputs | None = None


@dataclass(frozen=True)
class Part:
    """What part of the unexplained time one stage is; `low` to `high` is a 95 % interval."""

    stage: str
    share: float
    low: float
    high: float
    seconds: float
    samples: int
    reasons: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Split:
    """The unexplained time in parts, and on how many looks that rests."""

    parts: tuple[Part, ...]
    seconds: float
    samples: int

    @property
    def shares(self) -> dict[str, float]:
        """Stage → share; they sum to 1 if there was any look."""
        return {part.stage: part.share for part in self.parts}


@dataclass
class _Sum:
    seconds: float = 0.0
    samples: int = 0
    reasons: dict[str, float] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def add(self, sample: Sampled, reason: str, line: Line | None) -> None:
        self.seconds += sample.seconds
        self.samples += sample.count
        self.reasons[reason] = self.reasons.get(reason, 0.0) + sample.seconds
        if line is not None:
            self.lines.append(line)


class Attribution:
    """Explains the samples of one process.

    Args:
        samples: as `StackSampler.snapshot` gives them.
        names: the stage that each label stands for; `other` and `after_forward` are divided, and
            what is written down told apart from `validation` and hooks.
        loops: the training loops, as `LoopFinder.loops` gives them.
        constructors: those of modules, see `made_models`.
    """

    def __init__(
        self,
        samples: Iterable[Sampled],
        names: Sequence[str],
        loops: Sequence[LoopFacts] = (),
        *,
        libraries: Libraries | None = None,
        process: str = "main",
        constructors: Constructors | None = None,
    ) -> None:
        self._libraries = libraries or Libraries()
        self._constructors = constructors or {}
        self._batches = BatchSource(loops)
        self._names = names
        acting = tuple(names[recorder.VALIDATION : recorder.VALIDATION + 1]) == (OTHER,)
        self._kinds = Kinds(self._libraries, self._batches, names, acting=acting)
        self._process = process
        self._samples = [replace(s, stack=self._script_only(s.stack)) for s in samples]
        self._seconds = sum(s.seconds for s in self._samples)

    @property
    def batch_statements(self) -> tuple[BatchStatement, ...]:
        """Lines that make the batch, by the source."""
        return self._batches.statements

    def lines(
        self, most: int = 5, told: Callable[[str, str], str] = lambda name, stage: stage
    ) -> tuple[Line, ...]:
        """The hottest lines of each stage, hottest first. `told` gives the stage to tell, by the
        name of a look's label and the stage that it shows."""
        # What is imported before the first step is as long as it is: no line of the script's.
        looks = [s for s in self._samples if not self._kinds.starts_up(s)]
        stages = (told(self._names[s.label], self._kinds.of(s).stage) for s in looks)
        lines = (self._line(s, stage) for s, stage in zip(looks, stages, strict=True))
        merged = _merged(line for line in lines if line is not None)
        # The sources of the hottest alone are read: parsing all would take seconds.
        each = dict.fromkeys(line.stage for line in merged)
        hottest = [[n for n in merged if n.stage == stage][:most] for stage in each]
        chosen = (_with_call(line) for lines in hottest for line in lines)
        return tuple(sorted(chosen, key=lambda line: -line.seconds))

    def split(self, most: int = 5, labels: Sequence[str] = (OTHER, AFTER_FORWARD)) -> Split:
        """What the time of `labels` is, each part with its hottest lines."""
        sums: dict[str, _Sum] = {}
        for sample in self._samples:
            if self._names[sample.label] in labels:
                found = self._kinds.of(sample)
                line = self._line(sample, found.stage)
                sums.setdefault(found.stage, _Sum()).add(sample, found.reason, line)
        seconds = sum(one.seconds for one in sums.values())
        count = sum(one.samples for one in sums.values())
        parts = [_part(stage, one, seconds, count, most) for stage, one in sums.items()]
        return Split(tuple(sorted(parts, key=lambda part: -part.seconds)), seconds, count)

    # -- which line ----------------------------------------------------------------------------

    def _line(self, sample: Sampled, stage: str) -> Line | None:
        stack = sample.stack
        model = self._model_made(stack, stage)
        index = self._chosen(stack, outside=_module_call(stack) if stage == OTHER else None)
        index = index if model is None else model.index
        if index is None:
            return None
        frame = stack[index]
        library, callee = self._callee(stack, index)
        share = sample.seconds / self._seconds if self._seconds else 0.0
        place = (frame.file, frame.line, frame.function)
        line = Line(*place, library, callee, stage, sample.seconds, share, self._process)
        line = replace(line, count=sample.count)
        if stage == work.VALIDATION:
            outputs = kept_outputs(stack, self._owner)
            line = replace(line, loops=self._loops_around(stack), outputs=outputs)
        if stage == DATA_LOADING:
            line = replace(line, made_anew=made_anew(stack, self._is_user, self._constructors))
        return line if model is None else replace(line, makes=model.name, fills=model.filled)

    def _loops_around(self, stack: _Stack) -> int:
        """Loops of the user's around a line, but for the training's; 0 within a module."""
        if _module_call(stack) is not None:
            return 0
        users = (f for f in stack[: self._batches.loop_depth(stack)] if self._is_user(f))
        return sum(loops_around(f.file, f.name, f.first_line, f.line) for f in users)

    def _model_made(self, stack: _Stack, stage: str) -> MadeModel | None:
        if stage in _MADE_BESIDE or not self._constructors:
            return None
        return made_model(self._kinds.inside_loop(stack), self._constructors, self._is_user)

    def _chosen(self, stack: _Stack, outside: int | None = None) -> int | None:
        """The user's innermost frame; of a framework that trains by itself, its innermost.

        `outside`: of the frames beyond this one, if there are any.
        """
        if not stack:
            return None
        depth = self._batches.loop_depth(stack)
        users = [i for i, frame in enumerate(stack) if self._owner(frame) == USER]
        users = [i for i in users if outside is not None and i > outside] or users
        if users and self._kinds.imports(stack):
            return users[0]
        # Python's own loop, as asyncio's, is nobody's training: what started it is the line.
        if depth is not None and self._owner(stack[depth]) not in (USER, STDLIB):
            users = [i for i in users if i < depth]
        if users and not self._only_starts(stack, users[0]):
            return users[0]
        own = [i for i, frame in enumerate(stack) if self._owner(frame) in FRAMEWORKS]
        public = [i for i in own if _is_public(stack[i])]
        return next(iter([*public, *own, *users, 0]))

    def _only_starts(self, stack: _Stack, index: int) -> bool:
        """Whether the line there just calls `trainer.fit` or the like."""
        inner = stack[:index]
        if not inner or self._owner(inner[-1]) not in FRAMEWORKS:
            return False
        return any(f.name in _TRAINS and self._owner(f) in FRAMEWORKS for f in inner[-4:])

    def _callee(self, stack: _Stack, index: int) -> tuple[str | None, str | None]:
        own = self._owner(stack[index])
        inner = [f for f in reversed(stack[:index]) if own == USER or self._owner(f) != own]
        inner = [f for f in inner if not self._is_operator(f)]
        while len(inner) > 1 and self._libraries.module(inner[0].file) in _WRAPPERS:
            inner.pop(0)
        called = next((f for f in inner if f.name not in CALLS_MODULE), None)
        if called is None or (called is not inner[0] and self._owner(called) == USER):
            return (None if own == USER else own), None  # the source tells which module it is
        library = self._owner(inner[0])
        same = [frame for frame in inner if self._owner(frame) == library]
        named = next((frame for frame in same if _is_public(frame)), called)
        if named not in same:  # how torch calls modules tells of none
            return (None if own == USER else own), None
        return library, named.function

    # -- frames --------------------------------------------------------------------------------

    def _is_operator(self, frame: Frame) -> bool:
        """Whether a tensor's `1 - x`, `x ** 2` and the like run, which torch wraps in Python."""
        if self._libraries.module(frame.file) != _TENSOR:
            return False
        return frame.name == "wrapped" or frame.name.startswith("__")

    def _owner(self, frame: Frame) -> str:
        return self._libraries.of(frame.file)

    def _is_user(self, frame: Frame) -> bool:
        return self._owner(frame) == USER

    def _script_only(self, stack: _Stack) -> tuple[Frame, ...]:
        """Without perfdoctor's own frames and what started it."""
        launcher = next((i for i, f in enumerate(stack) if self._launches(f)), len(stack))
        return tuple(frame for frame in stack[:launcher] if self._owner(frame) != OWN)

    def _launches(self, frame: Frame) -> bool:
        if self._owner(frame) != OWN:
            return False
        path = PurePath(frame.file)
        return path.name in _LAUNCHERS or path.parent.name == "cli"


def split_other(
    samples: Iterable[Sampled],
    loops: Sequence[LoopFacts],
    names: Sequence[str],
    *,
    libraries: Libraries | None = None,
) -> Split:
    """What the time labelled `other` and `after_forward` is, see `Attribution`."""
    return Attribution(samples, names, loops, libraries=libraries).split()


def hot_lines(
    samples: Iterable[Sampled],
    names: Sequence[str],
    loops: Sequence[LoopFacts] = (),
    *,
    libraries: Libraries | None = None,
    process: str = "main",
    most: int = 5,
) -> tuple[Line, ...]:
    """The hottest lines of each stage, see `Attribution`."""
    found = Attribution(samples, names, loops, libraries=libraries, process=process)
    return found.lines(most)


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share seen in `count` looks (Wilson 1927)."""
    if count <= 0:
        return 0.0, 1.0
    spread = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    middle = share + _Z**2 / (2 * count)
    scale = 1 + _Z**2 / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _module_call(stack: _Stack) -> int | None:
    """The outermost call of a module: a model that is called beside the training is no line of the
    model's own."""
    calls = [i for i, frame in enumerate(stack) if frame.name in CALLS_MODULE]
    return max(calls, default=None)


def _part(stage: str, one: _Sum, seconds: float, count: int, most: int) -> Part:
    share = one.seconds / seconds if seconds else 0.0
    reasons = sorted(one.reasons, key=lambda reason: -one.reasons[reason])
    lines = tuple(_with_call(line) for line in _merged(one.lines)[:most])
    interval = wilson(share, count)
    return Part(stage, share, *interval, one.seconds, one.samples, tuple(reasons[:3]), lines)


def _merged(lines: Iterable[Line]) -> list[Line]:
    """One a file, line, callee and stage; the hottest first."""
    merged: dict[tuple[object, ...], Line] = {}
    for line in lines:
        key = (line.file, line.line, line.callee, line.stage, line.made_anew, line.makes)
        same = merged.get(key)
        if same is not None:
            seconds, share = same.seconds + line.seconds, same.share + line.share
            count = same.count + line.count
            line = replace(same, seconds=seconds, share=share, count=count)
        merged[key] = line
    return sorted(merged.values(), key=lambda line: -line.seconds)


def _with_call(line: Line) -> Line:
    """Where no frame tells: the call in the source, if it is the only one or the one known; and
    what a pool is asked for, where the same statement waits for it."""
    if line.callee is not None and _AWAITS.search(line.callee):
        asked = asked_at_once(line.file, line.line)
        return line if asked is None else replace(line, callee=asked)
    if line.callee is not None or line.library is not None:
        return line
    calls = calls_at(line.file, line.line)
    known = [name for name in calls if work.of_call(name) is not None]
    heavy = [name for name in calls if _HEAVY.search(name)]
    named = known or heavy or (calls if len(set(calls)) == 1 else ())
    return replace(line, callee=named[0].lstrip(".")) if named else line


def _is_public(frame: Frame) -> bool:
    name = frame.name
    if "<" in frame.function:
        return False
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))
