"""What PD107 says of samples whose time goes into random augmentation: it cannot be kept."""

from __future__ import annotations

from collections.abc import Sequence

from perfdoctor.report import Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.loader_facts import cores_taken
from perfdoctor.rules.mended import Gone, is_random
from perfdoctor.rules.observed import HotLine
from perfdoctor.rules.read_once import sample_evidence
from perfdoctor.rules.run_batches import cheaper_batches, samples_of_batch, what_loading_costs
from perfdoctor.rules.wording import count, percent
from perfdoctor.stages import DATA_LOADING

#: Parts of the lines' time that go: a margin, a size or another operation is the author's to
#: choose, so nothing is sure; half is our own choice.
_GONE = (0.0, 0.5, 1.0)
#: What goes of such a line's time: own measurement with NumPy 2.4, of ten to fifty numbers out of
#: 10,000 to 100,000, 93 % to 99 %.
_SUMS_KEPT = 0.97
_KEPT_SUMS = (
    "def __init__(self, ...):\n"
    "    ...\n"
    "    self.sums = np.cumsum(weights / weights.sum())\n"
    "    self.sums /= self.sums[-1]\n\n"
    "def __getitem__(self, index):\n"
    '    drawn = self.sums.searchsorted(self.rng.random(k), side="right")'
)
_SNIPPET = (
    "augment = Compose([\n"
    "    RandomCrop(size_with_margin),  # first: all that follows works on fewer pixels\n"
    "    Jitter(), Rotate(),\n"
    "    CenterCrop(size),\n"
    "])"
)


def drawn_samples(facts: Facts, lines: Sequence[HotLine]) -> Finding | None:
    """Fires if lines that draw at random take long, of samples with little else to save.

    `lines`: those of the samples, the hottest first.
    """
    drawn = [line for line in lines if is_random(line)]
    total, share = (sum(line.share for line in some) for some in (lines, drawn))
    part = samples_of_batch(facts) * share / total if total > 0 else 0.0
    if part < facts.threshold("line_share"):
        return None
    others = len({one.place for one in drawn}) - 1
    more = f" and {count(others, 'line')} more" if others else ""
    verb = "augment" if others else "augments"
    return Finding(
        stage=DATA_LOADING,
        title=f"{drawn[0].words}{more} {verb} every sample at random: {percent(part)} of the time "
        f"for making batches; {what_loading_costs(facts)}",
        advice=_advice(facts, f"{drawn[0].place}{more}"),
        change={"cheaper_augmentation": True},
        snippet=_SNIPPET,
        evidence=sample_evidence(facts, drawn, Gone(0.0, part, part)),
        cause=LOADER_CAUSE,
        predicted=cheaper_batches(facts, *(part * gone for gone in _GONE)),
        confidence=0.8,
        effort="lines",
        safety="semantics",
    )


def weighed_samples(facts: Facts, lines: Sequence[HotLine], gone: Gone) -> Finding:
    """PD107: these lines draw for every sample by weights that stay the same."""
    gone = Gone(*(part * _SUMS_KEPT for part in gone.ends))
    return Finding(
        stage=DATA_LOADING,
        title=f"{lines[0].place} `{lines[0].weighs_same}` adds up the same weights again for every "
        f"sample: {percent(gone.likely)} of the time for making batches; "
        f"{what_loading_costs(facts)}",
        advice="Add the weights up once, in __init__, and look the random numbers up in the sums: "
        "that takes as many steps as the weights have binary digits. With the same generator NumPy "
        "draws the same numbers so.",
        change={"draws": "by-kept-sums"},
        snippet=_KEPT_SUMS,
        evidence=sample_evidence(facts, lines, gone),
        cause=LOADER_CAUSE,
        predicted=cheaper_batches(facts, *gone.ends),
        confidence=0.9,
        effort="lines",
    )


def _advice(facts: Facts, place: str) -> str:
    device = facts.text("environment.device") if facts.has("environment.device") else ""
    where = ", on the device" if device.startswith("cuda") else ""
    workers = " More workers do not help: all cores are busy." if cores_taken(facts) else ""
    return (
        f"What {place} make{'' if ' and ' in place else 's'} is drawn anew each time, so it cannot "
        "be kept. Let it work on less: crop or resize before it, with a margin where it turns the "
        "image; take cheaper operations; or augment whole batches as tensors "
        f"(torchvision.transforms.v2){where}.{workers}"
    )
