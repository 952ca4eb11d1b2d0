"""Renderers: a Report goes in, bytes or console output come out. Nothing is measured or concluded.

`RENDERERS` names every format that gives bytes; the console is apart, since it needs a terminal.
To add a format: one file with a function `Report -> bytes`, and one line here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from perfdoctor.report import Report


class Renderer(Protocol):
    """Turns a report into the bytes of one file."""

    def __call__(self, report: Report, /) -> bytes:
        """The whole file."""


#: Format → where its renderer is; imported on use, since drawing needs matplotlib.
RENDERERS = {
    "json": "perfdoctor.schema:to_json",
    "png": "perfdoctor.render.png:graph_benchmark",
}


def renderer(form: str) -> Renderer:
    """The renderer of a format named in `RENDERERS`; KeyError for any other."""
    module, _, function = RENDERERS[form].partition(":")
    return cast(Renderer, getattr(import_module(module), function))
