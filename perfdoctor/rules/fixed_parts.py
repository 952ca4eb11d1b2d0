"""PD249: a part that is not trained computes the same for the same samples in every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import COMPUTING, beside, computing_share
from perfdoctor.rules.observed import RUNS, at, hot_lines, line_evidence, stage_share, without
from perfdoctor.rules.wording import percent, size
from perfdoctor.stages import DATA_LOADING, FORWARD

_TAKES_S, _NAME = "configuration.fixed_part_s", "configuration.fixed_part_module"
_REPEATS, _GIVES = "configuration.fixed_part_repeats", "configuration.fixed_part_gives_bytes"
_EPOCHS, _SAMPLES = "epochs.count", "configuration.dataset_size"
#: Of its time in training steps, what goes at least (our own choice): what is kept is read instead.
_LEAST = 0.8


class FixedPartRecomputed:
    """A part that is not trained computes the same for the same samples in every epoch.

    ## What it does
    Times, in some steps of an observed script, the parts of the model that no optimizer trains, and
    modules beside it such as a teacher; and remembers some numbers of samples that they are given
    in the first epoch, to see whether the same come again in the second.

    ## Why it is slow
    A part whose weights stay as they are gives the same for the same sample. Where samples are not
    changed at random, everything that it computes after the first epoch has been computed before.

    ## Evidence and threshold
    Its time as a part of the training, and how many of the samples came again.
    - `share` = 0.1 (source: our own choice; keeping what it gives takes code and memory)
    - `repeats` = 0.8 (source: our own choice; with a flip at random every second one comes again)

    ## What to change
    Run it once over all samples, keep what it gives in memory or in a mapped file, and train the
    rest on that.

    ## How the gain is predicted
    Amdahl's law: its time goes but for one epoch of those that there are, 80 % of it at least; of
    validation goes as large a part as of the forward pass. At most the loading goes too, where the
    samples themselves are not needed any more.

    ## When not to
    Where augmentation at random is to come, or the part is to be trained later.
    """

    code: ClassVar[str] = "PD249"
    name: ClassVar[str] = "fixed-part-recomputed"
    needs: ClassVar[tuple[str, ...]] = (_TAKES_S, "stages")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "fixed-part-recomputed"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.10, "repeats": 0.8}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such a part takes long and is given the same samples again."""
        training, validation = _shares(facts)
        if training < facts.threshold("share"):
            return None
        repeats, epochs = facts.number(_REPEATS), facts.number(_EPOCHS)
        if repeats < facts.threshold("repeats") or epochs < 2:
            return None
        goes = 1 - 1 / epochs
        whole = training + validation
        most = min(1.0, whole + stage_share(facts, DATA_LOADING))
        lines = hot_lines(facts, FORWARD)
        return Finding(
            stage=FORWARD,
            title=f"{facts.text(_NAME)} is not trained and is given the same samples in every "
            f"epoch: {percent(whole)} of the training{at(lines[0]) if lines else ''}",
            advice="Run it once over all samples before the training, keep what it gives"
            f"{_all_of_it(facts)}, and train the rest on that.",
            change={"fixed_part": "computed once"},
            snippet="with torch.no_grad():\n"
            "    features = torch.cat([encoder(x) for x, _ in DataLoader(dataset, 256)])\n"
            "loader = DataLoader(TensorDataset(features, labels), batch_size, shuffle=True)",
            evidence=(
                beside(facts, "part that is not trained", training, "share of training", "share"),
                beside(facts, "samples that came again", repeats, "share", "repeats"),
                Evidence(metric="epochs", value=epochs, unit=""),
                *line_evidence(lines[:1]),
            ),
            cause=self.cause,
            predicted=without(whole, goes * _LEAST * training / whole, goes, goes * most / whole),
            confidence=0.85,
            effort="lines",
            safety="exact",
        )


def _shares(facts: Facts) -> tuple[float, float]:
    """Of the training, what the part takes in its steps and in validation."""
    seconds = facts.number(_TAKES_S)
    stages = {stage: facts.known(f"stages.{stage}.p50_s") or 0.0 for stage in COMPUTING}
    step_s, forward_s = sum(stages.values()), stages[FORWARD]
    if not seconds or not step_s or not forward_s:
        return 0.0, 0.0
    training = min(1.0, seconds / step_s) * computing_share(facts)
    return training, min(1.0, seconds / forward_s) * stage_share(facts, "validation")


def _all_of_it(facts: Facts) -> str:
    samples, gives = facts.known(_SAMPLES), facts.known(_GIVES)
    return f" ({size(samples * gives)} in all)" if samples and gives else ""
