"""What trying the advice brought."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Throughput and peak memory at one batch size; `error`: why there is neither."""

    batch_size: int
    samples_per_s: float | None = None
    peak_bytes: int | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A change that was made and measured both ways.

    Attributes:
        outcome: verified, refuted, inconclusive or not_testable; `reason` why.
        speedup, low, high: new ÷ old throughput with its 90 % interval, from so many `pairs`.
        loss_parity: whether the losses of the first steps stayed the same.
        experiment: its name. change: what was changed.
        compile_s: time of compiling; `pays_back_steps` is after how many steps it is worth it.
        peak_bytes_before, peak_bytes_after: peak memory without and with the change.
        seconds: that the trial took. curve: further batch sizes, where that was the change.
        others: trials of other values of the change, which brought not clearly more.
    """

    outcome: str
    speedup: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    loss_parity: str | None = None
    experiment: str | None = None
    change: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    compile_s: float | None = None
    pays_back_steps: int | None = None
    peak_bytes_before: int | None = None
    peak_bytes_after: int | None = None
    seconds: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    others: tuple[Trial, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All trials of one run of `--verify`.

    Attributes:
        control: nothing changed, measured like a change.
        foreign_cpu_share: of all cores, what other programs used meanwhile; None: not told.
        core_wait_share: of the time in which the training's threads had something to do, what they
            waited for a core; None: not told.
        together: all verified changes at once; `alone_product` is the product of their gains.
        ceilings: experiments that show what a stage could bring at most.
        patch: code with the verified changes; environment: variables; profile: the same as
            settings of a project.
        scored: recommendations with a prediction and a trial that tells a gain;
            `within_interval` of them fell into the predicted interval, and `error` is the median
            of |log(measured ÷ predicted)|.
    """

    budget_s: float
    spent_s: float
    control: Trial | None = None
    foreign_cpu_share: float | None = None
    core_wait_share: float | None = None
    together: Trial | None = None
    alone_product: float | None = None
    ceilings: dict[str, Trial] = field(default_factory=dict)
    patch: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    profile: str = ""
    scored: int = 0
    within_interval: int = 0
    error: float | None = None
    interrupted: bool = False

    @classmethod
    def interrupted_before(cls, budget_s: float) -> Verification:
        """Ctrl-C was pressed before the first trial."""
        return cls(budget_s=budget_s, spent_s=0.0, interrupted=True)
