"""How fast perfdoctor reads a TensorBoard event file beside TensorBoard's own EventAccumulator.

    python benchmarks/tensorboard.py [--tensorboard-python PYTHON] [--scalars 1000000]

A file with that many scalars (ten tags, logged together every step) is written to a temporary
folder and read by each side in fresh processes, in turns. Both keep every scalar (the
accumulator's `size_guidance` is 0) and must agree on count and sum of each tag. The time is that
of reading, imports left out. PYTHON is an interpreter that has tensorboard, by default this one.
A file ten times as long is read by perfdoctor alone, for the growth of time and memory. Memory is
the peak of the process beyond what it held before; perfdoctor holds the file before, since it may
as well be mapped.
Exits 1 if the median ratio is below 10 or a scalar takes more than 100 bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SMALLEST_RATIO = 10.0
MOST_BYTES = 100.0
ROUNDS = 3
TAGS = (
    "train/loss", "train/accuracy", "train/lr", "perf/step_time", "perf/data_time",
    "perf/samples_per_second", "grad/norm", "memory/allocated_gb", "train/loss_smooth", "epoch",
)  # fmt: skip


def crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = crc_table()


def masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def sized(key: bytes, payload: bytes) -> bytes:
    return key + varint(len(payload)) + payload


def event(second: float, step: int, tag: str, value: float) -> bytes:
    scalar = sized(b"\x0a", tag.encode()) + b"\x15" + struct.pack("<f", value)
    payload = b"\x09" + struct.pack("<d", second) + (b"\x10" + varint(step) if step else b"")
    payload += sized(b"\x2a", sized(b"\x0a", scalar))
    header = struct.pack("<Q", len(payload))
    crcs = struct.pack("<I", masked_crc(header)), struct.pack("<I", masked_crc(payload))
    return header + crcs[0] + payload + crcs[1]


def events(scalars: int) -> Iterator[bytes]:
    for index in range(scalars):
        step, tag = divmod(index, len(TAGS))
        second = 1.7e9 + 0.1 * step + 1e-5 * tag
        yield event(second, step, TAGS[tag], (index * 7919 % 10_007) / 100)


def write(path: Path, scalars: int, times: int = 1) -> None:
    with path.open("wb") as file:
        for some in events(scalars):
            file.write(some)
    if times > 1:
        content = path.read_bytes()
        path.write_bytes(content * times)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_ours(path: str) -> dict[str, Any]:
    import numpy as np

    from perfdoctor.readers.tensorboard import read

    begin = time.perf_counter()
    data = Path(path).read_bytes()
    before = peak_bytes()
    columns = read(path, data, lambda tag: f"metric:{tag}").records.columns
    seconds, grown = time.perf_counter() - begin, peak_bytes() - before
    tags = {role[7:]: c[~np.isnan(c)] for role, c in columns.items() if role.startswith("metric:")}
    sums = {tag: [int(values.size), float(values.sum())] for tag, values in tags.items()}
    return {"seconds": seconds, "bytes": grown, "tags": sums}


def read_theirs(path: str) -> dict[str, Any]:
    sys.path.pop(0)  # this folder, in which this file has the package's name
    from tensorboard.backend.event_processing import event_accumulator

    before, begin = peak_bytes(), time.perf_counter()
    every = {event_accumulator.SCALARS: 0}
    accumulator = event_accumulator.EventAccumulator(path, size_guidance=every)
    accumulator.Reload()
    seconds, grown = time.perf_counter() - begin, peak_bytes() - before
    values = {tag: accumulator.Scalars(tag) for tag in accumulator.Tags()["scalars"]}
    sums = {tag: [len(each), sum(e.value for e in each)] for tag, each in values.items()}
    return {"seconds": seconds, "bytes": grown, "tags": sums}


def in_process(python: str, side: str, path: Path) -> dict[str, Any]:
    command = [python, __file__, "--side", side, "--path", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side}: {done.stderr.strip().splitlines()[-1]} (python: {python})")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def agree(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours["tags"].keys() == theirs["tags"].keys() and all(
        count == theirs["tags"][tag][0] and abs(total - theirs["tags"][tag][1]) <= 1e-9 * abs(total)
        for tag, (count, total) in ours["tags"].items()
    )


def row(name: str, scalars: int, results: list[dict[str, Any]]) -> tuple[float, float]:
    seconds = sorted(r["seconds"] for r in results)[len(results) // 2]
    each = max(r["bytes"] for r in results) / scalars
    print(
        f"{name:28} {scalars:>10} {seconds:9.2f} s {scalars / seconds / 1e3:9.0f} k/s {each:8.0f}"
    )
    return seconds, each


def compare(python: str, scalars: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.out.tfevents.1"
        write(path, scalars)
        pairs = [
            (in_process(sys.executable, "ours", path), in_process(python, "theirs", path))
            for _ in range(ROUNDS)
        ]
        longer = Path(folder) / "events.out.tfevents.2"
        write(longer, scalars, times=10)
        grown = in_process(sys.executable, "ours", longer)
    print(f"{'':28} {'scalars':>10} {'median':>11} {'rate':>13} {'bytes each':>8}")
    row("EventAccumulator", scalars, [theirs for _, theirs in pairs])
    seconds, each = row("perfdoctor", scalars, [ours for ours, _ in pairs])
    grown_s, grown_each = row("perfdoctor, ten times the file", 10 * scalars, [grown])
    ratios = sorted(theirs["seconds"] / ours["seconds"] for ours, theirs in pairs)
    same = all(agree(ours, theirs) for ours, theirs in pairs)
    print(
        f"\nperfdoctor is {ratios[len(ratios) // 2]:.1f} times as fast (pairs: {ratios[0]:.1f}–"
        f"{ratios[-1]:.1f}); ten times the file takes {grown_s / seconds:.1f} times as long; "
        f"the values {'agree' if same else 'DIFFER'}"
    )
    fast = ratios[len(ratios) // 2] >= SMALLEST_RATIO
    return 0 if fast and same and max(each, grown_each) <= MOST_BYTES else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensorboard-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--scalars", type=int, default=1_000_000)
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        read = read_ours if arguments.side == "ours" else read_theirs
        print(json.dumps(read(arguments.path)))
        return 0
    return compare(arguments.tensorboard_python, arguments.scalars)


if __name__ == "__main__":
    sys.exit(main())
