"""How calls were reached: the frames around them, of which none is kept alive."""

from __future__ import annotations

from itertools import takewhile
from types import CodeType, FrameType

#: Far above what trainings have.
_DEEPEST = 100

#: id of the frame, its code, the instruction.
Place = tuple[int, CodeType, int]
Path = tuple[Place, ...]


def path_to(frame: FrameType | None) -> Path:
    """The places that led to a frame, outermost first."""
    path: list[Place] = []
    while frame is not None and len(path) < _DEEPEST:
        path.append((id(frame), frame.f_code, frame.f_lasti))
        frame = frame.f_back
    path.reverse()
    return tuple(path)


def shared(one: Path, other: Path) -> int:
    """How many frames from the outermost on are the same."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda p: p[0][0] == p[1][0] and p[0][1] is p[1][1], pairs))
