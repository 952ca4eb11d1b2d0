"""TensorBoard's event files, read without TensorBoard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from mmap import mmap
from pathlib import PurePath

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers.records import METRIC, Reading
from perfdoctor.readers.tensorboard_events import Decoder
from perfdoctor.readers.tensorboard_records import Framing, blocks, looks_like_records
from perfdoctor.readers.tensorboard_rows import Tag, to_records
from perfdoctor.record import UnreadLine

FORMAT = "tensorboard_events"
_SAMPLES = 5
_NAMED_TAGS = 3

_STEP = "step|iter|iteration|batch|train_step|training_step|train_iter|train_batch"
_LONG = "(?:time|duration)"
_PER_S = "_(?:per_)?(?:s|sec|second)"
#: The end of a tag, in small letters and with "_" between the words → its role.
_ROLES = tuple(
    (re.compile(rf"(?:^|/|_)(?:{words})$"), role)
    for words, role in (
        (
            rf"(?:data|dataloader|data_load|data_loading|loader|fetch)_{_LONG}"
            r"|time/(?:data|load|data_loading|dataloader)",
            "data_loading_s",
        ),
        (rf"(?:forward|fwd)_{_LONG}", "forward_s"),
        (rf"(?:backward|bwd)_{_LONG}", "backward_s"),
        (rf"(?:optim|optimizer|optimizer_step)_{_LONG}", "optimizer_s"),
        (rf"epoch_{_LONG}|epoch_(?:s|sec|seconds)|time_per_epoch|time/epoch", "epoch_s"),
        (rf"(?:{_STEP})_{_LONG}|time_per_(?:{_STEP})|time/(?:{_STEP})", "step_s"),
        # the transformers Trainer writes these once, at the end, over the whole run
        (r"train_samples_per_second", "samples_per_s_mean"),
        (r"train_steps_per_second", "steps_per_s_mean"),
        (r"time/fps", "samples_per_s_mean"),  # stable-baselines3: frames ÷ time since the start
        (rf"(?:tokens?|tok|words?){_PER_S}|tokens?_throughput|wps", "tokens_per_s"),
        (rf"(?:samples?|images?|imgs?|examples?|frames?|items?){_PER_S}", "samples_per_s"),
        (r"throughput|fps|ips", "samples_per_s"),
        (rf"(?:steps?|it|iters?|iterations?|batch|batches){_PER_S}", "steps_per_s"),
        (r"train_runtime|time/time_elapsed|elapsed|elapsed_time|time_elapsed", "elapsed_s"),
    )
)
_VALIDATION = re.compile(r"(?:^|[/_])(?:val|valid|validation|eval|evaluation|test|testing)(?=[/_])")
_UNIT = re.compile(r"(?:^|[_/])(ms|msec|us|min|minutes|h|hours|kb|kib|mb|mib|gb|gib)$")
_UNITS = {
    "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "min": 60.0, "minutes": 60.0, "h": 3600.0,
    "hours": 3600.0, "kb": 2.0**10, "kib": 2.0**10, "mb": 2.0**20, "mib": 2.0**20,
    "gb": 2.0**30, "gib": 2.0**30,
}  # fmt: skip


def is_event_file(name: str, head: bytes) -> bool:
    """Whether a file of this name that begins with `head` holds TensorBoard events."""
    if looks_like_records(head):
        return True
    binary = len(head) < 64 or b"\0" in head
    return "tfevents" in PurePath(name).name and binary


def role_of_tag(tag: str) -> str:
    """The role of a tag's values (see records.py): of times and rates by their usual names."""
    words = _words(tag)
    if words.rsplit("/", 1)[-1] == "epoch":
        return "epoch"
    if _VALIDATION.search(words):
        return METRIC + tag
    name = _UNIT.sub("", words)
    for pattern, role in _ROLES:
        if pattern.search(name):
            return role
    return METRIC + tag


def _words(tag: str) -> str:
    """ "Perf/Step-Time (ms)" → "perf/step_time_ms"; "it/s" keeps its meaning as "it_s"."""
    small = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", tag[-200:]).lower()
    small = re.sub(r"/(?=(?:s|sec|second)\b)", "_", small)
    return re.sub(r"[^a-z0-9/]+", "_", small).strip("_")


def read(
    path: str, data: bytes | memoryview | mmap, role_of: Callable[[str], str] = role_of_tag
) -> Reading:
    """The scalars of an event file, one row for what was logged together.

    Args:
        path: for messages.
        data: the file's bytes, or anything with a buffer, such as an mmap.
        role_of: tag → role; anything that is no time or rate is "metric:TAG".

    Raises:
        PerfdoctorError: `events-unreadable`, where not one record can be read.
    """
    view = memoryview(data).cast("B")
    framing, decoder = Framing(), Decoder()
    read_parts = (decoder.read(view, block) for block in blocks(view, framing))
    parts = [part for part in read_parts if part is not None]
    if framing.records == 0 and framing.rest_bytes and not framing.cut:
        raise PerfdoctorError(
            f"{path} has no TensorBoard records in it: not an event file, or damaged from its "
            "first byte on",
            slug="events-unreadable",
        )
    records, left_out = to_records(parts, _tags(decoder, role_of))
    damaged = sorted([*framing.gaps, *decoder.bad_checksum, *decoder.malformed])
    samples = (UnreadLine(path=path, line=n, text="a damaged record") for n in damaged[:_SAMPLES])
    wall_s = decoder.ended_s - decoder.began_s
    return Reading(
        path=path,
        format=FORMAT,
        records=records,
        facts={"wall_s": wall_s} if wall_s > 0 else {},
        lines=framing.records,
        unread=len(damaged),
        unread_samples=tuple(samples),
        notes=tuple(_notes(framing, decoder, left_out)),
    )


def _tags(decoder: Decoder, role_of: Callable[[str], str]) -> list[Tag]:
    names = [name.decode("utf-8", errors="replace") for name in decoder.names]
    return [Tag(name, role := role_of(name), _scale(name, role)) for name in names]


def _scale(tag: str, role: str) -> float:
    """From the unit at the end of the tag ("step_time_ms") to the role's."""
    unit = _UNIT.search(_words(tag))
    in_seconds = role.endswith(("_s", "_s_mean")) and "per_s" not in role
    if unit is None or not (in_seconds or role.endswith("_bytes")):
        return 1.0
    return _UNITS[unit[1]]


def _notes(framing: Framing, decoder: Decoder, left_out: list[str]) -> Iterator[str]:
    if framing.cut:
        yield "The file ends within a record; all before it is read."
    elif framing.rest_bytes:
        yield (
            f"Reading ended after record {framing.records}: the last {framing.rest_bytes} bytes "
            "of the file are damaged."
        )
    if framing.gaps:
        places = f" and in {len(framing.gaps) - 1} more places" * (len(framing.gaps) > 1)
        yield (
            f"The file is damaged before record {framing.gaps[0]}{places}; reading went on at the "
            "next whole record."
        )
    bad = sorted(decoder.bad_checksum + decoder.malformed)
    if bad:
        more = f" and {len(bad) - 1} others" * (len(bad) > 1)
        yield f"Record {bad[0]}{more} left out: wrong checksum or contents."
    if left_out:
        names = ", ".join(_plain(name) for name in left_out[:_NAMED_TAGS])
        yield (
            f"{len(left_out)} tags are left out, since they are hardly ever logged together with "
            f"others and would take too much memory: {names}{'…' * (len(left_out) > _NAMED_TAGS)}"
        )
    if decoder.too_many_tags:
        yield f"Only the first {len(decoder.names)} tags are read; there are more."
    if not decoder.names:
        yield "There are no scalars in it, only graphs, pictures or the like."


def _plain(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:80])
