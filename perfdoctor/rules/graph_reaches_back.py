"""PD241: a state carried from step to step ties each step's graph to those of the steps before."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.groups import stage_columns
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, at, hot_lines, line_evidence, stage_share, without
from perfdoctor.rules.run_growth import SLOW_DOWN
from perfdoctor.rules.trends import DEGRADED, lasting_fall
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import BACKWARD

_GROWN = "configuration.graph_nodes_grown_per_step"
_OWN = "configuration.graph_nodes_own"
_STEPS_BACK = "configuration.graph_steps_back"
#: An epoch is cut into so many parts, each with the median over all epochs: what else slows steps
#: down does so in all of them alike. Sequences of fewer steps are cut into their steps.
_TENTHS = 10
#: Where the epochs are not known: a fall of the backward pass is seen between so many steps before
#: it and as many after it (one, where the graphs were seen to end after few), and so many stretches
#: from fall to fall are epochs, of so many steps.
_NEIGHBOURS, _FEWEST_TEETH, _SHORTEST = 5, 2, 5
_OF_TRAINING, _OF_PAIRS = "share of training", "share of pairs"


class GraphReachesBack:
    """Each backward pass goes through the graphs of earlier steps again.

    ## What it does
    Counts in the first steps of an observed script the operations that a loss leads to,
    and how many of them are older than the step.

    ## Why it is slow
    A state that is carried from one step to the next and was not detached still has the graph that
    it was made with. The next step's loss leads into it, so each backward pass goes through all
    steps since the state was last begun anew: each takes longer than the one before, and all
    their activations stay in memory. (`retain_graph=True` is what makes that possible.)

    ## Evidence and threshold
    The operations of earlier steps become more from each counted step to the next of its epoch, or
    of a sequence of six steps and more that begins anew within it; the backward pass takes longer
    from tenth to tenth of an epoch, or from step to step of such sequences (medians over all of
    them); and what it takes beyond the first of them is visible.
    - `nodes` = 1 (source: the least by which a graph can grow)
    - `rising` = 0.8 (source: of the pairs of ten values so many rise by chance in one of a
      hundred cases, by the Mann-Kendall test, of six values in one of fifteen)
    - `share` = 0.1 (source: our own choice, half of the 20 % from which xprof and TraceML call a
      stage high)

    ## What to change
    `state = state.detach()` where it is handed on to the next step; `retain_graph` is then not
    needed.

    ## How the gain is predicted
    Every backward pass takes as long as those in the first tenth of an epoch: at worst as in the
    first fifth, at best as where a line through the first two tenths begins.

    ## When not to
    Where gradients through all earlier steps are wanted. Detaching cuts them off, so that the
    training learns from the state as it is, and not how to make it. Truncated backpropagation
    through time detaches every few steps, and is not meant here.
    """

    code: ClassVar[str] = "PD241"
    name: ClassVar[str] = "graph-reaches-back"
    needs: ClassVar[tuple[str, ...]] = (_GROWN, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "graph-reaches-back"
    thresholds: ClassVar[Mapping[str, float]] = {"nodes": 1.0, "rising": 0.8, "share": 0.10}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the graphs grow, and the backward passes with them."""
        grown = facts.number(_GROWN)
        if grown < facts.threshold("nodes"):
            return None
        lengths, whole = _lengths(facts), stage_share(facts, BACKWARD)
        rising, share = _rising(lengths), whole * (1 - float(lengths[0] / lengths.mean()))
        if rising < facts.threshold("rising") or share < facts.threshold("share"):
            return None
        lines = hot_lines(facts, BACKWARD)
        return Finding(
            stage=BACKWARD,
            title=f"Each step's graph reaches back into earlier steps, by {_nodes(grown)} more a "
            f"step: {percent(share)} of the training goes into gradients through these"
            f"{at(lines[0] if lines else None)}",
            advice="Detach the state that is carried from step to step, where it is handed on: "
            "`state = state.detach()`. No gradients then go through earlier steps, which changes "
            "the training: leave it where they are wanted, or detach every few steps.",
            change={"carried_state": "detached"},
            snippet="state = decay * state + (1 - decay) * new.mean(0)\n"
            "...\n"
            "loss.backward()  # without retain_graph\n"
            "state = state.detach()  # the next step's graph begins here",
            evidence=(
                beside(facts, "operations of earlier steps, more a step", grown, "", "nodes"),
                *_own(facts),
                beside(facts, "backward beyond its first steps", share, _OF_TRAINING, "share"),
                beside(facts, "of two tenths the later is longer", rising, _OF_PAIRS, "rising"),
                *line_evidence(lines, 1),
            ),
            cause=SLOW_DOWN if lasting_fall(facts, DEGRADED) else self.cause,
            predicted=_gain(whole, lengths),
            confidence=0.95,
            effort="lines",
            safety="semantics",
        )


def _lengths(facts: Facts) -> Floats:
    """Seconds of the backward pass in each tenth of an epoch, medians over all epochs; of the run,
    where there are none or where it slows down as a whole; or in each step of short sequences.
    Raises `Missing` of too few steps."""
    column, step = stage_columns(facts).get(BACKWARD, np.empty(0)), _numbers(facts)
    if not column.size == step.size >= _TENTHS:
        raise Missing("series.backward_s")
    timed = column > 0
    column, step = column[timed], step[timed]
    into, count = _into_epoch(facts, column, step)
    number = np.floor(into * count)
    parts = [column[number == part] for part in range(count)]
    if min(part.size for part in parts) == 0:
        raise Missing("series.backward_s")
    return np.array([np.median(part) for part in parts])


def _into_epoch(facts: Facts, column: Floats, step: Floats) -> tuple[Floats, int]:
    """How far into its epoch each step is, from 0 to 1, and into how many parts that can be cut:
    of the epochs that are known, or those that the backward passes show; else of the run."""
    whole = (step - 1) / step[-1] if step.size else step
    back, epoch = facts.known(_STEPS_BACK), facts.known("epochs.steps_per_epoch")
    if back is not None:
        return _since_anew(column, step, 1 if back < 2 * _TENTHS else _NEIGHBOURS) or (
            whole,
            _TENTHS,
        )
    if lasting_fall(facts, DEGRADED) is not None:
        return whole, _TENTHS
    if epoch is None:
        return _since_anew(column, step, _NEIGHBOURS) or (whole, _TENTHS)
    return (step - 1) % epoch / epoch if epoch >= _TENTHS else whole, _TENTHS


def _since_anew(column: Floats, step: Floats, neighbours: int) -> tuple[Floats, int] | None:
    """How far each step is from the last at which the state was begun anew to the next, and into
    how many parts that can be cut, where enough are seen; of a script's own generator no epochs
    are known."""
    starts = _falls(column, neighbours)
    long = np.diff(step[starts])
    if long.size < _FEWEST_TEETH or np.median(long) < (_SHORTEST if neighbours == 1 else _TENTHS):
        return None
    into = np.full(step.size, np.nan)
    for first, last in itertools.pairwise(starts):
        into[first:last] = (step[first:last] - step[first]) / (step[last] - step[first])
    return into, min(_TENTHS, int(np.median(long)))


def _falls(column: Floats, neighbours: int) -> list[int]:
    """The places at which it falls by more than half of all it varies by, into the lowest quarter,
    each by the medians of that many neighbours: of five, two slow steps do not move them."""
    if column.size < 2 * neighbours:
        return []
    near = np.median(np.lib.stride_tricks.sliding_window_view(column, neighbours), axis=1)
    fall, after = near[:-neighbours] - near[neighbours:], near[neighbours:]
    low, high = np.percentile(near, [5, 95])
    deep = np.flatnonzero((fall > (high - low) / 2) & (after < low + (high - low) / 4))
    runs = np.split(deep, np.flatnonzero(np.diff(deep) > 1) + 1) if deep.size else []
    return [int(run[np.argmax(fall[run])]) + neighbours for run in runs]


def _numbers(facts: Facts) -> Floats:
    """Which steps those of the series are, from 1 on: where nothing tells, all but the warm-up."""
    timed = np.isfinite(facts.series("step_s"))
    if facts.has("series.step"):
        return facts.series("step")[timed]
    first = facts.known("steps.warmup_discarded") or 0.0
    return (np.flatnonzero(timed) + first + 1).astype(np.float64)


def _rising(lengths: Floats) -> float:
    """The part of all pairs of tenths of which the later one is longer."""
    longer = np.triu(lengths[None, :] > lengths[:, None], 1).sum()
    return float(longer) / (lengths.size * (lengths.size - 1) / 2)


def _gain(share: float, lengths: Floats) -> Prediction:
    """At worst as long as in the first fifth; at best as a line through its tenths begins."""
    first_s, second_s = float(lengths[0]), float(lengths[1])
    fifth_s, start_s = (first_s + second_s) / 2, max(0.0, first_s - (second_s - first_s) / 2)
    ends = sorted(max(0.0, 1 - s / float(lengths.mean())) for s in (fifth_s, first_s, start_s))
    return without(share, *ends)


def _own(facts: Facts) -> tuple[Evidence, ...]:
    own = facts.known(_OWN)
    return () if own is None else (Evidence(metric="of a step's own", value=own, unit=""),)


def _nodes(grown: float) -> str:
    return f"{grouped(round(grown))} operation{'' if round(grown) == 1 else 's'}"
