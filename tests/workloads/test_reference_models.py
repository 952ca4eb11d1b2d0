from __future__ import annotations

import pytest
import torch

from perfdoctor.workloads.reference import Task, gpt_reference, reference_for

SHAPES = [
    ((), False),
    ((1,), False),
    ((5000,), False),
    ((1, 1), False),
    ((3000, 2), False),
    ((2, 3000), False),
    ((28, 28), True),
    ((1, 1), True),
    ((1, 4, 4), False),
    ((5, 5, 1), False),
    ((3, 512, 384), False),
    ((2, 3, 3, 9, 9), False),
]


@pytest.mark.parametrize(("shape", "image"), SHAPES)
@pytest.mark.parametrize("task", [Task(4, classify=True), Task(2, classify=False)])
def test_every_shape_trains(shape: tuple[int, ...], image: bool, task: Task) -> None:
    reference = reference_for(shape, task, image=image)
    model = reference.make()
    output = model(torch.randn(3, *shape))
    assert output.shape == (3, task.outputs)
    target = torch.tensor([0, 3, 1]) if task.classify else torch.randn(3, 2)
    reference.loss(output, target).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("shape", [(6,), (9, 2), (3, 8, 8), (1, 4, 4)])
def test_a_last_batch_of_one_sample_trains(shape: tuple[int, ...]) -> None:
    reference = reference_for(shape, Task(2, classify=True))
    output = reference.make()(torch.randn(1, *shape))
    reference.loss(output, torch.tensor([1])).backward()  # type: ignore[no-untyped-call]


def test_the_note_counts_the_parameters() -> None:
    reference = reference_for((3, 128, 128), Task(4, classify=True))
    assert reference.note(reference.make()) == (
        "Reference model: a small CNN (0.16 M parameters), 4 classes."
    )
    one = reference_for((3,), Task(1, classify=False))
    assert one.note(one.make()).endswith("1 number.")


def test_the_gpt_scores_every_position() -> None:
    reference = gpt_reference(50, 16)
    ids = torch.randint(50, (2, 16))
    logits = reference.make()(ids)
    assert logits.shape == (2, 16, 50)
    assert float(reference.loss(logits, ids).detach()) > 0
