"""Which modules the Python processes of a command have loaded, wherever they are started.

A folder that is first on PYTHONPATH holds a `sitecustomize`, which Python imports at its start;
it runs the one that it hides, and notes at the end of the process what was loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

_FOLDER = "PERFDOCTOR_ORIGINS"
_HOOK = Path(__file__).with_name("origins_hook")


def environment(base: Mapping[str, str], folder: Path) -> dict[str, str]:
    """`base` with what makes Python processes leave their notes in `folder`."""
    path = os.pathsep.join(filter(None, [str(_HOOK), base.get("PYTHONPATH", "")]))
    return {**base, "PYTHONPATH": path, _FOLDER: str(folder)}


def loaded(folder: Path) -> dict[str, str]:
    """Module → file, of all processes that left notes; perfdoctor itself left out."""
    found: dict[str, str] = {}
    for note in folder.glob("*.json"):
        found |= json.loads(note.read_text())
    return {k: v for k, v in found.items() if k.partition(".")[0] not in ("perfdoctor", "__main__")}
