"""Options of perfdoctor's that stand behind the script, and so are given to that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from perfdoctor.errors import tell


def hint_at_misplaced(
    script: str, arguments: Sequence[str], options: Iterable[click.Parameter]
) -> None:
    """Says so of options that the script's source does not speak of; they are the script's."""
    own = {name for option in options for name in option.opts if name.startswith("--")}
    given = [argument.partition("=")[0] for argument in arguments]
    misplaced = [name for name in dict.fromkeys(given) if name in own]
    if not misplaced:
        return
    source = _source(script)
    strange = [name for name in misplaced if name.lstrip("-").replace("-", "_") not in source]
    if strange:
        names, one = ", ".join(strange), len(strange) == 1
        tell(
            f"note: {names} {'stands' if one else 'stand'} behind {script}, which gets "
            f"{'it' if one else 'them'}; options of perfdoctor go before the script"
        )


def _source(script: str) -> str:
    """With all names written alike; empty where there is none to read, as of a module."""
    try:
        return Path(script).read_text(encoding="utf-8", errors="replace").replace("-", "_")
    except OSError:
        return ""
