"""How the threads of the processes that are measured wait for work: spinning briefly, or asleep.

GNU OpenMP's own 300 000 turns take the cores from loader workers (an epoch took 30.8 s, and 6.1 s
without any), so they are never left. What is better then depends on who else is there. Measured on
two cores with 2 ms steps of small layers, pairs of equal processes:

| waiting | nobody else: step, difference of equal processes | beside a busy program: step |
|---|---|---|
| asleep (OMP_WAIT_POLICY=passive) | 5 to 9 ms, 17 % | 3.4 ms |
| GOMP_SPINCOUNT=2000 | 2.0 to 2.7 ms, 2.6 % | 16 ms |
| GOMP_SPINCOUNT=20000, about 0.5 ms | 1.8 to 2.9 ms, 0.5 to 2 % | 114 ms |

Asleep, a thread is woken on whichever core, often the same one; spinning, it holds the core that
the other needs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psutil

from perfdoctor.collect.fitness import Fitness

SPIN = {"GOMP_SPINCOUNT": "20000"}
SLEEP = {"OMP_WAIT_POLICY": "passive"}
#: Whoever sets one of these has chosen already.
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
#: Half a core: of a busy program, or of what starts and ends.
_BUSY_CORES = 0.5
_WATCHED_S = 0.6

_decided: dict[str, str] = {}


def waiting(options: Mapping[str, Any]) -> dict[str, str]:
    """The variables, decided once for all that this process compares.

    `options` are those of the first process that is started: its loader workers are company too.
    """
    if not _decided:
        alone = not options.get("num_workers") and others_busy_cores() < _BUSY_CORES
        _decided.update(SPIN if alone else SLEEP)
    return dict(_decided)


def others_busy_cores() -> float:
    """How many cores other programs keep busy now; takes half a second."""
    fitness = Fitness()
    fitness.begin()
    time.sleep(_WATCHED_S)
    return (fitness.foreign_share() or 0.0) * (psutil.cpu_count() or 1)
