"""PD509: a script that prepares for long before its first step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from perfdoctor.report import Diagnosis, Finding
from perfdoctor.rules.elsewhere import waits
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.judging import overhead_of_run
from perfdoctor.rules.logs import START_UP, wall_parts
from perfdoctor.rules.measured import beside
from perfdoctor.rules.mended import rewritten
from perfdoctor.rules.observed import RUN_KIND, HotLine, at, hot_lines, line_evidence, without
from perfdoctor.rules.whole_run import is_whole, share_of_training
from perfdoctor.rules.wording import percent, seconds
from perfdoctor.stats import amdahl

#: Files that are no script's own.
_INSTALLED = r"[\\/](?:site|dist)-packages[\\/]|[\\/]lib[\\/]python3"
#: Making, loading and moving a model, and meeting other ranks: no preparing of data.
_OF_THE_MODEL = (
    r"from_pretrained|load_state_dict|torch\.load|Module\.(?:to|cuda)\b|\.cuda\b|\bcompile\b"
    r"|(?:Linear|Embedding|Conv\w*|Transformer\w*|LSTM|GRU)\.__init__|_(?:uniform|normal)_\b"
    r"|init_process_group"
)


class SlowStartUp:
    """The script's own code prepares for long before the first step.

    ## What it does
    Looks for lines of a script that take time before its first step, are no imports and do not just
    wait for another process or thread, in a run that trained and came to its own end.

    ## Why it is slow
    Data that is looked through once for each user, file or word takes time with the square of its
    size, and every start of the script does the same again.

    ## Evidence and threshold
    These lines' share of the whole run, and how long that is. Making a model, loading its weights
    and moving it to a device do not count.
    - `share` = 0.2 (source: our own choice, the share from which xprof and TraceML call a stage of
      the training high)
    - `seconds` = 3 (source: our own choice; nobody waits long for less)

    ## What to change
    Sort or group once (`groupby`, `np.argsort`, `np.split`) instead of one scan for each key; keep
    what is prepared on disk and load that; do it once where the script does it several times.

    ## How the gain is predicted
    Amdahl's law over the whole run. Of these lines' time goes what goes of such Python in general
    when it is written with whole arrays, 40 % at least, 95 % likely (`python
    benchmarks/mended_lines.py`); of lines that only call torch's operations from nothing over half
    to all of it. What is kept on disk is gone from the next run on.

    ## When not to
    Where this run is a trial of a much longer one: in that the share is smaller.
    """

    code: ClassVar[str] = "PD509"
    name: ClassVar[str] = "slow-start-up"
    needs: ClassVar[tuple[str, ...]] = ("hotspots", "wall.total_s", "steps")
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "start-up"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.20, "seconds": 3.0}
    sources: ClassVar[tuple[str, ...]] = (RUN_KIND,)

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if such lines take much of a run that was seen to its end."""
        start = wall_parts(facts).get(START_UP)
        if start is None or not is_whole(facts):
            return None
        lines = [line for line in hot_lines(facts, START_UP) if _prepares(line)]
        share = min(start.share, sum(line.share for line in lines))
        spent_s = share * facts.number("wall.total_s")
        if share < facts.threshold("share") or spent_s < facts.threshold("seconds"):
            return None
        line = lines[0]
        return Finding(
            stage=START_UP,
            title=f"The script prepares for {seconds(spent_s)} before its first step, "
            f"{percent(share)} of the run{at(line)}",
            advice=f"Look whether `{line.function or line.place}` goes through all data again and "
            "again: sort or group it once instead of one scan for each key, keep what is prepared "
            "on disk and load that, and do it once where it is done several times.",
            change={"preparing": "once"},
            snippet='events = events.sort_values(["user", "time"])  # once, no scan for each user\n'
            'histories = [rows.to_numpy() for _, rows in events.groupby("user")["item"]]\n'
            'torch.save(histories, "histories.pt")  # the next run loads it',
            evidence=(
                beside(facts, "preparing", share, "share of run", "share"),
                beside(facts, "preparing, in all", spent_s, "s", "seconds"),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=without(share, *rewritten(lines).ends),
            confidence=0.75,
            effort="lines",
        )


def _prepares(line: HotLine) -> bool:
    own = not re.search(_INSTALLED, line.file)
    return own and not waits(line) and not re.search(_OF_THE_MODEL, line.library)


def starting_bound(facts: Facts, findings: Sequence[Finding]) -> Diagnosis | None:
    """The verdict on a whole run that nothing would make as much shorter as a shorter start-up."""
    own = next((f for f in findings if f.stage == START_UP and not f.optional), None)
    if own is None or own.predicted is None:
        return None
    others = [f.predicted.speedup for f in findings if _competes(f, own) and f.predicted]
    training = share_of_training(facts)
    if own.predicted.speedup < max((amdahl(training, gain) for gain in others), default=1.0):
        return None
    preparing = next(e for e in own.evidence if e.unit == "share of run")
    what = "The script's own preparing before the first step"
    return overhead_of_run(facts, own, preparing.value, what)


def _competes(finding: Finding, own: Finding) -> bool:
    return not finding.optional and finding.cause != own.cause
