"""What was verified, ready to be used: code, environment variables, and settings."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from perfdoctor.report import Recommendation

#: Options of `bench`, which a profile can hold.
PROFILE_KEYS = (
    "batch_size",
    "num_workers",
    "prefetch_factor",
    "pin_memory",
    "persistent_workers",
    "precision",
    "compile",
    "channels_last",
)
_NOTICE = "  # changes the training"


def patch(verified: Sequence[Recommendation]) -> str:
    """The snippets of the recommendations, one after the other, under their names."""
    parts = []
    for one in verified:
        trial = one.verified
        gain = f" ({trial.speedup:.2f}x verified)" if trial and trial.speedup else ""
        notice = _NOTICE if one.safety == "semantics" else ""
        parts.append(f"# {one.rule} {one.name}{gain}{notice}\n{one.snippet.strip()}\n")
    return "\n".join(parts)


def environment(changes: Mapping[str, Any]) -> dict[str, str]:
    """Variables that make these changes without a line of code."""
    found = {str(k): str(v) for k, v in dict(changes.get("environment", {})).items()}
    if "threads" in changes:
        found["OMP_NUM_THREADS"] = str(changes["threads"])
    return found


def profile(changes: Mapping[str, Any], changing: Container[str] = ()) -> str:
    """`pyproject.toml` lines for `perfdoctor bench --profile verified`; empty without options.

    `changing`: settings that change what the training does, which their lines say.
    """
    lines = [
        f"{key} = {_toml(changes[key])}{_NOTICE if key in changing else ''}"
        for key in PROFILE_KEYS
        if key in changes
    ]
    return "\n".join(["[tool.perfdoctor.profiles.verified]", *lines, ""]) if lines else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
