"""Advice that cannot be followed here, is followed already, or contradicts better advice: left out.

Every finding says what it would change as a mapping from settings to values, so this holds for
all rules, those of other packages too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.ranking import Found, recommend
from perfdoctor.rules.wording import on_cuda

#: Settings that only a GPU knows.
GPU_ONLY = frozenset(
    {
        "pin_memory", "non_blocking", "cudnn_benchmark", "allocator", "launch_blocking",
        "batch_dtype", "sync_each_step", "copy_stream", "h2d_pinned",
    }
)  # fmt: skip
#: Arithmetic from wide to narrow; advice only ever goes forward.
_PRECISIONS = {"fp32": 0, "tf32": 1, "bf16": 2, "fp16": 2}
#: Causes whose cure is less memory: of the device, and of the host.
_DEVICE_FULL, _HOST_FULL = "memory-limit", "host-memory"
#: What takes more memory when it is raised, or set to this value.
_RAISED_ON_DEVICE = frozenset({"batch_size"})
_SET_ON_DEVICE = {"gradient_checkpointing": False}
_RAISED_ON_HOST = frozenset({"num_workers", "prefetch_factor", "shards_ahead"})
_SET_ON_HOST = {"cache_samples": True, "pin_memory": True}


def consistent(facts: Facts, found: Iterable[Found]) -> list[Found]:
    """The findings whose advice can be followed here, none of which undoes another.

    Of two with different causes that set one setting to different values the one that is ranked
    lower goes. What takes more memory goes where running out of it is a fault that was found;
    where that is an option, the better of both stands alone.
    """
    possible = [one for one in found if not _idle(facts, one.finding)]
    possible = _within_memory(facts, possible)
    return _without_contradictions(possible)


def followed(facts: Facts, change: Mapping[str, Any]) -> bool:
    """Whether all of this is how the training is configured already."""
    return bool(change) and all(_is_set(facts, key, value) for key, value in change.items())


def impossible(facts: Facts, change: Mapping[str, Any]) -> bool:
    """Whether it is about a GPU in a training that has none."""
    try:
        gpu = on_cuda(facts)
    except Missing:
        return False
    return not gpu and (bool(GPU_ONLY & set(change)) or change.get("precision") == "tf32")


def _idle(facts: Facts, finding: Finding) -> bool:
    change = finding.change
    return followed(facts, change) or impossible(facts, change) or _backward(facts, change)


def _is_set(facts: Facts, key: str, value: Any) -> bool:
    path = f"configuration.{key}"
    if not facts.has(path):
        return False
    now = facts.get(path)
    if key == "compile" and value != "off":  # any mode is compiled
        return now not in (False, "off", "none", "")
    return type(now) is type(value) and bool(now == value)


def _backward(facts: Facts, change: Mapping[str, Any]) -> bool:
    """Whether it would widen the arithmetic again."""
    wanted, path = change.get("precision"), "configuration.precision"
    now = facts.get(path) if facts.has(path) else None
    return _PRECISIONS.get(str(wanted), 9) < _PRECISIONS.get(str(now), 0)


def _within_memory(facts: Facts, found: Sequence[Found]) -> list[Found]:
    """Without what would need more of a memory that is full, which is a fault by itself."""
    device = _better(facts, found, _DEVICE_FULL, _RAISED_ON_DEVICE, _SET_ON_DEVICE)
    return _better(facts, device, _HOST_FULL, _RAISED_ON_HOST, _SET_ON_HOST)


def _better(
    facts: Facts,
    found: Sequence[Found],
    full: str,
    raised: Iterable[str],
    values: Mapping[str, object],
) -> list[Found]:
    """Without what takes more of this memory, where it is full. Nearly full is an option: it gives
    way to a fault whose cure takes more, and options that take more give way to it."""
    warnings = [one for one in found if one.finding.cause == full]
    spending = [one for one in found if _spends(facts, one, raised, values)]
    only_nearly = all(one.finding.optional for one in warnings)
    gone = warnings if only_nearly and not all(s.finding.optional for s in spending) else spending
    return [one for one in found if not warnings or one not in gone]


def _spends(
    facts: Facts, found: Found, raised: Iterable[str], values: Mapping[str, object]
) -> bool:
    change = found.finding.change
    return any(_raises(facts, key, change[key]) for key in raised if key in change) or any(
        change.get(key) == value for key, value in values.items()
    )


def _raises(facts: Facts, key: str, value: Any) -> bool:
    now = facts.known(f"configuration.{key}") or 0.0
    return isinstance(value, int | float) and value > now


def _without_contradictions(found: Sequence[Found]) -> list[Found]:
    """Causes in the order of their best advice; each may set what no better one sets otherwise."""
    ranked = recommend(found)
    best = {advice.rule for advice in ranked}
    rank: dict[str, int] = {}
    for advice in ranked:
        for code in (advice.rule, *(choice.rule for choice in advice.choices)):
            rank[code] = advice.rank
    wanted: dict[str, tuple[object, str]] = {}
    for one in sorted(found, key=lambda f: rank.get(f.rule.code, len(found) + 1)):
        if one.rule.code in best:
            for key, value in one.finding.change.items():
                wanted.setdefault(key, (value, one.finding.cause))
    return [one for one in found if one.rule.code in rank and not _contradicts(one, wanted)]


def _contradicts(found: Found, wanted: Mapping[str, tuple[object, str]]) -> bool:
    """Whether advice for another cause sets a setting otherwise. Of one cause it is a choice."""
    finding = found.finding
    return any(
        key in wanted and wanted[key][1] != finding.cause and wanted[key][0] != value
        for key, value in finding.change.items()
    )
