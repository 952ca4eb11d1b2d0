"""Reinforcement learning: counters that count what is played, not what is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from perfdoctor.readers.labels import Label
from perfdoctor.readers.line_values import Seen
from perfdoctor.readers.roles import Field
from perfdoctor.readers.word_sets import OF_EPISODES, word_set

_EPISODES = word_set("ep episode episodes episodic")
_TRAINING = word_set(
    "train training trainer update updates gradient grad learner optim optimizer batch batches "
    "minibatch iter iters iteration iterations nupdates"
)
#: Of a bar that counts steps of a game, these tell of samples.
_OF_SAMPLES = {"steps_per_s": "samples_per_s", "step_s": "sample_s"}


def of_environment(fields: Sequence[Field], seen: Sequence[Seen]) -> Iterator[Field]:
    """ "global_step=217, episodic_return=21.0": steps of the game, if no name says otherwise.

    What a line says by name of the time of its steps is believed.
    """
    if not tells_of_episodes(v.label for v in seen) or any(_times_steps(v) for v in seen):
        yield from fields
        return
    labels = {id(v.token.value): v.label for v in seen}
    counted = any(f.role == "env_steps" for f in fields)
    for entry in fields:
        label = labels.get(id(entry.value))
        own = entry.role == "step" and (label is None or not counts_training(label))
        role = _OF_SAMPLES.get(entry.role, entry.role) if counted else entry.role
        yield replace(entry, role="env_steps" if own else role)


def tells_of_episodes(labels: Iterable[Label]) -> bool:
    """Whether names that stand together tell of episodes and of what they gave: of a game."""
    words = {word for label in labels for word in label.words}
    return not (words.isdisjoint(_EPISODES) or words.isdisjoint(OF_EPISODES))


def counts_training(label: Label) -> bool:
    """Whether the name of a counter tells that it counts what is trained, not what is played."""
    return label.any(_TRAINING)


def _times_steps(value: Seen) -> bool:
    named = bool(value.label.words) and value.meaning is not None
    return named and value.meaning is not None and value.meaning.role in _OF_SAMPLES
