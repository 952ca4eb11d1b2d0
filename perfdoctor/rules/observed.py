"""What an observed script tells the rules: hot lines, how often a stage runs, and its share."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PureWindowsPath

from perfdoctor.report import Evidence, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.wording import grouped, percent

#: The kinds of source in which a training was observed: a script, or a loop from inside.
RUN_KIND, MONITOR_KIND = "run", "monitor"
RUNS = (RUN_KIND, MONITOR_KIND)
MAIN, WORKER = "main", "worker"
#: Parts of a run that no change of the training makes shorter.
OUTSIDE = ("start_up", "shut_down")
#: The model's name where a part of the run that was timed is done less often or not at all.
EXACT = "amdahl-exact"
#: And where how much of it would be left is an experience with other trainings.
RANGE = "amdahl-range"
#: A share of an observed run may be off by this part of itself for the whole training: its first
#: epochs were seen, or a busy hour of the machine (our own choice).
_SHARE_ERROR = 0.15
#: No gain above a hundredfold is worth saying.
_MOST = 0.99
#: So rarely seen, a line may be chance: three looks.
_FEWEST_SAMPLES = 3
_RARELY = 0.9


@dataclass(frozen=True)
class HotLine:
    """A line of code that time goes into; see `perfdoctor.record.Hotspot`.

    `share` is of the training (start-up and end not counted), of a line of the start-up of the
    whole run, in workers of their busy time; `same` whether it is known to read the same for every
    sample, `drawn` whether it draws at random, None where the source does not tell; `repeated`
    whether every worker does it for all samples; `anew` what is made there again for each sample;
    `same_in` the function around it that gives the same result in every step; `permutes` what puts
    all into a random order there to take a few, and `permutes_for` their number (None: a batch's);
    `weighs` what goes through all weights to draw a few, `weighs_for` of these, `prepares_weights`
    whether the line only computes the weights for it; `weighs_same` what draws there, for each
    sample, by weights that stay the same;
    `sorts` what sorts all there for the first few; `part` the window that alone is used of what the
    line makes for a sample; `makes` the class of a module that is made there
    within the steps, `fills` whether its values are overwritten at once; `loops` how many are
    around a line of the validation; `outputs` whether it joins what the model gave for its batches
    ("joined") or goes over all that was joined ("scored").
    """

    file: str
    line: int
    function: str
    library: str
    stage: str
    share: float
    process: str
    samples: int | None = None
    same: bool = False
    drawn: bool | None = None
    repeated: bool = False
    anew: str = ""
    same_in: str = ""
    permutes: str = ""
    permutes_for: float | None = None
    weighs: str = ""
    weighs_for: float | None = None
    prepares_weights: bool = False
    weighs_same: str = ""
    sorts: str = ""
    part: str = ""
    makes: str = ""
    fills: bool = False
    loops: int = 0
    outputs: str = ""

    @property
    def place(self) -> str:
        """Such as "train.py:88"."""
        return f"{PureWindowsPath(self.file).name}:{self.line}"

    @property
    def words(self) -> str:
        """Such as "train.py:88 `savefig`": what it calls there, else the function it is in."""
        what = self.library or self.function
        return f"{self.place} `{what}`" if what else self.place

    def small(self, least: float) -> bool:
        """Whether its share is below `least`."""
        return self.share < least

    def calls(self, pattern: str) -> bool:
        """Whether what it calls, or the function it is in, is called so."""
        return bool(re.search(pattern, f"{self.library} {self.function}", re.IGNORECASE))


def is_run(facts: Facts) -> bool:
    """Whether a script was observed."""
    return facts.has("source.kind") and facts.get("source.kind") in RUNS


def hot_lines(facts: Facts, *stages: str, process: str = MAIN) -> list[HotLine]:
    """The hot lines of these stages (where none is named, of all the training's), hottest first."""
    count = len(facts.get("hotspots")) if facts.has("hotspots") else 0
    found = [_hot_line(facts, f"hotspots.{index}") for index in range(count)]
    wanted = [
        line
        for line in found
        if line is not None and line.process == process and _asked(line.stage, stages)
    ]
    return sorted(wanted, key=lambda line: -line.share)


def _asked(stage: str, stages: tuple[str, ...]) -> bool:
    return stage in stages if stages else stage not in OUTSIDE


def training_part(facts: Facts) -> float:
    """The part of what was observed that is neither start-up nor end; 1 where it is not known."""
    if not is_run(facts) or not facts.has("wall.parts"):
        return 1.0
    outside = sum(p["share"] or 0.0 for p in facts.get("wall.parts") if p["name"] in OUTSIDE)
    return float(min(1.0, max(0.0, 1.0 - outside)))


def part_of_training(facts: Facts, spent_s: float) -> float:
    """These seconds of an observed run as a part of its training, start-up and end not counted.

    Raises `Missing` where the wall clock is not known.
    """
    training_s = facts.number("wall.total_s") * training_part(facts)
    return min(1.0, spent_s / training_s) if training_s > 0 else 0.0


def _hot_line(facts: Facts, path: str) -> HotLine | None:
    share, line = facts.known(f"{path}.share"), facts.known(f"{path}.line")
    samples = facts.known(f"{path}.samples")
    if share is None or line is None or not facts.has(f"{path}.file"):
        return None
    if samples is not None and samples < _FEWEST_SAMPLES:
        return None
    texts = [_text(facts, f"{path}.{name}") for name in ("file", "function", "library", "stage")]
    file, function, library, stage = texts
    process = _text(facts, f"{path}.process") or MAIN
    of_training = process != WORKER and stage not in OUTSIDE
    whole = max(1e-3, training_part(facts)) if of_training else 1.0
    part = min(1.0, max(0.0, share / whole))
    looks = None if samples is None else int(samples)
    return HotLine(
        file,
        int(line),
        _named(function),
        library,
        stage,
        part,
        process,
        looks,
        same=_told(facts, f"{path}.same_each_time") or False,
        drawn=_told(facts, f"{path}.drawn_each_time"),
        repeated=_told(facts, f"{path}.repeated_in_workers") or False,
        anew=_text(facts, f"{path}.made_anew"),
        same_in=_text(facts, f"{path}.same_in"),
        permutes=_text(facts, f"{path}.permutes"),
        permutes_for=facts.known(f"{path}.permutes_for"),
        weighs=_text(facts, f"{path}.weighs"),
        weighs_for=facts.known(f"{path}.weighs_for"),
        prepares_weights=_told(facts, f"{path}.prepares_weights") or False,
        weighs_same=_text(facts, f"{path}.weighs_same"),
        sorts=_text(facts, f"{path}.sorts"),
        part=_text(facts, f"{path}.part_taken"),
        makes=_text(facts, f"{path}.makes"),
        fills=_told(facts, f"{path}.fills") or False,
        loops=int(facts.known(f"{path}.loops") or 0),
        outputs=_text(facts, f"{path}.outputs"),
    )


def _named(function: str) -> str:
    """The function that a person gave a name: of "train.<locals>.<lambda>" it is "train"; nothing
    where the line is in none, but in the script itself ("<module>")."""
    return re.sub(r"(?:(?:^|\.)<\w+>)+$", "", function)


def _told(facts: Facts, path: str) -> bool | None:
    return facts.flag(path) if facts.has(path) else None


def _text(facts: Facts, path: str) -> str:
    return str(facts.get(path)) if facts.has(path) else ""


def at(line: HotLine | None) -> str:
    """For the end of a title: " – train.py:88 `savefig`"; nothing where no line is known."""
    return "" if line is None else f" – {line.words}"


def line_evidence(lines: list[HotLine], most: int = 2) -> tuple[Evidence, ...]:
    """The hottest of these lines, as shares of the training (of a start-up: of the run; in workers:
    of their time)."""
    return tuple(
        Evidence(
            metric=line.library or line.function or "line",
            value=line.share,
            unit=_share_unit(line),
            where=line.place,
        )
        for line in lines[:most]
    )


def _share_unit(line: HotLine) -> str:
    if line.process == WORKER:
        return "share of the workers' time"
    return "share of run" if line.stage in OUTSIDE else "share of training"


def samples_of_step(facts: Facts) -> float | None:
    """Samples that a step trains on, by the rates; None where they are not known."""
    samples, steps = (facts.known(f"throughput.{n}_per_s") for n in ("samples", "steps"))
    return samples / steps if samples and steps else None


def stage_share(facts: Facts, stage: str) -> float:
    """The part of the training that this stage takes; 0 where it never ran. Raises `Missing`."""
    return facts.number(f"stages.{stage}.share") if stage in facts.get("stages") else 0.0


def share_in(facts: Facts, lines: list[HotLine], stage: str) -> float:
    """How much (0–1) of a stage's seen time these lines take; 0 where none of it was seen."""
    seen = sum(line.share for line in hot_lines(facts, stage))
    return min(1.0, sum(line.share for line in lines) / seen) if seen > 0 else 0.0


def how_often(facts: Facts, stage: str) -> str:
    """In words: ", in every step", ", once in 50 steps"; nothing where it is not known."""
    part = facts.known(f"stages.{stage}.calls_per_step")
    if part is None or part <= 0:
        return ""
    if part >= _RARELY:
        return ", in every step"
    return f", once in {grouped(max(2, round(1 / part)))} steps"


def every_step(facts: Facts, stage: str) -> bool:
    """Whether a stage runs in nearly every step."""
    return (facts.known(f"stages.{stage}.calls_per_step") or 0.0) >= _RARELY


def without(share: float, low: float = 1.0, likely: float = 1.0, high: float = 1.0) -> Prediction:
    """What the training gains where these parts of a share of it go away.

    Where all three are the same it is exact but for the share itself.
    """
    exact = low == likely == high
    gains = [_gain(share * low * (1 - _SHARE_ERROR)), _gain(share * likely)]
    gains.append(_gain(min(share * high * (1 + _SHARE_ERROR), max(share * high, _MOST))))
    model = EXACT if exact else RANGE
    return Prediction(speedup=gains[1], low=gains[0], high=max(gains), model=model)


def faster(share: float, low: float, likely: float, high: float) -> Prediction:
    """What the training gains where a share of it becomes so many times as fast."""
    return without(share, *(1 - 1 / max(1.0, times) for times in (low, likely, high)))


def less_often(share: float, factor: float, count: int | None = None) -> Prediction:
    """What it gains where this share of it is done `factor` times as rarely, `count` times now."""
    gone = 1 - left_over(factor, count)
    return without(share, gone, gone, gone)


def left_over(factor: float, count: int | None = None) -> float:
    """How much is left of what is done `factor` times as rarely; of what is done at all, once."""
    return 1 / factor if not count else math.ceil(count / factor) / count


def beside_steps(facts: Facts) -> float:
    """The part of an observed training that lies between its steps, or in steps of other trainings
    than the one that is told; 0 of any other source."""
    if not is_run(facts) or not facts.has("stages"):
        return 0.0
    between = sum(
        facts.known(f"stages.{stage}.share") or 0.0
        for stage in facts.get("stages")
        if is_between(facts, stage)
    )
    told = facts.known("steps.share")
    return min(1.0, 1.0 - (1.0 - between) * (1.0 if told is None else told))


def is_between(facts: Facts, stage: str) -> bool:
    """Whether a stage lies between the steps and in none of them."""
    path = f"stages.{stage}.between"
    return facts.has(path) and facts.get(path) is True


def of_training(predicted: Prediction, beside: float) -> Prediction:
    """A prediction for the steps as one for the training, of which `beside` is no step."""
    if beside <= 0:
        return predicted

    def whole(speedup: float) -> float:
        return 1 / ((1 - beside) / speedup + beside)

    return Prediction(
        speedup=whole(predicted.speedup),
        low=whole(predicted.low),
        high=whole(predicted.high),
        model=predicted.model,
    )


def _gain(gone: float) -> float:
    return 1 / (1 - min(_MOST, max(0.0, gone)))


def share_words(share: float) -> str:
    """Such as "62 % of the training"."""
    return f"{percent(share)} of the training"
