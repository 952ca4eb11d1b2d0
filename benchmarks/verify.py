"""How often `--verify` is wrong, what it finds, and whether its intervals hold.

    python benchmarks/verify.py                      # the table of what was recorded
    python benchmarks/verify.py --record 20          # first records 20 processes, 2 minutes each
    python benchmarks/verify.py --record 20 --busy   # the same beside a program that never rests
    python benchmarks/verify.py --live 30            # so many whole trials, start to end

A step of 200 equal pieces (`verify_training.py`); leaving out 6 or 10 of them is a gain whose size
is known, leaving out none is no change. Live blocks of each are recorded once, in turns, into
`benchmarks/verify_blocks.json`, with what other programs used meanwhile. Trials are then drawn from
it: a stretch of neighbouring blocks of one process, as a trial would have seen them. Stretches may
overlap, so the table also tells how many there are that do not. The truth is 200 ÷ 190 (or 194)
pieces, the step's other time counted: its share is measured with no pieces at all, in turns with
whole steps.

"no change" uses no prediction, as with one "refuted" would be right. Powers are with the default
claim. Only blocks of one process are drawn; `--live` starts new ones.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from neighbour import neighbour

from perfdoctor.collect.arm import Arm, ArmSpec
from perfdoctor.collect.fitness import Fitness
from perfdoctor.collect.lock_step import InMode
from perfdoctor.experiments.turns import Decision, block, chunk_plan
from perfdoctor.record import Floats
from perfdoctor.sequential import LOOKS, ONE_PROCESS, Claim

HERE = Path(__file__).parent
RECORD = HERE / "verify_blocks.json"
PIECES = 200
#: Label → pieces that are left.
CHANGES = {"no change": 200, "3 %": 194, "5 %": 190}
#: A trial's share of the default budget where four changes are tried: a block is a thirtieth.
ALLOTTED_S = 20.0
BLOCKS = 60
WARM_STEPS = 50
#: Busy as in the gate's protocol: more than so much of all cores used by others.
BUSY_SHARE = 0.25


def spec() -> ArmSpec:
    """The training with its planted changes."""
    return ArmSpec(
        workload={"workload": "verify_training"},
        cwd=HERE,
        training="verify_training:Planted",
        modes={label: {"pieces": left} for label, left in CHANGES.items()}
        | {"none": {"pieces": 0}},
    )


def record(processes: int, blocks: int, *, busy: bool) -> None:
    """Adds the blocks of so many new processes to the record."""
    for number in range(processes):
        found = json.loads(RECORD.read_text()) if RECORD.exists() else []
        with neighbour(busy):
            found.append(recorded(len(found), blocks))
        RECORD.write_text(json.dumps(found))
        used = found[-1]["foreign_share"] or 0.0
        print(f"process {number + 1} of {processes}: others used {used:.0%} of the cores")


def recorded(seed: int, blocks: int) -> dict[str, Any]:
    """Blocks of every change, in turns of random order."""
    rng = np.random.default_rng(seed)
    with Arm.start(spec()) as arm:
        step_s = float(np.median(arm.warm(WARM_STEPS)))
        chunks = chunk_plan(step_s, ALLOTTED_S / LOOKS[-1])
        fitness = Fitness()
        fitness.begin()
        series: dict[str, list[float]] = {label: [] for label in CHANGES}
        others = []
        for number in range(blocks):
            others.append(other_share(arm, chunks.steps))
            for label in rng.permutation(list(CHANGES)):
                sides = InMode(arm), InMode(arm, str(label))
                series[label].append(block(*sides, chunks, swapped=bool(number % 2)))
        return {
            "other_share": float(np.median(others)),
            "foreign_share": fitness.foreign_share(),
            "blocks": series,
        }


def other_share(arm: Arm, steps: int) -> float:
    """Share of a step that is left without any pieces."""
    whole, rest = (arm.chunk(steps, mode).step_s for mode in (None, "none"))
    return float(np.quantile(rest, 0.25) / np.quantile(whole, 0.25))


def truth(other: float, label: str) -> float:
    """log(new ÷ old throughput) that was planted, with this share of other time in the step."""
    return -math.log(other + (1 - other) * CHANGES[label] / PIECES)


def decided(blocks: Floats, claim: Claim) -> Decision:
    """A trial that meets these blocks one after the other."""
    decision = Decision(claim)
    for difference in blocks:
        decision.add(float(difference))
        if decision.over:
            break
    return decision


def resampled(sessions: list[dict[str, Any]], label: str, trials: int) -> dict[str, float]:
    """Shares of outcomes and of intervals that hold the truth, over trials drawn at random."""
    rng = np.random.default_rng(0)
    verified = refuted = covered = pairs = 0
    for _ in range(trials):
        session = sessions[int(rng.integers(len(sessions)))]
        series = np.array(session["blocks"][label])
        start = int(rng.integers(max(1, series.size - LOOKS[-1] + 1)))
        decision = decided(series[start : start + LOOKS[-1]], Claim(common=ONE_PROCESS))
        verified += decision.verdict == "verified"
        refuted += decision.verdict == "refuted"
        pairs += len(decision.differences)
        speedup = decision.speedup()
        assert speedup is not None
        covered += (
            math.log(speedup[1]) <= truth(session["other_share"], label) <= math.log(speedup[2])
        )
    counts = {"verified": verified, "refuted": refuted, "covered": covered, "pairs": pairs}
    return {name: count / trials for name, count in counts.items()}


def live(trials: int) -> None:
    """Whole trials, each in a process of its own, and how long they take."""
    print("| change | verified | refuted | interval holds the truth | seconds |")
    print("|---|---|---|---|---|")
    for label in CHANGES:
        outcomes, covered, began = [], 0, time.perf_counter()
        for number in range(trials):
            with Arm.start(spec()) as arm:
                step_s = float(np.median(arm.warm(WARM_STEPS)))
                arm.warm(5, label)
                chunks, decision = (
                    chunk_plan(step_s, ALLOTTED_S / LOOKS[-1]),
                    Decision(Claim(common=ONE_PROCESS)),
                )
                others = []
                while not decision.over:
                    others.append(other_share(arm, chunks.steps))
                    swapped = bool((number + len(decision.differences)) % 2)
                    decision.add(block(InMode(arm), InMode(arm, label), chunks, swapped=swapped))
            outcomes.append(decision.verdict)
            right = truth(float(np.median(others)), label)
            speedup = decision.speedup()
            covered += bool(speedup and math.log(speedup[1]) <= right <= math.log(speedup[2]))
        each_s = (time.perf_counter() - began) / trials
        counts = [outcomes.count("verified"), outcomes.count("refuted"), covered]
        shares = " | ".join(f"{count / trials:.0%}" for count in counts)
        print(f"| {label} | {shares} | {each_s:.0f} |")


def table(trials: int) -> None:
    """The Markdown table of drawn trials, for quiet and busy processes."""
    sessions = json.loads(RECORD.read_text())
    groups = {
        "quiet": [s for s in sessions if (s["foreign_share"] or 0.0) <= BUSY_SHARE],
        "busy": [s for s in sessions if (s["foreign_share"] or 0.0) > BUSY_SHARE],
    }
    print(f"{trials} trials of each kind, drawn from {len(sessions)} processes\n")
    print(
        "| machine | processes | stretches | change | verified | refuted | interval holds the truth"
        " | pairs |"
    )
    print("|---" * 8 + "|")
    for name, group in groups.items():
        for label in CHANGES if group else ():
            found = resampled(group, label, trials)
            shares = " | ".join(f"{found[k]:.1%}" for k in ("verified", "refuted", "covered"))
            apart = sum(len(s["blocks"][label]) // LOOKS[-1] for s in group)
            print(
                f"| {name} | {len(group)} | {apart} | {label} | {shares} | {found['pairs']:.1f} |"
            )


def main() -> None:
    """Records, draws, or makes whole trials, as asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--record", type=int, metavar="N", help="processes to record")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="blocks of each kind")
    parser.add_argument("--trials", type=int, default=1000, help="trials to draw of each kind")
    parser.add_argument("--busy", action="store_true", help="record beside a busy program")
    parser.add_argument("--live", type=int, metavar="N", help="whole trials of each kind")
    given = parser.parse_args()
    if given.live:
        live(given.live)
        return
    if given.record or not RECORD.exists():
        record(given.record or 10, given.blocks, busy=given.busy)
    table(given.trials)


if __name__ == "__main__":
    main()
