"""Which lines of a validation join whole outputs, and which go over all that were joined."""

from __future__ import annotations

import linecache
from pathlib import Path

import pytest
from made import library, user

from perfdoctor.collect.script.kept_outputs import joins_to_itself, kept_outputs
from perfdoctor.collect.script.libraries import Libraries
from perfdoctor.collect.script.stacks import Frame

_OWNER = Libraries()


def owner(frame: Frame) -> str:
    return _OWNER.of(frame.file)


def evaluation(text: str = "metrics = self.compute_metrics(") -> tuple[Frame, ...]:
    """Trainer's loop at a line with this text, and what called it."""
    loop = library("transformers/trainer.py", "Trainer.evaluation_loop", 3)
    linecache.cache[loop.file] = (9, None, ["\n", "\n", f"{text}\n"], loop.file)
    return (loop, library("transformers/trainer.py", "Trainer.evaluate"), user("main"))


JOINS = library("transformers/trainer_pt_utils.py", "torch_pad_and_concatenate")
KEEPS = library("transformers/trainer_pt_utils.py", "EvalLoopContainer.add")
GATHERS = library("accelerate/accelerator.py", "Accelerator.gather_for_metrics")
STEP = library("transformers/trainer.py", "Trainer.prediction_step")


@pytest.mark.parametrize(
    ("inner", "how"),
    [
        ((JOINS, KEEPS), "joined"),
        ((GATHERS,), "joined"),
        ((user("log_softmax"), user("compute_metrics")), "scored"),
        ((library("numpy/_core.py", "take"), user("compute_metrics")), "scored"),
        ((user("forward"), STEP), None),
        ((user("forward"), user("Mine.prediction_step")), None),
        ((library("torch/utils/data/dataloader.py", "__next__"),), None),
        ((user("on_prediction_step"), library("transformers/trainer_callback.py", "call")), None),
        ((), None),
    ],
)
def test_of_the_trainers_evaluation(inner: tuple[Frame, ...], how: str | None) -> None:
    assert kept_outputs((*inner, *evaluation()), owner) == how


def test_what_is_called_with_each_batch_goes_over_no_whole() -> None:
    loop = evaluation("logits = self.preprocess_logits_for_metrics(logits, labels)")
    assert kept_outputs((user("gold_ranks"), *loop), owner) is None


def test_a_function_of_that_name_elsewhere_is_none_of_the_trainers() -> None:
    assert kept_outputs((user("compute_metrics"), user("evaluation_loop")), owner) is None
    assert kept_outputs((GATHERS, user("evaluate")), owner) is None


@pytest.mark.parametrize(
    ("line", "joins"),
    [
        ("scores = torch.cat([scores, out])", True),
        ("self.scores = torch.cat((self.scores, out.cpu()), dim=0)", True),
        ("scores = np.append(scores, out.numpy())", True),
        ("scores = np.concatenate([scores, out], axis=0)", True),
        ("scores = out if scores is None else torch.cat([scores, out])", True),
        ("scores = torch.cat([left, right])", False),
        ("scores = torch.cat(kept)", False),
        ("scores.append(out)", False),
        ("scores = scores + out", False),
        ("a, b = torch.cat([a, out]), 1", False),
    ],
)
def test_a_name_that_grows_by_joining(tmp_path: Path, line: str, joins: bool) -> None:
    file = tmp_path / "train.py"
    file.write_text(f"def evaluate(self, scores, out):\n    for x in out:\n        {line}\n")
    assert joins_to_itself(str(file), 3) is joins


def test_without_source_nothing_is_said() -> None:
    assert not joins_to_itself("/nowhere/train.py", 3)
