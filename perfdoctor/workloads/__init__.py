"""Turns what the user points at (code, a folder of data, a demo) into a `Workload`.

Every function here returns a factory: called once for each configuration that is measured, it
gives a workload with a fresh model. Importing this package imports no torch.
"""

from __future__ import annotations

from perfdoctor.workloads.demos import DEMOS, demo
from perfdoctor.workloads.folder import from_data_dir
from perfdoctor.workloads.importing import from_parts, from_spec
from perfdoctor.workloads.kinds import KINDS

__all__ = ["DEMOS", "KINDS", "demo", "from_data_dir", "from_parts", "from_spec"]
