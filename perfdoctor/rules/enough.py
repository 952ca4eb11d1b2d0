"""How much a log has to tell before anything is concluded from it."""

from __future__ import annotations

from perfdoctor.rules.facts import Facts, Missing

#: What a rule can rest on, besides `utilisation.NAME`: the timed records of a log.
RECORDS = "records"
#: Fewer records than this are an impression: the trend of a run needs as many, and a median has an
#: interval of 95 % from six on.
FEWEST_RECORDS = 10
#: An epoch is a mean over many steps; three show whether one is like the next.
FEWEST_EPOCHS = 3
#: A GPU's counter covers a second or less, and one snapshot may fall into any pause.
FEWEST_SAMPLES = 10
_TRACE = "trace"


def require(facts: Facts, bases: tuple[str, ...]) -> None:
    """Raises `Missing`, with the reason, where the log holds too little of what a rule rests on."""
    for basis in bases:
        reason = too_few_records(facts) if basis == RECORDS else too_few_samples(facts, basis)
        if reason is not None:
            raise Missing("steps.count" if basis == RECORDS else basis, reason)


def too_few_records(facts: Facts) -> str | None:
    """Why the log's records do not suffice, if so.

    A summary or a profile has no records: its numbers are of all steps. A trace times each of the
    few steps that it holds.
    """
    if not _has_records(facts) or _TRACE in str(facts.report.get("source", {}).get("format")):
        return None
    records, epochs = _records(facts), int(facts.known("epochs.count") or 0)
    if records >= FEWEST_RECORDS or epochs >= FEWEST_EPOCHS or not (records or epochs):
        return None
    told = f"{records} record{'' if records == 1 else 's'} with a step time or a rate"
    return f"only {told}, at least {FEWEST_RECORDS} (or {FEWEST_EPOCHS} epochs) are needed"


def too_few_samples(facts: Facts, counter: str) -> str | None:
    """Why a hardware counter's samples do not suffice, if so."""
    count = facts.known(f"{counter}.count")
    if not facts.from_log or count is None or count >= FEWEST_SAMPLES:
        return None
    told = f"{int(count)} sample{'' if count == 1 else 's'}"
    return f"only {told}, at least {FEWEST_SAMPLES} are needed"


def _has_records(facts: Facts) -> bool:
    if not facts.has("source.kind") or facts.get("source.kind") != "log" or not facts.has("logs"):
        return False
    return any(facts.known(f"logs.{i}.records") for i in range(len(facts.get("logs"))))


def _records(facts: Facts) -> int:
    """With a step time or with a rate."""
    rates = [
        facts.get(p) for n in ("samples_per_s", "tokens_per_s") if facts.has(p := f"series.{n}")
    ]
    told = [sum(value is not None for value in column) for column in rates]
    return max([int(facts.known("steps.count") or 0), *told])
