"""A training of a workload as a script, for `perfdoctor run` to observe: it names hot lines.

`python -m perfdoctor.gate.stepping '{"workload": "bench.py"}' '{"batch_size": 8}' SECONDS`
"""

from __future__ import annotations

import json
import sys
import time

_TURN = 20


def main(workload: str, options: str, duration_s: str) -> None:
    """Trains for so long."""
    from perfdoctor.collect.options import BenchOptions
    from perfdoctor.collect.training import TrainingLoop
    from perfdoctor.workloads.described import from_description

    loop = TrainingLoop(from_description(json.loads(workload)), BenchOptions(**json.loads(options)))
    loop.run_steps(_TURN)
    loop.finish()
    end = time.monotonic() + float(duration_s)
    while time.monotonic() < end:
        loop.run_steps(_TURN)
        loop.finish()
    loop.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
