"""How near `run --verify` comes to the mended scripts, where the mending is a setting.

    python benchmarks/run_verify.py                          # about 20 minutes on two quiet cores
    python benchmarks/run_verify.py --only d06 --budget 60s
    python benchmarks/run_verify.py --cases FOLDER           # other cases, of the same form

For each case of `benchmarks/diagnosis` whose cause is a setting: what `train_fixed.py` gains over
`train.py` (whole run times, in turns), what was predicted for the setting, and what `run --verify`
says that it brings. The second table holds all other advice that was given for these cases, and
for the healthy ones with `--healthy`: there the mended script is the same, and nothing should be
verified that does not help.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "diagnosis"))

from cases import Case, load_cases, missing_packages, run_script  # noqa: E402

#: Cause of a case → the settings that mend it, either of them.
KNOBS = {
    "arch_step_every_step": ("arch_every",),
    "checkpoint_every_few_steps": ("checkpoint_every_times",),
    "detect_anomaly_left_on": ("anomaly_detection",),
    "figure_every_few_steps": ("figures_every_times", "log_every_times"),
    "heavy_log_every_step": ("log_every_times",),
    "io_latency_single_process_loader": ("num_workers", "reads_at_once"),
    "needless_recomputation": ("gradient_checkpointing",),
    "rare_stall_gc_collect": ("collect_each_step",),
    "single_thread_compute": ("threads",),
    "too_few_workers_for_latency": ("num_workers", "reads_at_once"),
    "validation_every_few_steps": ("validate_every_times",),
    "workers_restarted_each_epoch": ("persistent_workers",),
}
NEAR = 0.10


def knobs(case: Case) -> tuple[str, ...]:
    """The settings that mend the case; none where it takes more than that."""
    return KNOBS.get(case.truth["cause"], ())


def mends(advice: dict[str, Any], names: tuple[str, ...]) -> bool:
    """Whether a recommendation changes one of these settings."""
    return any(name in advice["change"] for name in names)


def run_seconds(script: Path) -> float:
    """One whole run in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_script([script], Path(folder))
    if outcome.returncode:
        raise SystemExit(f"{script}: exit code {outcome.returncode}\n{outcome.stderr[-2000:]}")
    return outcome.wall_s


def by_hand(case: Case, rule: str | None, pairs: int) -> float:
    """Median of old ÷ new run times, in turns; without pairs what the truth says. Of the script
    that is mended as this rule has it, where there is one."""
    if not pairs:
        truth = case.truth.get("speedup_of", {}).get(rule) or case.truth["speedup"]
        return float(truth["wall_median"])
    ratios, mended = [], case.others.get(rule or "", case.fixed)
    for number in range(pairs):
        scripts = (case.train, mended) if number % 2 == 0 else (mended, case.train)
        seconds = {script: run_seconds(script) for script in scripts}
        ratios.append(seconds[case.train] / seconds[mended])
    return statistics.median(ratios)


def verified(case: Case, budget: str) -> dict[str, Any]:
    """The report of `run --verify`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--budget", budget, "--json", report, "--no-plots", "--quiet"]
        command = ["-m", "perfdoctor", "run", "--verify", *options, case.train]
        outcome = run_script(command, Path(folder))
        if not report.exists():
            raise SystemExit(f"{case.name}: no report\n{outcome.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(report.read_text())
    return found


def told(found: dict[str, Any] | None) -> str:
    """A speed-up with its interval."""
    if not found or found.get("speedup") is None:
        return "–"
    return f"{found['speedup']:.2f}x ({found['low']:.2f} to {found['high']:.2f})"


def knob_row(case: Case, names: tuple[str, ...], report: dict[str, Any], pairs: int) -> str:
    """A line of the first table."""
    advice = [one for one in report["recommendations"] if mends(one, names)]
    hand = by_hand(case, advice[0]["rule"] if advice else None, pairs)
    if not advice:
        return f"| {case.name} | {' or '.join(names)} | {hand:.2f}x | not advised | – | – | no |"
    one, trial = advice[0], advice[0]["verified"] or {}
    speedup = trial.get("speedup")
    near = trial.get("outcome") == "verified" and abs(speedup / hand - 1) <= NEAR
    outcome = trial.get("outcome", "not tried") + (
        f": {trial['reason']}" if trial.get("reason") else ""
    )
    cells = [
        case.name,
        changed(one),
        f"{hand:.2f}x",
        told(one["predicted"]),
        told(trial),
        outcome,
        "yes" if near else "no",
    ]
    return f"| {' | '.join(cells)} |"


def changed(advice: dict[str, Any]) -> str:
    """What a recommendation changes."""
    return ", ".join(f"{key}={value}" for key, value in advice["change"].items())


def other_rows(case: Case, names: tuple[str, ...], report: dict[str, Any]) -> list[str]:
    """Lines of the second table."""
    rows = []
    for one in report["recommendations"]:
        if one["verified"] is None or mends(one, names):
            continue
        trial = one["verified"]
        reason = f": {trial['reason']}" if trial.get("reason") else ""
        advice = f"{one['rule']} {changed(one)}"
        cells = [case.name, advice, told(one["predicted"]), told(trial), trial["outcome"] + reason]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def chosen(options: argparse.Namespace) -> list[Case]:
    """Cases whose mending is a setting, and the healthy ones where asked for."""
    found = []
    for case in load_cases(options.cases, options.only):
        healthy = case.truth["bottleneck"] == "none"
        if not knobs(case) and not (options.healthy and healthy):
            continue
        if missing := missing_packages(case.train):
            print(f"{case.name} skipped: {', '.join(missing)} not installed", file=sys.stderr)
            continue
        found.append(case)
    return found


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=Path, default=HERE / "diagnosis")
    parser.add_argument("--only", action="append", default=[], help="part of a name; repeatable")
    parser.add_argument("--healthy", action="store_true", help="healthy cases too")
    parser.add_argument("--budget", default="120s", help="of each run --verify")
    parser.add_argument("--pairs", type=int, default=1, help="0: the speed-up in truth.json")
    options = parser.parse_args()
    others: list[str] = []
    print("| case | setting | by hand | predicted | verified | outcome | within 10 % |")
    print("|---|---|---|---|---|---|---|")
    for case in chosen(options):
        names, report = knobs(case), verified(case, options.budget)
        if names:
            print(knob_row(case, names, report, options.pairs), flush=True)
        others += other_rows(case, names, report)
    print("\n| case | other advice | predicted | measured | outcome |")
    print("|---|---|---|---|---|")
    print("\n".join(others))


if __name__ == "__main__":
    main()
