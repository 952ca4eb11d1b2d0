"""The script's DataLoaders, told apart; one that is made anew each epoch stays the same one."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from perfdoctor.collect.script.recorder import Recorder

#: Loaders with a label of their own, and loaders that are remembered at all.
_OWN_LABEL, _MOST = 12, 64
#: A loader that trains and validates in turn trains: its batches validate this often at most.
_OFTEN = 4
#: Loaders that give a batch each to every step differ by those left over: one for each iterator.
_AS_MANY = 0.9
#: A loader that gives nothing while another is trained with so often anew is done with.
_DONE = 2
#: Batches of one iterator, in passes over the data set, from which on it has no end.
_ENDLESS = 1.5
#: Iterators that were thrown away, and the part of their batches that they gave at most: as PD112
#: has it of the training's own.
_SEVERAL, _PART = 3, 0.1


@dataclass
class LoaderFacts:
    """One DataLoader as it was used; `training` and `validation` count its batches.

    `at_step` is how many steps had ended when it last gave a batch, of a training that does not go
    steadily. `first_batch_ns` is the time from `iter(loader)` to the first batch, of each epoch,
    `ended_ns` the wait for an iterator's workers to end.
    `settings` are what it was made with, for when it is gone; `trained_with` counts the iterators
    that gave a batch to gradients. `since` is how many each other loader had of them when this one
    was last seen to have given a batch, its `given`th.
    """

    number: int
    label: int
    loader: weakref.ref[Any]
    kind: tuple[Any, ...] = ()
    dataset: weakref.ref[Any] | int = 0
    settings: dict[str, Any] | None = None
    iterators: int = 0
    trained_with: int = 0
    batches: int = 0
    training: int = 0
    validation: int = 0
    at_step: int = -1
    began_ns: int | None = None
    iterator: weakref.ref[Any] | None = None
    first_batch_ns: list[int] = field(default_factory=list)
    ended_ns: list[int] = field(default_factory=list)
    given: int = 0
    since: dict[int, int] = field(default_factory=dict)

    @property
    def role(self) -> str:
        """train, validation or unknown."""
        if self.training == self.validation == 0:
            return "unknown"
        return "train" if _OFTEN * self.training >= self.validation else "validation"

    def gives(self, step: int) -> bool:
        """Whether its batches go into the steps around this one, for all that is known."""
        return self.role == "unknown" and self.at_step >= max(0, step - 1)

    @property
    def endless(self) -> bool:
        """Whether its iterators go on and on: they mark no epochs."""
        each = self._whole
        if each is None:
            return self.settings is not None
        return bool(self.batches > _ENDLESS * max(1, self.iterators) * each)

    @property
    def thrown_away(self) -> bool:
        """Whether its iterators, several of them, gave a small part of their batches."""
        each = self._whole
        if each is None or self.iterators < _SEVERAL:
            return False
        return max(1.0, self.batches / self.iterators) <= _PART * each

    @property
    def batch_size(self) -> int | None:
        """As it was asked for; None where a sampler of batches is."""
        return self.kind[-2] if self.kind else None

    @property
    def _whole(self) -> int | None:
        """Batches of a pass over the data set, or over what the sampler takes of it."""
        used = self.settings or {}
        told = used.get("epoch_batches")
        if isinstance(told, int):
            return told
        size, batch = used.get("dataset_size"), used.get("batch_size")
        if size is None:
            return None
        return math.ceil(size / batch) if isinstance(batch, int) and batch > 0 else int(size)


class LoadersSeen:
    """The facts of each loader, made when it is first asked for."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._facts: list[LoaderFacts] = []
        self._numbered = 0

    def values(self) -> list[LoaderFacts]:
        """All that are remembered, in the order of their first use."""
        return list(self._facts)

    def main(self, step: int) -> LoaderFacts | None:
        """The one whose iterators are the training's epochs, after so many steps.

        Of several that give as many batches, that whose iterators last: others are started again,
        or thrown away, within an epoch. Which of those of one step it trains on is not known.
        """
        used = [f for f in self._facts if f.role == "train" or f.gives(step)]
        used = [f for f in used if not self._is_done(f)]
        most = max((f.batches for f in used), default=0)
        as_many = [f for f in used if f.batches + f.iterators >= _AS_MANY * most]
        return min(as_many, key=lambda f: (f.endless, f.iterators, f.number), default=None)

    def first_gradients(self) -> None:
        """The first ones since iterators began: notes which of the loaders gave a batch since."""
        for facts in self._facts:
            if facts.batches != facts.given:
                facts.given = facts.batches
                facts.since = {other.number: other.trained_with for other in self._facts}

    def _is_done(self, facts: LoaderFacts) -> bool:
        """Whether the training goes on without it: with a task's next data, to be tuned finely."""
        since = facts.since
        return any(f.trained_with - since.get(f.number, 0) >= _DONE for f in self._facts)

    def of(self, loader: Any, *, learning: bool = True) -> LoaderFacts:
        """The facts of this loader, or of the one that is gone and whose place it takes.

        `learning`: gradients are recorded, so that it may be trained on.
        """
        for facts in self._facts:
            if facts.loader() is loader:
                return facts
        found = self._predecessor(loader, learning=learning) or self._new(loader)
        found.loader, found.dataset = weakref.ref(loader), _reference(loader.dataset)
        return found

    def _predecessor(self, loader: Any, *, learning: bool) -> LoaderFacts | None:
        """One of the same data; else of data that are gone; else, where both are trained on, of
        other data: a client's of federated training, a task's."""
        kind, dataset = _kind(loader), loader.dataset
        gone = [f for f in self._facts if f.kind == kind and f.loader() is None]
        same = [f for f in gone if _is(f.dataset, dataset)]
        found = same or [f for f in gone if _is(f.dataset, None)]
        if learning and not found:
            found = [f for f in gone if f.training and not f.validation]
        return next(iter(found), None)

    def _new(self, loader: Any) -> LoaderFacts:
        if len(self._facts) >= _MOST:
            gone = [f for f in self._facts if f.loader() is None]
            self._facts.remove(min(gone or self._facts, key=lambda f: f.batches))
        label = self._recorder.label(f"loader {min(self._numbered, _OWN_LABEL)}")
        facts = LoaderFacts(self._numbered, label, weakref.ref(loader), _kind(loader))
        self._numbered += 1
        self._facts.append(facts)
        return facts


def _reference(dataset: Any) -> weakref.ref[Any] | int:
    with suppress(TypeError):  # a list
        return weakref.ref(dataset)
    return id(dataset)


def _is(reference: weakref.ref[Any] | int, dataset: Any) -> bool:
    if isinstance(reference, int):
        return dataset is not None and reference == id(dataset)
    return reference() is dataset


def _kind(loader: Any) -> tuple[Any, ...]:
    """Equal for a loader and its like of the epoch before.

    The length tells training data from held-out data where both are of one of torch's types;
    other datasets are not asked for theirs: that would run the script's code.
    """
    dataset = loader.dataset
    length = len(dataset) if type(dataset).__name__ in ("Subset", "TensorDataset") else None
    sampler = type(getattr(loader, "sampler", None))
    return type(dataset), length, sampler, loader.batch_size, loader.num_workers


def label_roles(facts: Iterable[LoaderFacts]) -> dict[int, str]:
    """The role of each label; of several loaders with one label that with the most batches."""
    return {f.label: f.role for f in sorted(facts, key=lambda f: f.batches)}
