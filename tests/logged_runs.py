"""Runs as they come out of logs, for tests; whatever matters to a test is passed to the builder."""

from __future__ import annotations

from typing import Any

import numpy as np

from perfdoctor.record import Environment, EpochSeries, Run, Source, Track


def make_log(
    step_s: Any = (),
    *,
    every: float = 1.0,
    per_epoch: int | None = None,
    batch_size: float = np.nan,
    **overrides: Any,
) -> Run:
    """A log with a record every so many steps, on one line each; epochs of `per_epoch` records."""
    step_s = np.asarray(step_s, dtype=np.float64)
    count = step_s.size
    starts = np.zeros(count, dtype=np.bool_)
    if per_epoch is not None:
        starts[::per_epoch] = True
    fields: dict[str, Any] = {
        "name": "train.log",
        "source": Source(kind="log", path="train.log", format="plain"),
        "environment": Environment(),
        "configuration": {},
        "step_s": step_s,
        "samples": np.full(count, batch_size),
        "stages": (),
        "epoch_start": starts,
        "epochs": None if per_epoch is None else make_epochs(-(-count // per_epoch)),
        "track": make_track(count, every=every),
    }
    return Run(**(fields | overrides))


def make_track(count: int, *, every: float = 1.0, **overrides: Any) -> Track:
    """Records on the lines from 11 on, at steps 0, `every`, …"""
    fields: dict[str, Any] = {
        "files": ("train.log",),
        "file": np.zeros(count, dtype=np.int32),
        "line": np.arange(11, count + 11),
        "step": every * np.arange(count, dtype=np.float64),
        "steps": np.full(count, float(every)),
    }
    return Track(**(fields | overrides))


def make_epochs(count: int, *, time_s: Any = np.nan, **overrides: Any) -> EpochSeries:
    """Epochs 1, 2, …"""
    fields: dict[str, Any] = {
        "number": np.arange(1.0, count + 1),
        "time_s": np.broadcast_to(np.asarray(time_s, dtype=np.float64), (count,)).copy(),
    }
    return EpochSeries(**(fields | overrides))


def noisy(
    count: int, spread: float, *, correlation: float = 0.0, seed: int = 0, level: Any = 1.0
) -> np.ndarray:
    """Log-normal noise around `level`: white, or an AR(1) process."""
    return level * np.exp(ar1(count, spread, correlation, 1, seed)[0])


def ar1(count: int, spread: float, correlation: float, series: int, seed: int = 0) -> np.ndarray:
    """So many stationary series, one a row."""
    rng = np.random.default_rng(seed)
    shocks = rng.normal(0, spread * np.sqrt(1 - correlation**2), (count, series))
    values = np.empty((count, series))
    values[0] = rng.normal(0, spread, series)
    for i in range(1, count):
        values[i] = correlation * values[i - 1] + shocks[i]
    return values.T
