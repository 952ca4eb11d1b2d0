"""What calls of the model in validation tell: how much of validation is in them, and goes."""

from __future__ import annotations

from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.observed import HotLine, hot_lines, samples_of_step
from perfdoctor.rules.run_reporting import told

PREFIX, ALONE = "configuration.prefix", "configuration.alone"
_SEEN = "configuration.validation_seen_s"
#: What a call in validation is given, as a part of what a call in training is; the batch size of
#: validation's loader, and its batches each time (PD514).
CALL_PART = "configuration.validation_call_part"
VALIDATION_BATCH = "configuration.validation_batch_size"
VALIDATION_BATCHES = "configuration.validation_batches"
#: A call on one sample of a batch, as times of what a sample takes in the forward pass of a
#: training step: least, likely, most (`python benchmarks/validation_calls.py`: 0.26 to 0.91; the
#: most is our own choice, since what a call works on may outgrow the caches).
_OF_FORWARD = (0.25, 0.85, 1.5)
#: The same as parts of a call on one sample, where the training never calls the module itself (the
#: same measurement: 0.07 to 0.32, and more than 1 of large convolutions).
_OF_CALL = (0.05, 0.2, 1.0)
#: Calls that are given more of a training call's input are not small, as PD514 has it.
_SMALL = 0.25
#: Of what is predicted, what goes where most of a validation was not looked at, at least (our own
#: choice): the rest of it may be something else.
_UNSEEN = 0.5
#: Of joining whole outputs, and of metrics over all of them, what goes where each batch is reduced
#: first: least, likely, most (`python benchmarks/kept_outputs.py`: 0.79 to 0.98).
OUTPUTS_GO = (0.80, 0.93, 0.98)


def kept_outputs(facts: Facts) -> tuple[list[HotLine], list[HotLine]]:
    """Lines of the validation that join whole outputs (PD515), and metrics over all of them."""
    lines = hot_lines(facts, "validation")
    joined, scored = ([n for n in lines if n.outputs == how] for how in ("joined", "scored"))
    return joined, scored if joined else []


def goes_unchanged(facts: Facts) -> float:
    """The part of validation that likely goes while it gives the same, by PD511, PD512, PD514 or
    PD515; 0 where nothing is known of it."""
    prefix, left = (facts.known(f"{PREFIX}_{name}") for name in ("of_validation", "left"))
    of_prefixes = prefix * (1 - left) if prefix is not None and left is not None else 0.0
    return max(of_prefixes, _of_calls(facts), _of_outputs(facts))


def _of_calls(facts: Facts) -> float:
    alone = facts.known(f"{ALONE}_of_validation")
    if alone is None or facts.known(f"{ALONE}_s") is None:
        return _goes_in_larger_batches(facts)
    return alone * (1 - left_in_batch(facts)[1])


def _of_outputs(facts: Facts) -> float:
    joined, scored = kept_outputs(facts)
    part = told(facts, "validation") if joined else None
    if part is None or part.share <= 0:
        return 0.0
    return OUTPUTS_GO[1] * min(1.0, sum(n.share for n in (*joined, *scored)) / part.share)


def seen(facts: Facts, validation_s: float) -> float:
    """The part of a prediction for what was looked at that holds for all of a validation of that
    length at least."""
    seen_s = facts.number(_SEEN)
    return max(_UNSEEN, min(1.0, seen_s / validation_s)) if validation_s > 0 else _UNSEEN


def training_batch(facts: Facts) -> float:
    """Samples in a batch of the training: of the same module where it was seen there. Raises
    `Missing`."""
    for path in (f"{ALONE}_batch", "configuration.batch_size"):
        known = facts.known(path)
        if known is not None:
            return known
    of_step = samples_of_step(facts)
    if of_step is None:
        raise Missing("throughput.samples_per_s")
    return of_step


def left_in_batch(facts: Facts) -> tuple[float, float, float]:
    """The part of a call on one sample that is left in a batch: least, likely, most."""
    size, call_s = facts.known(f"{ALONE}_size"), facts.number(f"{ALONE}_s")
    forward_s, samples = facts.known("stages.forward.p50_s"), samples_of_step(facts)
    if not size or not forward_s or not samples or call_s <= 0:
        return _OF_CALL
    of_call = forward_s / samples * size / call_s
    least, likely, most = (min(1.0, times * of_call) for times in _OF_FORWARD)
    return least, likely, most


def left_in_larger_batches(facts: Facts) -> tuple[float, float]:
    """The part of the time of validation's batches that is left in larger ones: at best, likely.
    Raises `Missing`."""
    each_s = facts.number("stages.validation.mean_s") / max(1.0, facts.number(VALIDATION_BATCHES))
    of_batch = facts.number(CALL_PART) * facts.number("stages.forward.p50_s") / max(1e-9, each_s)
    least, likely, _ = (min(1.0, times * of_batch) for times in _OF_FORWARD)
    return least, likely


def _goes_in_larger_batches(facts: Facts) -> float:
    needed = (CALL_PART, VALIDATION_BATCHES, "stages.forward.p50_s", "stages.validation.mean_s")
    if any(facts.known(path) is None for path in needed) or facts.number(CALL_PART) > _SMALL:
        return 0.0
    return 1 - left_in_larger_batches(facts)[1]
