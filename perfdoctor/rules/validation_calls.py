"""PD511 and PD512: validation that calls the model far more, or on far more, than it has to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.frequency import VALIDATION_CAUSE
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RUNS, without
from perfdoctor.rules.run_reporting import told
from perfdoctor.rules.validation_facts import ALONE, PREFIX, left_in_batch, seen, training_batch
from perfdoctor.rules.wording import grouped, percent

_VALIDATION = "validation"
_GENERATES = f"{ALONE}_generates"
#: Of what calls take beyond the first ones, what goes at least: attention over what was kept still
#: gets longer with it (`python benchmarks/validation_calls.py`: 0.78 to 1.19, by the model).
_LEAST_GOES = 0.7


class PrefixComputedAgain:
    """For each token that is generated the model computes the whole sequence made so far again.

    ## What it does
    Looks at what models are called with in the first validations of an observed script: an
    argument that is one position longer from call to call, and begins with what the one before was.

    ## Why it is slow
    The first position goes through the model as often as there are positions. A sequence of T
    costs T² / 2 positions where T would do, and attention over it T³.

    ## Evidence and threshold
    Calls of one module in a row whose argument grows by one, and what these calls take beyond the
    first ones.
    - `calls` = 6 (source: our own choice; batches sorted by length get longer by one a few times)
    - `share` = 0.05 (source: our least gain for a verdict is 5 %)

    ## What to change
    Keep what the model knows of the positions before and call it on the last one only: the hidden
    state of a GRU or an LSTM, the keys and values of attention (`use_cache=True` and
    `past_key_values` in transformers).

    ## How the gain is predicted
    Each call takes what the first ones of a row take (the median of three), for as many calls. At
    best all take what the shortest takes, or where the first argument is a long one what a line
    through all calls has for one position. At least 70 % of what the calls take beyond the first
    ones goes: attention over what is kept still gets longer. Where calls take the same time however
    long the sequence is, nothing would be gained, and nothing is said. It counts for the part of
    validation that such calls are, and half of that at least where most of a validation was not
    looked at.

    ## When not to
    Where earlier positions look at later ones (bidirectional layers, attention without a causal
    mask): then a new position changes what was computed for those before. With beam search the
    state has to change places with its hypothesis.
    """

    code: ClassVar[str] = "PD511"
    name: ClassVar[str] = "prefix-computed-again"
    needs: ClassVar[tuple[str, ...]] = (f"{PREFIX}_calls", "wall.total_s")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = VALIDATION_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"calls": 6.0, "share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such calls take longer and longer, and that takes its time."""
        calls = facts.number(f"{PREFIX}_calls")
        if calls < facts.threshold("calls"):
            return None
        whole, looked = _of_validation(facts, PREFIX)
        left = facts.number(f"{PREFIX}_left")
        share = whole * (1 - left)
        if share < facts.threshold("share"):
            return None
        least = min(left, facts.number(f"{PREFIX}_least"))
        goes = (_LEAST_GOES * looked * (1 - left), 1 - left, 1 - least)
        first, last = (facts.number(f"{PREFIX}_{name}") for name in ("first", "last"))
        return Finding(
            stage=_VALIDATION,
            title="Each new position of a sequence computes all those before again: that takes "
            f"{percent(share)} of the training{_at(facts, PREFIX)}",
            advice="The model is called on the whole sequence made so far, of "
            f"{grouped(first)} to {grouped(last)} positions. Keep the hidden state (GRU, LSTM) or "
            "the keys and values of attention (use_cache=True, past_key_values) and call it on the "
            "last position only.",
            change={"generation": "kept_state"},
            snippet=_KEPT,
            evidence=(
                beside(facts, "calls in a row, each one position longer", calls, "", "calls"),
                Evidence(
                    metric="of the calls seen",
                    value=facts.known(f"{PREFIX}_of_calls") or 0.0,
                    unit="share",
                ),
                Evidence(metric="these calls", value=whole, unit="share of training"),
                Evidence(metric="of that left with calls on one", value=left, unit="share"),
                beside(facts, "computed again", share, "share of training", "share"),
            ),
            cause=self.cause,
            predicted=without(whole, *goes),
            confidence=0.85,
            effort="lines",
            safety="numerics",
        )


class ValidatedOneByOne:
    """Validation calls the model on one sample at a time.

    ## What it does
    Looks at what models are called with in the first validations of an observed script: one sample
    in each of many calls in a row, from a loop that does not need what the call before made. Where
    a method calls the layers of a trained model, a sample's calls of them count as one; and where
    `generate` of transformers calls the model, what `generate` was given tells the samples.

    ## Why it is slow
    A call costs tens of microseconds for each layer however little it is given, and products of
    one row read all weights for it. A batch pays that once.

    ## Evidence and threshold
    Calls on one sample in a row, the training's batch, and what would be left of their time.
    - `calls` = 8 (source: our own choice; fewer samples are seldom worth a batch)
    - `batch` = 8 (source: our own choice; the training itself puts so many together)
    - `share` = 0.05 (source: our least gain for a verdict is 5 %)

    ## What to change
    Put samples together: `batch_size=` of the validation's DataLoader, or all series, windows or
    images of the set in one call; pad where their lengths differ.

    ## How the gain is predicted
    Modelled, not measured: in a batch a sample takes what one takes in the forward pass of the
    training's steps, by its size: 85 % of that likely, 25 % at best, 150 % at most. Where the
    training does not call the module itself, a fifth of a call on one is left, 5 % at best, and at
    most all of it. It counts for the part of validation that such calls are, and half of that at
    least where most of a validation was not looked at. Both are what we measured of small models,
    in one thread of a CPU (`python benchmarks/validation_calls.py`).

    ## When not to
    Where samples are of sizes that do not fit together, or the time for one of them is what is to
    be measured. What draws at random draws other numbers in a batch.
    """

    code: ClassVar[str] = "PD512"
    name: ClassVar[str] = "validated-one-by-one"
    needs: ClassVar[tuple[str, ...]] = (f"{ALONE}_calls", "wall.total_s")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = VALIDATION_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"calls": 8.0, "batch": 8.0, "share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if calls on one sample take their time, and batches would take less of it."""
        calls = facts.number(f"{ALONE}_calls")
        batch = training_batch(facts) if calls >= facts.threshold("calls") else 0.0
        if batch < facts.threshold("batch"):
            return None
        whole, looked = _of_validation(facts, ALONE)
        best, likely, worst = left_in_batch(facts)
        share = whole * (1 - likely)
        if share < facts.threshold("share"):
            return None
        generates = facts.has(_GENERATES) and facts.flag(_GENERATES)
        return Finding(
            stage=_VALIDATION,
            title=f"Validation {'generates for' if generates else 'calls the model on'} one sample "
            f"at a time, which takes {percent(whole)} of the training{_at(facts, ALONE)}",
            advice=(_PADDED if generates else _ALL)
            + f" The training has {grouped(batch)} in a batch.",
            change={"validation_batches": "several"},
            snippet=_GENERATED if generates else _TOGETHER,
            evidence=(
                beside(facts, "calls in a row on one sample", calls, "", "calls"),
                beside(facts, "samples in a batch of the training", batch, "", "batch"),
                Evidence(
                    metric="of the calls seen",
                    value=facts.known(f"{ALONE}_of_calls") or 0.0,
                    unit="share",
                ),
                Evidence(metric="a call on one", value=facts.number(f"{ALONE}_s"), unit="s"),
                Evidence(metric="of it left in a batch (modelled)", value=likely, unit="share"),
                beside(facts, "goes", share, "share of training", "share"),
            ),
            cause=self.cause,
            predicted=without(whole, looked * (1 - worst), 1 - likely, 1 - best),
            confidence=0.75,
            effort="lines",
            safety="numerics",
        )


def _of_validation(facts: Facts, path: str) -> tuple[float, float]:
    """The share of the training that such calls of validation take, and the part of a prediction
    for those seen that holds for all at least. Raises `Missing`."""
    part = told(facts, _VALIDATION)
    of_validation = facts.number(f"{path}_of_validation")
    if part is None:
        return 0.0, 1.0
    usual_s = facts.known(f"stages.{_VALIDATION}.mean_s")
    each_s = part.seconds / max(1, part.count) if usual_s is None else usual_s
    return part.share * of_validation, seen(facts, each_s)


def _at(facts: Facts, path: str) -> str:
    """Such as " – train.py:88 `generate`"; nothing where it is not known."""
    place, name = (str(facts.get(p)) if facts.has(p) else "" for p in (f"{path}_at", f"{path}_in"))
    named = f" `{name}`" if name and not name.startswith("<") else ""
    return f" – {place}{named}" if place else ""


_KEPT = """\
logits, state = decoder(token, memory, state)  # not all tokens so far
token = logits[:, -1].argmax(-1, keepdim=True)
made.append(token)
# transformers: out = model(token, past_key_values=cache, use_cache=True)"""
_ALL = (
    "Put samples together: a batch_size for the validation's loader, or all of the set (series, "
    "windows, images) in one batch instead of a loop over them."
)
_PADDED = (
    "Put samples together: pad several to one length, with an attention mask (on the left where "
    "the model is a decoder), and call generate once for the batch."
)
_GENERATED = """\
for texts in (dev[i : i + 64] for i in range(0, len(dev), 64)):
    rows = tokenizer(texts, padding=True, return_tensors="pt")
    made += model.generate(**rows, max_length=longest)"""
_TOGETHER = """\
loader = DataLoader(validation_set, batch_size=256)  # no gradients: room for more
# or without a loader
for rows in torch.arange(len(series)).split(256):
    forecast = model(series[rows])  # not series[i : i + 1] for each"""
