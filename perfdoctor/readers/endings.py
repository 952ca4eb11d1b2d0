"""Whether a log says itself that the training has ended."""

from __future__ import annotations

import re

#: The end of the file that is looked at, in characters: a summary and what a launcher adds.
_TAIL = 8_000
_SAYS = re.compile(
    r"(?im)^(?!.*\bepoch #?\d).*?(?:"
    r"\brun_(?:stop|final)\b"
    r"|\btraining (?:is |has )?(?:completed?|finished|done|ended)\b"
    r"|\b(?:finished|completed|done|end of) training\b"
    r"|\btotal training time\b|\btrain_runtime\b"
    r"|Trainer\.fit` stopped|训练(?:完成|结束|已完成)"
    r")|\b\d+ epochs completed in\b"
)


def says_finished(text: str) -> bool:
    """By what programs print after the last step; `text` may be more than the end of the file."""
    return _SAYS.search(text[-_TAIL:]) is not None
