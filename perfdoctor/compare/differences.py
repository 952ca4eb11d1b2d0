"""What else differs between two sides: settings, machine, code, and what was diagnosed.

A side is one report or a group of reports of the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfdoctor.facts_measured import MEASURED
from perfdoctor.record import Environment, Hotspot
from perfdoctor.report import Report

#: A line of code is hot from this share of the run on: as the rule for hot lines has it.
HOT_SHARE = 0.05
#: A hot line has changed when its share did by this factor or more (our own choice).
_HOTTER = 2.0
#: What differs between any two runs and explains nothing.
_INCIDENTAL = MEASURED | {"seed"}
#: Kinds of sources that were not observed.
_LOGGED = frozenset({"log", "trace"})
#: Ends the name of a line whose share is of the time of the loader's workers.
IN_WORKER = " (in a loader worker)"
_MACHINE = ("device", "cpu", "cores_usable", "memory_bytes", "cgroup")
_SOFTWARE = ("python", "torch", "cuda", "platform")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that is not the same on both sides; None where a side has no such thing.

    Attributes:
        kind: configuration, machine, software, code, verdict, bottleneck, hot_line, advice.
        name: the setting, package, line (`file:line function`) or rule.
        before, after: its values; several where the reports of one side disagree.
        stage: the stage it belongs to, where that is known.
    """

    kind: str
    name: str
    before: Any
    after: Any
    stage: str | None = None


def find_differences(before: Sequence[Report], after: Sequence[Report]) -> tuple[Difference, ...]:
    """All of them, the most telling kinds first."""
    return (
        *_diagnoses(before, after),
        *_settings(before, after),
        *_hot_lines(before, after),
        *_advice(before, after),
        *_environments(before, after),
    )


def _diagnoses(before: Sequence[Report], after: Sequence[Report]) -> Iterator[Difference]:
    for kind in ("verdict", "bottleneck"):
        sides = [_agreed(_diagnosed(r, kind) for r in side) for side in (before, after)]
        if None not in sides and sides[0] != sides[1]:
            yield Difference(kind=kind, name=kind, before=sides[0], after=sides[1])


def _diagnosed(report: Report, kind: str) -> str | None:
    """The verdict or the bottleneck; of a log that does not tell it, None."""
    if report.diagnosis is None:
        return None
    found: str = getattr(report.diagnosis, kind)
    untold = found in ("none", "inconclusive")
    return None if untold and report.source.kind in _LOGGED else found


def _settings(before: Sequence[Report], after: Sequence[Report]) -> Iterator[Difference]:
    """What a log does not tell is no difference; in other reports it is off."""
    logged = any(r.source.kind in _LOGGED for r in (*before, *after))
    old, new = ([r.configuration for r in side] for side in (before, after))
    for found in setting_differences(old, new):
        if not logged or None not in (found.before, found.after):
            yield found


def setting_differences(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> Iterator[Difference]:
    """Settings in effect that are not the same in the runs of both sides."""
    names = dict.fromkeys(name for settings in (*old, *new) for name in settings)
    for name in names:
        if name not in _INCIDENTAL:
            yield from _if_changed("configuration", name, _values(old, name), _values(new, name))


def _environments(before: Sequence[Report], after: Sequence[Report]) -> Iterator[Difference]:
    old, new = ([r.environment for r in side] for side in (before, after))
    for kind, names in (("machine", _MACHINE), ("software", _SOFTWARE)):
        for name in names:
            sides = [_agreed(getattr(e, name) for e in side) for side in (old, new)]
            if None not in sides:  # a log does not tell what it ran on
                yield from _if_changed(kind, name, *sides)
    yield from _if_known("machine", "gpu", old, new, _gpus)
    yield from _if_known("machine", "host", old, new, lambda e: e.hostname_hash)
    yield from _packages(old, new)
    yield from _if_known("code", "git", old, new, _commit)


def _if_known(
    kind: str,
    name: str,
    old: Sequence[Environment],
    new: Sequence[Environment],
    value: Callable[[Environment], Any],
) -> Iterator[Difference]:
    sides = [_agreed(map(value, side)) for side in (old, new)]
    if None not in sides:
        yield from _if_changed(kind, name, *sides)


def _gpus(environment: Environment) -> str | None:
    if environment.torch is None:  # not seen by perfdoctor itself
        return None
    return ", ".join(gpu.name for gpu in environment.gpu) or "none"


def _commit(environment: Environment) -> str | None:
    git = environment.git
    return None if git is None else git.commit[:12] + (" with changes" if git.dirty else "")


def _packages(old: Sequence[Environment], new: Sequence[Environment]) -> Iterator[Difference]:
    sides = [[e.packages for e in side if e.packages] for side in (old, new)]
    if not all(sides):
        return
    for name in sorted({name for side in sides for found in side for name in found}):
        yield from _if_changed("software", name, *(_values(side, name) for side in sides))


def _if_changed(kind: str, name: str, before: Any, after: Any) -> Iterator[Difference]:
    if before != after:
        yield Difference(kind=kind, name=name, before=before, after=after)


def _values(side: Sequence[Mapping[str, Any]], name: str) -> Any:
    return _agreed(found.get(name) for found in side)


def _agreed(values: Iterable[Any]) -> Any:
    """The value, a tuple of them where they differ, None where there is none."""
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found[0] if len(found) == 1 else tuple(found) or None


def _hot_lines(before: Sequence[Report], after: Sequence[Report]) -> Iterator[Difference]:
    """Lines that became hot, or ceased to be; only where both sides were observed so closely."""
    if not all(any(r.hotspots for r in side) for side in (before, after)):
        return
    old, new = _hottest(before), _hottest(after)
    for key in sorted({**old, **new}, key=lambda k: -max(_share(old, k), _share(new, k))):
        shares = _share(old, key), _share(new, key)
        if max(shares) < HOT_SHARE or max(shares) < _HOTTER * min(shares):
            continue
        spot = new.get(key) or old[key]
        yield Difference(
            kind="hot_line",
            name=_called(spot),
            before=shares[0] or None,
            after=shares[1] or None,
            stage=spot.stage if spot.process == "main" else None,
        )


_Key = tuple[str, str, str | None, str]


def _hottest(side: Sequence[Report]) -> dict[_Key, Hotspot]:
    """Function and what it calls → the hottest line of it; lines move from version to version.

    A script may be called otherwise on the other side, so its own name is left out.
    """
    found: dict[_Key, Hotspot] = {}
    for report in side:
        for spot in report.hotspots:
            file = spot.file.rsplit("/", 1)[-1]
            file = "" if file == report.name else file
            key = (file, spot.function, spot.library, spot.process)
            if key not in found or spot.share > found[key].share:
                found[key] = spot
    return found


def _share(spots: Mapping[_Key, Hotspot], key: _Key) -> float:
    return spots[key].share if key in spots else 0.0


def _called(spot: Hotspot) -> str:
    what = spot.library or spot.function
    worker = IN_WORKER if spot.process == "worker" else ""
    return f"{spot.file.rsplit('/', 1)[-1]}:{spot.line} {what}{worker}"


def _advice(before: Sequence[Report], after: Sequence[Report]) -> Iterator[Difference]:
    """Faults that all reports of one side have and none of the other's, which would tell them."""
    if any(report.diagnosis is None for report in (*before, *after)):
        return
    old, new = ([_faults(r) for r in side] for side in (before, after))
    logged = [any(r.source.kind in _LOGGED for r in side) for side in (before, after)]
    for mine, others, came in ((new, old, True), (old, new, False)):
        if logged[0 if came else 1]:
            continue
        for code in set.intersection(*map(set, mine)) if mine else ():
            if any(code in found for found in others):
                continue
            name, title, stage = mine[0][code]
            sides = (None, title) if came else (title, None)
            yield Difference(
                kind="advice", name=f"{code} {name}", before=sides[0], after=sides[1], stage=stage
            )


def _faults(report: Report) -> dict[str, tuple[str, str, str]]:
    faults = (r for r in report.recommendations if not r.optional)
    return {r.rule: (r.name, r.title, r.stage) for r in faults}
