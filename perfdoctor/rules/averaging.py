"""Copies and states of a whole model in the loop, as for a moving average of its weights."""

from __future__ import annotations

from collections.abc import Sequence

from perfdoctor.rules.observed import HotLine

#: What goes of averaging copies of a model when it is done in place: least, median, most of three
#: ways to copy and four models, from 40 small tensors to 4 million numbers (own measurement, torch
#: 2.13, processor time of one thread).
IN_PLACE = (0.82, 0.96, 0.98)
SNIPPET = (
    "with torch.no_grad():  # the average moves in place, nothing is copied\n"
    "    averages, weights = list(ema.parameters()), list(model.parameters())\n"
    "    torch._foreach_lerp_(averages, weights, 1 - decay)"
)
_COPIES = r"\bdeepcopy\b"
#: Functions that average weights, by their names.
_AVERAGES = (
    r"(?<![a-z])ema(?![a-z])|averag|moving|momentum_update|teacher|target_(?:net|update)"
    r"|(?:update|sync|polyak|soft)\w*_target|(?:soft|polyak)_update"
)
_STATES = r"\bstate_dict\b"
_ABOUT_MODELS = rf"state_dict|{_AVERAGES}"


def averaging(lines: Sequence[HotLine]) -> list[HotLine]:
    """The lines that average copies or states of a model, those that make them first; empty where
    there are none, or where the hottest line is another matter.

    They are of a function that copies: all of one that is called after averaging, else those that
    take or load states.
    """
    copies = [line for line in lines if copying(line) or _asks_for_states(line)]
    functions = {line.function for line in copies}
    rest = [
        line
        for line in lines
        if line not in copies and line.function in functions and line.calls(_ABOUT_MODELS)
    ]
    told = rest or any(line.calls(_AVERAGES) for line in copies)
    return [*copies, *rest] if told and lines[0] in [*copies, *rest] else []


def copying(line: HotLine) -> bool:
    """Whether it calls `copy.deepcopy`."""
    return line.calls(_COPIES)


def _asks_for_states(line: HotLine) -> bool:
    """Whether it makes a model's state in a function that averages weights."""
    return line.calls(_STATES) and line.calls(_AVERAGES)
