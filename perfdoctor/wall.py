"""The wall clock in parts that add up to all of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from perfdoctor.record import Run
from perfdoctor.report import Wall, WallPart

UNEXPLAINED = "unexplained"
_DUST = 1e-9


def wall_clock(run: Run) -> Wall | None:
    """What the run's spans tell, and the rest as unexplained; None where it tells nothing.

    Spans that say more than the clock are believed: it began before, or ended after, what was
    seen.
    """
    spent_s = sum(max(0.0, span.seconds) for span in run.spans)
    total_s = max(spent_s, run.wall_s or 0.0)
    if total_s <= 0:
        return None
    return Wall(total_s=total_s, parts=tuple(_parts(run, total_s)), started_at=_started(run))


def _parts(run: Run, total_s: float) -> Iterator[WallPart]:
    """One part a name; spans without time are left out."""
    spent: dict[str, tuple[float, int]] = {}
    for span in run.spans:
        seconds, count = spent.get(span.name, (0.0, 0))
        spent[span.name] = (seconds + max(0.0, span.seconds), count + span.count)
    seconds, count = spent.pop(UNEXPLAINED, (0.0, 0))
    seconds += total_s - seconds - sum(told for told, _ in spent.values())
    if seconds > _DUST * total_s:
        spent[UNEXPLAINED] = (seconds, max(1, count))
    for name, (seconds, count) in spent.items():
        if seconds > 0:
            yield WallPart(name=name, seconds=seconds, share=seconds / total_s, count=count)


def _started(run: Run) -> str | None:
    """By the log's own clock, whose time zone is not known."""
    if run.started_at is None:
        return None
    try:
        moment = datetime.fromtimestamp(run.started_at, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return None
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")
