"""PD247: a model that acts for its data is asked for one observation at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import (
    RUNS,
    hot_lines,
    line_evidence,
    part_of_training,
    without,
)
from perfdoctor.rules.validation_facts import ALONE
from perfdoctor.rules.wording import percent
from perfdoctor.stages import FORWARD

_ACTING_S = "configuration.acting_s"
#: Lines that make a distribution of actions and draw from it: once for each call, as the call is.
_DRAWS = r"^(?:\w+\.)*(?:Categorical|Bernoulli|Normal|MultivariateNormal|Beta)\."
#: Of the calls that is left when several environments are asked for together: 8 of them likely, 16
#: at best, 4 at worst (our own choice: how many there are is not known; a call on so few takes
#: hardly longer than one on a single observation, see `benchmarks/validation_calls.py`).
_LEFT = (1 / 16, 1 / 8, 1 / 4)


class ActsOneByOne:
    """The model that acts is asked for one observation at a time.

    ## What it does
    Looks, in an observed script whose model makes the training's data, at what the model is called
    with: one observation in each of many calls, from a loop whose turns do not need what the one
    before gave, such as the loop over environments.

    ## Why it is slow
    A call costs tens of microseconds for each layer however little it is given, and so does making
    a distribution of actions and drawing one. A call on the observations of all environments pays
    that once.

    ## Evidence and threshold
    Such calls in a row, and the share of the training that they take.
    - `calls` = 8 (source: our own choice; as PD512 has it)
    - `share` = 0.05 (source: our least gain for a verdict is 5 %)

    ## What to change
    Ask the model once for all environments in each time step.

    ## How the gain is predicted
    Amdahl's law over these calls and the lines that draw actions: an eighth of their time is left,
    a sixteenth at best, a quarter at worst.

    ## When not to
    With a single environment: then run several of them side by side, which changes the order in
    which experience is gathered. What draws at random draws other numbers in a batch.
    """

    code: ClassVar[str] = "PD247"
    name: ClassVar[str] = "acts-one-by-one"
    needs: ClassVar[tuple[str, ...]] = (_ACTING_S, f"{ALONE}_calls")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "acts-one-by-one"
    thresholds: ClassVar[Mapping[str, float]] = {"calls": 8.0, "share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such calls take a visible share."""
        calls = facts.number(f"{ALONE}_calls")
        if calls < facts.threshold("calls"):
            return None
        asked_s = facts.number(_ACTING_S) * facts.number(f"{ALONE}_of_validation")
        asked = part_of_training(facts, asked_s)
        draws = [line for line in hot_lines(facts, FORWARD) if line.calls(_DRAWS)]
        share = min(1.0, asked + sum(line.share for line in draws))
        if share < facts.threshold("share"):
            return None
        best, likely, worst = _LEFT
        place = str(facts.get(f"{ALONE}_at")) if facts.has(f"{ALONE}_at") else ""
        return Finding(
            stage=FORWARD,
            title="The model that acts is asked for one observation at a time: "
            f"{percent(share)} of the training{f' – {place}' if place else ''}",
            advice="Ask it once for all environments in each time step: a call on all their "
            "observations takes hardly longer than one on a single one. With one environment, run "
            "several side by side.",
            change={"one_call_for_all": True},
            snippet=ONE_CALL,
            evidence=(
                beside(facts, "calls in a row on one observation", calls, "", "calls"),
                Evidence(metric="asking the model", value=asked, unit="share of training"),
                *line_evidence(draws),
            ),
            cause=self.cause,
            predicted=without(share, 1 - worst, 1 - likely, 1 - best),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


ONE_CALL = """\
with torch.no_grad():  # observations of all environments: (environments, features)
    actions = policy(observations)
observations, rewards, done = environments.step(actions)"""
