"""How much of the forward pass goes to writing stacks down, as anomaly detection does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from perfdoctor.collect.script import recorder
from perfdoctor.collect.script.stacks import Sampled

#: The setting: the part (0–1) of the looks at forward passes that were at it.
STACKS_OF_FORWARD = "stacks_of_forward"
#: The operations of a loss write theirs down as well.
_FORWARD = (recorder.FORWARD, recorder.AFTER_FORWARD, recorder.LOSS)
#: What autograd calls for each operation (torch/csrc/autograd/python_anomaly_mode.cpp).
_FILE, _FUNCTION = "traceback.py", "format_stack"
#: A share of one half is then known to 14 points (95 %).
_FEWEST_LOOKS = 50


def stacks_of_forward(samples: Sequence[Sampled]) -> dict[str, float]:
    """The setting; nothing where too few looks met a forward pass, or none of them a stack."""
    forward = [one for one in samples if one.label in _FORWARD]
    writing = sum(one.seconds for one in forward if _writes(one))
    if not writing or sum(one.count for one in forward) < _FEWEST_LOOKS:
        return {}
    return {STACKS_OF_FORWARD: writing / sum(one.seconds for one in forward)}


def _writes(sample: Sampled) -> bool:
    return any(f.name == _FUNCTION and PurePath(f.file).name == _FILE for f in sample.stack)
