"""PD505, PD506, and how an observed script's validation, saving and logging are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.logs import Part, wall_parts, whole_number
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    at,
    every_step,
    hot_lines,
    how_often,
    is_between,
    less_often,
    line_evidence,
    training_part,
)
from perfdoctor.rules.run_gains import factor_for
from perfdoctor.rules.whole_run import is_whole
from perfdoctor.rules.wording import duration, grouped, percent

METRICS, LOGGING = "metrics", "logging"
FACTORS = (2, 5, 10)
#: What is done in one step of fifty or more often can be done far more rarely.
_OFTEN, _FACTORS_OF_STEPS = 0.02, (2, 5, 10, 20, 50, 100)
#: Of a thinned report only so many steps are there to be counted.
_COUNTED_STEPS = 8000
#: So much of a stage's time is in steps longer than its mean where these are what it is about.
_MOSTLY = 0.8
#: So much of a stage's lines is one line where that line is what the stage is about.
_ABOUT_IT = 0.5
_FIGURES = (
    r"savefig|matplotlib|pyplot|\bplt\b|plot|seaborn|plotly|bokeh|imshow|subplots|tight_layout"
    r"|make_grid|save_image|add_figure|add_image|Figure|[Cc]anvas|\bdraw|\bhist\b"
)
#: What makes statistics, as of weights and gradients.
_STATISTICS = r"hist(?:c|ogram)|\b_?(?:norm|std|var|mean|quantile)\b"
_PRINTS = r"\bprint\b|\.write\b|\.flush\b|fsync|stdout"


class MetricsTooFrequent:
    """Metrics are computed so often that they take a visible part of the training.

    ## What it does
    Looks at the time in which an observed script computes metrics, and at the lines that do.

    ## Why it is slow
    scikit-learn's metrics sort and copy arrays on one core while the model waits, and the more
    predictions they are given, the longer they take. On a GPU each of them waits for its queue.

    ## Evidence and threshold
    Their time beside that of the training, start-up not counted.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Keep detached predictions and compute the metrics once an epoch, or every so many steps on the
    present batch; or counters that are added to (torchmetrics).

    ## How the gain is predicted
    Amdahl's law: the same work, less often. Its ends take the share as 15 % smaller and larger.

    ## When not to
    Where each step's value decides something, as in a curriculum.
    """

    code: ClassVar[str] = "PD505"
    name: ClassVar[str] = "metrics-too-frequent"
    needs: ClassVar[tuple[str, ...]] = ("wall.total_s",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "metrics"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if metrics take too large a share of the training."""
        part, limit = told(facts, METRICS), facts.threshold("share")
        if part is None or part.share <= limit:
            return None
        count = often_in_all(facts, part)
        usual = factor_for(part.share, limit, factors(facts, METRICS), count)
        factor = _once_an_epoch(facts) or usual
        lines = hot_lines(facts, METRICS)
        return Finding(
            stage=METRICS,
            title=f"Metrics take {percent(part.share)} of the training ({duration(part.seconds)}"
            f"{how_often(facts, METRICS)}){at(lines[0] if lines else None)}",
            advice=f"Compute them {_rarer(factor)}: keep detached predictions and "
            "compute once an epoch, or add to counters (torchmetrics).",
            change={"metrics_every_times": factor},
            snippet="predictions.append(out.detach())  # each step\n"
            f"if step % {factor} == 0:  # or once an epoch\n"
            "    report(metrics(torch.cat(predictions), torch.cat(targets)))",
            evidence=_evidence(METRICS, part, limit, lines),
            cause=self.cause,
            predicted=less_often(part.share, factor, count),
            confidence=0.85,
            effort="lines",
        )


class FiguresTooFrequent:
    """Figures and images are drawn so often that it takes a visible part of the training.

    ## What it does
    Looks for lines of an observed script that draw or save figures.

    ## Why it is slow
    A figure takes a tenth of a second and more, on one core, while the model waits.

    ## Evidence and threshold
    Their part of the time for logging, beside the time of the training.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Draw more rarely, or after the training from numbers that were kept; or in another process.

    ## How the gain is predicted
    Amdahl's law: the same figures, less often. Its ends take the share as 15 % smaller and larger.

    ## When not to
    While a training is being debugged.
    """

    code: ClassVar[str] = "PD506"
    name: ClassVar[str] = "figures-too-frequent"
    needs: ClassVar[tuple[str, ...]] = ("wall.total_s", "hotspots")
    verify_with: ClassVar[str | None] = "figures-less"
    cause: ClassVar[str] = "figures"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if lines that draw take too large a share of the training."""
        part, limit, lines = _logging(facts, drawn=True), facts.threshold("share"), _drawing(facts)
        if part is None or part.share <= limit or not lines:
            return None
        count = often_in_all(facts, part)
        factor = factor_for(part.share, limit, factors(facts, LOGGING), count)
        return Finding(
            stage=LOGGING,
            title=f"Drawing figures takes {percent(part.share)} of the training "
            f"({duration(part.seconds)}){at(lines[0])}",
            advice=f"Draw them {_rarer(factor)}, or after the training from numbers that were "
            "kept.",
            change={"figures_every_times": factor},
            snippet=f"if step % ({factor} * draw_every) == 0:\n    plot(...)",
            evidence=_evidence("figures", part, limit, lines),
            cause=self.cause,
            predicted=less_often(part.share, factor, count),
            confidence=0.85,
            effort="lines",
        )


def drawn_share(facts: Facts) -> float:
    """The part of an observed training in which figures are drawn."""
    return sum(line.share for line in _drawing(facts))


def logging_in_run(facts: Facts, cause: str) -> Finding | None:
    """PD503 of an observed script, without what PD506 says of figures."""
    part, limit = _logging(facts, drawn=False), facts.threshold("share")
    if part is None or part.share <= limit:
        return None
    count = often_in_all(facts, part)
    factor = factor_for(part.share, limit, factors(facts, LOGGING), count)
    drawing = set(_drawing(facts))
    lines = [line for line in hot_lines(facts, LOGGING) if line not in drawing]
    return Finding(
        stage=LOGGING,
        title=f"Logging takes {percent(part.share)} of the training ({duration(part.seconds)}"
        f"{how_often(facts, LOGGING)}){at(lines[0] if lines else None)}",
        advice=f"Log {_rarer(factor)}, {_how(lines)}.",
        change={"log_every_times": factor},
        snippet=f"if step % {factor} == 0:\n    log(step, {_what(lines)})",
        evidence=_evidence(LOGGING, part, limit, lines),
        cause=cause,
        predicted=less_often(part.share, factor, count),
        confidence=0.8,
        effort="lines",
    )


def _how(lines: list[HotLine]) -> str:
    if lines and lines[0].calls(_PRINTS):
        return "let the file buffer its lines: no flush and no fsync after each"
    if _is_of_statistics(lines):
        return (
            "and compute the numbers for it only then: those on weights and gradients change slowly"
        )
    return "and keep running sums until then"


def _what(lines: list[HotLine]) -> str:
    return "statistics(model)" if _is_of_statistics(lines) else "running_loss.item()"


def _is_of_statistics(lines: list[HotLine]) -> bool:
    return bool(lines) and lines[0].calls(_STATISTICS)


def told(facts: Facts, name: str) -> Part | None:
    """A part of an observed training, start-up and shut-down not counted; None if there is none.

    An observed run accounts for all of its time, so what is not told did not happen.
    """
    parts = wall_parts(facts)
    part = parts.get(name)
    if part is None:
        return None
    share = min(1.0, part.share / max(1e-3, training_part(facts)))
    return replace(part, share=share, count=max(part.count, _times(facts, name, part.seconds)))


def after_training(facts: Facts, part: Part) -> bool:
    """Whether a whole run does it only once, after its last step."""
    return is_whole(facts) and part.count <= 1 and part.name not in facts.get("stages")


def often_in_all(facts: Facts, part: Part) -> int | None:
    """How often a whole run does it; None where that is not known, or where it went on."""
    return part.count if part.count > 1 and is_whole(facts) else None


def factors(facts: Facts, stage: str) -> tuple[int, ...]:
    """How many times as rarely something may be advised to be done."""
    often = (facts.known(f"stages.{stage}.calls_per_step") or 0.0) >= _OFTEN
    return _FACTORS_OF_STEPS if often else FACTORS


def with_line(facts: Facts, finding: Finding, stage: str) -> Finding:
    """A finding of PD501 or PD502 with the line and the exact gain of an observed script."""
    lines = hot_lines(facts, stage)
    if not lines:
        return finding
    about_it = lines[0].share >= _ABOUT_IT * sum(line.share for line in lines)
    return replace(
        finding,
        title=f"{finding.title}{at(lines[0] if about_it else None)}",
        evidence=(*finding.evidence, *line_evidence(lines)),
    )


def _times(facts: Facts, stage: str, whole_s: float) -> int:
    """How often a stage ran: in how many steps, and what its time after the last one amounts to."""
    often, steps = facts.known(f"stages.{stage}.calls_per_step"), facts.known("steps.count")
    if not often or not steps or steps >= _COUNTED_STEPS:
        return 1
    in_steps_s = facts.known(f"stages.{stage}.total_s")
    usual_s = facts.known(f"stages.{stage}.p50_s")
    late = 0 if in_steps_s is None or not usual_s else round((whole_s - in_steps_s) / usual_s)
    return max(1, round(often * steps) + (max(0, late) if is_between(facts, stage) else 0))


def _drawing(facts: Facts) -> list[HotLine]:
    return [line for line in hot_lines(facts, LOGGING) if line.calls(_FIGURES)]


def _logging(facts: Facts, *, drawn: bool) -> Part | None:
    """The time for logging, as far as it is drawing or as far as it is not, by the looks at it."""
    part = told(facts, LOGGING)
    if part is None:
        return None
    seen = sum(line.share for line in hot_lines(facts, LOGGING))
    figures = sum(line.share for line in _drawing(facts)) / seen if seen > 0 else 0.0
    scale = figures if drawn else 1 - figures
    count = _long_ones(facts, LOGGING) if drawn else part.count
    return replace(part, share=part.share * scale, seconds=part.seconds * scale, count=count)


def _long_ones(facts: Facts, stage: str) -> int:
    """In how many steps most of a stage's time went: figures among printed lines; 1 if unknown."""
    if not facts.has(f"series.{stage}_s"):
        return 1
    spent_s = np.nan_to_num(facts.series(f"{stage}_s"))
    long = spent_s > spent_s.mean()
    return max(1, int(long.sum())) if spent_s[long].sum() > _MOSTLY * spent_s.sum() else 1


def _once_an_epoch(facts: Facts) -> int | None:
    """Steps of an epoch, where metrics are computed in each of them."""
    steps = whole_number(facts, "epochs.steps_per_epoch", least=10)
    return steps if steps is not None and every_step(facts, METRICS) else None


def _rarer(factor: int) -> str:
    return f"{grouped(factor)} times as rarely"


def _evidence(name: str, part: Part, limit: float, lines: list[HotLine]) -> tuple[Evidence, ...]:
    return (
        Evidence(metric=name, value=part.share, unit="share of training", threshold=limit),
        Evidence(metric=f"{name}, in all", value=part.seconds, unit="s"),
        *line_evidence(lines),
    )
