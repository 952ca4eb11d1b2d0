"""Option types: lists of values, on/off words, JSON objects."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, ClassVar

import click

if TYPE_CHECKING:
    AnyParamType = click.ParamType[Any]  # generic only in newer releases
else:
    AnyParamType = click.ParamType


class ListOf(AnyParamType):
    """Values separated by commas, each of `item` type; gives a tuple without repetitions."""

    def __init__(self, item: AnyParamType) -> None:
        self.item = item
        self.name = f"{item.name}[,…]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The values in their order."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(parts):
            self.fail(f"{value!r} has an empty value", param, ctx)
        return tuple(dict.fromkeys(self.item.convert(part, param, ctx) for part in parts))

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """As shown by --help."""
        if isinstance(self.item, click.Choice):
            return f"{'|'.join(map(str, self.item.choices))}[,…]"
        number = isinstance(self.item, click.IntRange | click.FloatRange)
        return "N[,…]" if number else "TEXT[,…]"


class Count(click.IntRange):
    """A whole number; the help shows its range."""

    name = "whole number"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """As shown by --help."""
        return "N"


class Seconds(click.FloatRange):
    """Seconds, with or without a fraction."""

    name = "number of seconds"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """As shown by --help."""
        return "SECONDS"


class Duration(AnyParamType):
    """Seconds from "90", "120s", "2m" or "1h"; more than none."""

    name = "duration"
    _UNITS: ClassVar[dict[str, float]] = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds."""
        text = str(value).strip().lower()
        number = text.rstrip("smh")
        try:
            seconds = float(number) * self._UNITS[text[len(number) :]]
        except (ValueError, KeyError):
            self.fail(f"{value!r} is no duration; write 90, 120s or 2m", param, ctx)
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r} must be more than none", param, ctx)
        return seconds


class JsonObject(AnyParamType):
    """A JSON object, as keyword arguments."""

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """The object as a dictionary."""
        if isinstance(value, dict):
            return value
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if not isinstance(parsed, dict):
            self.fail('must be a JSON object, such as {"depth": 18}', param, ctx)
        return parsed
