"""From sampled stacks and the loaders' records to what a Run holds of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.assembly import SHUT_DOWN, Split, divided
from perfdoctor.collect.script.attribution import Attribution, Line
from perfdoctor.collect.script.attribution import Split as Seen
from perfdoctor.collect.script.drawing import drawn_each_time
from perfdoctor.collect.script.kept_outputs import KeptOutputs, joins_to_itself
from perfdoctor.collect.script.kept_weights import kept_weights
from perfdoctor.collect.script.kinds_of_work import AFTER_FORWARD, HOOKED, MOVES_ON
from perfdoctor.collect.script.leaving import before_end, parted
from perfdoctor.collect.script.loaders_seen import LoaderFacts
from perfdoctor.collect.script.loop_finder import LoopFacts
from perfdoctor.collect.script.made_models import Constructors
from perfdoctor.collect.script.parts_taken import part_taken
from perfdoctor.collect.script.repeating import repeated_in_workers
from perfdoctor.collect.script.rereading import same_each_time
from perfdoctor.collect.script.same_lines import Functions, marked
from perfdoctor.collect.script.search_lines import Lines
from perfdoctor.collect.script.skimmed_looks import told_apart
from perfdoctor.collect.script.stacks import Sampled
from perfdoctor.collect.script.weighted_draws import weighted_draw
from perfdoctor.collect.script.whole_draws import whole_draw
from perfdoctor.collect.script.whole_sorts import whole_sort
from perfdoctor.collect.script.work import VALIDATION
from perfdoctor.collect.script.worker_totals import LoaderObserved
from perfdoctor.record import Floats, Hotspot, LoaderRecord
from perfdoctor.stages import ARCH_STEP, DATA_LOADING, LOSS, OTHER

#: Lines kept of each stage, and the least share of the run (of the workers' time) that is told.
_PER_STAGE = 8
_LEAST = 0.005
#: Labels under which an architecture step is looked at before it is known to be one.
_SEARCHED = (r.OTHER, r.FORWARD, r.AFTER_FORWARD, r.LOSS, r.BACKWARD, r.OPTIMIZER)
#: Stage → the label whose time lines may show to be another stage's.
_DIVIDED = {
    OTHER: OTHER,
    LOSS: AFTER_FORWARD,
    VALIDATION: VALIDATION,
    **{stage: stage for stage in HOOKED},
}
_SOURCES = {label: stage for stage, label in _DIVIDED.items()}
#: What a line calls that sorts.
_SORTS = re.compile(r"\b(?:arg|m)?sort(?:ed)?$")
#: Parts of `other` that so few looks rest on are left in it.
_FEWEST_LOOKS = 5


@dataclass(frozen=True)
class Explained:
    """What the looks tell: the user's lines, and which parts of some stages are another one."""

    hotspots: tuple[Hotspot, ...]
    split: Split


def explained(
    samples: Sequence[Sampled],
    stage_of: Sequence[str],
    loops: Sequence[LoopFacts],
    seconds: Mapping[str, float],
    searches: Collection[Lines] = (),
    same: Functions | None = None,
    constructors: Constructors | None = None,
) -> Explained:
    """Explains the main thread's looks.

    How long a stage takes is the recorder's to say (`seconds`); looks divide it among lines. What
    runs on the lines of `searches` is of the architecture step. `same`
    are those that give the same in each step, see `same_calls`, and `constructors` those of
    modules, see `made_models`.
    """
    samples = told_apart(samples)
    names = list(stage_of)
    names[r.AFTER_FORWARD] = AFTER_FORWARD
    sorted_out = [_of_search(sample, names, searches) for sample in samples]
    script, end = parted(sorted_out)
    found = Attribution(script, names, loops, constructors=constructors)
    # What follows a forward counts as loss where a backward comes next, metrics and logs included;
    # and what runs without gradients as validation, whatever it is for.
    seen = {stage: found.split(labels=(label,)) for stage, label in _DIVIDED.items()}
    looked = _looked(script, names) | {SHUT_DOWN: sum(one.seconds for one in end)}
    split = {stage: _of_others(stage, one) for stage, one in seen.items()}

    def told(name: str, stage: str) -> str:
        """Of parts that are left in their stage, as few looks rest on them, that stage."""
        source = _SOURCES.get(name)
        return stage if source is None or stage in (OTHER, *split[source]) else source

    for source, one in seen.items():
        for part in one.parts:
            stage = told(_DIVIDED[source], part.stage)
            looked[stage] = looked.get(stage, 0.0) + part.seconds
    split[VALIDATION] = _with_search(split[VALIDATION], samples, sorted_out, names)
    took = divided(before_end(seconds, end, stage_of), split)
    took[SHUT_DOWN] = looked[SHUT_DOWN]
    leaving = Attribution(end, [SHUT_DOWN] * len(names)).lines(_PER_STAGE)
    spots = _scaled((*found.lines(_PER_STAGE, told), *leaving), looked, took)
    return Explained(tuple(marked(spots, sorted_out, names, same or {})), split)


def _of_others(stage: str, seen: Seen) -> dict[str, float]:
    """The parts of a stage that are clearly of other ones, as shares."""
    apart = [part for part in seen.parts if part.stage != OTHER or part.reasons[0] == MOVES_ON]
    return {
        part.stage: part.share
        for part in apart
        if part.stage != stage and part.samples >= _FEWEST_LOOKS
    }


def _with_search(
    parts: Mapping[str, float],
    samples: Sequence[Sampled],
    sorted_out: Sequence[Sampled],
    names: Sequence[str],
) -> dict[str, float]:
    """The parts of validation, and what of it the architecture step is."""
    validating = [(a, b) for a, b in zip(samples, sorted_out, strict=True) if _validates(a, names)]
    searching = [b for _, b in validating if not _validates(b, names)]
    if sum(one.count for one in searching) < _FEWEST_LOOKS:
        return dict(parts)
    share = sum(one.seconds for one in searching) / sum(a.seconds for a, _ in validating)
    return {stage: part * (1 - share) for stage, part in parts.items()} | {ARCH_STEP: share}


def _validates(sample: Sampled, names: Sequence[str]) -> bool:
    return names[sample.label] == VALIDATION


def _looked(samples: Sequence[Sampled], names: Sequence[str]) -> dict[str, float]:
    """Seconds of looks of each stage that is known without a closer look."""
    looked: dict[str, float] = {}
    for sample in samples:
        name = names[sample.label]
        if name not in _DIVIDED.values():
            looked[name] = looked.get(name, 0.0) + sample.seconds
    return looked


def _scaled(
    lines: Sequence[Line], looked: Mapping[str, float], took: Mapping[str, float]
) -> list[Hotspot]:
    """Lines by the time that their stage really took."""
    whole = sum(took.values())
    spots = []
    for line in lines:
        seen = looked.get(line.stage, 0.0)
        if seen > 0 and whole > 0:
            spots.append(_hotspot(line, line.seconds / seen * took.get(line.stage, 0.0) / whole))
    told = [spot for spot in spots if spot.share >= _LEAST]
    return sorted(told, key=lambda spot: -spot.share)


def _of_search(sample: Sampled, names: Sequence[str], searches: Collection[Lines]) -> Sampled:
    if sample.label not in _SEARCHED and not _validates(sample, names):
        return sample
    places = ((frame.file, frame.first_line, frame.line) for frame in sample.stack)
    inside = any(lines.hold(*place) for place in places for lines in searches)
    return replace(sample, label=r.ARCH_STEP) if inside else sample


def worker_hotspots(
    samples: Sequence[Sampled], labels: int, constructors: Constructors | None = None
) -> tuple[Hotspot, ...]:
    """Lines of the loader's workers, as shares of the workers' busy time."""
    names = [DATA_LOADING] * labels
    seen = Attribution(samples, names, process="worker", constructors=constructors)
    found = seen.lines(_PER_STAGE)
    return tuple(_hotspot(line, line.share) for line in found if line.share >= _LEAST)


def _hotspot(line: Line, share: float) -> Hotspot:
    loads = line.stage == DATA_LOADING
    draw = whole_draw(line.file, line.line) if line.stage in (DATA_LOADING, OTHER) else None
    weighted = weighted_draw(line.file, line.line) if line.stage in (DATA_LOADING, OTHER) else None
    place = (line.file, line.line, line.callee)
    return Hotspot(
        file=line.file,
        line=line.line,
        function=line.function,
        library=line.callee or line.library,
        stage=line.stage,
        share=min(1.0, share),
        process=line.process,
        samples=line.count or None,
        same_each_time=same_each_time(*place) if loads else None,
        drawn_each_time=drawn_each_time(*place) if loads else None,
        made_anew=line.made_anew,
        makes=line.makes,
        fills=line.fills,
        loops=line.loops or None,
        outputs=line.outputs or _joined(line),
        repeated_in_workers=line.process == "worker" and repeated_in_workers(*place[:2]),
        permutes=None if draw is None else draw.how,
        permutes_for=None if draw is None else draw.taken,
        weighs=None if weighted is None else weighted.how,
        weighs_for=None if weighted is None else weighted.taken,
        prepares_weights=weighted is not None and weighted.prepares,
        weighs_same=kept_weights(*place[:2]) if loads else None,
        part_taken=part_taken(*place[:2]) if loads else None,
        sorts=whole_sort(*place[:2]) if _SORTS.search(line.callee or "") else None,
    )


def _joined(line: Line) -> KeptOutputs | None:
    looped = line.stage == VALIDATION and line.loops > 0
    return "joined" if looped and joins_to_itself(line.file, line.line) else None


def loader_record(facts: LoaderFacts, seen: LoaderObserved) -> LoaderRecord | None:
    """The training's loader from inside; None where it made no batch that was seen."""
    if not seen.batch_s.size:
        return None
    return LoaderRecord(
        batch_s=seen.batch_s,
        collate_s=seen.collate_s,
        cpu_s=seen.cpu_s,
        first_batch_s=_seconds(facts.first_batch_ns),
        sample_s=seen.sample_s if seen.sample_s.size else None,
        idle_share=seen.idle_total_s / seen.alive_s if seen.workers and seen.alive_s else None,
        start_s=seen.start_s if seen.workers else None,
        iterators=seen.epochs,
        create_s=seen.create_s if seen.workers and seen.create_s.size else None,
        end_s=_seconds(facts.ended_ns) if facts.ended_ns else None,
    )


def _seconds(nanoseconds: Sequence[int]) -> Floats:
    return np.array(nanoseconds, dtype=np.float64) * 1e-9
