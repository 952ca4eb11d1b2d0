"""Which lines of the source make the architecture steps of a search.

A look at the main thread does not tell whether the forward that it met was for the weights or for
the architecture: that is known once an optimizer has made its step. So the places are kept from
which the model, backward and the optimizer are called up to each update, and lines of the source
that lie between those of an architecture step, and of no other one, make it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType

from perfdoctor.collect.script.frame_paths import Path, shared
from perfdoctor.collect.script.libraries import USER, Libraries
from perfdoctor.collect.script.loop_finder import BACKWARD
from perfdoctor.collect.script.optimizers import ARCHITECTURE, MAIN
from perfdoctor.collect.script.source import blocks, line_of, module_of, statement_at

#: Calls up to one update that are kept, and ways to an update that are told apart; both far above
#: what trainings have.
_MOST_CALLS = 64
_MOST_WAYS = 64
_TO_THE_END = 1 << 30


@dataclass(frozen=True)
class Lines:
    """Lines of a function, which is known by its file and its own first line."""

    file: str
    function_line: int
    first: int
    last: int

    def hold(self, file: str, function_line: int, line: int) -> bool:
        """Whether they hold `line` of that function."""
        same = self.file == file and self.function_line == function_line
        return same and self.first <= line <= self.last

    def meet(self, other: Lines) -> bool:
        """Whether they have lines in common."""
        same = (self.file, self.function_line) == (other.file, other.function_line)
        return same and self.first <= other.last and other.first <= self.last


class SearchLines:
    """Is told of the calls up to each update, in some steps.

    `most_backwards`: the most computations of gradients that an architecture step consists of.
    """

    def __init__(self, libraries: Libraries | None = None) -> None:
        self._libraries = libraries or Libraries()
        self._calls: list[Path] = []
        self._ways: dict[str, dict[tuple[Path, ...], None]] = {MAIN: {}, ARCHITECTURE: {}}
        self._backwards = 0
        self.most_backwards = 0

    def note(self, path: Path, event: str) -> None:
        """The model, backward or an optimizer (`event`) is called there."""
        self._backwards += event == BACKWARD
        if len(self._calls) < _MOST_CALLS:
            self._calls.append(tuple(p for p in path if self._is_the_users(p[1])))

    def updated(self, kind: str) -> None:
        """The calls since the last update were for one of this kind."""
        calls, self._calls = tuple(self._calls), []
        backwards, self._backwards = self._backwards, 0
        ways = self._ways.get(kind)
        if ways is None or not calls:
            return
        if kind == ARCHITECTURE and not ways:  # what came before was taken for the training's
            self._ways[MAIN].clear()
        if kind == ARCHITECTURE:
            self.most_backwards = max(self.most_backwards, backwards)
        if len(ways) < _MOST_WAYS:
            ways[calls] = None

    def found(self) -> tuple[Lines, ...]:
        """The lines of architecture steps; whole functions, where nothing else is made in them."""
        training = {lines for way in self._ways[MAIN] for lines in _all_lines(way)}
        found = (_own(way, training) for way in self._ways[ARCHITECTURE])
        return tuple(dict.fromkeys(lines for lines in found if lines is not None))

    def _is_the_users(self, code: CodeType) -> bool:
        return self._libraries.of(code.co_filename) == USER


def _own(way: Sequence[Path], training: set[Lines]) -> Lines | None:
    """The innermost lines that lead to all the calls of a way, and to none of the training's."""
    functions = {(lines.file, lines.function_line) for lines in training}
    for lines in reversed(_common(way)):
        if (lines.file, lines.function_line) not in functions:
            return Lines(lines.file, lines.function_line, 0, _TO_THE_END)
        if not any(lines.meet(other) for other in training):
            return lines
    return None


def _all_lines(way: Sequence[Path]) -> Iterator[Lines]:
    """The lines of a way in each function that it goes through."""
    common = _common(way)
    yield from common
    for path in way:
        yield from (_between([place]) for place in path[len(common) :])


def _common(way: Sequence[Path]) -> list[Lines]:
    """The lines of a way in the functions that all its calls have in common, outermost first."""
    depth = min(shared(way[0], path) for path in way)
    return [_between([path[i] for path in way]) for i in range(depth)]


def _between(places: Sequence[tuple[int, CodeType, int]]) -> Lines:
    """From the first of some statements of a function to the end of the last."""
    code = places[0][1]
    lines = [line_of(code, at) or code.co_firstlineno for _, _, at in places]
    first, last = min(lines), max(lines)
    module = module_of(code.co_filename)
    if module is not None:
        first = getattr(statement_at(module, first), "lineno", first)
        statement = statement_at(module, last)
        if statement is not None and not any(blocks(statement)):
            last = statement.end_lineno or last
    return Lines(code.co_filename, code.co_firstlineno, first, last)
