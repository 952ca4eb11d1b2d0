"""PD116, PD117, PD119, PD122: where samples lie, and whether they are made again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import LOADER_CAUSE, WAIT_SHARE, loader_evidence
from perfdoctor.rules.loader_facts import waits_for_storage
from perfdoctor.rules.logs import FULL_RAM
from perfdoctor.rules.measured import beside
from perfdoctor.rules.run_batches import cheaper_batches
from perfdoctor.rules.run_gains import up_to_of_steps
from perfdoctor.rules.wording import percent, size
from perfdoctor.stages import DATA_LOADING

_BENCH = ("bench",)
_SIZE = "configuration.dataset_size"
_KIB = 1024.0
#: Of the time for making samples, what is left when they are taken from memory: never less.
_COPYING_LEFT = 0.02


class SmallReads:
    """Samples are read in pieces too small for the disk.

    ## What it does
    Looks for a loader that waits for a disk and reads little for each sample, far below the rate
    at which this machine reads one large file.

    ## Why it is slow
    Opening a file and finding its place takes a disk or a network longer than reading some
    kilobytes. Samples that lie one behind the other in large files are read at full speed.

    ## Evidence and threshold
    Bytes read for a sample, how much of a batch's time is processor time, and the rate beside that
    of a sequential read on this machine.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `sample_kib` = 256 (source: our own choice; samples of MLPerf Storage's ResNet-50 have 150 KB)
    - `of_sequential` = 0.25 (source: our own choice; a sequential reader would be four times as
      fast)

    ## What to change
    Pack samples into shards of some hundred megabytes (tar as WebDataset has it, one array,
    Parquet), and read those from the first to the last.

    ## How the gain is predicted
    The model of the pipeline, in which the waiting part of making a batch shrinks to what a
    sequential read of as many bytes takes, or by half.

    ## When not to
    Where the files are in the page cache after the first epoch: then this rule is silent.
    """

    code: ClassVar[str] = "PD116"
    name: ClassVar[str] = "small-reads"
    needs: ClassVar[tuple[str, ...]] = (WAIT_SHARE, "loader.disk_bytes_per_s")
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {
        "exposed_share": 0.10,
        "sample_kib": 256.0,
        "of_sequential": 0.25,
    }
    sources: ClassVar[tuple[str, ...]] = _BENCH

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if a loader that is waited for reads little at a time, from a slow place."""
        wait, disk = facts.number(WAIT_SHARE), facts.number("loader.disk_bytes_per_s")
        computing = facts.number("loader.batch_cpu_s") / facts.number("loader.batch.p50_s")
        if wait < facts.threshold("exposed_share") or disk <= 0:
            return None
        if not waits_for_storage(facts, computing):
            return None
        sample = disk / facts.number("loader.capacity_samples_per_s")
        achieved = disk / facts.number("limits.loader_read.peak")
        small = sample < facts.threshold("sample_kib") * _KIB
        if not small or achieved > facts.threshold("of_sequential"):
            return None
        waiting = 1 - computing
        return Finding(
            stage=DATA_LOADING,
            title=f"Samples of {sample / _KIB:.0f} KiB are read one by one, at {percent(achieved)} "
            "of the speed of one large file",
            advice="Pack the samples into shards that are read from the first to the last, or copy "
            "them into memory or to a local disk.",
            change={"samples": "sharded"},
            snippet="# once: tar --sort=name -cf shard-000.tar part-000/\n"
            'dataset = webdataset.WebDataset("shard-{000..063}.tar").shuffle(1000).decode()',
            evidence=(
                *loader_evidence(facts),
                beside(facts, "read for a sample", sample / _KIB, "KiB", "sample_kib"),
                beside(facts, "of a sequential read", achieved, "share", "of_sequential"),
            ),
            cause=self.cause,
            predicted=cheaper_batches(facts, 0.5 * waiting, waiting * (1 - achieved), waiting),
            confidence=0.6,
            effort="redesign",
            safety="exact",
        )


class RandomAccess:
    """Reading samples in random order takes much longer than reading neighbours.

    ## What it does
    Compares fetching samples from all over the dataset with fetching as many that follow each
    other.

    ## Why it is slow
    A mapped file or a chunked one (HDF5, Parquet, Arrow with an index mapping) reads a page or a
    chunk for each sample of a random order, and throws most of it away. Hugging Face's
    documentation speaks of ten times as slow.

    ## Evidence and threshold
    A probe, in pairs, on this dataset; and the wait for data.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `ratio` = 2 (source: our own choice; the probe's lower end must pass it)

    ## What to change
    Shuffle blocks of neighbouring samples and the samples in a buffer; or write the samples in
    the order of a shuffle once (`flatten_indices` after `shuffle`).

    ## How the gain is predicted
    The model of the pipeline with batches that are as much cheaper as the probe found, or by half
    as much.

    ## When not to
    A shuffle by blocks is less random: blocks must not hold one class each.
    """

    code: ClassVar[str] = "PD117"
    name: ClassVar[str] = "random-access"
    needs: ClassVar[tuple[str, ...]] = (WAIT_SHARE, "probes.neighbouring_samples.low")
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "ratio": 2.0}
    sources: ClassVar[tuple[str, ...]] = _BENCH

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits and neighbours are read much faster."""
        wait, low = facts.number(WAIT_SHARE), facts.number("probes.neighbouring_samples.low")
        if wait < facts.threshold("exposed_share") or low < facts.threshold("ratio"):
            return None
        ratio = facts.number("probes.neighbouring_samples.speedup")
        gone = 1 - 1 / ratio
        return Finding(
            stage=DATA_LOADING,
            title=f"A random sample takes {ratio:.1f} times as long as the next one",
            advice="Shuffle blocks of neighbouring samples instead of single ones, or write the "
            "samples once in a shuffled order.",
            change={"sample_order": "blocks"},
            snippet="blocks = torch.randperm(len(dataset) // 256)\n"
            "order = [i for b in blocks for i in range(b * 256, (b + 1) * 256)]",
            evidence=(
                *loader_evidence(facts),
                beside(facts, "random ÷ neighbouring", ratio, "×", "ratio"),
            ),
            cause=self.cause,
            predicted=cheaper_batches(facts, 0.5 * gone, 0.8 * gone, gone),
            confidence=0.6,
            effort="lines",
            safety="semantics",
        )


class SamplesMadeAnew:
    """Samples that never change are made anew in every epoch, and would fit into memory.

    ## What it does
    Fetches some samples twice and compares them, and compares making samples with taking them
    from memory.

    ## Why it is slow
    Decoding, parsing and scaling give the same result in every epoch, and cost as much as the
    first time.

    ## Evidence and threshold
    The wait for data; samples that came out the same; a probe of what keeping them saves; and
    their size times the dataset's, beside the memory.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `ratio` = 2 (source: our own choice; the probe's lower end must pass it)
    - `memory_share` = 0.5 (source: our own choice; what the training needs itself has to fit too)

    ## What to change
    Make them once: keep them as one tensor in memory, or write the result to an array that is
    mapped (`numpy.memmap`) and shared by all workers.

    ## How the gain is predicted
    The model of the pipeline with batches cheaper by what the probe found, or by half of it.

    ## When not to
    With random augmentation: then samples differ, and only what comes before it can be kept. In
    lists of Python objects every worker would get its own copy.
    """

    code: ClassVar[str] = "PD119"
    name: ClassVar[str] = "samples-made-anew"
    needs: ClassVar[tuple[str, ...]] = (WAIT_SHARE, "probes.cached_samples.low")
    verify_with: ClassVar[str | None] = "cached-dataset"
    cause: ClassVar[str] = LOADER_CAUSE
    thresholds: ClassVar[Mapping[str, float]] = {
        "exposed_share": 0.10,
        "ratio": 2.0,
        "memory_share": 0.50,
    }
    sources: ClassVar[tuple[str, ...]] = _BENCH

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the loop waits for samples that could be kept."""
        probe = "probes.cached_samples"
        wait, low = facts.number(WAIT_SHARE), facts.number(f"{probe}.low")
        if wait < facts.threshold("exposed_share") or low < facts.threshold("ratio"):
            return None
        if not facts.number(f"{probe}.details.same_each_time"):
            return None
        whole = facts.number(f"{probe}.details.sample_bytes") * facts.number(_SIZE)
        memory = whole / facts.number("environment.memory_bytes")
        used = facts.known("memory.host_used_share") or 0.0
        if memory > facts.threshold("memory_share") or memory + used > FULL_RAM:
            return None
        gone = min(1 - _COPYING_LEFT, 1 - 1 / facts.number(f"{probe}.speedup"))
        return Finding(
            stage=DATA_LOADING,
            title="Samples come out the same each time and are made anew in every epoch; all of "
            f"them take {size(whole)}",
            advice="Make them once and keep them in memory as one tensor, or in a mapped array; "
            "random augmentation would come after that.",
            change={"cache_samples": True},
            snippet="class Cached(torch.utils.data.Dataset):\n"
            "    def __init__(self, inner):\n"
            "        self.samples = [inner[i] for i in range(len(inner))]  # once\n\n"
            "    def __len__(self):\n"
            "        return len(self.samples)\n\n"
            "    def __getitem__(self, index):\n"
            "        return self.samples[index]",
            evidence=(
                *loader_evidence(facts),
                beside(facts, "made ÷ taken from memory", 1 / (1 - gone), "×", "ratio"),
                beside(facts, "all samples", memory, "share of memory", "memory_share"),
            ),
            cause=self.cause,
            predicted=cheaper_batches(facts, 0.5 * gone, 0.9 * gone, gone),
            confidence=0.75,
            effort="lines",
        )


class DatasetBeyondMemory:
    """The dataset does not fit into memory, so that each epoch reads it from the disk again.

    ## What it does
    Estimates the bytes of the dataset from what is read for a sample, beside the memory.

    ## Why it is slow
    Files that were read stay in memory while there is room. A dataset that is larger pushes its
    own beginning out before the next epoch, and nothing is ever found in memory.

    ## Evidence and threshold
    Bytes of the whole dataset ÷ memory, a disk that is read, and the wait for data.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `memory_share` = 1 (source: a cache smaller than what is cycled through keeps nothing of it,
      DS-Analyzer, arXiv:2007.06775)

    ## What to change
    Store samples smaller (the size they are used in, 8 bits, compressed), in shards that are read
    in order; or use a machine with more memory or a faster disk.

    ## How the gain is predicted
    Only a bound is known: no more than if nothing were waited for.

    ## When not to
    Where the disk keeps up: then nothing is waited for and this rule is silent.
    """

    code: ClassVar[str] = "PD122"
    name: ClassVar[str] = "dataset-beyond-memory"
    needs: ClassVar[tuple[str, ...]] = (WAIT_SHARE, "loader.disk_bytes_per_s")
    verify_with: ClassVar[str | None] = "free-loading"
    cause: ClassVar[str] = "dataset-size"
    thresholds: ClassVar[Mapping[str, float]] = {"exposed_share": 0.10, "memory_share": 1.0}
    sources: ClassVar[tuple[str, ...]] = _BENCH

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if the disk is read, waited for, and the dataset cannot stay in memory."""
        wait, disk = facts.number(WAIT_SHARE), facts.number("loader.disk_bytes_per_s")
        if wait < facts.threshold("exposed_share") or disk <= 0:
            return None
        read = facts.number("loader.read_bytes_per_s")
        sample = read / facts.number("loader.capacity_samples_per_s")
        samples = facts.number(_SIZE)
        memory = sample * samples / facts.number("environment.memory_bytes")
        if memory <= facts.threshold("memory_share"):
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"The dataset takes about {size(sample * samples)}, {memory:.1f} times the "
            "memory: each epoch reads it from the disk again",
            advice="Store the samples smaller (8 bits, the size they are used in, compressed) and "
            "in shards, or give the training more memory.",
            change={"samples": "smaller"},
            snippet="",
            evidence=(
                *loader_evidence(facts),
                beside(facts, "dataset", memory, "× memory", "memory_share"),
                Evidence(metric="read from the disk", value=disk, unit="bytes/s"),
            ),
            cause=self.cause,
            predicted=up_to_of_steps(facts, wait),
            confidence=0.5,
            effort="redesign",
        )
