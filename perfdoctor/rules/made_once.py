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
    wait_of,
)
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING

_USED = {
    "__getitem__": "def __getitem__(self, index):\n    ...\n    sample = self.made(sample)",
    "__iter__": "def __iter__(self):\n    for sample in ...:\n        yield self.made(sample)",
}


def made_once(facts: Facts, lines: Sequence[HotLine], gone: Gone) -> Finding:
    """These lines, the hottest first, run while the object is made; without them goes `gone`.

    They go in the first epoch too: what is left is making it once.
    """
    wait, (name, _, place) = wait_of(facts).usual, lines[0].anew.partition(" at ")
    predicted = cheaper_batches(facts, *gone.ends)
    method = "__iter__" if iterable(facts) else "__getitem__"
    return Finding(
        stage=DATA_LOADING,
        title=f"{place} makes the same `{name}` again for every sample: {percent(gone.likely)} of "
        f"the time for making batches; {percent(wait)} of each step waits for data",
        advice=f"Nothing of the sample goes into the `{name}` that {place} makes: make it once, in "
        f"__init__ of the dataset, and use that one in {method}.",
        change={"made_once": True},
        snippet="def __init__(self, ...):\n"
        "    ...\n"
        f"    self.made = {name}(...)  # once\n\n" + _USED[method],
        evidence=sample_evidence(facts, lines, gone),
        cause=LOADER_CAUSE,
        predicted=also_in_validation(facts, lines, Gone(gone.low, 1.0, 1.0), predicted),
        confidence=0.9,
        effort="lines",
    )
