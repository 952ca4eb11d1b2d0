"""Where calls are made: the functions above them, and of these a line that says something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath
from types import CodeType, FrameType

from perfdoctor.collect.script.libraries import USER, Libraries
from perfdoctor.collect.script.loop_finder import Spot
from perfdoctor.collect.script.qualified import qualified_name
from perfdoctor.collect.script.source import line_of

#: Functions and the instruction that each was at, innermost first.
Path = tuple[tuple[CodeType, int], ...]
#: Frames above a call.
_DEEPEST = 16


def path_of(frame: FrameType | None) -> Path:
    """Innermost first; keeps no frame, which would keep tensors."""
    path: list[tuple[CodeType, int]] = []
    while frame is not None and len(path) < _DEEPEST:
        path.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(path)


def script_spot(path: Path) -> Spot | None:
    """The innermost line of the script's own."""
    libraries = Libraries()
    for code, instruction in path:
        line = line_of(code, instruction)
        if line is not None and libraries.of(code.co_filename) == USER:
            return Spot(code, line)
    return None


def named(spot: Spot, path: Path) -> Spot | None:
    """The loop's line, or the script's own where a library loops."""
    own = Libraries().of(spot.code.co_filename) == USER
    return spot if own else script_spot(path)


def where(name: str, spots: Iterable[Spot | None]) -> dict[str, str]:
    """The line of most of the rows, and the function that it is in."""
    commonest = Counter(spot for spot in spots if spot is not None).most_common(1)
    if not commonest:
        return {}
    spot = commonest[0][0]
    function = qualified_name(spot.code).rpartition("<locals>.")[2]
    place = f"{PurePath(spot.code.co_filename).name}:{spot.line}"
    return {f"{name}_at": place, f"{name}_in": function}
