"""PD126: all there is is put into a random order, to take as much as a batch of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    hot_lines,
    line_evidence,
    samples_of_step,
    without,
)
from perfdoctor.rules.wording import percent
from perfdoctor.stages import DATA_LOADING, OTHER

#: Putting a number into its random place, where there are many (own measurement with NumPy 2.4 and
#: torch 2.13: 8 ns with `torch.randperm`, 20 to 40 ns with the others).
_NUMBER_S = 10e-9
#: So many times as much as is taken must have been put into an order: drawing few costs something,
#: too, and the machine may be slow (our own choice).
_TIMES = 30
#: What goes of the line's time (own measurement: of 128 out of 20,000 to a million); of torch's, if
#: the few are drawn by Python, a third at least.
_GOES, _GOES_OF_TORCH = (0.80, 0.97, 1.0), (0.30, 0.95, 1.0)
#: The cause of what PD214 says of the same lines.
IN_THE_LOOP = "python-in-the-loop"

_WITHOUT = (
    "A Generator of NumPy's draws few of many without that: rng.choice(n, k, replace=False, "
    "shuffle=False)."
)
_OF_NUMPY = (
    f"{_WITHOUT} Where a sample may come twice in a batch, which is rare among many, rng.integers "
    "(randint) draws with replacement and costs still less. Other numbers are drawn than before."
)
_OF_TORCH = (
    "Where a sample may come twice in a batch, which is rare among many, torch.randint draws with "
    "replacement; random.sample(range(n), k) draws without and makes no list. Other numbers are "
    "drawn than before."
)
_OF_PYTHON = (
    "random.sample draws from range(n) without making a list: take the items by the indices that "
    "it gives."
)
_SNIPPET_NUMPY = (
    "rng = np.random.default_rng(seed)  # once\n"
    "index = rng.choice(n, batch_size, replace=False, shuffle=False)  # none twice\n"
    "index = rng.integers(n, size=batch_size)  # or: with replacement"
)
_SNIPPET_TORCH = (
    "index = torch.tensor(random.sample(range(n), batch_size))  # none twice\n"
    "index = torch.randint(n, (batch_size,))  # or: with replacement"
)
_SNIPPET_PYTHON = "batch = [items[i] for i in random.sample(range(len(items)), batch_size)]"


class WholeOrderForFew:
    """All samples are put into a random order, or listed, to draw a batch of them.

    ## What it does
    Looks, by the source of hot lines that make batches, for draws without replacement that permute
    everything for as much as a batch: `np.random.choice(n, k, replace=False)`,
    `np.random.permutation(n)[:k]`, `torch.randperm(n)[:k]`, and `random.sample` of a list made for
    it.

    ## Why it is slow
    What it takes grows with the number of all samples and not with the batch, in every step.

    ## Evidence and threshold
    The share of the training in such lines, each of which takes as long as putting many times as
    many numbers into an order as it draws.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Draw the few indices themselves: `rng.choice(n, k, replace=False, shuffle=False)` of
    `np.random.default_rng`, or `random.sample(range(n), k)`; with replacement `rng.integers`,
    `np.random.randint` or `torch.randint`.

    ## How the gain is predicted
    Without 80 % of these lines' time at least, 97 % likely; of `torch.randperm` 30 % at least, 95 %
    likely (own measurement).

    ## When not to
    Where everything that was put into an order is used. A draw with replacement may hold a sample
    twice: of n samples, in a batch of k, about k²/2n times.
    """

    code: ClassVar[str] = "PD126"
    name: ClassVar[str] = "whole-order-for-few"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such lines take a visible share."""
        lines = whole_draws(facts)
        share = min(1.0, sum(line.share for line in lines))
        if share < facts.threshold("share"):
            return None
        line = lines[0]
        advice, snippet = _what_to_do(line.permutes)
        loads = line.stage == DATA_LOADING
        listed = line.permutes.endswith("sample")
        does = "lists everything" if listed else "puts everything into a random order"
        return Finding(
            stage=line.stage,
            title=f"{line.place} `{line.permutes}` {does} to draw a few: {percent(share)} of the "
            "training",
            advice=advice,
            change={"draws": "few"},
            snippet=snippet,
            evidence=(
                Evidence(
                    metric="drawing",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                *line_evidence(lines),
            ),
            cause=self.cause if loads else IN_THE_LOOP,
            predicted=without(share, *_gone(line.permutes)),
            confidence=0.9,
            effort="lines",
            safety="exact" if listed else "semantics",
        )


def whole_draws(facts: Facts, *stages: str) -> list[HotLine]:
    """The lines that draw so, hottest first."""
    lines = [line for line in hot_lines(facts, *(stages or (DATA_LOADING, OTHER))) if line.permutes]
    return [line for line in lines if _many(facts, line)]


def _many(facts: Facts, line: HotLine) -> bool:
    """Whether it takes as long as putting many more numbers into an order than it takes."""
    step_s, taken = facts.known("steps.time.mean_s"), line.permutes_for or batch_of(facts)
    if step_s is None or not taken:
        return False
    return line.share * step_s >= _TIMES * _NUMBER_S * taken


def batch_of(facts: Facts) -> float | None:
    """Samples of a step."""
    return samples_of_step(facts) or facts.known("configuration.batch_size")


def _gone(draws: str) -> tuple[float, float, float]:
    return _GOES_OF_TORCH if draws.endswith("randperm") else _GOES


def _what_to_do(draws: str) -> tuple[str, str]:
    if draws.endswith("randperm"):
        return _OF_TORCH, _SNIPPET_TORCH
    return (
        (_OF_PYTHON, _SNIPPET_PYTHON) if draws.endswith("sample") else (_OF_NUMPY, _SNIPPET_NUMPY)
    )
