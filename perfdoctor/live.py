"""The view of a script while it runs: from what was observed to the bottom of the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from perfdoctor.errors import tell
from perfdoctor.terminal import BottomLines, unfit

if TYPE_CHECKING:  # nothing heavy before the script's first line, see `running`
    from perfdoctor.live_view import LiveView
    from perfdoctor.report import Report

_STDERR = 2


class Panel:
    """Shows the run on stderr, once there is a first step.

    Its verdict is that of the last report made while the script runs, for which no further rules
    are run; until there is one, it names the stage that most of the recent time goes to.
    """

    def __init__(self, lines: BottomLines, *, colour: bool) -> None:
        self._lines = lines
        self._colour = colour
        self._verdict: str | None = None
        self._advice: str | None = None
        self._concluded_s = 0.0

    def show(self, view: LiveView | None) -> None:
        """Draws it; a single line before the first step."""
        try:
            if view is None:
                self._lines.draw(
                    lambda width, _: ["perfdoctor: waiting for the first step"[:width]]
                )
            else:
                self._draw(view)
        except Exception:
            self.close()  # nobody will draw again, and lines that stand still mislead
            raise

    def _draw(self, view: LiveView) -> None:
        from perfdoctor.render.encoding import replacing
        from perfdoctor.render.live import live_lines

        self._lines.errors = replacing()
        age_s = time.monotonic() - self._concluded_s
        view = replace(view, verdict=self._verdict, advice=self._advice, verdict_age_s=age_s)
        self._lines.draw(lambda width, height: live_lines(view, width, height, self._colour))

    def concluded(self, report: Report) -> None:
        """A report was made while the script runs."""
        from perfdoctor.render.live import conclusion

        self._verdict, self._advice = conclusion(report)
        self._concluded_s = time.monotonic()

    def close(self) -> None:
        """Takes it away and gives the terminal back."""
        self._lines.close()


def panel(environment: Mapping[str, str]) -> Panel | None:
    """The panel; None, and one line that says so, where stderr is nothing to draw on."""
    why = unfit(_STDERR, environment)
    if why is not None:
        tell(f"--live is off: {why}")
        return None
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    lines = BottomLines(_STDERR, encoding=encoding)
    return Panel(lines, colour=not environment.get("NO_COLOR"))
