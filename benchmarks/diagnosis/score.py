"""Scores `perfdoctor run` on scripts with a known cause of slowness.

    python benchmarks/diagnosis/score.py [--cases FOLDER] [--only NAME] [--no-plain]
                                         [--jsons FOLDER] [--stored FOLDER]

Every case (a folder with `train.py` and `truth.json`; by default those beside this file) is run
once as it is and once as `python -m perfdoctor run --no-plots --json OUT train.py`, each in an
empty temporary folder. `said` is the report's `diagnosis.bottleneck`; it is right if it is the
truth's `bottleneck` or one of `also_accepted_bottlenecks`. The first advice is right if its rule is
among the truth's `accepted_rules`; advice among its `harmful_rules` counts as harmful wherever it
stands. A healthy script is accused by a bottleneck, and by any advice that is no option
(but of the measurement, PD9xx). `predicted` is what the first advice promises, `measured` what the
mended twin brings. `same` tells whether the script's stdout and exit code were those of the plain
run (times that a framework prints are masked).
`overhead` compares the two runs after the time for which their main threads waited for a core was
taken off: one pair, so a hint and no measurement. `--no-plain` leaves the plain run out; `--jsons`
keeps the reports. `--stored` runs nothing and judges the reports of that folder by the rules as
they are now. A case whose packages are not installed is skipped. Exits 1 if a case is wrong or a
healthy script accused.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advice import Advice, judge, shown, summary
from cases import HERE, Case, Outcome, load_cases, missing_packages, run_script
from rich.console import Console
from rich.table import Table

# What Lightning, Transformers and hand-written loops print about time differs from run to run.
VOLATILE = re.compile(
    r"\d[\d.:]*\s?(?:s\b|ms\b|it/s|s/it|batch(?:es)?/s|samples/s|steps/s)"
    r"|(?<=runtime': )'?[\d.]+|(?<=per_second': )'?[\d.]+"
)
COLUMNS = (
    "case", "truth", "said", "", "verdict", "first advice", "", "predicted", "measured", "same",
    "rc", "overhead",
)  # fmt: skip
TABLE_WIDTH = 200
# Rules of this family speak of the measurement, and accuse no script.
MEASUREMENT = "PD9"


@dataclass(frozen=True)
class Scored:
    """What perfdoctor said about one case, and what it did to the script."""

    case: Case
    said: str
    verdict: str
    top: str
    advice: Advice | None
    watched: Outcome
    plain: Outcome | None

    @property
    def right(self) -> bool:
        return self.said in self.case.accepted

    def same(self) -> str:
        """`yes`, or what differs from the plain run."""
        if self.plain is None:
            return "-"
        pairs = {
            "stdout": (masked(self.plain.stdout), masked(self.watched.stdout)),
            "exit code": (self.plain.returncode, self.watched.returncode),
        }
        return ", ".join(name for name, (a, b) in pairs.items() if a != b) or "yes"

    def overhead(self) -> str:
        if self.plain is None or self.watched.returncode != self.plain.returncode:
            return "-"
        return f"{self.watched.idle_s / self.plain.idle_s - 1:+.0%}"


def masked(text: str) -> str:
    return VOLATILE.sub("#", text)


def score(case: Case, with_plain: bool, jsons: Path | None) -> Scored:
    plain = None
    if with_plain:
        with tempfile.TemporaryDirectory() as folder:
            plain = run_script([case.train], Path(folder))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as reports:
        out = (jsons or Path(reports)) / f"{case.name}.json"
        out.unlink(missing_ok=True)
        command: list[str | Path] = [
            "-m",
            "perfdoctor",
            "run",
            "--no-plots",
            "--json",
            out,
            case.train,
        ]
        watched = run_script(command, Path(folder))
        report = json.loads(out.read_text()) if out.exists() else None
    if report is None:
        last = (watched.stderr.strip().splitlines() or ["no report"])[-1]
        return Scored(case, "no report", "-", last[:60], None, watched, plain)
    return scored(case, report, watched, plain)


def judged_again(case: Case, folder: Path) -> Scored:
    """Of a stored report, by the rules as they are now."""
    from perfdoctor.rules.engine import diagnose
    from perfdoctor.schema import read_report, to_dict
    from perfdoctor.settings import Settings

    report = to_dict(diagnose(read_report(folder / f"{case.name}.json"), Settings()))
    return scored(case, report, Outcome(0, 0.0, 0.0, "", ""), None)


def scored(case: Case, report: dict[str, Any], watched: Outcome, plain: Outcome | None) -> Scored:
    diagnosis = report.get("diagnosis") or {}
    advice = report.get("recommendations") or []
    top = f"{advice[0]['rule']} {advice[0]['name']}" if advice else "-"
    said = str(diagnosis.get("bottleneck") or "-")
    verdict = str(diagnosis.get("verdict") or "-")
    return Scored(case, said, verdict, top, judge(case, report), watched, plain)


def accused(row: Scored) -> bool:
    """Whether a healthy script is told of a bottleneck, or that something in it is a fault."""
    rules = row.advice.rules if row.advice else ()
    return not row.right or not all(rule.startswith(MEASUREMENT) for rule in rules)


def table(rows: Sequence[Scored], skipped: Sequence[str]) -> Table:
    grid = Table(title="Diagnosis of scripts with a known cause")
    for name in COLUMNS:
        grid.add_column(name, justify="right" if name in {"rc", "overhead"} else "left")
    for row in rows:
        grid.add_row(
            row.case.name,
            row.case.truth["bottleneck"],
            row.said,
            "[green]right[/]" if row.right else "[bold red]WRONG[/]",
            row.verdict,
            row.top,
            *(("-", "-", "-") if row.advice is None else shown(row.advice)),
            row.same(),
            str(row.watched.returncode),
            row.overhead(),
        )
    if skipped:
        grid.caption = f"skipped: {', '.join(skipped)}"
    return grid


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=Path, default=HERE)
    parser.add_argument("--only", action="append", default=[], help="part of a name; repeatable")
    parser.add_argument("--no-plain", action="store_true", help="do not run without perfdoctor")
    parser.add_argument("--jsons", type=Path, help="keep the reports in this folder")
    parser.add_argument("--stored", type=Path, help="judge the reports of this folder again")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.jsons:
        options.jsons = options.jsons.resolve()
        options.jsons.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    rows: list[Scored] = []
    skipped: list[str] = []
    for case in load_cases(options.cases.resolve(), options.only):
        if options.stored:
            if (options.stored / f"{case.name}.json").exists():
                rows.append(judged_again(case, options.stored))
            continue
        if missing := missing_packages(case.train):
            skipped.append(case.name)
            print(f"{case.name}: skipped, {', '.join(missing)} not installed", file=sys.stderr)
            continue
        rows.append(score(case, not options.no_plain, options.jsons))
        print(f"{case.name}: {rows[-1].said}", file=sys.stderr, flush=True)
    if not rows:
        sys.exit(f"no case to run in {options.cases}")
    console.print(table(rows, skipped))
    right = sum(row.right for row in rows)
    healthy = [row for row in rows if row.case.truth["bottleneck"] == "none"]
    print(f"bottleneck right: {right} of {len(rows)}")
    alarms = sum(map(accused, healthy))
    print(f"false alarms: {alarms} of {len(healthy)} healthy ones accused")
    print("\n".join(summary([row.advice for row in rows if row.advice is not None])))
    print(f"{sum(row.same() not in ('yes', '-') for row in rows)} changed by being watched")
    sys.exit(0 if right == len(rows) and not alarms else 1)


if __name__ == "__main__":
    main()
