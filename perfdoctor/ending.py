"""How an observed script ended."""

from __future__ import annotations

from dataclasses import dataclass

#: Ends that a script comes to by itself, having done all it was to do. An exception is none: how
#: much would have followed is not known.
BY_ITSELF = ("finished", "exit", "os._exit")
#: The setting that says that the observation ended before the script did.
IN_PART = "observed_in_part"
#: What the end of an interpreter takes, of what importing torch took, and at most.
_LEAVES, _LEAVES_MOST_S = 0.4, 0.8


@dataclass(frozen=True)
class Ending:
    """How a script ended.

    Attributes:
        how: finished, exit, exception, interrupted, signal, os._exit, stopped (by `--stop-after`),
            or running, where the report was written before the end.
        detail: the exception's type and first line, the signal's name, or what `sys.exit` was
            given when that was no number; empty where there is nothing to say.
        code: the exit code as a shell shows it (128 + number for a signal).
    """

    how: str
    detail: str = ""
    code: int | None = None


def leaving_s(how: str, import_torch_s: float | None) -> float:
    """Seconds from the end of a script to the end of its process, which nothing in it can time.

    An interpreter that ends takes apart what its imports have made: with torch 2.13 it took 0.57 to
    0.73 s where importing had taken 1.25 to 1.64 s (own measurement). A first import from a cold
    disk takes longer, the end does not.

    Args:
        how: as `Ending` has it; `os._exit` takes nothing apart.
        import_torch_s: what importing torch took; None where that is not known.
    """
    if how == "os._exit" or not import_torch_s:
        return 0.0
    return min(_LEAVES_MOST_S, _LEAVES * import_torch_s)
