"""What a log says once for the whole run: totals, rates and stages without records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from perfdoctor.readers.records import Reading, Records
from perfdoctor.record import EpochSeries, Run, Span
from perfdoctor.stages import STAGES

_RUN = "run:"
#: A Chrome trace counts events; its facts are `Run.counters`.
TRACE_FORMAT = "pytorch_chrome_trace"


def with_run_facts(reading: Reading) -> Reading:
    """What the last lines say of the whole run is no record of a step."""
    columns = dict(reading.records.columns)
    facts = dict(reading.facts)
    for role in [r for r in columns if r.startswith(_RUN)]:
        values = columns.pop(role)
        finite = values[np.isfinite(values)]
        if finite.size:
            facts.setdefault(role.removeprefix(_RUN), float(finite[-1]))
    steps = reading.configuration.get("max_steps")
    if "wall_s" in facts and "steps_per_s" in facts and isinstance(steps, int):
        exact = facts["wall_s"] / steps
        if abs(exact * facts["steps_per_s"] - 1) < 0.1:
            facts.setdefault("step_s", exact)
    return replace(reading, records=Records(reading.records.line, columns), facts=facts)


def with_facts(run: Run, reading: Reading) -> Run:
    """What is said once for the whole run, where the records do not tell it."""
    facts = reading.facts
    wall_s = run.wall_s if run.wall_s is not None else facts.get("wall_s")
    run = replace(run, wall_s=wall_s, epochs=run.epochs or _epochs(reading))
    run = replace(run, finished="finished" in facts)
    if reading.format == TRACE_FORMAT:
        run = replace(run, counters=dict(facts))
    if not run.spans and wall_s is not None:
        run = replace(run, spans=_spans(reading, wall_s))
    if (run.step_s.size and np.isfinite(run.step_s).any()) or run.rates:
        return run
    return _with_mean_step(run, reading)


def _epochs(reading: Reading) -> EpochSeries | None:
    """As many epochs of the mean length as there were."""
    facts = reading.facts
    if "epoch_mean_s" not in facts:
        return None
    count = int(facts.get("epochs", 1))
    validation = facts.get("validation_mean_s")
    return EpochSeries(
        number=np.arange(1.0, count + 1),
        time_s=np.full(count, facts["epoch_mean_s"]),
        validation_s=None if validation is None else np.full(count, validation),
    )


def _spans(reading: Reading, wall_s: float) -> tuple[Span, ...]:
    """Totals of stages; what lies between a printed total and the clock is unexplained."""
    facts = reading.facts
    if facts.get("wall_s", np.inf) < wall_s:
        rest = Span(name="unexplained", seconds=wall_s - facts["wall_s"])
        return (Span(name="train", seconds=facts["wall_s"]), rest)
    outside = ("validation", "checkpoint", "logging")
    found = [Span(name=n, seconds=facts[f"{n}_s"]) for n in outside if f"{n}_s" in facts]
    if "train_s" in facts:
        found.append(Span(name="train", seconds=facts["train_s"] - facts.get("arch_step_s", 0.0)))
    inside = [Span(name=n, seconds=facts[f"{n}_s"]) for n in STAGES
              if n not in outside and f"{n}_s" in facts]  # fmt: skip
    return (*found, *inside, *_rest_of_training(reading, found, inside))


def _rest_of_training(
    reading: Reading, outside: Sequence[Span], inside: Sequence[Span]
) -> tuple[Span, ...]:
    """What of the training time no stage tells: of all epochs, or of a runtime that is of it."""
    facts = reading.facts
    whole_s = facts.get("epochs", 1.0) * facts.get("epoch_mean_s", 0.0)
    if reading.framework == "transformers":  # its train_runtime, evaluation included
        whole_s = facts.get("wall_s", 0.0)
    told_s = sum(span.seconds for span in (*outside, *inside))
    named = any(span.name == "train" for span in outside)
    return () if named or whole_s <= told_s else (Span(name="train", seconds=whole_s - told_s),)


def _with_mean_step(run: Run, reading: Reading) -> Run:
    """One step of the mean length, where only that is said."""
    facts = reading.facts
    step_s = facts.get("step_s", facts.get("step_mean_s"))
    if step_s is None and facts.get("steps_per_s"):
        step_s = 1 / facts["steps_per_s"]
    rate = facts.get("samples_per_s")
    if step_s is None and rate is None:
        return run
    samples = np.nan if rate is None or step_s is None else rate * step_s
    return replace(
        run,
        step_s=np.array([np.nan if step_s is None else step_s]),
        samples=np.array([samples]),
        stages=(),
        epoch_start=np.array([True]),
        rates={} if rate is None else {"samples_per_s": np.array([rate])},
        track=None,
    )
