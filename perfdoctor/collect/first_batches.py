"""Whether a loader that is made otherwise gives the same batches: the first ones, from one seed.

The losses of a training with more workers differ where its transforms draw random numbers, since
each worker has a generator of its own. What was drawn otherwise is told apart from other samples by
the indices that the sampler gave.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data.dataloader import _BaseDataLoaderIter

SAME, REDRAWN, OTHER = "same", "redrawn", "other"
_SEED = 0
_PLAIN = (str, bytes, int, float, complex, np.generic, type(None))


def relation(
    before: Callable[[], Any],
    after: Callable[[], Any],
    count: int,
    iterate: Callable[[Any], Any] = iter,
) -> str | None:
    """How the first batches of the second loader compare with those of the first one.

    Nothing that draws random numbers here later notices.

    Args:
        before, after: make a DataLoader each. count: of batches. iterate: what begins an epoch.

    Returns:
        SAME; REDRAWN: the same samples with other contents, which random numbers make; OTHER: other
        samples; None: those of the same loader differ from time to time, or cannot be compared.
    """
    with _unchanged_randomness():
        first, second = _drawn(before(), count, iterate), _drawn(after(), count, iterate)
        if first.contents is None or second.contents is None:
            return None
        if first.contents == second.contents:
            return SAME
        if first.indices and first.indices == second.indices:
            return REDRAWN
        again = _drawn(before(), count, iterate)
    alike = again.indices == first.indices if first.indices else again == first
    return OTHER if alike else None


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """The first batches: digests, None where one cannot be read; and which samples are in them."""

    contents: list[str] | None
    indices: list[str]


def _drawn(loader: Any, count: int, iterate: Callable[[Any], Any]) -> _Drawn:
    generators = [(one, one.get_state()) for one in _generators(loader)]
    _seed_all()
    try:
        with _indices_noted() as indices:
            batches = list(itertools.islice(iterate(loader), count))
        return _Drawn([digest(batch) for batch in batches], indices[:count])
    except Exception:  # the user's objects may raise anything
        return _Drawn(None, [])
    finally:
        for generator, state in generators:
            generator.set_state(state)


def digest(batch: Any) -> str:
    """The same for batches of the same contents.

    Raises:
        TypeError: something in it is of a kind that cannot be compared.
    """
    found = hashlib.blake2b()
    for part in _parts(batch):
        found.update(part)
    return found.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous()
        yield f"{plain.dtype} {tuple(plain.shape)}".encode()
        yield plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield pickle.dumps(value) if value.dtype.hasobject else value.tobytes()
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield repr(key).encode()
            yield from _parts(inner)
    elif isinstance(value, (list, tuple)):
        yield f"{len(value)}".encode()
        for inner in value:
            yield from _parts(inner)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _parts(vars(value))
    elif isinstance(value, _PLAIN):
        yield repr(value).encode()
    else:
        raise TypeError(type(value).__name__)


@contextmanager
def _indices_noted() -> Iterator[list[str]]:
    """What samplers give while this lasts, a batch at a time; of iterable datasets nothing."""
    noted: list[str] = []
    usual: Any = _BaseDataLoaderIter._next_index

    def next_index(iterator: Any) -> Any:
        found = usual(iterator)
        if getattr(iterator, "_dataset_kind", 0) == 0:  # read by index
            noted.append(digest(found))
        return found

    _BaseDataLoaderIter._next_index = next_index  # type: ignore[method-assign]
    try:
        yield noted
    finally:
        _BaseDataLoaderIter._next_index = usual  # type: ignore[method-assign]


def _generators(loader: Any) -> list[torch.Generator]:
    """Those of its own and of its samplers: the other loader may share them."""
    inner = getattr(loader, "batch_sampler", None)
    places = (loader, getattr(loader, "sampler", None), inner, getattr(inner, "sampler", None))
    found = (getattr(place, "generator", None) for place in places)
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def _seed_all() -> None:
    random.seed(_SEED)
    np.random.seed(_SEED)
    torch.default_generator.manual_seed(_SEED)


@contextmanager
def _unchanged_randomness() -> Iterator[None]:
    """What follows draws what it would have drawn without this."""
    plain, arrays, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)
        torch.set_rng_state(tensors)
