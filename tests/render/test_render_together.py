"""What all changes bring together, in words."""

from __future__ import annotations

from perfdoctor.render.words import together
from perfdoctor.report import Together


def found(**changes: object) -> Together:
    fields: dict[str, object] = {
        "speedup": 2.3,
        "low": 1.8,
        "high": 2.9,
        "model": "pipeline model",
        "rules": ("PD101", "PD202", "PD501"),
        "product": 3.1,
    }
    return Together(**(fields | changes))  # type: ignore[arg-type]


def test_the_product_of_the_single_gains_is_denied() -> None:
    assert together(found()) == (
        "all 3 together (PD101, PD202, PD501): predicted 2.30× (1.80–2.90×), not 3.10×"
    )


def test_two_are_both_and_an_equal_product_is_not_mentioned() -> None:
    text = together(found(rules=("PD101", "PD202"), product=2.3))
    assert text == "both together (PD101, PD202): predicted 2.30× (1.80–2.90×)"
