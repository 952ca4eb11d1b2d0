"""An arm: one warm process that trains when it is asked to, and waits otherwise.

Two arms (or two modes of one arm) that take turns are how anything is compared here. This side
never imports torch; `arm_worker.py` is the other side.
"""

from __future__ import annotations

import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from perfdoctor.collect import belongings
from perfdoctor.collect.channel import Channel
from perfdoctor.collect.out_of_memory import OUT_OF_MEMORY
from perfdoctor.collect.sandbox.scratch import PLACE, remove
from perfdoctor.collect.waiting_threads import CHOICES, waiting
from perfdoctor.errors import PerfdoctorError, UserCodeError
from perfdoctor.interrupts import hurried, undisturbed
from perfdoctor.record import Bools, Floats

#: What the arm trains where it is not told: a `Workload`, stepped by perfdoctor's own loop.
BENCH_TRAINING = "perfdoctor.collect.arm_training:BenchTraining"
_START = (
    "import sys; from importlib import import_module as load; "
    "root = sys.argv[1]; sys.path.insert(0, root); main = load(sys.argv[2]).main; "
    "sys.path.remove(root); sys.path.append(root); main(*map(int, sys.argv[3:6]))"
)
_ROOT = str(Path(__file__).resolve().parents[2])
_ASK_S = 0.5
_CLOSE_S, _LOOK_S = 5.0, 0.2
_SHOWN_LINES = 12
#: The slug of what happens to a training that has ended when it is too late to begin it again.
NO_TIME = "no-time-left"
#: Requests that make steps.
_STEPS = ("warm", "chunk")
#: How faulthandler begins.
_STACK = "(most recent call first):"


@dataclass(frozen=True, kw_only=True)
class ArmSpec:
    """What one arm is. All of it can be written as JSON.

    Attributes:
        workload: what to train, as `bench` takes it: one of {"workload": SPEC},
            {"data_dir": DIR}, {"demo": NAME}, or {"model": SPEC, "dataset": SPEC} with
            "model_args" and "dataset_args".
        options: fields of `BenchOptions` that differ from their defaults.
        modes: name → changes (see `collect/modes.py`). A chunk runs in one of these modes, or in
            none; all share one process and one model.
        python: the interpreter; perfdoctor itself is this one's, whatever is installed there.
        cwd: where it runs; first on its path.
        environment: variables to add; None removes one.
        log: what the process prints goes there; None: kept for errors, then forgotten.
        training: "module:Class" of what trains in the process.
        process: the module whose `main` is the process.
        patience_s: how long one answer may take; None: for ever. patient_until_s: until then (by
            `time.monotonic`) it may take longer.
        waiting: called about twice a second while an answer is waited for; the only field that is
            no JSON.
    """

    workload: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    modes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    python: str = sys.executable
    cwd: str | Path = "."
    environment: Mapping[str, str | None] = field(default_factory=dict)
    log: str | Path | None = None
    training: str = BENCH_TRAINING
    process: str = "perfdoctor.collect.arm_worker"
    patience_s: float | None = None
    patient_until_s: float = 0.0
    waiting: Callable[[], None] | None = None

    def start(self) -> Arm:
        """A process of it, see `Arm.start`."""
        return Arm.start(self)

    def variables(self) -> dict[str, str]:
        """The environment of the process, with how its threads wait, unless that is chosen."""
        found = self.inherited()
        chosen = any(found.get(name) for name in CHOICES)
        return found if chosen else found | waiting(self.options)

    def inherited(self) -> dict[str, str]:
        """The variables of this process, with those that are added and without those removed."""
        found: dict[str, str | None] = {**os.environ, **self.environment}
        return {name: value for name, value in found.items() if value is not None}

    def scratch_place(self) -> str | None:
        """Where each process gets a folder of its own for what is written; None: it needs none."""
        return self.environment.get(PLACE)

    def changed(self, changes: Mapping[str, Any]) -> ArmSpec:
        """The same arm with options, or variables under "environment", changed."""
        options = {k: v for k, v in changes.items() if k != "environment"}
        environment = {**self.environment, **changes.get("environment", {})}
        return replace(self, options={**self.options, **options}, environment=environment)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some consecutive steps of one arm.

    Attributes:
        step_s: seconds of each. stages_s: stage → seconds in each step (NaN where it did not run).
        samples: in each. starts: whether an epoch began with it.
        wall_s: of all of them. cpu_s: CPU time of this process, loader workers not counted.
        run_queue_s: time its threads were ready to run and had no core; None where not told.
        steady_s: seconds per step that the loader can keep up for ever, where these steps lived
            partly on batches that it had prepared during the pause; None where they did not.
        occasions: change → where among the steps something came that it makes rarer, and whether it
            was done there.
        own_starts: where a script began an epoch itself, and for how many of that step's seconds
            its loader did: 0 where it only went on.
    """

    step_s: Floats
    stages_s: Mapping[str, Floats]
    samples: Floats
    starts: Bools
    wall_s: float
    cpu_s: float
    run_queue_s: float | None = None
    steady_s: float | None = None
    occasions: Mapping[str, Sequence[tuple[int, bool]]] = field(default_factory=dict)
    own_starts: Sequence[tuple[int, float]] = ()

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Chunk:
        """From what the process sent."""
        stages = {k: np.array(v, dtype=np.float64) for k, v in message["stages_s"].items()}
        return cls(
            step_s=np.array(message["step_s"], dtype=np.float64),
            stages_s=stages,
            samples=np.array(message["samples"], dtype=np.float64),
            starts=np.array(message["starts"], dtype=np.bool_),
            wall_s=message["wall_s"],
            cpu_s=message["cpu_s"],
            run_queue_s=message.get("run_queue_s"),
            steady_s=message.get("steady_s"),
            occasions=message.get("occasions", {}),
            own_starts=message.get("own_starts", ()),
        )


@dataclass(frozen=True, kw_only=True)
class ArmFacts:
    """What an arm is really doing.

    Attributes:
        configuration: the settings in effect. device: where it computes.
        peak_bytes: peak memory since it was warmed in this mode (of the device, or of the process).
        total_bytes: memory of that device.
        modules: name → file of the modules that are neither installed packages nor perfdoctor.
        losses, gradient_norms: of the first steps after the start; None in place of NaN and
            infinity.
        extra: what else the training tells, such as whether the model can checkpoint gradients.
    """

    configuration: Mapping[str, Any]
    device: str
    peak_bytes: int | None
    total_bytes: int | None
    modules: Mapping[str, str]
    losses: tuple[float | None, ...]
    gradient_norms: tuple[float | None, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)


class Arm:
    """A running process. A context manager: it ends with the block, whatever happens.

    Attributes:
        begins_until_s: when (by `time.perf_counter`) it is too late to begin a training again that
            has ended.
        trying: the mode whose steps were asked for last; None: other steps, or something else.
    """

    begins_until_s = math.inf
    trying: str | None = None

    def __init__(self, spec: ArmSpec) -> None:
        self.spec = spec
        self._mark = secrets.token_hex(8)
        place = spec.scratch_place()
        self._scratch = None if place is None else Path(tempfile.mkdtemp(dir=place))
        self._output = _open_log(spec.log)
        added = {belongings.MARK: self._mark}
        if self._scratch is not None:
            added[PLACE] = str(self._scratch)
        process, channel, life = _spawn(spec, self._output, added)
        self._process, self._channel = process, channel
        self._life: int | None = life
        self._busy = False  # it is about to answer, and listens to nothing

    @classmethod
    def start(cls, spec: ArmSpec) -> Arm:
        """Starts the process and sets the training up; no step is made yet.

        Raises:
            PerfdoctorError: it cannot be started, or the user's code fails (`UserCodeError`, with
                the traceback in `details`).
        """
        arm = cls(spec)
        try:
            arm.ask("set_up", **arm.description())
        except BaseException:
            arm.close()
            raise
        return arm

    def __enter__(self) -> Arm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def description(self) -> dict[str, Any]:
        """What the process has to know."""
        return {
            "training": self.spec.training,
            "workload": dict(self.spec.workload),
            "options": dict(self.spec.options),
            "modes": {name: dict(changes) for name, changes in self.spec.modes.items()},
        }

    def warm(self, steps: int, mode: str | None = None) -> Floats:
        """Makes these steps and gives their seconds; the first one compiles and starts workers."""
        return np.array(self.ask("warm", steps=steps, mode=mode)["step_s"], dtype=np.float64)

    def chunk(self, steps: int, mode: str | None = None) -> Chunk:
        """Makes some unrecorded steps (see `arm_training.py`), then these."""
        return Chunk.from_message(self.ask("chunk", steps=steps, mode=mode))

    def facts(self, mode: str | None = None) -> ArmFacts:
        """What is really trained, and how, in this mode."""
        found = self.ask("facts", mode=mode)
        for name in ("losses", "gradient_norms"):
            found[name] = tuple(found[name])
        return ArmFacts(**found)

    def first_losses(
        self, steps: int, mode: str | None = None
    ) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """(losses, gradient norms) of the first steps of a training made anew in this mode."""
        found = self.ask("first_losses", steps=steps, mode=mode)
        return tuple(found["losses"]), tuple(found["gradient_norms"])

    def batches(self, mode: str, count: int) -> str | None:
        """How this mode's first batches compare with those without it: `first_batches.relation`."""
        found: str | None = self.ask("batches", mode=mode, count=count)["relation"]
        return found

    def add_mode(self, name: str, changes: Mapping[str, Any]) -> None:
        """One mode more."""
        self.ask("add_mode", name=name, changes=dict(changes))

    def forget(self, mode: str) -> None:
        """Ends the workers of a mode that is not needed any more."""
        self.ask("forget", mode=mode)

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request and waits for the answer.

        Raises:
            PerfdoctorError: what the process answered with, or that it has ended.
        """
        self.send(what, **arguments)
        return self.answer()

    def send(self, what: str, **arguments: Any) -> None:
        """Sends a request and does not wait: `answer` does. Several arms work at once like that.

        Raises:
            PerfdoctorError: the process has ended.
        """
        self.trying = arguments.get("mode") if what in _STEPS else None
        try:
            self._channel.send({"do": what, **arguments})
        except OSError:
            raise self._ended() from None
        self._busy = True

    def answer(self) -> dict[str, Any]:
        """Waits for the answer to what was sent.

        Raises:
            PerfdoctorError: what the process answered with, or that it has ended, or hangs.
        """
        patience_s = math.inf if self.spec.patience_s is None else self.spec.patience_s
        begun = time.monotonic()
        give_up = max(begun + patience_s, self.spec.patient_until_s)
        while not self._channel.ready(_ASK_S):
            if time.monotonic() > give_up:
                raise self._hangs(give_up - begun)
            if self.spec.waiting is not None:
                self.spec.waiting()
            if self._process.poll() is not None and not self._channel.ready(0):
                raise self._ended()  # its loader workers may hold the pipe's other end
        answer = self._channel.receive()
        if answer is None:
            raise self._ended()
        self._busy = False
        if "error" in answer:
            raise _error(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def close(self) -> None:
        """Ends the process and all it has started, and removes what they wrote into its scratch
        folder. May be called again."""
        if self._life is None:
            return
        known = belongings.started_by(self.pid, self._mark)
        try:
            if self._process.poll() is None and not self._busy:
                with suppress(OSError):
                    self._channel.send({"do": "close"})
                self._wait_for_end()
        finally:  # a second Ctrl-C must not leave it behind
            with undisturbed():
                self._process.kill()
                self._process.wait()
                belongings.end_all(self.pid, self._mark, known)
                belongings.take_note_of(self.pid)
                self._channel.close()
                os.close(self._life)
                self._life = None
                self._output.close()
                if self._scratch is not None:
                    remove(self._scratch)

    def _wait_for_end(self) -> None:
        """Some seconds; not any more once Ctrl-C is pressed twice."""
        give_up = time.monotonic() + _CLOSE_S
        while time.monotonic() < give_up and not hurried():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK_S)
                return

    def _hangs(self, waited_s: float) -> PerfdoctorError:
        with suppress(OSError):
            self._process.send_signal(signal.SIGABRT)  # it tells where it is, see `arm_worker`
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # no later request is to wait for it again
            self._process.wait()
        message = f"a trial's process gave no answer for {waited_s:.3g} s and was ended"
        return UserCodeError(message, slug="arm-hangs", details=_last_lines(self._output))

    def _ended(self) -> PerfdoctorError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_S)
        code = self._process.poll()
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        killed = code == -signal.SIGKILL  # as the system does where memory is full
        hint = "; it may have run out of memory" if killed else ""
        slug = OUT_OF_MEMORY if killed and self.trying is not None else "arm-ended"
        last = _last_lines(self._output)
        message = f"a trial's process ended {how}{hint}"
        if last:
            return UserCodeError(message, slug=slug, details=last)
        return PerfdoctorError(message, slug=slug)


def _spawn(
    spec: ArmSpec, output: IO[bytes], added: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Channel, int]:
    """The process, the channel to it, and the pipe whose end tells it that we are gone.

    Args:
        added: variables for it.
    """
    if os.name != "posix":
        raise PerfdoctorError(
            "trials need a POSIX system: their processes are joined by inherited pipes",
            slug="arms-need-posix",
        )
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    theirs_life, ours_life = os.pipe()
    theirs = (theirs_in, theirs_out, theirs_life)
    try:
        process = subprocess.Popen(
            [spec.python, "-c", _START, _ROOT, spec.process, *map(str, theirs)],
            cwd=spec.cwd,
            env={**spec.variables(), **added},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=theirs,
            start_new_session=True,  # Ctrl-C is ours: we end it, with all it has started
        )
    except OSError as error:
        for fd in (ours_in, ours_out, ours_life):
            os.close(fd)
        output.close()
        raise PerfdoctorError(
            f"cannot start {spec.python} in {spec.cwd}: {error.strerror}", slug="arm-not-started"
        ) from None
    finally:
        for fd in theirs:
            os.close(fd)
    return process, Channel(ours_in, ours_out), ours_life


def _open_log(path: str | Path | None) -> IO[bytes]:
    # read back for the error message of a process that dies
    return tempfile.TemporaryFile() if path is None else Path(path).open("a+b")


def _last_lines(output: IO[bytes]) -> str:
    output.seek(0)
    lines = output.read().decode(errors="replace").splitlines()
    return "\n".join(_stack(lines) or lines[-_SHOWN_LINES:])


def _stack(lines: Sequence[str]) -> list[str]:
    """What faulthandler has told last: the innermost call first."""
    first = next((n for n, line in reversed([*enumerate(lines)]) if line.endswith(_STACK)), None)
    return [] if first is None else [*lines[max(0, first - 2) : first + _SHOWN_LINES]]


def _error(found: Mapping[str, Any]) -> PerfdoctorError:
    if found.get("details"):
        return UserCodeError(found["message"], slug=found["slug"], details=found["details"])
    return PerfdoctorError(found["message"], slug=found["slug"])
