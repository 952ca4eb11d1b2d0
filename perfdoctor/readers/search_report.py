"""The JSON report that a monitor of an architecture search leaves: totals by kind of work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfdoctor.readers.documents import as_object, is_finite, load, small_object
from perfdoctor.readers.records import Reading

#: The monitor's names → the stage whose total it is.
_STAGES = {
    "train_epoch": "train", "valid_epoch": "validation", "validation": "validation",
    "val_epoch": "validation", "arch_step": "arch_step", "arch_update": "arch_step",
    "data_loading": "data_loading", "data_load": "data_loading", "forward": "forward",
    "backward": "backward", "optimizer": "optimizer", "optimizer_step": "optimizer",
    "checkpoint": "checkpoint", "logging": "logging", "metrics": "metrics",
}  # fmt: skip


class SearchMonitorReport:
    """`timing_stats` with count, total and mean of each kind of work."""

    name = "search_monitor_report"

    def score(self, name: str, head: str) -> float:
        """How sure it is: by its two keys."""
        if small_object(head) is None and not head.lstrip().startswith("{"):
            return 0.0
        return 0.95 if '"timing_stats"' in head and '"total_runtime"' in head else 0.0

    def read(self, path: str, data: str | bytes) -> Reading:
        """Totals as facts. Raises `PerfdoctorError` for JSON that is broken or no object."""
        document = as_object(path, load(path, data))
        facts = dict(_facts(document.get("timing_stats")))
        runtime = document.get("total_runtime")
        if is_finite(runtime):
            facts["wall_s"] = float(runtime)
        return Reading(path=path, format=self.name, facts=facts)


def _facts(stats: Any) -> Mapping[str, float]:
    found: dict[str, float] = {}
    if not isinstance(stats, dict):
        return found
    for name, row in stats.items():
        stage = _STAGES.get(name)
        total = row.get("total") if isinstance(row, dict) else None
        if stage is None or not is_finite(total):
            continue
        found[f"{stage}_s"] = found.get(f"{stage}_s", 0.0) + float(total)
        mean, count = row.get("mean"), row.get("count")
        if stage == "train" and is_finite(mean) and is_finite(count):
            found |= {"epochs": float(count), "epoch_mean_s": float(mean)}
        if stage == "validation" and is_finite(mean):
            found["validation_mean_s"] = float(mean)
    if "epoch_mean_s" in found:
        found["epoch_mean_s"] += found.get("validation_mean_s", 0.0)
    return found
