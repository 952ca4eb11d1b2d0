"""Several ranks of one training: from a report each to one of all of them.

Ranks that train together wait for each other, so each step takes all of them as long as the
slowest needs. What a rank needs by itself is its step without the waiting. A rank waits in
collectives, and under DDP where those of the gradients end: on the CPU in the backward pass, with
buffers to share in the forward pass too, on a GPU wherever the host waits for the device. What
these take beyond the rank that has least of it counts as waiting: a rank whose backward pass
itself is slower than others' is not seen so, and the others then seem to compute as long.
"""

from __future__ import annotations

from perfdoctor.ranks.endings import DIED, NEVER_BEGAN, STILL_RUNS, failed
from perfdoctor.ranks.merging import merge
from perfdoctor.ranks.parts import (
    MOST_STRETCHES,
    RankPart,
    from_bytes,
    part_of_run,
    to_bytes,
)

__all__ = [
    "DIED",
    "MOST_STRETCHES",
    "NEVER_BEGAN",
    "STILL_RUNS",
    "RankPart",
    "failed",
    "from_bytes",
    "merge",
    "part_of_run",
    "to_bytes",
]
