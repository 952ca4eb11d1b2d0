"""What a line holds: its fields, and what a known format says about its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perfdoctor.readers.records import TRAIN
from perfdoctor.readers.values import Value


@dataclass(frozen=True)
class Field:
    """A value of a line: its role, what to multiply it by, and the count it is divided by."""

    role: str
    value: Value
    scale: float = 1.0
    per: Value | None = None


@dataclass(frozen=True)
class Template:
    """What every line of one shape holds. `phase` is TRAIN, VALIDATION or OTHER_PHASE."""

    fields: tuple[Field, ...] = ()
    phase: float = TRAIN
    device_rates: bool = False

    def __bool__(self) -> bool:
        return bool(self.fields)

    def roles(self) -> frozenset[str]:
        """The roles of all fields."""
        return frozenset(f.role for f in self.fields)


@dataclass(frozen=True)
class Hints:
    """What a known format says about its names.

    Attributes:
        roles: normalised label → role, or "" to leave the value alone.
        fractions: roles of unlabelled fractions, in order.
        pair: the name of a fraction whose parts are not part and whole ("": it has none), and
            the two roles.
        bracketed: role of a whole number alone in brackets, where nothing else counts.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    fractions: tuple[str, ...] = ()
    pair: tuple[str, str, str] | None = None
    bracketed: str = ""
