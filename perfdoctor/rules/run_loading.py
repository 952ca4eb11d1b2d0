"""PD107, PD109: why a batch takes long to make, from an observed script or a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.archives import opened_samples, opening, unpacked_samples, unpacking
from perfdoctor.rules.collate_advice import collate_advice
from perfdoctor.rules.costly_samples import costly_samples
from perfdoctor.rules.drawn_samples import drawn_samples, weighed_samples
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE, WAIT_SHARE, WORKERS, loader_evidence
from perfdoctor.rules.made_once import made_once
from perfdoctor.rules.measured import MEASURED
from perfdoctor.rules.mended import VECTORISED, Gone, after_one_pass, is_random, kept_samples
from perfdoctor.rules.observed import HotLine, is_run, line_evidence
from perfdoctor.rules.only_the_part import of_a_part, only_the_part
from perfdoctor.rules.read_once import read_once, sample_evidence
from perfdoctor.rules.run_batches import (
    also_in_validation,
    cheaper_batches,
    collating,
    io_bound,
    iterable,
    loading_holds_up,
    loading_lines,
    sample_lines,
    samples_of_batch,
    wait_of,
    what_loading_costs,
)
from perfdoctor.rules.wording import count, percent, seconds
from perfdoctor.stages import DATA_LOADING

_TENSOR_DATASET = "TensorDataset"
_ONCE = (
    "def __init__(self, ...):\n"
    "    ...\n"
    "    self.samples = torch.as_tensor(prepare(all_rows))  # once, all rows at a time\n\n"
)
_BY_NUMBER = "def __getitem__(self, index):\n    return self.samples[index], self.targets[index]"
_STREAMED = (
    "def __iter__(self):  # in each of several workers a part of them\n"
    "    yield from zip(self.samples, self.targets)"
)


class SlowSample:
    """Making samples takes most of the time for batches, mostly in one line of the dataset.

    ## What it does
    Looks, in an observed script that waits for data, or for cores that its workers take, for the
    lines that its samples spend their time in; and for a `TensorDataset` read sample by sample. Of
    a benchmark, which sees no lines, it tells what a sample takes and whether that is waiting or
    computing, behind all other advice on the loader: where more workers, threads or a cache do not
    help, a sample has to become cheaper.

    ## Why it is slow
    What `__getitem__` does is done again for every sample in every epoch: parsing, decoding, a
    transform that gives the same result each time; or reading the whole file again for one row
    of it, such as an array of an .npz file, which is unpacked anew by each `archive["x"]`;
    opening an archive again, whose table of contents is read each time; adding up the same
    weights again to draw by them; or making an object again, with its tables and filters, into
    which nothing of the sample goes; or reading and filtering all of a recording or a volume of
    which the sample is a window. Workers that do it in time still take cores: where the model
    computes on the same ones, it slows down while nothing seems to be waited for.

    ## Evidence and threshold
    The wait for data, or a fifth of the processor time of a step that workers take where the
    training computes on the same cores and none is left (xprof and TraceML call a stage high from
    there on); and the share of the time for making batches that samples take, by the
    clock, and these lines of it, by looks at them.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `line_share` = 0.3 (source: our own choice; mending a smaller part brings less than workers)

    In a benchmark: a wait of 20 % of the step, which xprof and TraceML call high, and samples that
    take at least as much of a batch as collating does (else PD109 speaks).

    ## What to change
    Do it once: in `__init__`, for all samples at a time, or in a script whose result is kept as
    an array. Where each sample reads the same, as the source of the line tells: read it once in
    `__init__`, or open the file once in each worker. What is drawn at random for each sample
    stays where it is; where it is most of the time, crop or resize before it, take cheaper
    operations, or augment whole batches as tensors. Where only a window is used of what is
    made, take the window before it is made. A `TensorDataset` in memory needs no DataLoader:
    index its tensors with a whole batch.

    ## How the gain is predicted
    The model of the pipeline with cheaper batches: without the time of samples, but for what is
    random in it (by the source, or else by the names of what is called) and for taking each
    result out of a tensor; at least without what was seen of the hottest line. Validation that
    spends its time in the same lines gets as much shorter, but for the lower end. In a script
    that was observed to its end one pass remains: the first epoch goes as before, or, where the
    lines call functions of arrays that take all rows at once, that is only the lower end. Of
    lines that read the same for every sample all goes, in the first epoch too, and 97 % of
    draws by weights that stay the same. Of what is made of a whole for a window half goes at
    least, four fifths likely (our own choice: how large the window is is not known). Of random
    augmentation nothing at least, half of its time likely (our own choice: how much smaller the
    image may be is not known), all of it at most. Of a benchmark there is only a bound: the
    model of the pipeline where samples take no time at all; the advice says what half of their
    time would bring.

    ## When not to
    Random augmentation cannot be kept. The results of all samples must fit into memory or on a
    disk.
    """

    code: ClassVar[str] = "PD107"
    name: ClassVar[str] = "slow-sample"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE)
    verify_with: ClassVar[str | None] = "cached-dataset"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "line_share": 0.30}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits for batches and one line makes them slow, or in a benchmark
        samples do."""
        if is_run(facts):
            return self._of_lines(facts)
        if _indexed_by_one(facts) and wait_of(facts).usual >= facts.threshold("exposed_share"):
            return _tensors(facts)
        return costly_samples(facts)

    def _of_lines(self, facts: Facts) -> Finding | None:
        if not loading_holds_up(facts) or io_bound(facts):
            return None
        if _indexed_by_one(facts):
            return _tensors(facts)
        lines = sample_lines(facts)
        fixed, drawn = [n for n in lines if not is_random(n)], [n for n in lines if is_random(n)]
        weighing = [line for line in lines if line.weighs_same]
        ways = [(weighing, weighed_samples), *(_known_ways(fixed) if fixed else [])]
        for some, told in ways:
            others = [line for line in lines if line not in some]
            gone = kept_samples(facts, some, others, samples_of_batch(facts)) if some else None
            if gone is not None and gone.likely >= facts.threshold("line_share"):
                return told(facts, some, gone)
        gone = kept_samples(facts, fixed, drawn, samples_of_batch(facts)) if fixed else None
        if gone is None or gone.likely < facts.threshold("line_share"):
            return self._of_random(facts, lines)
        return _slow_lines(facts, fixed, gone)

    def _of_random(self, facts: Facts, lines: list[HotLine]) -> Finding | None:
        """Not where the queue is full: cores are what workers that augment are there to take."""
        waits = wait_of(facts).usual >= facts.threshold("exposed_share")
        return drawn_samples(facts, lines) if waits else None


_Told = Callable[[Facts, Sequence[HotLine], Gone], Finding]


def _known_ways(lines: list[HotLine]) -> list[tuple[list[HotLine], _Told]]:
    """What lines of samples do that need not be done for each, with what is said of it; the lines
    of each that do so, if the hottest one does."""
    hottest = lines[0]
    return [
        ([line for line in lines if hottest.same and line.same], read_once),
        (unpacking(lines), unpacked_samples),
        (opening(lines), opened_samples),
        ([line for line in lines if hottest.anew and line.anew == hottest.anew], made_once),
        (of_a_part(lines), only_the_part),
    ]


class SlowCollate:
    """Putting samples together into a batch takes a large part of making it.

    ## What it does
    Looks at the collating part of each batch, in a training that waits for data.

    ## Why it is slow
    A `collate_fn` that fills tensors element by element, or converts lists of Python numbers,
    does in the interpreter what one operation on arrays does hundreds of times as fast.

    ## Evidence and threshold
    Time for collating ÷ time for the batch, and the wait for data.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `collate_share` = 0.2 (source: our own choice, the share from which xprof and TraceML call a
      stage high)

    ## What to change
    Make tensors of the samples once, in the dataset, and put them together with `torch.stack` or
    `torch.nn.utils.rnn.pad_sequence`. torch's default collate stacks already: there let
    `__getitem__` make a whole batch at a time (`batch_size=None`), so that nothing is left to put
    together.

    ## How the gain is predicted
    The model of the pipeline with cheaper batches: of the time for collating goes what goes of
    such Python in general when it is written with tensors, 40 % at least, 95 % likely
    (`python benchmarks/mended_lines.py`).

    ## When not to
    Where it is copying large tensors that takes the time: then it is as fast as memory.
    """

    code: ClassVar[str] = "PD109"
    name: ClassVar[str] = "slow-collate"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE, "loader.collate.mean_s")
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "collate_share": 0.20}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits for batches and collating is a large part of them."""
        batch_s, collate_s = (facts.number(f"loader.{n}.mean_s") for n in ("batch", "collate"))
        part = collate_s / batch_s if batch_s > 0 else 0.0
        if not loading_holds_up(facts) or part < facts.threshold("collate_share"):
            return None
        if _indexed_by_one(facts):
            return None  # PD107 does without collating
        lines = [line for line in loading_lines(facts) if collating(line)]
        advice, change, snippet = collate_advice(facts)
        where = f" in {lines[0].words}" if lines else f", {seconds(collate_s)}"
        part = min(1.0, part)
        return Finding(
            stage=DATA_LOADING,
            title=f"Putting samples together takes {percent(part)} of making a batch{where}; "
            f"{what_loading_costs(facts)}",
            advice=advice,
            change=dict(change),
            snippet=snippet,
            evidence=(
                *loader_evidence(facts),
                Evidence(
                    metric="collating",
                    value=part,
                    unit="share of batch",
                    threshold=facts.threshold("collate_share"),
                ),
                *line_evidence(lines),
            ),
            cause=self.cause,
            predicted=cheaper_batches(facts, *(part * gone for gone in VECTORISED)),
            confidence=0.9,
            effort="lines",
        )


def _indexed_by_one(facts: Facts) -> bool:
    path = "configuration.dataset"
    return facts.has(path) and facts.get(path) == _TENSOR_DATASET


def _slow_lines(facts: Facts, lines: list[HotLine], gone: Gone) -> Finding:
    line = lines[0]
    others = len({one.place for one in lines}) - 1  # a line may call several functions
    more = f" and {count(others, 'line')} more" if others else ""
    predicted = also_in_validation(facts, lines, gone, cheaper_batches(facts, *gone.ends))
    return Finding(
        stage=DATA_LOADING,
        title=f"{line.words}{more} {'take' if others else 'takes'} {percent(gone.likely)} of the "
        f"time for making batches; {what_loading_costs(facts)}",
        advice=f"Do what {line.place}{more} {'do' if others else 'does'} once instead of for every "
        "sample in every epoch: for all samples in __init__, or keep each result the first time. "
        f"What is drawn at random stays in {'__iter__' if iterable(facts) else '__getitem__'}.",
        change={"cache_samples": True},
        snippet=_ONCE + (_STREAMED if iterable(facts) else _BY_NUMBER),
        evidence=sample_evidence(facts, lines, gone),
        cause=LOADER_CAUSE,
        predicted=after_one_pass(facts, predicted, lines),
        confidence=0.9,
        effort="lines",
    )


def _tensors(facts: Facts) -> Finding:
    return Finding(
        stage=DATA_LOADING,
        title=f"A TensorDataset is read sample by sample: {what_loading_costs(facts)}",
        advice="The data is in memory: index the tensors with a whole batch instead of taking "
        "one sample at a time and stacking them again.",
        change={"index_batches": True},
        snippet="order = torch.randperm(len(inputs))\n"
        "for rows in order.split(batch_size):\n"
        "    x, y = inputs[rows], targets[rows]",
        evidence=loader_evidence(facts),
        cause=LOADER_CAUSE,
        predicted=cheaper_batches(facts, *VECTORISED),
        confidence=0.9,
        effort="lines",
    )
