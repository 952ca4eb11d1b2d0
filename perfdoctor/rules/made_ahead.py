"""What PD110 says of batches that threads or processes of the script's own make ahead already."""

from __future__ import annotations

import re
from collections.abc import Sequence

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.mended import UNKNOWN
from perfdoctor.rules.observed import HotLine, at, line_evidence, without
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING

#: What a loop waits in for something that others have in hand before it asks. Where a statement
#: asks a pool and waits for that, the line is said to call what it asks for (`attribution`).
_TAKES_FINISHED = (
    r"Queue\w*\.get\b|\bIMap\w*Iterator\.(?:next|__next__)|Result\.get\b|Future\.result\b"
    r"|result_iterator|Connection\.recv\b|\b(?:Condition|Event)\.wait\b"
)
#: So much of what was seen of loading is such a wait where that is what it is about.
_MOSTLY = 0.5
_SEVERAL = """\
from collections import deque
from concurrent.futures import ThreadPoolExecutor  # of processes, where making a batch computes
from itertools import islice

def ahead(make_batch, numbers, workers=4, depth=8):
    numbers = iter(numbers)
    with ThreadPoolExecutor(workers) as pool:
        coming = deque(pool.submit(make_batch, n) for n in islice(numbers, depth))
        while coming:
            batch = coming.popleft().result()
            coming.extend(pool.submit(make_batch, n) for n in islice(numbers, 1))
            yield batch

for batch in ahead(make_batch, range(steps)):"""


def are_made_ahead(lines: Sequence[HotLine]) -> bool:
    """Whether most of the wait, by these lines of it, is for what others make meanwhile."""
    waiting = sum(line.share for line in lines if _takes_finished(line))
    return 0 < _MOSTLY * sum(line.share for line in lines) <= waiting


def too_slow(facts: Facts, lines: Sequence[HotLine], share: float) -> Finding:
    """They make them too slowly, so that the loop waits for this share of the training.

    How much faster they can be is not known: from nothing over half to all of the wait.
    """
    waits = [line for line in lines if _takes_finished(line)]
    return Finding(
        stage=DATA_LOADING,
        title="Who makes the batches ahead is too slow: the training waits for the next one "
        f"{percent(share)} of the time{at(waits[0])}",
        advice="The batches are made ahead already, but more slowly than the model uses them, so "
        "a longer queue does not help. Look at what fills it: let several threads make batches "
        "where that waits for a disk or a network, several processes or a DataLoader's workers "
        "where it computes, and prepare what stays the same once.",
        change={"producers": "several"},
        snippet=_SEVERAL,
        evidence=(
            Evidence(
                metric="waiting for batches",
                value=share,
                unit="share of training",
                threshold=facts.threshold("exposed_share"),
            ),
            *line_evidence(waits),
        ),
        cause=LOADER_CAUSE,
        predicted=without(share, *UNKNOWN),
        confidence=0.75,
        effort="lines",
    )


def _takes_finished(line: HotLine) -> bool:
    return bool(re.search(_TAKES_FINISHED, line.library))
