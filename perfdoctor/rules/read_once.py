"""What PD107 says of samples that all read the same."""

from __future__ import annotations

from collections.abc import Sequence

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE, loader_evidence
from perfdoctor.rules.mended import Gone
from perfdoctor.rules.observed import HotLine, line_evidence
from perfdoctor.rules.run_batches import (
    also_in_validation,
    cheaper_batches,
    iterable,
    what_loading_costs,
)
from perfdoctor.rules.wording import count, percent
from perfdoctor.stages import DATA_LOADING

#: What gives a file to read parts of, and has read little of it yet.
_OPENS = r"^(?:\w+\.)*(?:\w*File\.(?:__init__|open)|\w*open|connect) "
_READ_ONCE = (
    "What {} reads does not depend on the sample: read it once in __init__, keep it in memory and "
    "take each sample out of it. An entry of an .npz file is unpacked anew each time it is asked "
    "for: keep the array, not the file."
)
_READ = (
    "def __init__(self, ...):\n"
    "    ...\n"
    '    self.rows = read(path)  # once; of an .npz file each array: archive["x"]\n\n'
    "def __getitem__(self, index):\n"
    "    return self.rows[index]"
)
_READ_STREAMED = (
    "def __init__(self, ...):\n"
    "    ...\n"
    '    self.rows = read(path)  # once; of an .npz file each array: archive["x"]\n\n'
    "def __iter__(self):  # in each of several workers a part of them\n"
    "    yield from self.rows"
)
_OPEN_ONCE = (
    "The file that {} opens does not depend on the sample: open it once and keep it open, in each "
    "worker its own, since open files cannot be handed to workers. What fits into memory is best "
    "read in __init__."
)
_OPENED = (
    "def __init__(self, ...):\n"
    "    ...\n"
    "    self.file = None  # opened by the first sample, in each worker\n\n"
    "def __getitem__(self, index):\n"
    "    if self.file is None:\n"
    "        self.file = open_file(self.path)\n"
    '    return self.file["x"][index]'
)

_OPENED_STREAMED = (
    "def __iter__(self):\n"
    "    with open_file(self.path) as file:  # once, before the loop over its samples\n"
    '        yield from file["x"]'
)


def read_once(facts: Facts, lines: Sequence[HotLine], gone: Gone) -> Finding:
    """These lines, the hottest first, read the same for every sample; without them goes `gone`.

    They go in the first epoch too: what is left is reading once.
    """
    line = lines[0]
    others = len({one.place for one in lines}) - 1
    more = f" and {count(others, 'line')} more" if others else ""
    opens = line.calls(_OPENS)
    again = f"{'open' if opens else 'read'}{'' if others else 's'} the same"
    predicted = cheaper_batches(facts, *gone.ends)
    return Finding(
        stage=DATA_LOADING,
        title=f"{line.words}{more} {again} again for every sample: {percent(gone.likely)} of the "
        f"time for making batches; {what_loading_costs(facts)}",
        advice=(_OPEN_ONCE if opens else _READ_ONCE).format(line.place),
        change={"read_once": True},
        snippet=_snippet(facts, opens=opens),
        evidence=sample_evidence(facts, lines, gone),
        cause=LOADER_CAUSE,
        predicted=also_in_validation(facts, lines, Gone(gone.low, 1.0, 1.0), predicted),
        confidence=0.9,
        effort="lines",
    )


def _snippet(facts: Facts, *, opens: bool) -> str:
    if iterable(facts):
        return _OPENED_STREAMED if opens else _READ_STREAMED
    return _OPENED if opens else _READ


def sample_evidence(facts: Facts, lines: Sequence[HotLine], gone: Gone) -> tuple[Evidence, ...]:
    """The wait, how much of making batches these lines are, and the hottest of them."""
    return (
        *loader_evidence(facts),
        Evidence(
            metric="making samples",
            value=gone.likely,
            unit="share of loading",
            threshold=facts.threshold("line_share"),
            where=lines[0].place,
        ),
        *line_evidence(list(lines)),
    )
