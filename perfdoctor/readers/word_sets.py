"""Sets of words, written as a text, and those that several modules need."""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """The words of a text, which spaces separate."""
    return frozenset(text.split())


ETA = word_set("eta remain remaining remains left estimated finish expected togo")
STEP = word_set(
    "step steps iter iters iteration iterations it itr its batch batches minibatch update updates "
    "upd bch nupdates i idx"
)
MEAN = word_set("avg average mean running smoothed smooth ema moving aver averaged runningavg")
VALIDATION = word_set(
    "val valid validation eval evaluation evaluate evaluating validating test testing dev "
    "inference infer"
)
#: What is told of the episodes of a game.
OF_EPISODES = word_set("rew reward rewards ret return returns len length lengths")
