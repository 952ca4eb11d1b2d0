"""Two sides as GitHub-flavoured Markdown, for a job summary or a comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perfdoctor.compare.checks import IMPROVED, INCONCLUSIVE, PASS, REGRESSION, CheckResult, Judged
from perfdoctor.compare.differences import Difference
from perfdoctor.compare.shifts import CONFIDENCE, MARGIN, Shift, Sides
from perfdoctor.render import check_words, sides_words
from perfdoctor.render.text import clean

_DIFFERENCES_SHOWN = 20
_SIGNS = {PASS: "✅", IMPROVED: "✅", REGRESSION: "❌", INCONCLUSIVE: "❔"}
#: What would be read as markup.
_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>|#~@"})


def escaped(text: object) -> str:
    """Text from outside, on one line, that Markdown shows as it is."""
    return clean(text).translate(_SPECIAL)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    marks = ["---", *("---:" for _ in headings[1:])]
    lines = [headings, marks, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sides(compared: Sides) -> str:
    """The whole comparison."""
    return "\n\n".join(_parts(compared)) + "\n"


def _parts(compared: Sides) -> Iterator[str]:
    yield "## perfdoctor compare"
    yield f"**{escaped(sides_words.summary(compared))}**"
    yield (
        f"before: {escaped(compared.before.label)} ({_count(compared.before.reports)}) · "
        f"after: {escaped(compared.after.label)} ({_count(compared.after.reports)})"
    )
    yield shifts(compared.shifts, compared.margin)
    yield from sides_words.basis(compared)
    yield from (f"> {escaped(note)}" for note in compared.notes)
    if compared.differences:
        yield "### What else differs"
        yield differences(compared.differences)


def _count(reports: Sequence[str]) -> str:
    return f"{len(reports)} run{'' if len(reports) == 1 else 's'}"


def shifts(found: Sequence[Shift], margin: float) -> str:
    """One row a quantity."""
    rows = [
        (
            escaped(sides_words.name(shift)),
            sides_words.value(shift, shift.before) or "–",
            sides_words.value(shift, shift.after) or "–",
            "–" if shift.ratio is None else sides_words.relative_change(shift.ratio),
            sides_words.interval(shift.ratio_ci) or "–",
            sides_words.direction(shift, margin),
        )
        for shift in found
    ]
    return table(("", "before", "after", "change", "interval", ""), rows)


def differences(found: Sequence[Difference]) -> str:
    """A list, the most telling first."""
    lines = [f"- {escaped(sides_words.difference(d))}" for d in found[:_DIFFERENCES_SHOWN]]
    more = len(found) - len(lines)
    return "\n".join([*lines, *([f"- and {more} more"] if more > 0 else [])])


def check(result: CheckResult) -> str:
    """The result of a check; what was measured besides is folded."""
    return "\n\n".join(_check_parts(result)) + "\n"


def _check_parts(result: CheckResult) -> Iterator[str]:
    title = f"{_SIGNS[result.outcome]} {check_words.outcome(result)}"
    yield f"## {title}: {escaped(result.measured)}"
    yield f"**{escaped(check_words.headline(result))}**"
    yield f"{escaped(check_words.sides(result))} · {check_words.effort(result)}"
    headings = ("criterion", "margin", "before → after", "change", "power", "")
    yield table(headings, [_criterion(found) for found in result.judged])
    level = next((j.confidence for j in result.judged if j.interval and j.confidence), None)
    if level is not None:
        yield f"<sub>{check_words.of_change(result, level)}</sub>"
    yield from (f"> {escaped(note)}" for note in result.notes)
    if result.why:
        yield "### What else differs"
        yield differences(result.why)
    if result.shifts:
        everything = shifts(check_words.shown(result), MARGIN)
        told = f"What was measured, with {100 * CONFIDENCE:g} % intervals"
        yield f"<details><summary>{told}</summary>\n\n{everything}\n</details>"


def _criterion(found: Judged) -> tuple[str, ...]:
    warns = "" if found.criterion.fails else " (warns)"
    seen, told = check_words.power(found), check_words.outcome_of(found)
    return (
        f"{escaped(found.criterion.name)}{warns}",
        check_words.margin(found),
        check_words.values(found),
        check_words.change(found),
        "–" if seen is None else seen.removeprefix("could have seen "),
        f"{'⚠️' if told == 'warning' else _SIGNS[found.outcome]} {told}",
    )
