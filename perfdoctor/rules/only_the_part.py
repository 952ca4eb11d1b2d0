"""What PD107 says of samples that are a window of what is made for them."""

from __future__ import annotations

from collections.abc import Sequence

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.mended import Gone
from perfdoctor.rules.observed import HotLine
from perfdoctor.rules.read_once import sample_evidence
from perfdoctor.rules.run_batches import (
    also_in_validation,
    cheaper_batches,
    what_loading_costs,
)
from perfdoctor.rules.wording import count, percent
from perfdoctor.stages import DATA_LOADING

#: What goes of these lines' time: how large the window is is not known (our own choice).
_GOES = Gone(0.5, 0.8, 1.0)
#: What has to be gone through from its beginning, whatever is wanted of it.
_AS_A_WHOLE = (
    r"json|pickle|csv|loads|parse|decod|imread|convert|Image|PIL|zlib|gzip|lzma|bz2|Npz|tokeni[sz]"
    r"|\b(?:Dataset|Array)\.__getitem__"
)
#: Of a window, and of items.
_FIRST = (
    "Take the window first: draw its place, read only that much, with a margin where a filter "
    "needs one, and do what",
    "Choose first, by the names of the files or their number, and do what",
)
_WINDOW = (
    "start = draw_start(frames_of(path))  # first, from the header\n"
    'recording = np.load(path, mmap_mode="r")  # soundfile.read(path, start=, frames=)\n'
    "window = filtered(recording[start : start + length])"
)
_ITEMS = "chosen = choose(len(files))  # first\nframes = np.stack([load(files[i]) for i in chosen])"


def of_a_part(lines: Sequence[HotLine]) -> list[HotLine]:
    """Those of the lines that make what only a window is used of, if the hottest one does."""
    found = [line for line in lines if _is_of_a_part(line)]
    return found if found and found[0] is lines[0] else []


def _is_of_a_part(line: HotLine) -> bool:
    """Items have files of their own, and each can be left out whatever it takes to read one."""
    return bool(line.part) and (_is_of_items(line) or not line.calls(_AS_A_WHOLE))


def _is_of_items(line: HotLine) -> bool:
    return ":" not in line.part and line.part.endswith("]")


def only_the_part(facts: Facts, lines: Sequence[HotLine], gone: Gone) -> Finding:
    """These lines, the hottest first, make a whole for a window; all they do is `gone`."""
    line = lines[0]
    others = len({one.place for one in lines}) - 1
    more = f" and {count(others, 'line')} more" if others else ""
    ends = zip(gone.ends, _GOES.ends, strict=True)
    predicted = cheaper_batches(facts, *(part * goes for part, goes in ends))
    return Finding(
        stage=DATA_LOADING,
        title=f"Only {line.part} is used of what {line.words}{more} "
        f"{'make' if others else 'makes'} for every sample: {percent(gone.likely)} of the time for "
        f"making batches; {what_loading_costs(facts)}",
        advice=f"{_FIRST[_is_of_items(line)]} {line.place}{more} {'do' if others else 'does'} to "
        "that alone. Or do it once for each whole, and keep the result in memory or as .npy files.",
        change={"part_first": True},
        snippet=_ITEMS if _is_of_items(line) else _WINDOW,
        evidence=sample_evidence(facts, lines, gone),
        cause=LOADER_CAUSE,
        predicted=also_in_validation(facts, lines, _GOES, predicted),
        confidence=0.85,
        effort="lines",
    )
