"""What PD107 says of samples for each of which the same object is made again."""

from __future__ import annotations

from collections.abc import Sequence

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.mended import Gone
from perfdoctor.rules.observed import HotLine
from perfdoctor.rules.read_once import sample_evidence
from perfdoctor.rules.run_batches import (
    also_in_validation,
    cheaper_batches,
    iterable,
    what_loading_costs,
)
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING

_USED = {
    "__getitem__": "def __getitem__(self, index):\n    ...\n    sample = self.made(sample)",
    "__iter__": "def __iter__(self):\n    for sample in ...:\n        yield self.made(sample)",
}
_KEPT = """\
@functools.lru_cache(maxsize=16)  # outside of the class
def made({by}):
    return {name}({by}, ...)

# in {method}, in place of making it
sample = made({by})(sample)"""


def made_once(facts: Facts, lines: Sequence[HotLine], gone: Gone) -> Finding:
    """These lines, the hottest first, run while the object is made; without them goes `gone`.

    They go in the first epoch too: what is left is making it once, or once for each of some values,
    of which there may be as many as samples.
    """
    name, _, where = lines[0].anew.partition(" at ")
    place, _, by = where.partition(" for each ")
    gone = Gone(0.0, gone.likely, gone.high) if by else gone
    predicted = cheaper_batches(facts, *gone.ends)
    method = "__iter__" if iterable(facts) else "__getitem__"
    advice, snippet = _by_value(name, place, by, method) if by else _once(name, place, method)
    again = f"a new `{name}`" if by else f"the same `{name}` again"
    return Finding(
        stage=DATA_LOADING,
        title=f"{place} makes {again} for every sample: {percent(gone.likely)} of the time for "
        f"making batches; {what_loading_costs(facts)}",
        advice=advice,
        change={"made_once": True},
        snippet=snippet,
        evidence=sample_evidence(facts, lines, gone),
        cause=LOADER_CAUSE,
        predicted=also_in_validation(facts, lines, Gone(gone.low, 1.0, 1.0), predicted),
        confidence=0.8 if by else 0.9,
        effort="lines",
    )


def _once(name: str, place: str, method: str) -> tuple[str, str]:
    return (
        f"Nothing of the sample goes into the `{name}` that {place} makes: make it once, in "
        f"__init__ of the dataset, and use that one in {method}.",
        f"def __init__(self, ...):\n    ...\n    self.made = {name}(...)  # once\n\n"
        + _USED[method],
    )


def _by_value(name: str, place: str, by: str, method: str) -> tuple[str, str]:
    values = f"each value of `{by}`" if " and " not in by else f"the same {by}"
    return (
        f"The `{name}` that {place} makes is another one only where {by} is: keep one for {values} "
        "(functools.lru_cache), or make it in __init__ of the dataset where there is only one.",
        _KEPT.format(name=name, by=by.replace(" and ", ", "), method=method),
    )
