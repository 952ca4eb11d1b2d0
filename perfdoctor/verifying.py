"""`run --verify`: a script observed, and run again with the advice, without changing a file.

This process only leads. The script runs in processes of its own, each in a sandbox: first one that
is observed as by `run` and has the terminal, then those of the trials.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from perfdoctor.collect import belongings
from perfdoctor.collect.channel import Channel
from perfdoctor.collect.sandbox import MOUNTS, REDIRECTED, enter, remove, scratch_folder
from perfdoctor.collect.sandbox.room import little_room, too_little_room
from perfdoctor.collect.script.launch import Script, execute
from perfdoctor.collect.script.session import Limits, Session
from perfdoctor.collect.script.signals import DEADLY
from perfdoctor.errors import PerfdoctorError
from perfdoctor.interrupts import undisturbed
from perfdoctor.stages import DATA_LOADING

if TYPE_CHECKING:
    from perfdoctor.collect.options import Progress
    from perfdoctor.ending import Ending
    from perfdoctor.report import Report, Trial
    from perfdoctor.settings import Settings

#: Training that is observed before the trials, where nothing else is said: a few hundred steps of
#: most scripts, and no more than a minute of waiting.
OBSERVED_S = 60.0
_ROOT = str(Path(__file__).resolve().parents[1])
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from perfdoctor.verifying import main; "
    "sys.path.remove(sys.argv[1]); sys.path.append(sys.argv[1]); main(*map(int, sys.argv[2:4]))"
)
_LOOK_S = 0.5
#: What a script did before and after its steps.
_AROUND = ("start_up", "shut_down")
#: A stage of fewer steps than one in ten is missing from most stretches of a trial.
_RARE = 0.1
#: Endings after which the user does not wait for trials, or the script cannot make steps.
_NO_TRIALS = ("interrupted", "signal", "exception", "os._exit")


@dataclass(frozen=True)
class VerifyScript:
    """What `run --verify` is asked for."""

    script: Script
    limits: Limits
    budget_s: float
    command: str | None = None


def verify_script(
    request: VerifyScript,
    settings: Settings,
    progress: Progress,
    tell: Callable[[str], None],
) -> tuple[Report | None, int]:
    """The report of the script with its advice tried, and the script's exit code.

    No report where there was nothing to observe.

    Raises:
        PerfdoctorError: there is no such script, or no sandbox here.
    """
    tell(first_line(request))
    with scratch_folder() as scratch:
        if (why := little_room(scratch)) is not None:
            tell(f"verify: {why}")
        begun = time.monotonic()
        report, code, way = _observed(request, scratch, tell)
        why = too_little_room(scratch, time.monotonic() - begun, request.budget_s)
        for left in scratch.iterdir():  # nobody needs what the observed process wrote any more
            remove(left)
        if report is None:
            return None, code
        if report.ending is not None and report.ending.how in _NO_TRIALS:
            tell(_not_tried(report.ending, way))
            return report, code
        if why is not None:
            tell(f"verify: {why}")
            return report, code
        return _tried(report, request, scratch, progress, tell), code


def first_line(request: VerifyScript) -> str:
    """What will be run, and for how long, before anything is."""
    limits = request.limits
    most = [f"{limits.steps} steps"] if limits.steps is not None else []
    most += [f"{limits.max_seconds:.0f} s of training"] if limits.max_seconds is not None else []
    return (
        f"verify: the script runs in a sandbox, its trackers silent: it is observed for up to "
        f"{' or '.join(most)}, then run again with its advice for up to {request.budget_s:.0f} s"
    )


def _not_tried(ending: Ending, way: str | None) -> str:
    line = f"verify: nothing is tried, since the script ended early ({ending.how})"
    if os.strerror(errno.ENOSPC) in ending.detail:
        return f"{line}: the place for what it writes is full; let TMPDIR name one with more room"
    if way != REDIRECTED or ending.how != "exception":
        return line
    return (
        f"{line}; where that was a write which the sandbox refused (no file of yours has changed), "
        "allow user namespaces here to have it redirected as well"
    )


def _tried(
    report: Report,
    request: VerifyScript,
    scratch: Path,
    progress: Progress,
    tell: Callable[[str], None],
) -> Report:
    from perfdoctor.report import Verification

    try:
        return _with_trials(report, request, scratch, progress, tell)
    except KeyboardInterrupt:  # what was observed is worth a report
        return replace(report, verification=Verification.interrupted_before(request.budget_s))


def _with_trials(
    report: Report,
    request: VerifyScript,
    scratch: Path,
    progress: Progress,
    tell: Callable[[str], None],
) -> Report:
    from perfdoctor.collect.rerun.arm import spec_of
    from perfdoctor.experiments.verify import verify

    def adjust(trial: Trial) -> Trial:
        kept = with_first_start(trial, report)
        return of_whole_run(kept, share_tried(report, trial.change))

    spec = spec_of(request.script, scratch)
    return verify(report, spec, request.budget_s, progress, tell, adjust)


def _ran_to_its_end(report: Report) -> bool:
    return report.ending is None or report.ending.how != "stopped"


def share_tried(report: Report, change: Mapping[str, Any]) -> float:
    """The part of the run that trials of this change measure: what is done in most steps.

    Trials are medians of short stretches. What a script does before and after its steps, and what
    it does now and then, is in none of them, unless the change is about it. Of a run that was
    stopped only the training is known.
    """
    if report.wall is None:
        return 1.0
    from perfdoctor.experiments.plan import RARER
    from perfdoctor.experiments.starts import LOADING

    shares = {part.name: part.share for part in report.wall.parts}
    around = sum(shares.pop(name, 0.0) for name in _AROUND)
    about = {RARER[name] for name in change if name in RARER}  # their stretches are long enough
    rare = {n for n, s in report.stages.items() if s.between or s.calls_per_step < _RARE}
    tried = 1.0 - around - sum(shares.get(name, 0.0) for name in rare - about)
    starts = _starts_share(report)
    if not LOADING & set(change):
        tried -= starts
    whole = _whole(report, report.wall.total_s) if _ran_to_its_end(report) else 1.0 - around
    return max(0.0, tried / whole) if whole > 0 else 1.0


def _whole(report: Report, wall_s: float) -> float:
    """The whole run, the end of its process with it, as a share of what was observed."""
    from perfdoctor.ending import leaving_s

    how = "" if report.ending is None else report.ending.how
    end_s = leaving_s(how, report.counters.get("import_torch_s"))
    return 1.0 + end_s / wall_s if wall_s > 0 else 1.0


def _starts_share(report: Report) -> float:
    """Of the run, what is waited where epochs begin: only changes of the loader are tried there."""
    epochs, steps, wall = report.epochs, report.steps, report.wall
    if epochs is None or epochs.start is None or steps is None or wall is None:
        return 0.0
    longer_s = max(0.0, epochs.start.p50_s - steps.time.p50_s)
    loading = sum(part.share for part in wall.parts if part.name == DATA_LOADING)
    return min(loading, epochs.count * longer_s / wall.total_s)


def with_first_start(trial: Trial, report: Report) -> Trial:
    """The gain of workers that are kept: one epoch saves no start, and trials compare the others.

    Of a run that was stopped it is not known how many epochs there are.
    """
    kept = trial.change.get("persistent_workers") and "num_workers" not in trial.change
    if not kept or report.epochs is None or not _ran_to_its_end(report):
        return trial
    return of_whole_run(trial, 1.0 - 1.0 / max(1, report.epochs.count))


def of_whole_run(trial: Trial, inside: float) -> Trial:
    """A trial's gain in the steps as one of the whole run, of which they are a share (Amdahl)."""
    from perfdoctor.stats import amdahl

    def whole(speedup: float | None) -> float | None:
        return None if speedup is None else amdahl(inside, speedup)

    return replace(
        trial, speedup=whole(trial.speedup), low=whole(trial.low), high=whole(trial.high)
    )


# -- the observed run --------------------------------------------------------------------------


#: How the sandbox works → what the user is told of it.
_KEPT = {
    MOUNTS: "verify: what it writes, by whatever means, is not kept, and no file of yours changes",
    REDIRECTED: "verify: what its Python writes is not kept, what other code writes is refused, as "
    "user namespaces are not allowed here, and no file of yours changes",
}


def _observed(
    request: VerifyScript, scratch: Path, tell: Callable[[str], None]
) -> tuple[Report | None, int, str | None]:
    """The report of a process that has the terminal to itself, its exit code, and its sandbox."""
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    mark = secrets.token_hex(8)
    with _signals_are_the_scripts() as hears:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, _ROOT, str(theirs_in), str(theirs_out)],
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, belongings.MARK: mark},
        )
        hears.append(process)
        for fd in (theirs_in, theirs_out):
            os.close(fd)
        channel = Channel(ours_in, ours_out)
        try:
            channel.send(_description(request, scratch))
            answer, way = _answer(channel, process), None
            if answer is not None and "way" in answer:
                way = answer["way"]
                tell(_KEPT[way])
                with suppress(OSError):  # it has ended
                    channel.send({})  # the script begins, and has the terminal
                answer = _answer(channel, process)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            belongings.end_all(process.pid, mark)  # what the script has left running
            channel.close()
        report = _reported(answer)  # within: Ctrl-C once more must not lose it
    return report, 128 - code if code < 0 else code, way


def _answer(channel: Channel, process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """What the process sends next; None where it has ended without a word.

    What it has started, loader workers say, may live on and hold its end of the channel.
    """
    while not channel.ready(_LOOK_S):
        if process.poll() is not None and not channel.ready(0):
            return None
    return channel.receive()


@contextmanager
def _signals_are_the_scripts() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Ctrl-C reaches the script by itself, other signals are handed on to it; here they must not
    end the waiting for its report."""
    hears: list[subprocess.Popen[bytes]] = []

    def handed_on(number: int, frame: FrameType | None) -> None:
        for process in hears:
            process.send_signal(number)

    wanted = [number for number in DEADLY if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handed_on) for number in wanted}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield hears
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _description(request: VerifyScript, scratch: Path) -> dict[str, Any]:
    return {
        "script": [request.script.target, request.script.arguments, request.script.is_module],
        "limits": asdict(request.limits),
        "command": request.command,
        "scratch": str(scratch),
    }


def _reported(answer: dict[str, Any] | None) -> Report | None:
    if answer is None or answer.get("report") is None:
        return None
    if "error" in answer:
        raise PerfdoctorError(answer["error"], slug=answer["slug"])
    from perfdoctor import schema

    return schema.from_json(answer["report"].encode())


def main(read_fd: int, write_fd: int) -> None:
    """The observed process. Ends as the script does."""
    channel = Channel(read_fd, write_fd)
    request = channel.receive()
    if request is None:
        return
    target, arguments, is_module = request["script"]
    try:
        channel.send({"way": enter(Path(tempfile.mkdtemp(dir=request["scratch"])))})
        if channel.receive() is None:
            return
        session = Session(target, Limits(**request["limits"]), command=request["command"])
        session.start()
        session.printed.start(sys.stdout, sys.stderr)
        execute(
            Script(target, tuple(arguments), is_module),
            lambda ending: _send_report(channel, session, ending),
        )
    except PerfdoctorError as error:
        channel.send({"report": "", "error": str(error), "slug": error.slug})
        raise SystemExit(error.exit_code) from None


def _send_report(channel: Channel, session: Session, ending: Ending) -> None:
    """Ctrl-C pressed once more does not reach what the first one has asked for."""
    with undisturbed(("SIGINT",)):
        run = session.finish(ending)
        if run is None:
            channel.send({"report": None})
            return
        from perfdoctor import pipeline, schema, settings
        from perfdoctor.printed import with_printed

        run = with_printed(run, session.printed)
        report = pipeline.conclude(run, settings.load(Path.cwd()))
        channel.send({"report": schema.to_json(report).decode()})
