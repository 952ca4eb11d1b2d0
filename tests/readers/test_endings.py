"""What programs print when the training is over."""

from __future__ import annotations

import pytest

from perfdoctor.readers.endings import says_finished


@pytest.mark.parametrize(
    "line",
    [
        ':::MLLOG {"time_ms": 17, "key": "run_stop", "metadata": {"status": "success"}}',
        "[rank0]: Training completed",
        "Total training time: 1:23:45",
        "| done training in 794.4 seconds",
        "{'train_runtime': 12.4, 'train_samples_per_second': 9.1}",
        "`Trainer.fit` stopped: `max_epochs=5` reached.",
        "30 epochs completed in 2.1 hours.",
        "训练完成",
    ],
)
def test_the_end_is_known_by_what_is_printed_last(line: str) -> None:
    steps = "\n".join(f"step {n} loss 0.5 time 0.1" for n in range(50))
    assert says_finished(f"{steps}\n{line}\nbye\n")


@pytest.mark.parametrize(
    "line",
    ["Epoch 3: training finished, validating", "step 12 train 0.1", "start of training", ""],
)
def test_an_epoch_that_ends_is_not_the_end(line: str) -> None:
    assert not says_finished(line)


def test_the_end_of_an_earlier_run_in_the_file_is_none() -> None:
    later = "\n".join(f"step {n} loss 0.5 time 0.1 and some more words" for n in range(400))
    assert not says_finished(f"Training completed\n{later}")
