"""PD243: a whole model is constructed again and again within the steps of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import (
    RUNS,
    HotLine,
    hot_lines,
    is_between,
    line_evidence,
    without,
)
from perfdoctor.rules.wording import on_cuda, percent
from perfdoctor.stages import ARCH_STEP, OTHER

#: What goes of the time of such lines, with which the giving back of the model before goes too (own
#: measurement of seven models, torch 2.13, processor time of one thread: 1.0 to 1.2 times of it in
#: the median of ten); on a GPU, which may have work of before meanwhile, from nothing over half to
#: all of it (our own choice).
_GOES, _GOES_ON_GPU = (0.9, 1.0, 1.2), (0.0, 0.5, 1.0)
#: From such a share on it comes before an architecture step that is made more rarely: the share
#: from which PD402 speaks of that step.
_BEFORE_RARER = 0.10
_LOADS = r"load_state_dict"
_ONCE = """\
twin = {name}(...)  # once, before the loop

# in each step, in place of making it
twin.load_state_dict(state)  # parameters and buffers
twin.zero_grad()  # gradients of the step before
# or the parameters alone
with torch.no_grad():
    for old, new in zip(twin.parameters(), parameters):
        old.copy_(new)"""
_KEPT = """\
self.made = {name}(...)  # once, in __init__, or before the loop"""


class ModelMadeAnew:
    """A whole model is constructed again and again within the steps of the training.

    ## What it does
    Looks, by the stacks of an observed script, for the `__init__` of modules within the stages of
    the steps, and by the source, whether the module is given other values (`load_state_dict`,
    `copy_`) before it computes anything. What is between the steps does not count, nor what makes
    samples; and between the stages only a module whose values are overwritten.

    ## Why it is slow
    A constructor allocates all parameters and draws initial values for them (`kaiming_uniform_`,
    `trunc_normal_`), which often takes longer than the model computes for a batch. The usual place
    is the unrolled step of an architecture search: `model_new = self.model.new()`, and then
    `model_new.load_state_dict(...)`; learners of meta-learning and teachers are others.

    ## Evidence and threshold
    The share of the training in lines that make modules; of what they make, all of it.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    Make it once before the loop, with `copy.deepcopy(model)` or its class, and copy the values into
    it in each step. Or make none: `torch.func.functional_call(model, parameters, (x,))` computes
    with other parameters. Where it must be a new one: `torch.nn.utils.skip_init`, or make it under
    `with torch.device("meta")` and load with `load_state_dict(state, assign=True)`.

    ## How the gain is predicted
    Without the time of these lines, 90 % of it at least, and 1.2 times of it at most, since the
    model before need not be given back either (own measurement of seven models); copying the values
    in stays. On a GPU from nothing over half to all of it.

    ## When not to
    Where each is built otherwise than the one before, or its initial values are what it is made
    for. A model that is used again keeps its gradients, and what its buffers hold: clear and set
    them. Without the draws for initial values, what is drawn at random later is another part of the
    same sequence.
    """

    code: ClassVar[str] = "PD243"
    name: ClassVar[str] = "model-made-anew"
    needs: ClassVar[tuple[str, ...]] = ("hotspots",)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "model-made-anew"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if lines that make modules take a visible share."""
        lines = models_made(facts)
        share = _share(lines)
        if share < facts.threshold("share"):
            return None
        filled = all(line.fills for line in lines)
        made, cuda = lines[0].makes, on_cuda(facts)
        return Finding(
            stage=lines[0].stage,
            title=f"{lines[0].place} makes a new `{made}` again and again"
            f"{', to overwrite its values' if filled else ''}: {percent(share)} of the training",
            advice=_advice(lines[0], filled=filled),
            change={"models_made": "once"},
            snippet=(_ONCE if filled else _KEPT).format(name=made),
            evidence=(
                Evidence(
                    metric="constructing modules",
                    value=share,
                    unit="share of training",
                    threshold=facts.threshold("share"),
                ),
                *line_evidence(lines),
                *line_evidence(_loading(facts, lines), 1),
            ),
            cause=self.cause,
            predicted=without(share, *(_GOES_ON_GPU if cuda else _GOES)),
            confidence=(0.9 if filled else 0.7) * (0.7 if cuda else 1.0),
            effort="lines",
            safety="exact" if filled else "semantics",
        )


def models_made(facts: Facts, *stages: str) -> list[HotLine]:
    """The lines of the steps that make modules anew, hottest first.

    What is made between the stages may be the next one to train, unless its values are overwritten.
    """
    lines = [line for line in hot_lines(facts, *stages) if line.makes]
    inside = [line for line in lines if not is_between(facts, line.stage)]
    return [line for line in inside if line.fills or line.stage != OTHER]


def made_and_loaded(facts: Facts, *stages: str) -> list[HotLine]:
    """The same, with the lines of the same functions that load values into what was made."""
    lines = models_made(facts, *stages)
    functions = {line.function for line in lines}
    return [*lines, *(n for n in _loading(facts, lines) if n.function in functions)]


def made_in_search(facts: Facts) -> bool:
    """Whether the architecture step visibly makes a model whose values are overwritten: that goes
    without changing the search, before anyone does the step more rarely or otherwise."""
    return _share([n for n in models_made(facts, ARCH_STEP) if n.fills]) >= _BEFORE_RARER


def _share(lines: Sequence[HotLine]) -> float:
    return min(1.0, sum(line.share for line in lines))


def _loading(facts: Facts, lines: Sequence[HotLine]) -> list[HotLine]:
    """Lines beside them that load values into a module."""
    stages = {line.stage for line in lines}
    seen = hot_lines(facts, *stages) if stages else []
    return [line for line in seen if line.calls(_LOADS) and not line.makes]


def _advice(line: HotLine, *, filled: bool) -> str:
    if not filled:
        return (
            f"Make the `{line.makes}` of {line.place} once, before the training, and use that one. "
            "Where its initial values matter, look whether they are meant to be new each time."
        )
    again = " The search stays as it is." if line.stage == ARCH_STEP else ""
    return (
        f"The constructor draws initial values for all parameters of the `{line.makes}`, which are "
        f"overwritten at once. Make it once, before the training, and in {line.place} copy the "
        "values into that one and clear its gradients; or compute with other parameters by "
        "torch.func.functional_call. Where it must be a new one, torch.nn.utils.skip_init draws "
        f"no values.{again}"
    )
