"""Several ranks for the rules' cases: an observed script, and how unequal its ranks are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from run_bases import script

from perfdoctor.report import RankSkew, Report

BALANCED = RankSkew(
    slowest=1,
    skew=0.02,
    slowest_in=0.4,
    stretches=200,
    step_s=0.055,
    even_step_s=0.0545,
    speedup=1.01,
    speedup_ci=(1.0, 1.02),
    stage="forward",
    stage_excess_s=0.0003,
    communication_s=0.001,
)


def ranks(*, ddp_log: dict[str, Any] | None = None, **skew: Any) -> Report:
    """Four ranks under DDP."""
    log = {
        "find_unused_parameters": False,
        "unused_bytes": 0,
        "static_graph": False,
        "broadcast_buffers": False,
        "syncs_per_step": 1.0,
        "exposed_s": 0.001,
    }
    report = script(world_size=4, ddp=True, ddp_log=log | (ddp_log or {}))
    return replace(report, ranks=4, rank_skew=replace(BALANCED, **skew))


def balanced_ranks() -> Report:
    """Nothing to say."""
    return ranks()


def straggler() -> Report:
    """Rank 2 waits for data in every step."""
    return ranks(
        slowest=2,
        skew=0.6,
        slowest_in=0.99,
        stage="data_loading",
        stage_excess_s=0.03,
        step_s=0.080,
        even_step_s=0.050,
        speedup=1.6,
        speedup_ci=(1.5, 1.7),
    )


def slow_network() -> Report:
    """A third of each step is communication."""
    return ranks(communication_s=0.018, ddp_log={"exposed_s": 0.018})


def shares_too_often() -> Report:
    """Four backward passes a step, all of them shared."""
    return ranks(ddp_log={"syncs_per_step": 4.0, "exposed_s": 0.004})


def searches_unused() -> Report:
    """find_unused_parameters finds none."""
    return ranks(ddp_log={"find_unused_parameters": True})


def rank_0_validates() -> Report:
    """Rank 0 validates alone, a fifth of the training."""
    return ranks(between_s=0.011, between_rank=0, between_stage="validation")


def one_process_many_gpus() -> Report:
    """nn.DataParallel."""
    report = script(data_parallel=True)
    return replace(
        report,
        environment=replace(report.environment, device="cuda:0"),
        configuration={**report.configuration, "device": "cuda:0"},
    )


RANKS: dict[str, Callable[[], Report]] = {
    make.__name__: make
    for make in (
        balanced_ranks,
        straggler,
        slow_network,
        shares_too_often,
        searches_unused,
        rank_0_validates,
        one_process_many_gpus,
    )
}
