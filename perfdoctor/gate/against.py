"""`--against REV`: two revisions, measured on this machine in turns."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfdoctor import interrupts
from perfdoctor.collect.options import Progress
from perfdoctor.compare.checks import (
    INCONCLUSIVE,
    REGRESSION,
    CheckedSide,
    CheckResult,
    overall,
)
from perfdoctor.compare.judging import Jury
from perfdoctor.errors import PerfdoctorError, tell
from perfdoctor.gate import explaining, repository, requirements
from perfdoctor.gate.asked import MAX_SECONDS, Asked
from perfdoctor.gate.deciding import decide
from perfdoctor.gate.lock_step_pairs import LockStepPairs, Source, workload_files
from perfdoctor.gate.measured import FEWEST_FOR_TAIL
from perfdoctor.gate.process_pairs import CommandPairs, ScriptPairs
from perfdoctor.gate.repository import Repository
from perfdoctor.gate.sides import RunningSide, prepare
from perfdoctor.gate.worktrees import Checkout, checked_out
from perfdoctor.render.sides_words import interval, relative_change
from perfdoctor.render.text import counted

#: Part of the budget that one pair's steps may take: seven pairs fit, with their processes' start.
_PAIR_PART = 1 / 14
#: Processes of each side whose diagnoses are compared: one may be called otherwise by chance.
_FEWEST_TO_TELL = 2


@dataclass(frozen=True, kw_only=True)
class Against:
    """Which revisions, and how their code is made ready.

    Attributes:
        revision: the old side is its merge base with HEAD; itself if `exact`.
        setup: a command to run on each side, in an environment of its own.
        share: paths that git ignores and both sides need. same: files that both sides have in the
            new version, besides those that say what is measured.
    """

    revision: str
    exact: bool = False
    setup: str | None = None
    share: tuple[str, ...] = ()
    same: tuple[str, ...] = ()


def check(asked: Asked, against: Against, progress: Progress) -> CheckResult:
    """Compares the working tree with the other revision.

    Raises:
        PerfdoctorError: there is nothing to compare, or a side cannot run: neither is a result.
        KeyboardInterrupt: Ctrl-C, or what a CI runner sends; everything is tidied up.
    """
    began = time.monotonic()
    repo = repository.find(Path.cwd())
    base = repo.commit(against.revision) if against.exact else repo.merge_base(against.revision)
    progress("making the checkouts", 0, 0)
    with interrupts.heard(), checked_out(repo, base, against.share) as checkouts:
        notes = [*missing_files(checkouts), *_bring_same(repo, checkouts, asked, against)]
        notes += requirements.differing(*checkouts, repo.below, against.setup)
        progress("setting up the environments" if against.setup else "starting", 0, 0)
        sides = prepare(repo, checkouts, against.setup)
        source, jury = _source(asked, sides), Jury(asked.criteria)
        deadline = time.monotonic() + _budget(asked)  # of measuring: --setup takes what it takes
        decide(source, jury, deadline, progress, extend=asked.max_seconds is None)
        why = _why(asked, source, sides, jury, deadline, progress)
        notes += _notes(against, repo, base, checkouts, source, jury)
        return _result(asked, jury, source, checkouts, against, why, notes, began)


def _budget(asked: Asked) -> float:
    return asked.max_seconds or MAX_SECONDS


def _source(asked: Asked, sides: tuple[RunningSide, RunningSide]) -> Source:
    measured = asked.measured
    if measured.command is not None:
        assert measured.report is not None
        return CommandPairs(sides, asked.process_s, measured.command, measured.report)
    if measured.script:
        return ScriptPairs(sides, asked.process_s, measured.script, measured.steps)
    pair_s = _budget(asked) * _PAIR_PART
    assert measured.workload is not None
    return LockStepPairs(
        sides, measured.workload, measured.options, pair_s, asked.seed,
        fewest_steps=_fewest(asked), patience_s=asked.patience_s,
    )  # fmt: skip


def _fewest(asked: Asked) -> int:
    """Steps of a side that are needed; for a warning nothing is prolonged."""
    tails = any(criterion.fails and criterion.statistic == "p95" for criterion in asked.criteria)
    return FEWEST_FOR_TAIL if tails else 0


def missing_files(checkouts: Sequence[Checkout]) -> Iterator[str]:
    """What git-lfs has not brought; told at once, since a side may fail of it."""
    for checkout in checkouts:
        pointers = Repository(checkout.root, Path()).pointers()
        if pointers:
            note = (
                f"{counted(len(pointers), 'file')} of git-lfs: only pointers are in "
                f"{checkout.commit[:12]}, such as {pointers[0]}: `git lfs fetch origin "
                f"{checkout.commit[:12]}` brings them, --share PATH shares those of this checkout."
            )
            tell(note)
            yield note


def _bring_same(
    repo: Repository, checkouts: tuple[Checkout, Checkout], asked: Asked, against: Against
) -> Iterator[str]:
    """The new version of the files that say what is measured, on both sides."""
    files = [*workload_files(asked.measured.workload or {}), *((f, True) for f in against.same)]
    before, after = checkouts
    for name, needed in files:
        if Path(name).is_absolute() and Path(name).resolve().is_relative_to(repo.root.resolve()):
            raise PerfdoctorError(
                f"{name} is an absolute path into this checkout, which both sides would use; give "
                "it relative to this folder",
                slug="absolute-path",
            )
        source = after.at(repo.below / name).resolve()
        if not source.is_file() and needed:
            raise PerfdoctorError(f"{name} does not exist (cwd {Path.cwd()})", slug="file-missing")
        if not source.is_file() or not source.is_relative_to(after.root.resolve()):
            continue  # a module that is installed, or a file that both sides see as it is
        inside = source.relative_to(after.root.resolve())
        place = before.at(inside)
        if place.is_file() and place.read_bytes() == source.read_bytes():
            continue
        was = place.is_file()
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        yield (
            f"{inside} differs between the two revisions: the new one was used on both sides, so "
            "that what changed in it does not count."
            if was
            else f"{inside} is new: it was used on both sides."
        )


def _why(
    asked: Asked,
    source: Source,
    sides: tuple[RunningSide, RunningSide],
    jury: Jury,
    deadline: float,
    progress: Progress,
) -> explaining.Why:
    """What else differs; the long way only where there is something to explain."""
    slower = overall(jury.judged()) == REGRESSION
    left_s = deadline - time.monotonic()
    if isinstance(source, LockStepPairs):
        wanted = asked.explain and slower
        return explaining.of_workload(source, sides, left_s if wanted else 0.0, progress)
    assert isinstance(source, (ScriptPairs, CommandPairs))
    return explaining.of_reports(source.reports, _FEWEST_TO_TELL)


def _notes(
    against: Against,
    repo: Repository,
    base: str,
    checkouts: tuple[Checkout, Checkout],
    source: Source,
    jury: Jury,
) -> Iterator[str]:
    before, after = checkouts
    asked_for = repo.commit(against.revision)
    if base != asked_for:
        yield (
            f"The old side is {base[:12]}, where this branch left {against.revision} "
            f"({asked_for[:12]}); --exact compares with {against.revision} itself."
        )
    if after.in_place:
        yield ("The new side ran in this checkout, since it holds changes that are not committed.")
    elif before.commit == after.commit:
        yield "Both sides are the same commit: this compares the code with itself."
    if overall(jury.judged()) == INCONCLUSIVE:
        yield from by_processor_time(jury)
    if isinstance(source, LockStepPairs) and source.successive:
        yield (
            "There is not memory enough for both sides at a time, so that one process followed "
            "the other; that is less sensitive on a busy machine."
        )


def by_processor_time(jury: Jury) -> Iterator[str]:
    """That it is known, where the wall clock tells nothing."""
    found = next((s for s in jury.shifts() if (s.name, s.statistic) == ("step", "cpu")), None)
    asked = any(criterion.statistic == "cpu" for criterion in jury.criteria)
    few = len(jury.pairs) < jury.looks[0]  # nor would it be judged
    if few or asked or found is None or found.ratio is None or found.direction == "unclear":
        return
    yield (
        f"The processor time of a step is known better: {relative_change(found.ratio)} "
        f"({interval(found.ratio_ci)}); --fail-on step:cpu:5% judges by it."
    )


def _result(
    asked: Asked,
    jury: Jury,
    source: Source,
    checkouts: tuple[Checkout, Checkout],
    against: Against,
    why: explaining.Why,
    notes: Sequence[str],
    began: float,
) -> CheckResult:
    before, after = checkouts
    judged = jury.judged()
    keys = sorted({key for pair in jury.pairs for key in pair.differences})
    return CheckResult(
        outcome=overall(judged),
        way="against",
        measured=asked.measured.name,
        before=CheckedSide(
            name=against.revision, commit=before.commit, place=str(before.root),
            verdict=why.verdicts[0], summary=why.summaries[0],
        ),
        after=CheckedSide(
            name="working tree" if after.in_place else "HEAD", commit=after.commit,
            dirty=after.in_place, place=str(after.root),
            verdict=why.verdicts[1], summary=why.summaries[1],
        ),
        judged=judged,
        shifts=jury.shifts(),
        why=explaining.telling(why.differences, slower=overall(judged) == REGRESSION),
        notes=(*notes, *why.notes),
        pairs=len(jury.pairs),
        seconds=time.monotonic() - began,
        protocol={**source.protocol(), "looks": jury.looks, "command": asked.command},
        raw={key: tuple(p.differences.get(key) for p in jury.pairs) for key in keys},
    )  # fmt: skip
