"""PD242: hooks that are registered again and again, of which each pass runs more and more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from perfdoctor.record import Floats
from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts, Missing
from perfdoctor.rules.groups import stage_columns, tenths
from perfdoctor.rules.measured import beside
from perfdoctor.rules.mended import Gone
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    hot_lines,
    is_between,
    line_evidence,
    stage_share,
    without,
)
from perfdoctor.rules.run_growth import SLOW_DOWN
from perfdoctor.rules.trends import DEGRADED, growth, lasting_fall
from perfdoctor.rules.wording import grouped, listed, percent, stage_words
from perfdoctor.stages import BACKWARD, FORWARD
from perfdoctor.stats import kendall_p

_FIRST, _LAST = "configuration.hooks_at_first", "configuration.hooks_at_last"
_STAGES, _RISES = "configuration.hooks_stages", "configuration.hooks_rises"
_ALIKE, _FUNCTION = "configuration.hooks_alike", "configuration.hooks_function"
_WHERE = "configuration.hooks_where"
_TENTHS = 10
#: What else is in a step got longer by less than this part of what the stage did, each for its own
#: length: a machine that slows down slows all of it (our own choice, as for PD701).
_OTHERS = 0.5
#: So much of what came since the first tenth goes at least, as PD701 has it: something else may
#: have grown along.
_LEAST = 0.5
_SNIPPET = """\
handles = [m.register_forward_hook(report) for m in model.modules()]  # once, before the loop
...
for handle in handles:  # where they are needed for a while only
    handle.remove()"""


class HooksPileUp:
    """Hooks are registered again and again, and all of them run in every step.

    ## What it does
    Counts the hooks of an observed script's modules and parameters, and those that torch calls
    for every module, after a few early steps and after one step in a hundred.

    ## Why it is slow
    `register_forward_hook` and the like add a hook, also where the same function is one already.
    Registered in each epoch, validation or step and never removed, all of them run in every pass
    from then on: each pass takes longer than before, also those of validation, and so does what
    the hooks keep in memory.

    ## Evidence and threshold
    Hooks of one function on one module became more several times, and either lines of the hook
    itself take time, or the stage that runs them takes longer from tenth to tenth of the run, while
    the rest of the step does not.
    - `times` = 2 (source: our own choice; hooks that come with a new phase of a training, as when
      layers are unfrozen, are seldom as many as those before)
    - `rises` = 2 (source: what comes once comes at a start, of the training or of a phase)
    - `alike` = 4 (source: our own choice; a module has seldom more hooks of one function on
      purpose)
    - `chance` = 0.01 (source: the significance of the Mann-Kendall test, as for PD702)
    - `share` = 0.05 (source: our own choice: a stage that grows evenly has grown by twice as much
      in the end, and our least gain for a verdict is 5 %)

    ## What to change
    Register hooks once before the loop, or keep the handle that each `register_…` gives back and
    call its `remove()` as soon as the hook is done with.

    ## How the gain is predicted
    The stage takes as long as in the first tenth of the run, or in the second where that was the
    shorter: half of what came since goes at
    least, since something else may have grown along, and likely all of it. At best it takes as
    long as where a line through the first two tenths begins. With hooks of the forward pass the
    backward pass counts as well: gradients go through what they add. Where more of the training was
    seen in lines of the hook than that, these go but for the part that as many hooks as at first
    would take; they became more evenly, as far as is known.

    ## When not to
    Where each hook does something of its own that is needed to the end. One that changes what
    passes through it (scales gradients, adds noise) has done so as often as it was registered:
    without the copies the training learns in another way, most likely the one that was meant.
    """

    code: ClassVar[str] = "PD242"
    name: ClassVar[str] = "hooks-pile-up"
    needs: ClassVar[tuple[str, ...]] = (_FIRST, _LAST, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "hooks-pile-up"
    thresholds: ClassVar[Mapping[str, float]] = {
        "times": 2.0,
        "rises": 2.0,
        "alike": 4.0,
        "chance": 0.01,
        "share": 0.05,
    }
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if hooks pile up, and they are seen to take time, or what runs them to take longer
        and longer."""
        if not _piled(facts):
            return None
        stages = _stages(facts)
        lengths = _lengths(facts, stages)
        gone = _gone(facts, stages, lengths)
        share = gone.likely
        if share < facts.threshold("share"):
            return None
        first, last = facts.number(_FIRST), facts.number(_LAST)
        words = listed([stage_words(stage) for stage in stages])
        lines, grown = _lines(facts), growth(facts)
        return Finding(
            stage=lines[0].stage if lines else max(stages, key=lambda stage: grown[stage]),
            title=f"Hooks pile up, from {grouped(first)} to {grouped(last)}: what they add takes "
            f"{percent(share)} of the training{_hook(facts, ' – {}')}",
            advice=f"{_hook(facts, '{} is registered again and again, and every copy runs. ')}"
            "Register hooks once, before the loop, or keep the handle that registering gives back "
            "and call its remove() as soon as the hook is done with.",
            change={"hooks": "registered_once"},
            snippet=_SNIPPET,
            evidence=(
                beside(facts, "hooks at last ÷ at first", last / max(1.0, first), "×", "times"),
                beside(facts, "of one function at one module", _known(facts, _ALIKE), "", "alike"),
                beside(facts, "became more", _known(facts, _RISES), "times", "rises"),
                beside(facts, "what they add", share, "share of training", "share"),
                *_longer(lengths, words),
                *line_evidence(lines),
            ),
            cause=SLOW_DOWN if lasting_fall(facts, DEGRADED) else self.cause,
            predicted=without(1.0, *gone.ends),
            confidence=0.95,
            effort="lines",
            safety="semantics",
        )


def _piled(facts: Facts) -> bool:
    """Whether hooks became more, several times, and are copies of each other."""
    first, last = facts.number(_FIRST), facts.number(_LAST)
    doubled = last >= facts.threshold("times") * max(1.0, first)
    again = _known(facts, _RISES) >= facts.threshold("rises")
    return doubled and again and _known(facts, _ALIKE) >= facts.threshold("alike")


def _stages(facts: Facts) -> list[str]:
    """Those that run the hooks, and the backward pass of what those of the forward pass add."""
    ran = [str(stage) for stage in facts.get(_STAGES).split(", ")]
    return [FORWARD, BACKWARD] if FORWARD in ran else ran


def _lengths(facts: Facts, stages: list[str]) -> Floats:
    """Seconds of these stages together in each tenth of the run, medians. Raises `Missing` of too
    few steps, or of a stage that was not timed."""
    columns = stage_columns(facts)
    for stage in stages:
        if stage not in columns or columns[stage].size < _TENTHS:
            raise Missing(f"series.{stage}_s")
    return _medians(np.sum([columns[stage] for stage in stages], axis=0))


def _rest_grew_alike(facts: Facts, stages: list[str]) -> bool:
    """Whether the rest of the step got longer as well."""
    rest = [
        column
        for stage, column in stage_columns(facts).items()
        if stage not in stages and not is_between(facts, stage)
    ]
    if not rest:
        return False
    return _growth(_medians(np.sum(rest, axis=0))) >= _OTHERS * _growth(_lengths(facts, stages))


def _growth(lengths: Floats) -> float:
    """By which part of its length at the start something is longer in the end; 0 of nothing."""
    start_s = _start_s(lengths)
    return float(lengths[-1]) / start_s - 1 if start_s > 0 else 0.0


def _start_s(lengths: Floats) -> float:
    """The first tenth's. Fewer hooks ran in it than in the second: where it took longer all the
    same, something else was in the way, and it would have taken no longer than the second."""
    return float(lengths[:2].min())


def _medians(column: Floats) -> Floats:
    return np.array([np.median(part) for part in tenths(column)])


def _gone(facts: Facts, stages: list[str], lengths: Floats) -> Gone:
    """What goes of the training, by its course and by the lines of the hook."""
    grown, lines = _growing(facts, stages, lengths), _of_lines(facts)
    if not grown.likely:
        return Gone(lines, lines, lines)
    least = min(lines, grown.low) if lines else grown.low
    return Gone(least, max(lines, grown.likely), max(lines, grown.high))


def _growing(facts: Facts, stages: list[str], lengths: Floats) -> Gone:
    """What these stages take beyond the start's; nothing where that may be chance or a machine that
    slows down."""
    by_chance = kendall_p(lengths) >= facts.threshold("chance")
    if by_chance or _rest_grew_alike(facts, stages):
        return Gone(0.0, 0.0, 0.0)
    whole = sum(stage_share(facts, stage) for stage in stages)
    first_s, mean_s = _start_s(lengths), float(lengths.mean())
    line_s = max(0.0, first_s - (float(lengths[1]) - first_s) / 2)
    likely = 1 - first_s / mean_s
    return Gone(whole * _LEAST * likely, whole * likely, whole * (1 - line_s / mean_s))


def _of_lines(facts: Facts) -> float:
    """What lines of the hook take of the training, but for as many hooks as at first."""
    first, last = facts.number(_FIRST), facts.number(_LAST)
    return sum(line.share for line in _lines(facts)) * (1 - 2 * first / (first + last))


def _lines(facts: Facts) -> list[HotLine]:
    """The hot lines of the hook itself; none where its place is not known."""
    if not (facts.has(_WHERE) and facts.has(_FUNCTION)):
        return []
    file, _, begins = str(facts.get(_WHERE)).rpartition(":")
    name = str(facts.get(_FUNCTION))
    return [
        line
        for line in hot_lines(facts)
        if line.place.rpartition(":")[0] == file
        and line.function.rpartition("<locals>.")[2] == name
        and line.line >= int(begins)
    ]


def _longer(lengths: Floats, words: str) -> tuple[Evidence, ...]:
    ends = {"start": _start_s(lengths), "end": float(lengths[-1])}
    return tuple(
        Evidence(metric=f"{words} at the {end}", value=value, unit="s")
        for end, value in ends.items()
    )


def _hook(facts: Facts, words: str) -> str:
    """The hook in words, such as "train.py:55 `hook`"; nothing where it is not known."""
    where, name = (str(facts.get(p)) if facts.has(p) else "" for p in (_WHERE, _FUNCTION))
    told = " ".join(part for part in (where, name and f"`{name}`") if part)
    return words.format(told) if told else ""


def _known(facts: Facts, path: str) -> float:
    return facts.known(path) or 0.0
