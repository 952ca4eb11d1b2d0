"""Whether a change leaves the training what it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.experiments.parity import Parity, of_batches, parity

BEFORE = (2.0, 1.9, 1.8)


def label(after, *, safety="numerics", change=None, norms=(1.0,), before=BEFORE):
    return parity(before, after, norms, safety=safety, change=change or {}).label


def test_equal_losses_are_exact():
    assert label(BEFORE) == "exact"


@pytest.mark.parametrize(
    ("after", "change", "expected"),
    [
        ((2.000001, 1.90001, 1.8001), {}, "within tolerance"),
        ((2.01, 1.91, 1.81), {}, "diverges"),
        ((2.01, 1.91, 1.81), {"precision": "bf16"}, "within tolerance"),
        ((2.01, 1.91, 9.0), {"precision": "bf16"}, "diverges"),
        ((2.0, 1.9, None), {}, "not finite"),
    ],
)
def test_losses_may_differ_as_far_as_rounding_goes(after, change, expected):
    assert label(after, change=change) == expected


def test_gradients_must_be_finite_too():
    assert label(BEFORE, norms=(1.0, None)) == "not finite"


def test_other_random_numbers_are_no_divergence_but_another_problem_is():
    assert label((2.1, 1.8, 1.9), safety="random") == "other random numbers"
    assert label((9.0, 8.0, 7.0), safety="random") == "diverges"


def test_another_training_is_not_compared():
    assert label((5.0, 5.0, 5.0), safety="semantics").startswith("not comparable")
    assert label((None,), safety="semantics") == "not finite"


def test_what_was_not_finite_before_proves_nothing():
    found = parity((None, None), (None, None), (), safety="numerics", change={})
    assert found.label.startswith("not comparable") and found.acceptable


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=10), st.floats(0.0, 1.0))
def test_more_difference_is_never_better(losses, share):
    order = ["exact", "within tolerance", "diverges"]
    near = [loss * (1 + share / 100) for loss in losses]
    far = [loss * (1 + share) for loss in losses]
    ranks = [order.index(label(tuple(after), before=tuple(losses))) for after in (near, far)]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize(
    ("relation", "told"),
    [
        ("same", "not compared; the same batches from the same seed"),
        ("redrawn", "not compared; the same samples from the same seed, other random augment"),
        ("other", "not compared; other samples from the same seed"),
        (None, "not comparable: other batches"),
    ],
)
def test_where_losses_are_not_compared_the_batches_say_what_is_the_same(relation, told):
    assert of_batches(Parity("not comparable: other batches"), relation).text.startswith(told)


def test_batches_are_told_beside_losses_that_differ_and_not_beside_equal_ones():
    random = of_batches(Parity("other random numbers", 0.02), "redrawn").text
    assert random.startswith("other random numbers (differs by up to 2 %); the same samples")
    assert of_batches(Parity("exact", 0.0), "same").text == "exact"
    assert not of_batches(Parity("not finite"), "same").acceptable
