"""What Lightning's profilers time, as stages.

Their actions nest: an epoch holds batches, a batch the optimizer's step, and that step forward and
backward, which it runs in a closure. Names are those of Lightning 0.7 to 2.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from perfdoctor import stages

EPOCH, BATCH = "run_training_epoch", "run_training_batch"
_VALIDATION, _CHECKPOINT, _LOGGING = "validation", "checkpoint", "logging"
_OWNER = re.compile(r"\[([A-Za-z_]{1,60})\]([A-Za-z0-9_]{0,120})")
_DATA = ("train_dataloader_next", "get_train_batch", "fetch_next_train_batch", "train_next")
_COPY = ("batch_to_device", "training_batch_to_device", "transfer_batch_to_device")
_FORWARD = ("training_step", "model_forward")
_BACKWARD = ("backward", "model_backward")
BOTH = "training_step_and_backward"
_EVALUATE = ("evaluation_step_and_end", "validation_step")
_CHECKPOINTING = re.compile(r"checkpoint", re.IGNORECASE)
_REPORTING = re.compile(r"ProgressBar|LearningRateMonitor|StatsMonitor|ModelSummary|DeviceStats")
_EVALUATION_DATA = re.compile(
    r"(?:get_|fetch_next_)?(?:val|validate|sanity_check|evaluation)_?(?:dataloader)?_?(?:next|batch)"
    r"|evaluation_batch_to_device"
)
_ALWAYS_INNER = frozenset(
    ("on_before_batch_transfer", "on_after_batch_transfer", "on_save_checkpoint",
     "optimizer_zero_grad", "configure_gradient_clipping")
)  # fmt: skip
_INNER_OF = {
    "model_forward": "training_step",
    "transfer_batch_to_device": "batch_to_device",
    "validation_step": "evaluation_step_and_end",
    "validation_step_end": "evaluation_step_and_end",
}


@dataclass(frozen=True)
class Action:
    """One row: its whole time and, where the profiler tells, how often it ran.

    `cut`: the profiler stopped its clock where an inner action began.
    """

    name: str
    total_s: float
    calls: float | None = None
    cut: bool = False

    @property
    def hook(self) -> str:
        """Its name without the class: "[Strategy]DDPStrategy.backward" → "backward"."""
        return self.name.rpartition(".")[2] if self.name.startswith("[") else self.name

    @property
    def owner(self) -> str:
        """The class whose hook it is, as "Callback ModelCheckpoint"; empty in old versions."""
        match = _OWNER.match(self.name)
        return f"{match[1]} {match[2]}" if match else ""


class _Titled(Protocol):
    @property
    def title(self) -> str: ...


_Part = TypeVar("_Part", bound=_Titled)
#: A report has about 120 actions; a copy of one is no further away.
_RECENT = 300
_REPORT = re.compile(r"(?:([A-Za-z_]{1,20}) )?Profiler Report")


def report_title(line: str) -> str | None:
    """ "FIT", "VALIDATE", … of the line above a report, "" in old versions; None: another line."""
    if "Profiler Report" not in line:
        return None
    match = _REPORT.search(line.rstrip()[-60:])
    return None if match is None else (match[1] or "").upper()


def of_fit(parts: Sequence[_Part]) -> list[_Part]:
    """What fit() reported, or all if that is missing; the same report is often logged twice."""
    fit = [part for part in parts if part.title in ("FIT", "")]
    distinct: list[_Part] = []
    for part in fit or parts:
        if part not in distinct[-_RECENT:]:
            distinct.append(part)
    return distinct


def summed(actions: Iterable[Action]) -> list[Action]:
    """Actions of several reports, those of one name added up."""
    found: dict[str, Action] = {}
    for action in actions:
        before = found.get(action.name)
        if before is not None:
            calls = None if None in (before.calls, action.calls) else _plus(before, action)
            cut = before.cut or action.cut
            action = Action(action.name, before.total_s + action.total_s, calls, cut)
        found[action.name] = action
    return list(found.values())


def _plus(first: Action, second: Action) -> float:
    return (first.calls or 0.0) + (second.calls or 0.0)


def stage_of(action: Action) -> str | None:
    """The stage an action belongs to; None where it holds others or tells nothing."""
    hook, owner = action.hook, action.owner
    if owner.startswith("Callback") or hook == "save_checkpoint":
        return _callback_stage(hook, owner)
    if hook.startswith("optimizer_step") or hook in (
        "optimizer_zero_grad",
        "configure_gradient_clipping",
    ):
        return stages.OPTIMIZER
    for names, stage in (
        (_DATA, stages.DATA_LOADING),
        (_COPY, stages.H2D_COPY),
        (_FORWARD, stages.FORWARD),
        (_BACKWARD, stages.BACKWARD),
        (_EVALUATE, _VALIDATION),
    ):
        if hook in names:
            return stage
    if _EVALUATION_DATA.fullmatch(hook) or "validation" in hook:
        return _VALIDATION
    return _LOGGING if hook == "cache_result" else None


def _callback_stage(hook: str, owner: str) -> str | None:
    if hook == "save_checkpoint" or _CHECKPOINTING.search(owner):
        return _CHECKPOINT
    if _REPORTING.search(owner):
        return _LOGGING
    return _VALIDATION if "validation" in hook else None


def facts(actions: Sequence[Action]) -> dict[str, float]:
    """Steps, epochs, their mean times and STAGE_s totals; of actions that were cut, the number."""
    by_hook = hooks(actions)
    found = {f"{stage}_s": total for stage, total in _totals(actions, by_hook).items()}
    epoch, batch = by_hook.get(EPOCH), by_hook.get(BATCH)
    for name, action in (("epoch", epoch), ("step", batch)):
        if action is not None and action.calls:
            found[f"{name}s"] = action.calls
            if not action.cut:
                found[f"{name}_mean_s"] = action.total_s / action.calls
    forward = _first(by_hook, _FORWARD)
    if batch is None and forward is not None and forward.calls:
        found["steps"] = forward.calls
    return found


def hooks(actions: Sequence[Action]) -> dict[str, Action]:
    """Of several classes' hooks of one name the longest: the others run inside it."""
    found: dict[str, Action] = {}
    for action in actions:
        hook = action.hook
        if hook not in found or found[hook].total_s < action.total_s:
            found[hook] = action
    return found


def _first(by_hook: Mapping[str, Action], names: Sequence[str]) -> Action | None:
    return next((by_hook[name] for name in names if name in by_hook), None)


def _totals(actions: Sequence[Action], by_hook: Mapping[str, Action]) -> dict[str, float]:
    found: dict[str, float] = {}
    for stage, names in (
        (stages.DATA_LOADING, _DATA),
        (stages.H2D_COPY, _COPY),
        (stages.FORWARD, _FORWARD),
        (stages.BACKWARD, _BACKWARD),
    ):
        action = _first(by_hook, names)
        if action is not None and not action.cut:
            found[stage] = action.total_s
    optimizer = optimizer_s(by_hook)
    if optimizer is not None:
        found[stages.OPTIMIZER] = optimizer
    for stage in (_VALIDATION, _CHECKPOINT, _LOGGING):
        parts = [a for a in actions if stage_of(a) == stage and not is_inner(a, by_hook)]
        if parts and not any(part.cut for part in parts):
            found[stage] = sum(part.total_s for part in parts)
    return found


def is_inner(action: Action, by_hook: Mapping[str, Action]) -> bool:
    """Whether another row of the same stage holds this one's time."""
    hook = action.hook
    if hook == "save_checkpoint":
        return any(_CHECKPOINTING.search(other.owner) for other in by_hook.values())
    if hook == "validation_step" and by_hook[hook] is not action:
        return True
    return hook in _ALWAYS_INNER or _INNER_OF.get(hook) in by_hook


def optimizer_s(by_hook: Mapping[str, Action]) -> float | None:
    """The optimizer's step without the closure that it calls.

    Up to Lightning 0.9 there was no closure. Where batches are accumulated, the closure runs more
    often than the optimizer.
    """
    steps = [a for hook, a in by_hook.items() if hook.startswith("optimizer_step")]
    if not steps or any(action.cut for action in steps):
        return None
    total = sum(action.total_s for action in steps)
    inner = [by_hook[BOTH]] if BOTH in by_hook else [
        action for names in (_FORWARD, _BACKWARD) if (action := _first(by_hook, names)) is not None
    ]  # fmt: skip
    calls = sum(action.calls or 0.0 for action in steps)
    held = sum(a.total_s * min(1.0, calls / a.calls if a.calls and calls else 1.0) for a in inner)
    if held <= total:
        return total - held
    return total if BATCH not in by_hook else None
