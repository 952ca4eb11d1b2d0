"""What is concluded: the diagnosis, findings, and what they recommend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from perfdoctor.report.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One number that a finding rests on."""

    metric: str
    value: float
    unit: str
    threshold: float | None = None
    where: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """New ÷ old throughput of the whole training, from `model`, with its interval.

    Where only an upper bound is known, `high` is that and `speedup` a cautious value below it.
    """

    speedup: float
    low: float
    high: float
    model: str

    @property
    def is_bound(self) -> bool:
        """Whether only an upper bound is known, as the model's name then says."""
        return self.model.endswith("bound")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule saw, with the change it advises.

    Attributes:
        title: the fault, in one line. advice: the change, in one or two sentences.
        change: the same change for programs, e.g. {"num_workers": 2}.
        snippet: code to paste.
        cause: findings of one cause are merged into one recommendation.
        confidence: 0–1, that the finding is real and the change helps.
        effort: flag, lines or redesign. safety: exact, numerics or semantics.
        optional: not a fault; room for more on a healthy run.
        behind: what else is found of its cause comes first, whatever it gains.
        danger: none, ahead (it may end the training one day: a fault however fast that is) or here
            (memory runs out now: goes before any gain).
    """

    stage: str
    title: str
    advice: str
    change: dict[str, Any]
    snippet: str
    evidence: tuple[Evidence, ...]
    cause: str
    predicted: Prediction | None = None
    confidence: float = 0.8
    effort: str = "flag"
    safety: str = "exact"
    optional: bool = False
    behind: bool = False
    danger: str = "none"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Another way to mend the same cause, next best; the fields are those of a recommendation."""

    rule: str
    name: str
    advice: str
    snippet: str
    predicted: Prediction | None = None
    change: dict[str, Any] = field(default_factory=dict)
    effort: str = "lines"
    safety: str = "exact"
    confidence: float = 0.8
    verified: Trial | None = None


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A finding, ranked, with the rule it came from and the other choices for its cause.

    `unpredicted`: why there is no prediction, where there is none. `danger`: the nearest of all
    findings of its cause.
    """

    rank: int
    rule: str
    name: str
    title: str
    stage: str
    advice: str
    change: dict[str, Any]
    snippet: str
    evidence: tuple[Evidence, ...]
    effort: str
    safety: str
    confidence: float
    optional: bool = False
    predicted: Prediction | None = None
    verified: Trial | None = None
    choices: tuple[Choice, ...] = ()
    unpredicted: str | None = None
    danger: str = "none"


@dataclass(frozen=True, kw_only=True)
class Together:
    """What several recommendations bring at once, as `Prediction`; the model's own prediction.

    `rules`: whose recommendations. `product` of what each of them brings alone, to compare.
    """

    speedup: float
    low: float
    high: float
    model: str
    rules: tuple[str, ...]
    product: float


@dataclass(frozen=True, kw_only=True)
class Abstained:
    """A rule that could not decide, what it would have needed, and the command to measure that.

    `measure_with` is for reports of logs, which lack what was not printed. `reason`: why what is
    there does not do.
    """

    rule: str
    missing: str
    measure_with: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The verdict in one word and one sentence. `bottleneck` is a stage, or none.

    `of`: what `share` is a part of: step, or run.
    """

    verdict: str
    bottleneck: str
    share: float
    confidence: float
    summary: str
    of: str = "step"
