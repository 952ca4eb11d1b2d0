"""Sentences about parts of a report that more than one renderer says."""

from __future__ import annotations

import math

from perfdoctor.record import Environment, Limit, Sampling
from perfdoctor.render.text import (
    bytes_,
    clean,
    counted,
    number,
    part_of,
    quantity,
    seconds,
    share,
    speedup,
    speedup_interval,
)
from perfdoctor.report import (
    Evidence,
    Prediction,
    Recommendation,
    Report,
    Steps,
    Together,
    Trial,
    Usage,
)
from perfdoctor.stats import relative_half_width

EFFORT = {"flag": "one setting", "lines": "a few lines", "redesign": "a redesign"}
SAFETY = {
    "exact": "same results",
    "numerics": "changes rounding",
    "semantics": "changes the training, check accuracy",
}
#: Counter → how it is called, and the unit of its values.
_UTILISATION = {
    "cpu": ("CPU", "%"),
    "cpu_main": ("training process", "% of a core"),
    "cpu_workers": ("workers", "% of a core"),
    "cpu_foreign": ("other programs", "% of a core"),
    "cpu_throttled": ("throttled", "% of periods"),
    "disk_read_bytes_per_s": ("disk reads", "bytes/s"),
    "gpu": ("GPU", "%"),
    "gpu_memory": ("GPU memory", "%"),
    "gpu_power_w": ("GPU power", "W"),
    "gpu_clock_mhz": ("GPU clock", "MHz"),
    "gpu_temperature_c": ("GPU temperature", "°C"),
    "gpu_memory_busy": ("GPU memory accessed", "%"),
    "ram": ("host memory", "%"),
    "swap_bytes": ("swap", "bytes"),
}
_LIMITS = {
    "compute": ("forward+backward runs", "matrix-product peak"),
    "h2d": ("copying to the device runs", "copy bandwidth"),
    "loader_read": ("the loader reads", "read bandwidth"),
}
_NOTHING = {
    "healthy": "Nothing needs changing: no rule found a fault that costs training speed.",
    "inconclusive": "No change can be recommended from this measurement.",
}
_CEILINGS = {
    "free-loading": "loading that costs nothing",
    "cached-dataset": "samples kept in memory",
}


def device(environment: Environment) -> str | None:
    """What trains: "cuda:0 · NVIDIA H100 · 80.0 GiB", "cpu · Intel Xeon"."""
    gpus = [_gpu(gpu.name, gpu.memory_bytes) for gpu in environment.gpu]
    on_cpu = environment.device is not None and environment.device.startswith("cpu")
    names = [environment.cpu] if on_cpu or not gpus else gpus
    return _joined([environment.device, *names])


def _gpu(name: str, memory_bytes: int | None) -> str:
    return name if memory_bytes is None else f"{name} ({bytes_(memory_bytes)})"


def machine(environment: Environment) -> str | None:
    """What surrounds it: cores, memory and, where a GPU trains, the processor."""
    on_gpu = environment.device is not None and not environment.device.startswith("cpu")
    cores = environment.cores_usable
    return _joined(
        [
            environment.cpu if on_gpu else None,
            None if cores is None else f"{number(cores)} usable core{'s' if cores != 1 else ''}",
            None if environment.memory_bytes is None else f"{bytes_(environment.memory_bytes)} RAM",
        ]
    )


def software(environment: Environment) -> str | None:
    """Versions: "Python 3.12.1 · PyTorch 2.13.0 · CUDA 12.8"."""
    named = {
        "Python": environment.python,
        "PyTorch": environment.torch,
        "CUDA": environment.cuda,
    }
    return _joined([f"{name} {version}" for name, version in named.items() if version])


def _joined(parts: list[str | None]) -> str | None:
    return " · ".join(clean(part) for part in parts if part) or None


def measured(steps: Steps | None, sampling: Sampling | None) -> str | None:
    """How much was measured, why it ended and how well the median step is known."""
    if steps is None:
        return None
    count = counted(steps.count, "step")
    if sampling is None:
        return f"{count}; {precision(steps)}"
    took = seconds(sampling.seconds)
    ended = {
        "precision": f"in {took}; stopped because ",
        "budget": f"until the time budget of {took} was used up; ",
        "iterations": f"in {took}, as many as asked for; ",
        "interrupted": f"in {took}, then interrupted; ",
    }
    return f"{count} {ended.get(sampling.stop, f'in {took}; ')}{precision(steps)}"


def precision(steps: Steps) -> str:
    """How well the median step is known."""
    width = relative_half_width(steps.time.p50_ci, steps.time.p50_s)
    if math.isinf(width):
        return "too few for an interval of the median"
    known = share(width)
    if known.startswith("<"):
        return f"the median step is known to better than ±{known[1:]}"
    return f"the median step is known to ±{known}"


def limit(achieved: Limit) -> str:
    """An achieved rate beside the peak measured on the same machine."""
    subject, peak = _LIMITS.get(achieved.name, (f"{clean(achieved.name)} runs", "peak"))
    if achieved.achieved is None or not achieved.peak:
        return f"the {peak} measured here is {quantity(achieved.peak, achieved.unit)}"
    part = share(achieved.achieved / achieved.peak)
    both = part_of(achieved.achieved, achieved.peak, achieved.unit)
    return f"{subject} at {part} of the {peak} measured here ({both})"


def usage(name: str, value: Usage) -> str:
    """The mean of a hardware counter: "CPU 93 %", "GPU power 212 W"."""
    called, unit = _UTILISATION.get(name, (clean(name), "%"))
    return f"{called} {quantity(value.mean, unit)}"


def predicted(prediction: Prediction | None) -> str:
    """The gain as a model predicts it, with its interval."""
    if prediction is None:
        return "gain not predicted"
    if prediction.is_bound:
        return f"predicted {up_to(prediction)}, possibly nothing"
    gain = speedup_interval(prediction.speedup, prediction.low, prediction.high)
    return f"predicted {gain}"


def together(found: Together) -> str:
    """What several changes bring at once: "all together: predicted 2.30× (…), not 3.10×"."""
    gain = speedup_interval(found.speedup, found.low, found.high)
    how_many = "both" if len(found.rules) == 2 else f"all {len(found.rules)}"
    which = ", ".join(clean(rule) for rule in found.rules)
    product = speedup(found.product)
    unlike = "" if product == speedup(found.speedup) else f", not {product}"
    return f"{how_many} together ({which}): predicted {gain}{unlike}"


def up_to(prediction: Prediction) -> str:
    """The gain where only its upper bound is known: "up to 5.00×"."""
    return f"up to {speedup(prediction.high)}"


def verified(trial: Trial) -> str:
    """The outcome of an experiment and what it measured."""
    gain = speedup_interval(trial.speedup, trial.low, trial.high)
    words = {
        "verified": f"verified {gain}",
        "refuted": f"refuted: measured {gain}",
        "inconclusive": f"inconclusive: measured {gain}",
    }
    if trial.speedup is None:
        return clean(trial.outcome).replace("_", " ")
    return words.get(trial.outcome, f"{clean(trial.outcome).replace('_', ' ')}: {gain}")


def is_change(one: Recommendation) -> bool:
    """Whether it advises a change of the training, and does not only tell of the measurement."""
    return bool(one.predicted or one.verified or one.change or one.snippet.strip())


def measured_gain(trial: Trial) -> str | None:
    """No number where nothing is known of it: an interval that spans a factor of four."""
    if trial.speedup is None or (trial.low and trial.high and trial.high > 4 * trial.low):
        return None
    if trial.outcome == "not_testable":  # only its ceiling was measured
        return f"at most {speedup_interval(trial.high or trial.speedup, None, None)}"
    return speedup_interval(trial.speedup, trial.low, trial.high)


def outcome(trial: Trial, *, ceiling: bool = False) -> str:
    """What came of a trial; a ceiling verifies nothing."""
    if ceiling and trial.outcome == "verified":
        return "a ceiling"
    return clean(trial.outcome).replace("_", " ")


def ceiling(experiment: str) -> str:
    """A trial of what could be gained at most."""
    return f"ceiling: {_CEILINGS.get(experiment, clean(experiment))}"


def short_gain(recommendation: Recommendation) -> str:
    """The gain where there is little room: as measured, else as predicted."""
    trial, guess = recommendation.verified, recommendation.predicted
    if trial is not None and trial.speedup is not None:
        return f"{speedup_interval(trial.speedup, trial.low, trial.high)}\n{clean(trial.outcome)}"
    if guess is None:
        return "not predicted"
    if guess.is_bound:
        return f"{up_to(guess)}\npredicted"
    return f"{speedup_interval(guess.speedup, guess.low, guess.high)}\npredicted"


def nothing(report: Report) -> str:
    """What to say where there is no recommendation."""
    verdict = report.diagnosis.verdict if report.diagnosis is not None else "inconclusive"
    return _NOTHING.get(verdict, "No rule knows a change that would help here.")


def evidence(item: Evidence) -> str:
    """A number that a finding rests on: "stages.data_loading.share 62 %"."""
    return f"{clean(item.metric)} {quantity(item.value, item.unit)}".strip()


def relative(value: float | None, interval: tuple[float, float] | None) -> str:
    """Throughput ÷ the first configuration's."""
    return speedup(value) if interval is None else speedup_interval(value, *interval)
