"""The script's DataLoaders, told apart; one that is made anew each epoch stays the same one."""

from __future__ import annotations

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


@dataclass
class LoaderFacts:
    """One DataLoader as it was used; `training` and `validation` count its batches.

    `first_batch_ns` is the time from `iter(loader)` to the first batch, of each epoch. `settings`
    are what it was made with, for when it is gone.
    """

    number: int
    label: int
    loader: weakref.ref[Any]
    kind: tuple[Any, ...] = ()
    dataset: weakref.ref[Any] | int = 0
    settings: dict[str, Any] | None = None
    iterators: int = 0
    batches: int = 0
    training: int = 0
    validation: int = 0
    fresh: bool = False
    began_ns: int | None = None
    iterator: weakref.ref[Any] | None = None
    first_batch_ns: list[int] = field(default_factory=list)

    @property
    def role(self) -> str:
        """train, validation or unknown."""
        if self.training == self.validation == 0:
            return "unknown"
        return "train" if _OFTEN * self.training >= self.validation else "validation"


class LoadersSeen:
    """The facts of each loader, made when it is first asked for."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._facts: list[LoaderFacts] = []
        self._numbered = 0

    def values(self) -> list[LoaderFacts]:
        """All that are remembered, in the order of their first use."""
        return list(self._facts)

    def of(self, loader: Any) -> LoaderFacts:
        """The facts of this loader, or of the one that is gone and whose place it takes."""
        for facts in self._facts:
            if facts.loader() is loader:
                return facts
        found = self._predecessor(loader) or self._new(loader)
        found.loader, found.dataset = weakref.ref(loader), _reference(loader.dataset)
        return found

    def _predecessor(self, loader: Any) -> LoaderFacts | None:
        kind, dataset = _kind(loader), loader.dataset
        gone = [f for f in self._facts if f.kind == kind and f.loader() is None]
        same = [f for f in gone if _is(f.dataset, dataset)]
        return next(iter(same or [f for f in gone if _is(f.dataset, None)]), None)

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
