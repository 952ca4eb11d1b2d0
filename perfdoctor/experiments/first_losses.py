"""Whether a change leaves the losses of the first steps, and the first batches, as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfdoctor.collect.out_of_memory import NO_ROOM, OUT_OF_MEMORY
from perfdoctor.errors import PerfdoctorError
from perfdoctor.experiments import room
from perfdoctor.experiments.parity import DIVERGES, Parity, of_batches, parity

if TYPE_CHECKING:
    from perfdoctor.experiments.plan import Candidate
    from perfdoctor.experiments.trials import Laboratory

_Values = tuple[float | None, ...]
PARITY_STEPS = 8
#: Why losses of the first steps tell nothing, by where a training lists its changes of that kind.
_NOT_COMPARABLE = {"redrawn": "other batches", "later": "the first steps cannot be changed"}
_TOO_LATE = "not comparable: no time was left for a process that makes the first steps"
_UNREPEATED = "not comparable: no time was left to see what they differ by anyway"
_TOO_LARGE = "not compared: memory would not do for a second training beside this one"
#: Changes with which the same batches come another way, and those with which others come.
_SAME_BATCHES = {
    "num_workers",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory",
    "reads_at_once",
}
_OTHER_BATCHES = {"batch_size", "cache_samples", "free_loading"}
#: Batches of each loader that are compared, and the part of the time left that this may take;
#: beside the batches workers have to start.
_BATCHES, _BATCHES_SHARE, _WORKERS_START_S = 3, 0.1, 1.0


def needs_s(laboratory: Laboratory, candidate: Candidate) -> float:
    """What comparing them takes, where that is a process of its own."""
    if candidate.experiment.ceiling or _not_comparable(laboratory, candidate) is not None:
        return 0.0
    return _process_s(laboratory)


def compared(laboratory: Laboratory, candidate: Candidate, mode: str) -> Parity:
    """What is known of both, in this mode of the change."""
    why = _not_comparable(laboratory, candidate)
    batches = _batches(laboratory, candidate, mode)
    if why is not None:
        return of_batches(Parity(why), batches)
    if laboratory.left_s < _process_s(laboratory):  # what came before took longer than expected
        return of_batches(Parity(_TOO_LATE), batches)
    found = _first(laboratory, mode)
    if found is None:
        return of_batches(Parity(_TOO_LARGE), batches)
    safety, changes = candidate.experiment.safety, candidate.changes
    same = parity(laboratory.facts.losses, *found, safety=safety, change=changes)
    if same.label != DIVERGES:
        return of_batches(same, batches)
    if laboratory.repeatable is None and laboratory.left_s < _process_s(laboratory):
        return Parity(_UNREPEATED)
    if not _repeatable(laboratory):
        return Parity("not comparable: they differ from run to run")
    return same


def _process_s(laboratory: Laboratory) -> float:
    return laboratory.setup_s if laboratory.facts.extra.get("losses_by_process") else 0.0


def _not_comparable(laboratory: Laboratory, candidate: Candidate) -> str | None:
    for name, why in _NOT_COMPARABLE.items():
        if set(candidate.changes) & set(laboratory.facts.extra.get(name, ())):
            return f"not comparable: {why}"
    return None


def _first(laboratory: Laboratory, mode: str) -> tuple[_Values, _Values] | None:
    """Those with the change, and the norms; None where there is no memory for them."""
    if not room.for_second(laboratory.facts):
        return None
    try:
        return laboratory.arm.first_losses(PARITY_STEPS, mode)
    except PerfdoctorError as error:
        if error.slug not in (NO_ROOM, OUT_OF_MEMORY) or not laboratory.arm.alive:
            raise
        return None


def _repeatable(laboratory: Laboratory) -> bool:
    """Whether the training as it is has the same losses once more."""
    if laboratory.repeatable is None:
        losses, norms = laboratory.arm.first_losses(PARITY_STEPS)
        same = parity(laboratory.facts.losses, losses, norms, safety="exact", change={})
        laboratory.repeatable = same.acceptable
    return laboratory.repeatable


def _batches(laboratory: Laboratory, candidate: Candidate, mode: str) -> str | None:
    """How the first batches with the change compare, where it is one of how they come."""
    changes = set(candidate.changes)
    if not changes & _SAME_BATCHES or changes & _OTHER_BATCHES:
        return None
    workers = int(candidate.changes.get("num_workers", 1))  # each begins with one of its own
    turn = max(int(laboratory.facts.extra.get("turn", 1)), workers)
    needed_s = _WORKERS_START_S + 2 * _BATCHES * turn * laboratory.step_s
    if needed_s > _BATCHES_SHARE * laboratory.left_s:
        return None
    return laboratory.arm.batches(mode, _BATCHES)
