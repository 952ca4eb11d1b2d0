"""What the values in a function depend on, and what the function sees around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

#: The same each time; not known; given by the arguments. What is made of several is the last.
SAME, UNKNOWN, VARIES = range(3)
#: Whether random numbers are in it. What is made of several is the last.
FIXED, PERHAPS, DRAWN = range(3)


@dataclass(frozen=True)
class Value:
    """What a value depends on, and whether a file is read for it in this call.

    `drawn`: whether it is drawn at random in this call; `seeded`: of a generator, that it draws
    the same for the same sample.
    """

    how: int = SAME
    reads: bool = False
    drawn: int = FIXED
    seeded: bool = False

    def __or__(self, other: Value) -> Value:
        return Value(
            max(self.how, other.how),
            self.reads or other.reads,
            max(self.drawn, other.drawn),
            self.seeded or other.seeded,
        )

    @property
    def unread(self) -> Value:
        """As the condition of something else, which it does not make a reading."""
        return replace(self, reads=False)

    @property
    def chosen(self) -> Value:
        """As one of several that are there: which one is drawn, not what it is."""
        return replace(self, drawn=min(self.drawn, PERHAPS))


ALWAYS = Value()
NOT_KNOWN = Value(UNKNOWN, drawn=PERHAPS)
GIVEN = Value(VARIES)


@dataclass(frozen=True)
class Scope:
    """What a function sees around it.

    Attributes:
        imported: name → what it is, dotted. defined: functions and classes of the same file.
        attributes: those of `self` that are not set once to something plain.
        drawn: functions, and with a dot before them methods → whether what they give is drawn.
    """

    imported: Mapping[str, str]
    defined: frozenset[str] = frozenset()
    attributes: Mapping[str, Value] = field(default_factory=dict)
    drawn: Mapping[str, int] = field(default_factory=dict)
