"""Tar shards in the WebDataset layout: neighbouring members that share a key are one sample.

A member that cannot be decoded, or a shard that breaks off, must not end a measurement. An
iterable dataset cannot raise for one sample and go on, so `TarShards` *yields* an instance of
`UnreadableSampleError` in place of the sample; the loop that measures takes it out before
collating and counts it.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from perfdoctor.workload import UnreadableSampleError
from perfdoctor.workloads import images, tokens
from perfdoctor.workloads.arrayfiles import as_sample
from perfdoctor.workloads.kinds import (
    KINDS,
    Found,
    Recognised,
    counted,
    none_readable,
    reason_of,
    unreadable,
)
from perfdoctor.workloads.reference import Reference, Task, gpt_reference, reference_for

#: Samples decoded at construction, to learn what the members are and which classes there are.
_PROBED = 128
_LABELS = ("cls", "label", "y", "index", "txt", "json")

Payloads = Mapping[str, bytes]
Sample = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class RawSample:
    """The members of one sample by extension; `where` is the shard and the key."""

    where: str
    payloads: Payloads


class TarShards(IterableDataset[Sample | UnreadableSampleError]):
    """Streams shards from first to last byte; DataLoader workers share the shards.

    Yields `UnreadableSampleError` instances in place of what cannot be read (see the module).
    """

    def __init__(self, shards: Sequence[Path], decode: Callable[[Payloads], Sample]) -> None:
        self.shards = tuple(map(str, shards))
        self.decode = decode

    def __iter__(self) -> Iterator[Sample | UnreadableSampleError]:
        info = get_worker_info()
        mine = self.shards if info is None else self.shards[info.id :: info.num_workers]
        for raw in raw_samples(mine):
            yield raw if isinstance(raw, UnreadableSampleError) else self._decoded(raw)

    def _decoded(self, raw: RawSample) -> Sample | UnreadableSampleError:
        try:
            return self.decode(raw.payloads)
        except Exception as error:  # decoders of damaged members raise anything
            return UnreadableSampleError(raw.where, reason_of(error))


def raw_samples(shards: Sequence[str]) -> Iterator[RawSample | UnreadableSampleError]:
    """The samples of all shards, undecoded; an error in place of the rest of a broken shard."""
    for shard in shards:
        try:
            yield from _samples_of(shard)
        except (tarfile.TarError, OSError, EOFError) as error:
            yield UnreadableSampleError(shard, reason_of(error))


def _samples_of(shard: str) -> Iterator[RawSample]:
    key, payloads = "", dict[str, bytes]()
    for name, payload in _members(shard):
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        if folder + slash + stem != key and payloads:
            yield RawSample(f"{shard}:{key}", payloads)
            payloads = {}
        key = folder + slash + stem
        payloads[extension.lower()] = payload
    if payloads:
        yield RawSample(f"{shard}:{key}", payloads)


def _members(shard: str) -> Iterator[tuple[str, bytes]]:
    with Path(shard).open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        # an empty archive is at 0, from where `next` of Python 3.10 seeks to -1
        while tar.offset and (member := tar.next()) is not None:
            vars(tar)["members"] = []  # it would keep every header of a shard of millions
            held = tar.extractfile(member) if member.isfile() else None
            if held is not None and not Path(member.name).name.startswith("."):
                yield member.name, held.read()
        file.seek(tar.offset)
        if any(file.read(tarfile.BLOCKSIZE)):  # tarfile takes a damaged header for the end
            raise tarfile.ReadError(f"damaged header at byte {tar.offset}")


@dataclass(frozen=True)
class _Decoder:
    """Decodes `member` (an extension) into x, and a label from whatever else there is.

    A class, not a closure, so that workers can unpickle it.
    """

    member: str
    classes: int = 1
    shape: tuple[int, ...] | None = None

    def __call__(self, payloads: Payloads) -> Sample:
        if self.member not in payloads:
            raise ValueError(f"has no .{self.member} member")
        if self.member == "txt":
            return _text(payloads["txt"])
        x = decode_x(self.member, payloads[self.member])
        if self.shape is not None and tuple(x.shape) != self.shape:
            raise ValueError(f"has shape {tuple(x.shape)}, others have {self.shape}")
        return x, torch.tensor((label_of(payloads, self.member) or 0) % self.classes)


def decode_x(extension: str, payload: bytes) -> Tensor:
    """An image or a `.npy` member. Raises whatever the decoder raises; pickles are refused."""
    if not _is_array(extension):
        return images.decode(io.BytesIO(payload))
    return as_sample(np.load(io.BytesIO(payload), allow_pickle=False))


def label_of(payloads: Payloads, member: str) -> int | None:
    """The label, from `.cls`, a number in `.txt`, or a number named like one in `.json`."""
    for name in _LABELS:
        if name in payloads and name != member:
            value = json.loads(payloads[name]) if name == "json" else payloads[name]
            if isinstance(value, dict):
                value = next((value[n] for n in _LABELS if n in value), None)
            if (label := _integer(value)) is not None:
                return label
    return None


def _integer(value: object) -> int | None:
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        return None


def _text(payload: bytes) -> Sample:
    window = np.frombuffer(payload[: tokens.BLOCK_SIZE + 1], np.uint8).astype(np.int64)
    return tokens.shifted(window, 256, tokens.BLOCK_SIZE)


def recognise(found: Found) -> Recognised:
    """A streaming dataset, and the reference model for its first samples.

    Raises:
        PerfdoctorError: none of the first samples can be read, or holds an image, an array or
            text; with `strict`, one of them cannot be read.
    """
    shards = [file.path for file in found.files]
    peeked = list(islice(raw_samples(list(map(str, shards))), _PROBED))
    failed = [s for s in peeked if isinstance(s, UnreadableSampleError)]
    raw = [s for s in peeked if isinstance(s, RawSample)]
    if failed and (found.strict or not raw):
        raise unreadable(Path(failed[0].path), failed[0].reason)
    decoder, reference, what = _decoder_for(raw, str(shards[0]))
    notes = [f"Recognised {counted(len(shards), 'tar shard')} of {what} ({found.where})."]
    notes.append(f"Loader workers share the shards: no more than {len(shards)} can be busy.")
    return Recognised(
        dataset=TarShards(shards, decoder),
        samples=len(raw) if len(peeked) < _PROBED else None,
        reference=reference,
        notes=tuple(notes),
    )


def _decoder_for(raw: Sequence[RawSample], shard: str) -> tuple[_Decoder, Reference, str]:
    member = _main_member(raw, shard)
    if member == "txt":
        return _Decoder(member), gpt_reference(256, tokens.BLOCK_SIZE), "text read as bytes"
    labels = [label for s in raw if (label := _label_or_none(s.payloads, member)) is not None]
    classes = max(2, max(labels) + 1) if labels else images.PLACEHOLDER_CLASSES
    shape = _first_shape(raw, member)
    what = f"samples of shape {shape} from .npy" if _is_array(member) else f".{member} images"
    if not labels:
        what += " without labels (all get class 0)"
    decoder = _Decoder(member, classes, shape)
    return decoder, reference_for(shape, Task(classes, classify=True)), what


def _main_member(raw: Sequence[RawSample], shard: str) -> str:
    """The extension to learn from: images before arrays before text, then the most frequent."""
    count = Counter(extension for s in raw for extension in s.payloads)
    for suits in (_is_image, _is_array, "txt".__eq__):
        if candidates := [extension for extension in count if suits(extension)]:
            return max(candidates, key=lambda extension: count[extension])
    held = f"only .{', .'.join(sorted(count))}" if count else "no members"
    raise none_readable([(shard, f"it holds {held}, but no image, .npy or .txt members")])


def _is_image(extension: str) -> bool:
    return f".{extension}" in KINDS["images"].extensions


def _is_array(extension: str) -> bool:
    return extension.endswith("npy")


def _label_or_none(payloads: Payloads, member: str) -> int | None:
    try:
        return label_of(payloads, member)
    except ValueError:  # damaged JSON; decoding this sample will say so
        return None


def _first_shape(raw: Sequence[RawSample], member: str) -> tuple[int, ...]:
    failed = []
    for sample in raw:
        if member in sample.payloads:
            try:
                return tuple(decode_x(member, sample.payloads[member]).shape)
            except Exception as error:  # decoders of damaged members raise anything
                failed.append((sample.where, reason_of(error)))
    raise none_readable(failed)
