"""PD107, PD110: archives of many samples that are unpacked, or opened, again for each of them."""

from __future__ import annotations

from collections.abc import Sequence

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.mended import Gone
from perfdoctor.rules.observed import HotLine, line_evidence, without
from perfdoctor.rules.read_once import sample_evidence
from perfdoctor.rules.run_batches import (
    also_in_validation,
    cheaper_batches,
    what_loading_costs,
)
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING

#: What is left is indexing an array in memory.
_GOES = (0.85, 0.97, 1.0)
_ADVICE = (
    "What {} takes out of the .npz file is read, and unpacked, as a whole at each access, whatever "
    "is used of it. Take the arrays out once, or store them as .npy and open them with "
    'mmap_mode="r" where the memory does not hold them.'
)
_SNIPPET = (
    "with np.load(path) as archive:\n"
    "    self.arrays = dict(archive)  # once\n"
    'sample = self.arrays["x"][index]'
)
#: What opens a file that holds many samples: its table of contents is read each time.
_OPENS = r"^(?:ZipFile|TarFile)\.(?:__init__|\w*open) |^File\.__init__ |^Environment\.__init__ "
_OPEN_ONCE = (
    "{} opens the archive again for every sample that is taken out of it, and reads its table of "
    "contents each time. Keep what is open by its path, in each worker its own, since open files "
    "cannot be handed to workers; where there are thousands of archives, the last few."
)
_OPENED = (
    "def __init__(self, ...):\n"
    "    ...\n"
    "    self.archives = {}  # filled by the first samples, in each worker\n\n"
    "def archive(self, path):\n"
    "    if path not in self.archives:\n"
    "        self.archives[path] = zipfile.ZipFile(path)\n"
    "    return self.archives[path]"
)


def opening(lines: Sequence[HotLine]) -> list[HotLine]:
    """Those of the lines that open an archive of many samples, if the hottest one does."""
    found = [line for line in lines if line.calls(_OPENS)]
    return found if found and found[0] is lines[0] else []


def opened_samples(facts: Facts, lines: Sequence[HotLine], gone: Gone) -> Finding:
    """PD107: these lines open for every sample; without them goes `gone` of making a batch."""
    predicted = also_in_validation(
        facts, lines, Gone(gone.low, 1.0, 1.0), cheaper_batches(facts, *gone.ends)
    )
    return Finding(
        stage=DATA_LOADING,
        title=f"{lines[0].words} opens an archive for every sample: {percent(gone.likely)} of the "
        f"time for making batches; {what_loading_costs(facts)}",
        advice=_OPEN_ONCE.format(lines[0].place),
        change={"open_once": True},
        snippet=_OPENED,
        evidence=sample_evidence(facts, lines, gone),
        cause=LOADER_CAUSE,
        predicted=predicted,
        confidence=0.9,
        effort="lines",
    )


def unpacking(lines: Sequence[HotLine]) -> list[HotLine]:
    """Those of the lines that take an array out of an .npz file, if the hottest one does."""
    found = [line for line in lines if line.library.startswith("NpzFile.")]
    return found if found and found[0] is lines[0] else []


def unpacked_samples(facts: Facts, lines: Sequence[HotLine], gone: Gone) -> Finding:
    """PD107: these lines unpack for every sample; without them goes `gone` of making a batch."""
    predicted = also_in_validation(
        facts, lines, Gone(gone.low, 1.0, 1.0), cheaper_batches(facts, *gone.ends)
    )
    return Finding(
        stage=DATA_LOADING,
        title=f"{lines[0].words} unpacks a whole array for every sample: {percent(gone.likely)} of "
        f"the time for making batches; {what_loading_costs(facts)}",
        advice=_ADVICE.format(lines[0].place),
        change={"unpack_once": True},
        snippet=_SNIPPET,
        evidence=sample_evidence(facts, lines, gone),
        cause=LOADER_CAUSE,
        predicted=predicted,
        confidence=0.9,
        effort="lines",
    )


def unpacked_batches(lines: list[HotLine]) -> Finding:
    """PD110: the script's own code unpacks for every batch."""
    share = min(1.0, sum(line.share for line in lines))
    return Finding(
        stage=DATA_LOADING,
        title=f"{lines[0].words} unpacks a whole array for every batch: {percent(share)} of the "
        "training",
        advice=_ADVICE.format(lines[0].place),
        change={"unpack_once": True},
        snippet=_SNIPPET,
        evidence=line_evidence(lines),
        cause=LOADER_CAUSE,
        predicted=without(share, *_GOES),
        confidence=0.9,
        effort="lines",
    )
