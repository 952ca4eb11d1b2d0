"""How ranks ended, and what there is to say of those that ended early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfdoctor.ending import Ending
from perfdoctor.ranks.parts import RankPart

#: Why a rank handed in no part.
DIED, NEVER_BEGAN, STILL_RUNS = "it died", "it never began", "it had not ended"
_WELL = ("finished", "stopped", "running")


def failed(ending: Ending) -> bool:
    """Whether a script ended otherwise than it was meant to."""
    if ending.how in ("exit", "os._exit"):
        return bool(ending.code)
    return ending.how not in _WELL


def first_failure(parts: Sequence[RankPart]) -> RankPart | None:
    """The rank that failed first: what the others then ran into are consequences.

    A signal is sent by somebody who saw a failure, so an error goes before it.
    """
    return min(
        (part for part in parts if failed(part.ending)),
        key=lambda part: (part.ending.how == "signal", part.ended_at),
        default=None,
    )


def warnings_of(
    parts: Sequence[RankPart], absent: Mapping[int, str], first: RankPart | None
) -> list[str]:
    """A line for each rank that did not end well, `first` the one that brought the others down."""
    until = {part.rank for part in parts}
    lines = [
        f"Rank {rank} left no report at its end: {note}. {_kept(rank in until)}"
        for rank, note in sorted(absent.items())
    ]
    gone = any(note in (DIED, NEVER_BEGAN) for note in absent.values())
    if first is not None and not (gone and _is_consequence(first)):
        lines.append(f"Rank {first.rank} ended early: {describe_ending(first.ending)}.")
    after = [p.rank for p in parts if failed(p.ending) and p is not first]
    if gone and first is not None and _is_consequence(first):
        after.append(first.rank)
    if after:
        ranks = ", ".join(str(rank) for rank in sorted(after))
        lines.append(f"Rank{'s' if len(after) > 1 else ''} {ranks} ended early after that.")
    return lines


def _kept(before: bool) -> str:
    return "What it handed in before counts." if before else "The others are reported."


def _is_consequence(part: RankPart) -> bool:
    """Whether an ending may come from another rank's: a signal, or a lost connection."""
    lost = ("connection", "gloo", "nccl", "distbackend", "socket", "timed out", "store")
    text = part.ending.detail.lower()
    return part.ending.how == "signal" or any(word in text for word in lost)


def describe_ending(ending: Ending) -> str:
    """Such as "ValueError: no such file" or "exit code 3"."""
    if ending.detail:
        return ending.detail
    if ending.how in ("exit", "os._exit") and ending.code is not None:
        return f"exit code {ending.code}"
    return ending.how


def their_warnings(parts: Sequence[RankPart]) -> list[str]:
    """What the ranks' reports warn of, once each."""
    told = (warning for part in parts if part.report for warning in part.report.warnings)
    return list(dict.fromkeys(told))
