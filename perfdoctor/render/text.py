"""Numbers as people read them, and text from outside made safe to show.

Every number keeps three significant digits; `None` and NaN read "not measured", never zero.
"""

from __future__ import annotations

import math
import re
from textwrap import dedent

NOT_MEASURED = "not measured"
#: Stands for a value that was not measured where there is no room for words.
ABSENT = "–"

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SHARE_OF = "share of "
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_FLOPS = ((1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"))

#: ANSI control sequences: CSI (colours, cursor) and OSC (titles, links), ECMA-48 section 5.4.
_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_SPACE = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
#: C0 and C1 control characters, and the bidirectional controls that make text read as other than
#: it is (CVE-2021-42574).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
#: What Python makes of undecodable bytes in file names; no encoding can write them.
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def clean(text: object) -> str:
    """`text` on one line, without control characters, escape sequences and lone surrogates."""
    line = _SPACE.sub(" ", _SEQUENCE.sub("", str(text)))
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", line))


def clean_block(text: str) -> str:
    """Like `clean`, but keeps lines and indentation: for code."""
    lines = dedent(text.expandtabs(4)).strip("\n").split("\n")
    return "\n".join(clean(line).rstrip() for line in lines)


def shorten(text: str, length: int) -> str:
    """At most `length` characters; what is left out of the middle is shown as an ellipsis."""
    if len(text) <= length:
        return text
    head = (length - 1 + 1) // 2
    tail = length - 1 - head
    return f"{text[:head]}…{text[len(text) - tail :]}"


def known(value: float | None) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def number(value: float | None) -> str:
    """Three significant digits, whole numbers in full: "0.125", "12.3", "1,240"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    rounded = float(f"{value:.3g}")
    if abs(rounded) < 1e-4:
        return f"{rounded:.3g}"
    digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:.{digits}f}"


def seconds(value: float | None) -> str:
    """A time: "850 µs", "12.3 ms", "1.24 s", "3 min 20 s", "2 h 5 min"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    size = abs(value)
    if size >= 59.95:  # would read "60.0 s"
        return _minutes(round(value))
    rounded = float(f"{size:.3g}")
    if rounded == 0:
        return "0 s"
    scale, unit = next((s for s in _SECONDS if rounded >= s[0]), _SECONDS[-1])
    return f"{'-' if value < 0 else ''}{_three_digits(rounded / scale)} {unit}"


def seconds_interval(ends: tuple[float, float]) -> str:
    """Two times, their unit once where it is the same: "123–125 ms", "990 ms–1.02 s"."""
    low, high = (seconds(end) for end in ends)
    value, _, unit = low.partition(" ")
    same = high.count(" ") == low.count(" ") == 1 and high.endswith(f" {unit}")
    return f"{value if same else low}–{high}"


def _minutes(whole_s: int) -> str:
    minutes, rest = divmod(abs(whole_s), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
    return f"-{text}" if whole_s < 0 else text


def counted(count: float, what: str) -> str:
    """A number of things: "1 step", "12,000 steps"."""
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


def bytes_(value: float | None) -> str:
    """A size in binary units: "512 B", "1.24 GiB"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return _scaled(value, _BYTES, "B")


def byte_unit(most: float) -> tuple[float, str]:
    """The unit, in bytes and by name, that suits values up to `most`."""
    return next(((scale, unit) for scale, unit in _BYTES if most >= scale), (1.0, "B"))


def flops(value: float | None) -> str:
    """A rate of arithmetic: "0.390 TFLOP/s" reads "390 GFLOP/s"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return _scaled(value, _FLOPS, "FLOP/s")


def _scaled(value: float, units: tuple[tuple[float, str], ...], base: str) -> str:
    for scale, unit in units:
        if float(f"{abs(value) / scale:.3g}") >= 1:
            return f"{_three_digits(value / scale)} {unit}"
    return f"{number(value)} {base}"


def _three_digits(value: float) -> str:
    """For values from 1 up to a few thousand: "1.24", "12.4", "124"."""
    size = abs(value)
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"


def count_per_s(value: float | None, what: str = "samples") -> str:
    """A rate: "413 samples/s", "12.9 steps/s", "1,240 samples/s"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    if abs(value) >= 1e6:
        return f"{_three_digits(value / 1e6)} M {what}/s"
    return f"{number(value)} {what}/s"


def in_unit(value: float | None, unit: str, *, bare: bool = False) -> str:
    """A rate in the unit that a record names it with; `bare` leaves the unit out."""
    name = clean(unit)
    what = name.removesuffix("/s")
    shown = f"{number(value)} {name}" if what == name else count_per_s(value, what)
    return shown.removesuffix(f" {what}/s").removesuffix(f" {name}") if bare else shown


def share(value: float | None) -> str:
    """A share of 0–1 as per cent: "71 %", "4.2 %", "<0.1 %", ">99.9 %"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    percent = value * 100
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    one_digit = 0 < abs(percent) < 9.95 or 99 < percent < 100
    return f"{percent:.{int(one_digit)}f} %"


def change(value: float) -> str:
    """A relative change: "+12 %", "-4.2 %", "less than 0.1 %"."""
    if 0 < abs(value) < 0.001:
        return "less than 0.1 %"
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{share(abs(value))}"


def speedup(value: float | None) -> str:
    """New ÷ old throughput: "1.42×"."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:,.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}×"


def speedup_interval(value: float | None, low: float | None, high: float | None) -> str:
    """New ÷ old throughput and its interval: "1.42× (1.25–1.60×)"."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return speedup(value)
    return f"{speedup(value)} ({speedup(low).removesuffix('×')}–{speedup(high)})"


def quantity(value: float | None, unit: str) -> str:
    """A value in the unit that a record names it with ("s", "bytes", "share", "%", ...)."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    match unit:
        case "s":
            return seconds(value)
        case "bytes" | "B":
            return bytes_(value)
        case "bytes/s" | "B/s":
            return f"{bytes_(value)}/s"
        case "FLOP/s":
            return flops(value)
        case "share":
            return share(value)
        case "×" | "x" | "ratio":
            return speedup(value)
        case "%":
            return share(value / 100)
    if unit.startswith(_SHARE_OF):
        return f"{share(value)} of {clean(unit.removeprefix(_SHARE_OF))}"
    return f"{number(value)} {clean(unit)}".rstrip()


def part_of(achieved: float, peak: float, unit: str) -> str:
    """Two values in the unit that suits the greater: "1.20 of 3.90 TFLOP/s"."""
    whole = quantity(peak, unit)
    digits, _, shown_unit = whole.partition(" ")
    scale = peak / float(digits.replace(",", "")) if known(peak) and peak else 1.0
    return f"{number(float(f'{achieved / scale:.3g}'))} of {digits} {shown_unit}".rstrip()
