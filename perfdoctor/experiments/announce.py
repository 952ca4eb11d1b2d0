"""What is told before anything is tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfdoctor.experiments.plan import Candidate, Plan
from perfdoctor.rules.wording import count, listed

NOTHING = "verify: none of the advice can be tried here"


def opening(budget_s: float, *, guarded: bool) -> str:
    """What will be done, before any of it is. `guarded`: files of the user's cannot be changed."""
    files = "no file of yours is changed"
    if not guarded:
        files = "there is no sandbox here, so what your code writes is written"
    return (
        "verify: the training runs in processes of its own, with and without each change in "
        f"turns, for up to {budget_s:.0f} s with their start; {files}; Ctrl-C keeps what is known"
    )


def announcement(work: Plan, budget_s: float) -> str:
    """What will be tried, each change with its values, in its order."""
    known = work.candidates or work.choices
    if not known:
        return NOTHING
    return (
        f"verify: trying {count(len(known), 'change')} for up to {budget_s:.0f} s, in this order: "
        f"{_changes(work)}"
    )


def correction(work: Plan, expected: Plan) -> str | None:
    """What is said where it turns out to be other changes, or another order; None: it is not."""
    if not (work.candidates or work.choices):
        return NOTHING if expected.candidates or expected.choices else None
    now = _changes(work)
    return None if now == _changes(expected) else f"verify: as it turns out, in this order: {now}"


def _changes(work: Plan) -> str:
    return "; ".join(map(asked, work.candidates or work.choices)) + _later(work)


def asked(candidate: Candidate) -> str:
    """A change with its values: "PD101 num_workers=4"."""
    if candidate.label == candidate.experiment.name:
        return f"{candidate.label} (what it could bring at most)"
    others = " or ".join(map(_values, candidate.others))
    found = f"{candidate.label} {_values(candidate.changes)}"
    return f"{found} (then {others}, if time is left)" if others else found


def _values(changes: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in changes.items() if name != "environment"}
    return ", ".join(f"{k}={v}" for k, v in (plain | changes.get("environment", {})).items())


def _later(work: Plan) -> str:
    joined = [one for one in work.candidates if one.joins]
    later = [asked(one) for one in work.choices if work.candidates]
    instead = f"; in the place of what fails: {listed(later)}" if later else ""
    return instead + ("; at the end what helped, together" if len(joined) > 1 else "")
