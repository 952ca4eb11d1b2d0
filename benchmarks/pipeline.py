"""The pipeline model's own score: predicted against measured steps of real DataLoaders.

    python benchmarks/pipeline.py [--only WORD] [--epochs 3]

Each case is a dataset, a collate function and a step, measured by `perfdoctor bench`'s loop with
one setting; from that report alone the model predicts other settings, and a plain loop with a
clock measures those. Samples sleep (a disk, a network) or compute; steps sleep, as on an
accelerator that uses no core, or compute. What was measured by hand counts whole epochs, from
`iter(loader)` to the end of the last one, workers started and ended included.

The first row of each case is a control: the measured setting itself, by the model and by hand. Its
error is what the machine changed in between, or what the recorder adds; it is no prediction. Cases
that compute, which their names say, need a machine that is otherwise idle.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pipeline_cases import CASES, Case, Collate, Samples, Step
from torch import nn
from torch.utils.data import DataLoader

from perfdoctor import Workload
from perfdoctor.collect.bench import begin
from perfdoctor.collect.options import BenchOptions, no_progress
from perfdoctor.pipeline_model import LoaderModel, Setting, predict_all
from perfdoctor.record import Source
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_facts import loader_model
from perfdoctor.schema import to_dict
from perfdoctor.summarise import summarise

#: Steps that are measured to predict from.
STEPS, WARMUP = 120, 8


@dataclass(frozen=True)
class Row:
    """One prediction: mean seconds of a step."""

    case: str
    measured: Setting
    setting: Setting
    predicted_s: float
    low_s: float
    high_s: float
    actual_s: float

    @property
    def is_control(self) -> bool:
        """Whether the setting is the one that was measured."""
        return replace(self.setting, steps_per_epoch=None) == self.measured

    @property
    def error(self) -> float:
        """Relative; positive where the step was predicted to be too slow."""
        return self.predicted_s / self.actual_s - 1


def options(case: Case, setting: Setting) -> dict[str, Any]:
    """The DataLoader's arguments."""
    given: dict[str, Any] = {
        "batch_size": round(case.batch_size * setting.batch), "num_workers": setting.workers,
        "shuffle": False, "drop_last": True,
    }  # fmt: skip
    if setting.workers:
        given |= {
            "prefetch_factor": setting.prefetch_factor, "persistent_workers": setting.persistent,
        }  # fmt: skip
    return given


def size(case: Case) -> int:
    """Samples in an epoch."""
    return case.batch_size * case.epoch


def observed(case: Case, step: Step) -> LoaderModel:
    """The model from what `bench`'s loop records of the measured setting."""
    given = options(case, case.measured)
    asked = BenchOptions(
        batch_size=given["batch_size"], num_workers=given["num_workers"],
        prefetch_factor=given.get("prefetch_factor"),
        persistent_workers=given.get("persistent_workers"),
        iterations=STEPS, warmup=WARMUP, device="cpu",
    )  # fmt: skip

    def workload() -> Workload:
        model = nn.Linear(1, 1)
        return Workload(model=model, dataset=Samples(case, size(case)), step=step,
                        collate_fn=Collate(case.collate_s),
                        optimizer=torch.optim.SGD(model.parameters(), lr=1e-6),
                        loader_options={"shuffle": False, "drop_last": True})  # fmt: skip

    measurement = begin(workload, asked, Source(kind="bench"), no_progress)
    measurement.overlapped(60.0, no_progress)
    run = measurement.run()
    measurement.loop.close()
    return loader_model(Facts(to_dict(summarise(run))))


def by_hand(case: Case, setting: Setting, step: Step, epochs: int) -> float:
    """Seconds of a step: the median over whole epochs, the first one not counted."""
    loader = DataLoader(
        Samples(case, size(case)), collate_fn=Collate(case.collate_s), **options(case, setting)
    )
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

    def epoch() -> int:
        steps = 0
        for batch in loader:
            step(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
        return steps

    epoch()
    times = []
    for _ in range(epochs):
        start = time.perf_counter()
        steps = epoch()
        times.append((time.perf_counter() - start) / steps)
    return float(np.median(times))


def rows_of(case: Case, epochs: int) -> Iterator[Row]:
    """Every prediction of a case beside its measurement."""
    torch.set_num_threads(2 if case.computes else 1)
    step = Step(case)
    model = observed(case, step)
    settings = [
        replace(s, steps_per_epoch=math.floor(case.epoch / s.batch))
        for s in (case.measured, *case.predicted)
    ]
    found = predict_all(model, settings)
    for setting, one in zip(settings, found, strict=True):
        actual_s = by_hand(case, setting, step, epochs)
        yield Row(case.name, case.measured, setting, one.estimate_s, one.optimistic_s,
                  one.pessimistic_s, actual_s)  # fmt: skip


def words(setting: Setting) -> str:
    """Such as "2 workers, prefetch 4"."""
    parts = [f"{setting.workers} worker{'s' * (setting.workers != 1)}"]
    if setting.workers and setting.prefetch_factor != 2:
        parts.append(f"prefetch {setting.prefetch_factor}")
    if setting.workers and not setting.persistent:
        parts.append("restarted")
    if setting.batch != 1:
        parts.append(f"batch × {setting.batch:g}")
    return ", ".join(parts)


def table(rows: list[Row]) -> str:
    """As Markdown, with the summary below."""
    lines = [
        "| case | measured with | predicted for | predicted | interval | measured | error |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        ends = f"{r.low_s * 1e3:.1f}–{r.high_s * 1e3:.1f}"
        what = "(control)" if r.is_control else words(r.setting)
        lines.append(
            f"| {r.case} | {words(r.measured)} | {what} | {r.predicted_s * 1e3:.1f} ms "
            f"| {ends} | {r.actual_s * 1e3:.1f} ms | {r.error:+.1%} |"
        )
    return "\n".join([*lines, "", summary(rows)])


def summary(rows: list[Row]) -> str:
    """The errors of all predictions, and of the controls."""
    predicted = [r for r in rows if not r.is_control]
    errors = np.abs([r.error for r in predicted])
    controls = np.abs([r.error for r in rows if r.is_control])
    within = np.mean([0.98 * r.low_s <= r.actual_s <= 1.02 * r.high_s for r in predicted])
    p50, p90 = np.percentile(errors, (50, 90))
    return (
        f"{errors.size} predictions: error {p50:.1%} in the median, {p90:.1%} for 90 % of them, "
        f"{errors.max():.1%} at worst; {within:.0%} of the measured steps lie in the interval "
        f"(give or take 2 %). Controls: {np.median(controls):.1%} in the median, "
        f"{controls.max():.1%} at worst."
    )


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--without", default="", help="no cases whose name holds this")
    parser.add_argument("--epochs", type=int, default=3, help="epochs measured by hand")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    rows: list[Row] = []
    for case in CASES:
        if given.only in case.name and (not given.without or given.without not in case.name):
            rows += rows_of(case, given.epochs)
            told = (f"{words(r.setting)} {r.predicted_s * 1e3:.1f} for {r.actual_s * 1e3:.1f} ms"
                    for r in rows if r.case == case.name)  # fmt: skip
            print(f"{case.name}: {'; '.join(told)}", file=sys.stderr, flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
