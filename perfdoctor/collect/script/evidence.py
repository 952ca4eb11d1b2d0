"""From sampled stacks and the loaders' records to what a Run holds of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.assembly import START_UP
from perfdoctor.collect.script.attribution import Attribution, Line
from perfdoctor.collect.script.loaders_seen import LoaderFacts
from perfdoctor.collect.script.loop_finder import LoopFacts
from perfdoctor.collect.script.stacks import Sampled
from perfdoctor.collect.script.worker_totals import LoaderObserved
from perfdoctor.record import Floats, Hotspot, LoaderRecord
from perfdoctor.stages import DATA_LOADING, OTHER

#: Lines kept of each stage, and the least share of the run (of the workers' time) that is told.
_PER_STAGE = 4
_LEAST = 0.005
#: Labels under which an architecture step is looked at before it is known to be one.
_SEARCHED = (r.OTHER, r.FORWARD, r.AFTER_FORWARD, r.LOSS, r.BACKWARD, r.OPTIMIZER)
#: Parts of `other` that so few looks rest on are left in it.
_FEWEST_LOOKS = 5


@dataclass(frozen=True)
class Explained:
    """What the looks tell: the user's lines, and what part of `other` is which stage."""

    hotspots: tuple[Hotspot, ...]
    split: Mapping[str, float]


def explained(
    samples: Sequence[Sampled],
    stage_of: Sequence[str],
    loops: Sequence[LoopFacts],
    seconds: Mapping[str, float],
    searches: Collection[tuple[str, int]] = (),
) -> Explained:
    """Explains the main thread's looks.

    How long a stage takes is the recorder's to say (`seconds`); looks divide it among lines. What
    runs inside the functions of `searches` (file, first line) is of the architecture step.
    """
    own = set(searches) - {(loop.code.co_filename, loop.code.co_firstlineno) for loop in loops}
    samples = [_of_search(sample, own) for sample in samples] if own else samples
    found = Attribution(samples, stage_of, loops)
    split = {
        part.stage: part.share
        for part in found.split(labels=(OTHER,)).parts
        if part.stage != OTHER and part.samples >= _FEWEST_LOOKS
    }
    lines = found.lines(_PER_STAGE)
    return Explained(tuple(_scaled(lines, samples, stage_of, seconds, split)), split)


def _of_search(sample: Sampled, functions: Collection[tuple[str, int]]) -> Sampled:
    if sample.label not in _SEARCHED:
        return sample
    inside = any((frame.file, frame.first_line) in functions for frame in sample.stack)
    return replace(sample, label=r.ARCH_STEP) if inside else sample


def _scaled(
    lines: Sequence[Line],
    samples: Sequence[Sampled],
    stage_of: Sequence[str],
    seconds: Mapping[str, float],
    split: Mapping[str, float],
) -> list[Hotspot]:
    whole = sum(seconds.values())
    looked: dict[str, float] = {}
    for sample in samples:
        stage = stage_of[sample.label]
        looked[stage] = looked.get(stage, 0.0) + sample.seconds
    other = looked.get(OTHER, 0.0)
    scale = {}
    for stage in {line.stage for line in lines}:
        seen = looked.get(stage, 0.0) + split.get(stage, 0.0) * other
        took = seconds.get(stage, 0.0) + split.get(stage, 0.0) * seconds.get(OTHER, 0.0)
        scale[stage] = took / seen / whole if seen and whole else 0.0
    spots = [_hotspot(line, line.seconds * scale[line.stage]) for line in lines]
    told = [spot for spot in spots if spot.share >= _LEAST and spot.stage != START_UP]
    return sorted(told, key=lambda spot: -spot.share)


def worker_hotspots(samples: Sequence[Sampled], labels: int) -> tuple[Hotspot, ...]:
    """Lines of the loader's workers, as shares of the workers' busy time."""
    found = Attribution(samples, [DATA_LOADING] * labels, process="worker").lines(_PER_STAGE)
    return tuple(_hotspot(line, line.share) for line in found if line.share >= _LEAST)


def _hotspot(line: Line, share: float) -> Hotspot:
    return Hotspot(
        file=line.file,
        line=line.line,
        function=line.function,
        library=line.callee or line.library,
        stage=line.stage,
        share=min(1.0, share),
        process=line.process,
    )


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
    )


def _seconds(nanoseconds: Sequence[int]) -> Floats:
    return np.array(nanoseconds, dtype=np.float64) * 1e-9
