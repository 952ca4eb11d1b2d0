"""A workload from a description that can be written as JSON: another process makes the same one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfdoctor.errors import PerfdoctorError
from perfdoctor.workload import WorkloadFactory
from perfdoctor.workloads.demos import demo
from perfdoctor.workloads.folder import from_data_dir
from perfdoctor.workloads.importing import from_parts, from_spec


def from_description(description: Mapping[str, Any]) -> WorkloadFactory:
    """A factory from {"workload": SPEC}, {"data_dir": DIR, "strict": BOOL}, {"demo": NAME}, or
    {"model": SPEC, "dataset": SPEC, "model_args": {...}, "dataset_args": {...}}.

    Raises:
        PerfdoctorError: it is none of these, or as the function for its kind raises.
    """
    given = {key: value for key, value in description.items() if value is not None}
    if "workload" in given:
        return from_spec(given["workload"])
    if "data_dir" in given:
        return from_data_dir(given["data_dir"], strict=bool(given.get("strict")))
    if "demo" in given:
        return demo(given["demo"])
    if "model" in given and "dataset" in given:
        arguments = given.get("model_args", {}), given.get("dataset_args", {})
        return from_parts(given["model"], given["dataset"], *arguments)
    raise PerfdoctorError(
        f"nothing to train in {description!r}: give workload, data_dir, demo, or model and dataset",
        slug="workload-not-described",
    )
