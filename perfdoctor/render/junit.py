"""A check as JUnit XML: a regression is a failure, what is inconclusive is skipped."""

from __future__ import annotations

from xml.etree import ElementTree

from perfdoctor.compare.checks import INCONCLUSIVE, REGRESSION, CheckResult, Judged
from perfdoctor.render import check_words, sides_words
from perfdoctor.render.text import clean


def of_check(result: CheckResult) -> bytes:
    """One test case for each criterion that may fail; those that warn are told in the output."""
    cases = [j for j in result.judged if j.criterion.fails]
    suite = ElementTree.Element(
        "testsuite",
        name="perfdoctor check",
        tests=str(len(cases)),
        failures=str(sum(j.outcome == REGRESSION for j in cases)),
        skipped=str(sum(j.outcome == INCONCLUSIVE for j in cases)),
        errors="0",
        time=f"{result.seconds:.3f}",
        timestamp=result.created_at,
    )
    for found in cases:
        suite.append(_case(result, found, result.seconds / len(cases)))
    told = ElementTree.SubElement(suite, "system-out")
    told.text = _printable("\n".join(_lines(result)))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _case(result: CheckResult, found: Judged, took_s: float) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        classname=_printable(f"perfdoctor.{clean(result.measured)}"),
        name=_printable(f"{clean(found.criterion.name)} within {check_words.margin(found)}"),
        time=f"{took_s:.3f}",
    )
    sentence = _printable(check_words.verdict(found))
    if found.outcome == REGRESSION:
        failure = ElementTree.SubElement(case, "failure", message=sentence, type="regression")
        failure.text = _printable("\n".join(sides_words.difference(d) for d in result.why))
    elif found.outcome == INCONCLUSIVE:
        ElementTree.SubElement(case, "skipped", message=sentence)
    return case


def _lines(result: CheckResult) -> list[str]:
    judged = [check_words.verdict(found) for found in result.judged]
    return [check_words.sides(result), *judged, *map(clean, result.notes)]


def _printable(text: str) -> str:
    """Without what XML 1.0 cannot hold."""
    return "".join(c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000")  # fmt: skip # noqa: E501
