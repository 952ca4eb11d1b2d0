"""A check as JUnit XML: a regression is a failure, what is inconclusive is skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from perfdoctor.compare.checks import INCONCLUSIVE, REGRESSION, CheckResult, Judged
from perfdoctor.render import check_words, sides_words
from perfdoctor.render.text import clean


def of_check(result: CheckResult, *, strict: bool = False) -> bytes:
    """One test case for each criterion that may fail; those that warn are told in the output.

    `strict`: what is inconclusive fails, too.
    """
    cases = [j for j in result.judged if j.criterion.fails]
    fatal = {REGRESSION, INCONCLUSIVE} if strict else {REGRESSION}
    counts = {
        "tests": len(cases),
        "failures": sum(j.outcome in fatal for j in cases),
        "skipped": sum(j.outcome == INCONCLUSIVE and not strict for j in cases),
    }
    took_s = result.seconds / max(1, len(cases))
    made = [_case(result, found, took_s, strict=strict) for found in cases]
    return document(made, counts, result.created_at, result.seconds, "\n".join(_lines(result)))


def document(
    cases: Sequence[ElementTree.Element],
    counts: Mapping[str, int],
    created_at: str,
    took_s: float = 0.0,
    told: str = "",
) -> bytes:
    """A suite of these test cases, with what was told besides."""
    numbers = {"tests": 0, "failures": 0, "skipped": 0, "errors": 0, **counts}
    suite = ElementTree.Element(
        "testsuite",
        {name: str(number) for name, number in numbers.items()},
        name="perfdoctor check",
        time=f"{took_s:.3f}",
        timestamp=created_at,
    )
    suite.extend(cases)
    if told:
        ElementTree.SubElement(suite, "system-out").text = printable(told)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _case(
    result: CheckResult, found: Judged, took_s: float, *, strict: bool
) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        classname=printable(f"perfdoctor.{clean(result.measured)}"),
        name=printable(f"{clean(found.criterion.name)} within {check_words.margin(found)}"),
        time=f"{took_s:.3f}",
    )
    sentence = printable(check_words.verdict(found))
    if found.outcome == REGRESSION:
        failure = ElementTree.SubElement(case, "failure", message=sentence, type="regression")
        failure.text = printable("\n".join(sides_words.difference(d) for d in result.why))
    elif found.outcome == INCONCLUSIVE and strict:
        ElementTree.SubElement(case, "failure", message=sentence, type="inconclusive")
    elif found.outcome == INCONCLUSIVE:
        ElementTree.SubElement(case, "skipped", message=sentence)
    return case


def _lines(result: CheckResult) -> list[str]:
    judged = [check_words.verdict(found) for found in result.judged]
    return [check_words.sides(result), *judged, *map(clean, result.notes)]


def printable(text: str) -> str:
    """Without what XML 1.0 cannot hold."""
    return "".join(c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000")  # fmt: skip # noqa: E501
