"""What goes away when a line is mended: what was seen of it, and what is not known.

How much of the time a line takes is measured; how much of that its mended form still takes is not.
The likely end of each range is what happens where the advice is followed to the letter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from perfdoctor.report import Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import HotLine
from perfdoctor.rules.whole_run import epochs_in_all

#: What goes of the time of Python that handles samples, tokens, pairs or parameters one by one
#: when it is written with operations on whole tensors: all but one in ten at least, the median,
#: and all of it (`python benchmarks/mended_lines.py`: 97 % in the median of twenty kinds of work,
#: 42 % in nine of ten).
VECTORISED = (0.40, 0.95, 1.0)
#: Lines that call a library's function, which may be as fast as it can be: nothing is known.
UNKNOWN = (0.0, 0.5, 1.0)
#: Two standard errors, for an interval of 95 %.
_TWO = 1.96
#: Taking a sample out of a tensor by its index and stacking it with others (own measurement with
#: torch 2.13, two tensors a sample, processor time: 2.7 µs in batches of 32 and of 256).
_INDEXED_S = 3e-6
#: What is drawn anew for each sample, by its name, and cannot be done once.
_RANDOM = r"rand|jitter|augment|flip|noise|shuffle|choice|permut(?!e)|cutout|mixup|dropout"
#: Calls on arrays, which for all rows at once take no longer than for some of them.
_OF_ARRAYS = (
    r"transform(?!_)|normali[sz]|standardi[sz]|scale|predict|_std|_mean|_var|astype|DataFrame|Series"
    r"|iloc|\b(?:np|numpy|torch|pd|pandas)\b|Tensor\."
)
#: Calls of torch's own, whose time is not Python's, and those that wait for a device.
_OF_TORCH = (
    r"^(?:torch\b|Module\.|Tensor\.|\w*Optimizer\.|autograd|F\.|functional)"
    r"|\.(?:item|tolist|cpu|numpy)\b|synchronize"
)


@dataclass(frozen=True)
class Gone:
    """Parts (0–1) of a time that go away: at least, likely, at most."""

    low: float
    likely: float
    high: float

    @property
    def ends(self) -> tuple[float, float, float]:
        """In their order."""
        return self.low, self.likely, self.high


def rewritten(lines: Sequence[HotLine], *, looped: bool = False) -> Gone:
    """What goes of these lines' time when they are written with tensors, or done less often.

    Lines that call torch's operations are known to be a loop over small ones, or nothing is known.
    """
    total = sum(line.share for line in lines)
    own = [line.share for line in lines if looped or not re.search(_OF_TORCH, line.library)]
    part = sum(own) / total if total > 0 else 0.0
    ends = zip(VECTORISED, UNKNOWN, strict=True)
    return Gone(*(part * ours + (1 - part) * theirs for ours, theirs in ends))


def is_random(line: HotLine) -> bool:
    """Whether a line draws something anew each time.

    By its source; where that does not tell, by the names of what it is in and calls.
    """
    return line.calls(_RANDOM) if line.drawn is None else line.drawn


def kept_samples(
    facts: Facts, fixed: Sequence[HotLine], drawn: Sequence[HotLine], of_samples: float
) -> Gone:
    """What goes of the time for a batch when each sample is made once and kept.

    That part of making samples (`of_samples` of a batch, timed) which is in `fixed` lines and not
    in `drawn` ones, less taking the result out again; at least the hottest line less the error of
    seeing it, since looks are a sample of moments and a line's share is binomial.
    """
    total = sum(line.share for line in (*fixed, *drawn))
    parts = [of_samples * line.share / max(total, 1e-9) for line in fixed]
    likely = max(0.0, sum(parts) - _indexed(facts))
    low = max(0.0, parts[0] - _error(parts[0], fixed[0].samples))
    return Gone(min(low, likely), likely, max(likely, of_samples))


def after_one_pass(facts: Facts, predicted: Prediction, lines: Sequence[HotLine]) -> Prediction:
    """The same where what is done once is still done once, in a run that was seen to its end.

    Where lines call functions of arrays, all rows are taken at once, which costs next to nothing;
    else, and at the lower end, the first epoch goes as before.
    """
    epochs = epochs_in_all(facts)

    def kept(speedup: float) -> float:
        return 1 / (1 / speedup + max(0.0, 1 - 1 / speedup) / epochs)

    likely = predicted.speedup if lines[0].calls(_OF_ARRAYS) else kept(predicted.speedup)
    return replace(predicted, speedup=likely, low=min(kept(predicted.low), likely))


def _indexed(facts: Facts) -> float:
    """What taking samples out of tensors takes of the time of a batch."""
    batch_s, size = facts.known("loader.batch.mean_s"), facts.known("configuration.batch_size")
    return min(1.0, size * _INDEXED_S / batch_s) if batch_s and size else 0.0


def _error(share: float, looks: int | None) -> float:
    """Half the 95 % interval of a share of which `looks` were the line's."""
    if not looks or share <= 0:
        return 0.25 * share
    return _TWO * math.sqrt(share * max(0.0, 1 - share) * share / looks)
