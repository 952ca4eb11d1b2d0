"""Measures the truth of the cases: what the fix is worth, and where the time goes.

    python benchmarks/diagnosis/measure.py [--pairs 3] [--only NAME] [--write] [--no-shares]
                                           [--cases FOLDER]

Runs `train.py` and `train_fixed.py` in interleaved pairs (the order turns with each pair), each in
an empty folder with `OMP_WAIT_POLICY=passive`. `wall` is the ratio of whole run times, start-up
included: median and range over the pairs. `idle` is the same ratio after the time for which the
main thread stood ready but had no core was taken off: the better estimate on a busy machine (waits
for other threads stay in); not of a case that is `crowded_by_own_workers`, where these waits are
what it is about. Where only `train.py` is there, or both are the same, the pair is an A/A
run and shows the noise.

The shares come from one more run of `train.py` with manual timers (`timers.py`):
`stage_shares_sick` are of the time from the first timed stage on, `share_of_wall` (of the
bottleneck) is of the whole run. `--write` puts the numbers into `truth.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cases import HERE, Case, Outcome, load_cases, missing_packages, run_script

SMALL_SHARE = 0.003


@dataclass(frozen=True)
class Measured:
    """The runs of one case; times in seconds. `others`: by rule, of `train_fixed_RULE.py`."""

    sick: list[Outcome]
    fixed: list[Outcome]
    shares: dict[str, Any] | None = None
    others: dict[str, Measured] = field(default_factory=dict)

    def speedups(self) -> list[float]:
        return [a.wall_s / b.wall_s for a, b in zip(self.sick, self.fixed, strict=True)]

    def idle_estimate(self) -> float:
        """The shortest runs without waiting: what others do can only make a run longer."""
        return min(a.idle_s for a in self.sick) / min(b.idle_s for b in self.fixed)


def run_in_empty_folder(script: Path) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_script([script], Path(folder))
    if outcome.returncode:
        raise SystemExit(f"{script}: exit code {outcome.returncode}\n{outcome.stderr[-2000:]}")
    return outcome


def measure_pairs(case: Case, mended: Path, pairs: int) -> Measured:
    sick: list[Outcome] = []
    fixed: list[Outcome] = []
    for k in range(pairs):
        turns = [(case.train, sick), (mended if mended.exists() else case.train, fixed)]
        for script, runs in turns if k % 2 == 0 else reversed(turns):
            runs.append(run_in_empty_folder(script))
    return Measured(sick, fixed)


def measure_shares(case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "shares.json"
        truth = case.folder / "truth.json"
        outcome = run_script([HERE / "timers.py", case.train, truth, out], Path(folder))
        if outcome.returncode:
            raise SystemExit(f"{case.name}: timers failed\n{outcome.stderr[-2000:]}")
        shares: dict[str, Any] = json.loads(out.read_text())
    return shares


def speedup_facts(measured: Measured) -> dict[str, Any]:
    ratios = measured.speedups()
    return {
        "wall_median": round(statistics.median(ratios), 3),
        "wall_min": round(min(ratios), 3),
        "wall_max": round(max(ratios), 3),
        "idle_estimate": round(measured.idle_estimate(), 3),
        "runs": len(ratios),
        "sick_s": round(min(run.idle_s for run in measured.sick), 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def write_truth(case: Case, measured: Measured) -> None:
    truth = dict(case.truth)
    if measured.sick:
        truth["speedup"] = speedup_facts(measured)
        if truth.get("crowded_by_own_workers"):  # the waits for a core are what the fix takes away
            truth["speedup"]["idle_estimate"] = None
        for rule, other in measured.others.items():
            truth.setdefault("speedup_of", {})[rule] = speedup_facts(other)
    if measured.shares:
        shares = measured.shares["training"]
        truth["stage_shares_sick"] = {
            name: round(share, 4) for name, share in shares.items() if share >= SMALL_SHARE
        }
        share = measured.shares["wall"].get(truth["bottleneck"])
        truth["share_of_wall"] = None if share is None else round(share, 3)
    (case.folder / "truth.json").write_text(json.dumps(truth, indent=1, ensure_ascii=False) + "\n")


def line(case: Case, measured: Measured) -> str:
    text = f"{case.name:26} {case.truth['bottleneck']:13}"
    if measured.sick:
        facts = speedup_facts(measured)
        text += f" {facts['sick_s']:6.1f} s  {facts['wall_median']:5.2f}x"
        text += f" ({facts['wall_min']:.2f} to {facts['wall_max']:.2f})"
        text += f"  idle {facts['idle_estimate']:5.2f}x"
    for rule, other in measured.others.items():
        text += f"  {rule} {speedup_facts(other)['wall_median']:.2f}x"
    if measured.shares:
        top = list(measured.shares["training"].items())[:3]
        text += "  " + ", ".join(f"{name} {share:.0%}" for name, share in top)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=Path, default=HERE)
    parser.add_argument("--only", action="append", default=[], help="part of a name; repeatable")
    parser.add_argument("--pairs", type=int, default=3, help="0: only the shares")
    parser.add_argument("--no-shares", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the numbers into truth.json")
    options = parser.parse_args()
    cases = load_cases(options.cases, options.only)
    if not cases:
        sys.exit(f"no cases in {options.cases}")
    for case in cases:
        if missing := missing_packages(case.train):
            print(f"{case.name:26} skipped: {', '.join(missing)} not installed")
            continue
        measured = measure_pairs(case, case.fixed, options.pairs)
        if options.pairs:
            made = {rule: measure_pairs(case, f, options.pairs) for rule, f in case.others.items()}
            measured = replace(measured, others=made)
        if not options.no_shares and "timers" in case.truth:
            measured = replace(measured, shares=measure_shares(case))
        print(line(case, measured), flush=True)
        if options.write:
            write_truth(case, measured)


if __name__ == "__main__":
    main()
