"""As much of a VT100 as perfdoctor and a script that prints use. Anything else fails a test."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(\?)?([0-9;]*)([A-Za-z])|\x1b([78D])|([^\x1b])", re.DOTALL)


class FakeTerminal:
    """Rows of cells with a cursor, a scrolling region and a saved cursor, all counted from 0."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.cells = [[" "] * columns for _ in range(rows)]
        self.gone: list[str] = []
        self.row = self.column = 0
        self.saved = (0, 0)
        self.wraps = True
        self.region = (0, rows - 1)

    @property
    def whole_region(self) -> bool:
        return self.region == (0, self.rows - 1)

    @property
    def screen(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]

    def resize(self, rows: int, columns: int) -> None:
        """Rows are lost at the bottom, or at the top where the cursor would be lost."""
        while len(self.cells) > rows:
            if self.row >= rows:
                self.gone.append("".join(self.cells.pop(0)).rstrip())
                self.row -= 1
            else:
                self.cells.pop()
        self.cells += [[] for _ in range(rows - len(self.cells))]
        self.cells = [(row + [" "] * columns)[:columns] for row in self.cells]
        self.rows, self.columns, self.region = rows, columns, (0, rows - 1)

    def feed(self, data: bytes) -> None:
        text = data.decode()
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            assert token, f"not known: {text[at : at + 10]!r}"
            at = token.end()
            private, numbers, final, escape, character = token.groups()
            if final:
                self._control(bool(private), numbers, final)
            elif escape:
                self._escape(escape)
            else:
                self._print(character)

    def _control(self, private: bool, numbers: str, final: str) -> None:
        given = [int(n) if n else 0 for n in numbers.split(";")]
        if private:
            assert given == [7], "only wrapping is known"
            self.wraps = final == "h"
        elif final == "r":
            top, bottom = (given[0] or 1, given[1]) if len(given) == 2 else (1, self.rows)
            self.region, self.row, self.column = (top - 1, bottom - 1), 0, 0
        elif final == "H":
            self.row, self.column = given[0] - 1, given[1] - 1
        elif final == "A":
            self.row = max(self.region[0], self.row - given[0])
        elif final == "K":
            assert given == [2], "only whole lines are erased"
            self.cells[self.row] = [" "] * self.columns
        elif final == "J":
            self.cells[self.row][self.column :] = [" "] * (self.columns - self.column)
            for row in range(self.row + 1, self.rows):
                self.cells[row] = [" "] * self.columns
        else:
            assert final == "m", f"not known: {final}"

    def _escape(self, letter: str) -> None:
        if letter == "7":
            self.saved = self.row, self.column
        elif letter == "8":
            self.row, self.column = self.saved
        else:
            self._down()

    def _print(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._down()
        else:
            if self.column == self.columns:
                if self.wraps:
                    self.column = 0
                    self._down()
                else:
                    self.column -= 1
            self.cells[self.row][self.column] = character
            self.column += 1

    def _down(self) -> None:
        top, bottom = self.region
        if self.row == bottom:
            self.gone.append("".join(self.cells.pop(top)).rstrip())
            self.cells.insert(bottom, [" "] * self.columns)
        elif self.row < self.rows - 1:
            self.row += 1
