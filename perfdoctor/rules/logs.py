"""What a whole run tells, most often by its log: the parts of its wall clock, its settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from perfdoctor.rules.enough import too_few_samples
from perfdoctor.rules.facts import LOG_KINDS, Facts, Missing

#: Kinds of source that cover a whole training and not a few steps of it.
WHOLE_RUNS = (*LOG_KINDS, "run", "monitor")
#: The commands that measure what a log does not tell.
RUN = "perfdoctor run train.py"
BENCH = "perfdoctor bench --workload FILE"
#: What findings say that rest on a printed setting alone.
TRY_IT = f"A log cannot tell what that would gain; `{BENCH}` measures it."

TRAIN = "train"
START_UP = "start_up"
UNEXPLAINED = "unexplained"
#: From this use of the host's memory on nothing is advised that needs more of it (the guides of
#: several projects ask to stay below 80 %), but for what was seen to hold the training up: see
#: `consistency`.
FULL_RAM = 0.80
#: And from this use of the device's memory on nothing that needs more of that: PD301's threshold.
FULL_DEVICE = 0.80

#: No setting and no counter of a training is as large.
_BEYOND = 1e9
#: A wall clock of which so much is unexplained is not accounted for at all.
_ONLY_A_TOTAL = 0.95
_WAIT_SHARE = "stages.data_loading.share"
_OVERLAPS = (
    "the log's time for data is as long as its steps or longer, so it overlaps them or means "
    "something else"
)
#: Parts of the wall clock that are training steps, or parts of them.
_IN_STEPS = (
    TRAIN, "data_loading", "h2d_copy", "forward", "loss", "backward", "optimizer", "arch_step",
    "communication",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part of the wall clock: seconds, its share (0–1) of all of it, and how many times."""

    name: str
    seconds: float
    share: float
    count: int


def wall_parts(facts: Facts) -> dict[str, Part]:
    """Name → part. Raises `Missing` where the wall clock is not known."""
    total_s = facts.known("wall.total_s")
    if total_s is None or total_s <= 0:
        raise Missing("wall.total_s")
    found: dict[str, Part] = {}
    for index in range(len(facts.get("wall.parts") if facts.has("wall.parts") else ())):
        path = f"wall.parts.{index}"
        spent_s, count = facts.known(f"{path}.seconds"), facts.known(f"{path}.count")
        if spent_s is None or spent_s < 0 or not facts.has(f"{path}.name"):
            continue
        name = str(facts.get(f"{path}.name"))
        share = min(1.0, spent_s / total_s)
        found[name] = Part(name, spent_s, share, max(1, int(count or 1)))
    return found


def part_of_run(facts: Facts, *names: str) -> Part:
    """These parts of the wall clock together; the largest gives name and count.

    Raises `Missing` where the run does not tell of any: not told is not zero.
    """
    parts = wall_parts(facts)
    told = sorted((parts[n] for n in names if n in parts), key=lambda part: -part.seconds)
    if not told:
        raise Missing(f"wall.parts.{names[0]}")
    seconds = sum(part.seconds for part in told)
    share = min(1.0, sum(part.share for part in told))
    return Part(told[0].name, seconds, share, told[0].count)


def validation_part(facts: Facts) -> Part:
    """Validation, of the wall clock; where that says nothing of it, of the epochs.

    Raises `Missing` where neither does.
    """
    count = whole_number(facts, "epochs.validation.count") or 1
    try:
        part = part_of_run(facts, "validation")
        return replace(part, count=max(part.count, count))
    except Missing:
        spent_s = facts.known("epochs.validation.total_s")
        epochs_s = facts.known("epochs.time.total_s")
        if spent_s is None or epochs_s is None or epochs_s <= 0:
            raise
        whole_s = epochs_s if spent_s < epochs_s else epochs_s + spent_s  # some count it apart
        return Part("validation", spent_s, spent_s / whole_s, count)


def unexplained_part(facts: Facts) -> Part | None:
    """What no record accounts for; None where all is accounted for.

    Raises `Missing` where next to nothing is: then the wall clock is a total and not an account.
    """
    part = wall_parts(facts).get(UNEXPLAINED)
    if part is not None and part.share > _ONLY_A_TOTAL:
        raise Missing(f"wall.parts.{TRAIN}")
    return part


def data_share(facts: Facts) -> float:
    """The part of the training steps that waits for data. Raises `Missing`."""
    share = facts.known(_WAIT_SHARE)
    if share is not None:
        return min(1.0, max(0.0, share))
    if facts.has("series.data_loading_s"):  # printed, and summed up as no stage
        raise Missing(_WAIT_SHARE, _OVERLAPS)
    parts = wall_parts(facts) if facts.has("wall") else {}
    if "data_loading" not in parts:
        raise Missing(_WAIT_SHARE)
    told = [parts[name].seconds for name in _IN_STEPS if name in parts]
    return (
        parts["data_loading"].seconds / sum(told) if len(told) > 1 else parts["data_loading"].share
    )


def training_share(facts: Facts) -> float:
    """The part of the run that is training steps, their waits included; 1 where it is unknown.

    What nothing in the log explains counts as none.
    """
    if not facts.from_log:
        return 1.0  # a benchmark times steps alone; an observed run's stages are of all of it
    parts = wall_parts(facts) if facts.has("wall.total_s") else {}
    if parts and any(name in parts for name in _IN_STEPS):
        return min(1.0, sum(parts[name].share for name in _IN_STEPS if name in parts))
    try:
        return 1 - validation_part(facts).share
    except Missing:
        return 1.0


def known_data_share(facts: Facts) -> float | None:
    """The same, or None where it is not known."""
    try:
        return data_share(facts)
    except Missing:
        return None


def workers(facts: Facts) -> int | None:
    """DataLoader workers, where known; a negative number is some script's word for "choose"."""
    return whole_number(facts, "configuration.num_workers", least=0)


def whole_number(facts: Facts, path: str, least: int = 1) -> int | None:
    """A count such as a setting or an epoch; None where it is unknown or can be none."""
    number = facts.known(path)
    return int(number) if number is not None and least <= number < _BEYOND else None


def ram_share(facts: Facts) -> float | None:
    """The host's memory in use (p95 of the samples, or the most seen); None if unknown."""
    percent = facts.known("utilisation.ram.p95")
    percent = None if too_few_samples(facts, "utilisation.ram") else percent
    return facts.known("memory.host_used_share") if percent is None else percent / 100


def ram_is_full(facts: Facts) -> bool:
    """Whether the host has no memory left to spend on speed."""
    share = ram_share(facts)
    return share is not None and share > FULL_RAM


def run_s(facts: Facts) -> float | None:
    """Seconds of the whole run, what is forecast of an unfinished one included; None if unknown."""
    total_s = facts.known("wall.total_s")
    if total_s is None or total_s <= 0:
        return None
    return total_s + max(0.0, facts.known("forecast.left_s") or 0.0)


def device_memory_share(facts: Facts) -> float | None:
    """The most of the device's memory that was used: the peak, or p95 of samples; None if unknown.

    Not `gpu_memory_busy`: that counts how often the memory was accessed.
    """
    percent = facts.known("utilisation.gpu_memory.p95")
    percent = None if too_few_samples(facts, "utilisation.gpu_memory") else percent
    share = facts.known("memory.peak_share")
    return percent / 100 if share is None and percent is not None else share


def precision(facts: Facts) -> str | None:
    """The arithmetic as far as known: fp32, tf32, bf16, fp16."""
    path = "configuration.precision"
    found = facts.get(path) if facts.has(path) else None
    return found if isinstance(found, str) else None


def compiled(facts: Facts) -> bool | None:
    """Whether the model was compiled; None if unknown. A mode's name means yes."""
    path = "configuration.compile"
    if not facts.has(path):
        return None
    return facts.get(path) not in (False, 0, "off", "none", "None", "false", "False", "no", "")
