"""PD113, PD114, PD120, PD121: what worker processes cost besides making batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_facts import FRESH_STARTS, persistent, whole_cores
from perfdoctor.rules.measured import MEASURED, beside
from perfdoctor.rules.observed import RUNS, part_of_training, without
from perfdoctor.rules.run_waiting import remade
from perfdoctor.rules.sharding import SHARDED
from perfdoctor.rules.wording import count, grouped, percent, seconds
from perfdoctor.stages import DATA_LOADING

_WORKERS = "configuration.num_workers"
_QUOTA = "environment.cgroup.cpu_quota"


class SlowWorkerStart:
    """Workers are started as new interpreters, which takes a visible part of the training.

    ## What it does
    Looks for the start methods "spawn" and "forkserver" in an observed script, and at the time
    from making an iterator until its workers begin to fetch.

    ## Why it is slow
    Such a worker begins as an empty interpreter: it imports the script and its packages again and
    unpickles the dataset. Workers are started one after the other (about 3.3 s each with torch and
    its friends, PyTorch issue 153594), and the training waits. A forked worker has all of it.

    ## Evidence and threshold
    All starts together, as a part of the training.
    - `share` = 0.05 (source: our own choice, the share from which PyTorch's TensorBoard plug-in
      warns of waiting for data)

    ## What to change
    `multiprocessing_context="fork"` on Linux; where that is not possible fewer workers, imports
    that only the training needs under `if __name__ == "__main__":`, a dataset that is small to
    pickle, and `persistent_workers=True`.

    ## How the gain is predicted
    The training without nine tenths of these starts: a forked worker takes some milliseconds.

    ## When not to
    Forking is not safe once CUDA is in use in the parent and the worker touches it, or where
    threads hold locks. Windows and macOS have no choice.
    """

    code: ClassVar[str] = "PD113"
    name: ClassVar[str] = "slow-worker-start"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = "persistent-workers"
    cause: ClassVar[str] = "worker-restart"
    thresholds: ClassVar[Mapping[str, float]] = {"share": 0.05}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if new interpreters were started and took long."""
        if not facts.known(_WORKERS):
            return None
        method = facts.text("configuration.start_method")
        if method not in FRESH_STARTS:
            return None
        start_s, times = facts.number("loader.start.p50_s"), facts.number("loader.start.count")
        total_s = facts.number("loader.start.total_s")
        share = part_of_training(facts, total_s)
        if share < facts.threshold("share"):
            return None
        keep = "" if times < 2 or persistent(facts) or remade(facts) else " and keep them alive"
        return Finding(
            stage=DATA_LOADING,
            title=f"Starting workers by {method} takes {seconds(start_s)}, {grouped(times)} "
            f"{'time' if times == 1 else 'times'}: {percent(share)} of the training",
            advice=f"On Linux fork the workers{keep}, if the dataset touches no CUDA; else move "
            "imports that only the training needs under `if __name__ == '__main__':`.",
            change={"start_method": "fork"},
            snippet='loader = DataLoader(dataset, ..., multiprocessing_context="fork")',
            evidence=(
                beside(facts, "starting workers", share, "share of training", "share"),
                Evidence(metric="a start", value=start_s, unit="s"),
            ),
            cause=self.cause,
            predicted=without(share, 0.5, 0.9, 1.0),
            confidence=0.7,
        )


class CpuQuotaIgnored:
    """Threads or workers are as many as the machine has cores, but a quota allows fewer.

    ## What it does
    Compares the threads of torch and the workers with the quota of the container's cgroup, and
    looks how often the kernel stopped the training because the quota was used up.

    ## Why it is slow
    `os.cpu_count()` tells the machine's cores, not the quota. Threads beyond it use the quota up
    in a part of each period, and then all of them stand still until the next one begins.

    ## Evidence and threshold
    More threads and busy workers than the quota has cores, and periods that were cut short.
    - `throttled_percent` = 5 (source: our own choice, one period in twenty cut short by the quota,
      as in PD901)

    ## What to change
    As many threads, and as many workers beside them, as the quota has cores.

    ## How the gain is predicted
    It is not: how the work would be spread over the periods cannot be read off the counters.

    ## When not to
    Where the quota is about to be raised.
    """

    code: ClassVar[str] = "PD114"
    name: ClassVar[str] = "cpu-quota-ignored"
    needs: ClassVar[tuple[str, ...]] = ("configuration.threads",)
    verify_with: ClassVar[str | None] = "threads"
    cause: ClassVar[str] = "cpu-quota"
    thresholds: ClassVar[Mapping[str, float]] = {"throttled_percent": 5.0}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if a quota is exceeded and the kernel is seen to enforce it."""
        quota, threads = facts.known(_QUOTA), int(facts.number("configuration.threads"))
        workers = int(facts.known(_WORKERS) or 0)
        cores = whole_cores(facts)
        if quota is None or max(threads, workers) <= quota:
            return None
        throttled = facts.number("utilisation.cpu_throttled.mean")
        if throttled < facts.threshold("throttled_percent"):
            return None
        change = {"threads": cores} if threads > cores else {"num_workers": cores}
        return Finding(
            stage=DATA_LOADING if workers > quota else "forward",
            title=f"{count(threads, 'thread')} and {count(workers, 'worker')} share a quota of "
            f"{quota:g} cores, which ran out in {throttled:.0f} % of its periods",
            advice=f"Use {count(cores, 'thread')} (torch.set_num_threads, OMP_NUM_THREADS) and no "
            "more workers than cores are left, counted with len(os.sched_getaffinity(0)) and the "
            "cgroup's cpu.max instead of os.cpu_count().",
            change=change,
            snippet=f"torch.set_num_threads({cores})",
            evidence=(
                Evidence(metric="quota", value=quota, unit="cores"),
                Evidence(metric="threads", value=threads, unit="", threshold=quota),
                beside(facts, "periods cut short", throttled, "%", "throttled_percent"),
            ),
            cause=self.cause,
            confidence=0.7,
            safety="numerics",
        )


class ThreadsInWorkers:
    """Each worker computes with several threads, and together they are more than the cores.

    ## What it does
    Compares the processor time of the worker processes with what one thread of each could use.

    ## Why it is slow
    torch limits itself to one thread in a worker, but OpenCV, MKL and other libraries start as
    many as there are cores, in every worker. They take the cores from each other and from the
    training, and wait for each other at barriers.

    ## Evidence and threshold
    Processor time of all workers per second ÷ workers, while the cores are busy.
    - `cores_each` = 1.2 (source: our own choice; one thread cannot use more than one core, and the
      samples of the counter are of short times)
    - `cores_busy` = 0.8 (source: gpuprof and loadtune call workers bound by the processor from
      80 % of its time)

    ## What to change
    One thread in each worker: `cv2.setNumThreads(0)` in `worker_init_fn`, `OMP_NUM_THREADS=1` for
    them.

    ## How the gain is predicted
    It is not: what the threads lose to each other cannot be read off their time. Try it.

    ## When not to
    With one worker on many cores its threads do good.
    """

    code: ClassVar[str] = "PD120"
    name: ClassVar[str] = "threads-in-workers"
    needs: ClassVar[tuple[str, ...]] = (_WORKERS,)
    verify_with: ClassVar[str | None] = "workers"
    cause: ClassVar[str] = "threads-in-workers"
    thresholds: ClassVar[Mapping[str, float]] = {"cores_each": 1.2, "cores_busy": 0.80}
    sources: ClassVar[tuple[str, ...]] = MEASURED

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if workers use more than a core each on a machine without idle ones."""
        workers = int(facts.number(_WORKERS))
        if workers < 2:
            return None
        each = facts.number("utilisation.cpu_workers.mean") / 100 / workers
        busy = facts.number("utilisation.cpu.mean") / 100
        if each < facts.threshold("cores_each") or busy < facts.threshold("cores_busy"):
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"Each of {workers} workers uses {each:.1f} cores, and the cores are "
            f"{percent(busy)} busy",
            advice="Let each worker compute in one thread: limit OpenCV, MKL and others in "
            "worker_init_fn.",
            change={"threads_in_worker": 1},
            snippet="def one_thread(worker_id):\n"
            "    torch.set_num_threads(1)\n"
            "    cv2.setNumThreads(0)  # if OpenCV is used\n\n"
            "loader = DataLoader(dataset, ..., worker_init_fn=one_thread)",
            evidence=(
                beside(facts, "cores used by each worker", each, "cores", "cores_each"),
                beside(facts, "all cores", busy, "share", "cores_busy"),
            ),
            cause=self.cause,
            confidence=0.6,
            effort="lines",
        )


class SamplesDuplicatedByWorkers:
    """An IterableDataset gives every sample once from each worker.

    ## What it does
    Compares the samples of an epoch with the length that the dataset itself tells, in an observed
    script with several workers.

    ## Why it is slow
    Each worker gets a copy of the dataset and goes through all of it unless it is told its part.
    An epoch then holds every sample as many times as there are workers (torch warns of it, too).

    ## Evidence and threshold
    Samples of an epoch ÷ length of the dataset.
    - `least` = 1.5 (source: our own choice, between once and, with two workers, twice)

    ## What to change
    Let each worker yield its part, by `torch.utils.data.get_worker_info()`: split the files or
    entries, not what is made of them.

    ## How the gain is predicted
    Not as samples a second, which stay what they are: an epoch is that many times shorter.

    ## When not to
    Where samples are drawn at random and an epoch is only a number of steps.
    """

    code: ClassVar[str] = "PD121"
    name: ClassVar[str] = "samples-duplicated-by-workers"
    needs: ClassVar[tuple[str, ...]] = ("configuration.loader_kind", _WORKERS)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "samples-duplicated"
    thresholds: ClassVar[Mapping[str, float]] = {"least": 1.5}
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if an epoch holds the dataset more than once."""
        workers = int(facts.number(_WORKERS))
        if facts.text("configuration.loader_kind") != "iterable" or workers < 2:
            return None
        size = facts.number("configuration.dataset_size")
        steps = facts.number("epochs.steps_per_epoch")
        times = steps * facts.number("configuration.batch_size") / max(1.0, size)
        if times < facts.threshold("least") or times > workers + 0.5:
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"An epoch holds each of the {grouped(size)} samples {times:.1f} times: every "
            f"one of {workers} workers yields all of them",
            advice="Let each worker yield only its part of the dataset; an epoch is then "
            f"{times:.1f} times shorter.",
            change={"shard_by_worker": True},
            snippet=SHARDED,
            evidence=(
                beside(facts, "samples of an epoch ÷ of the dataset", times, "×", "least"),
                Evidence(metric="workers", value=workers, unit=""),
            ),
            cause=self.cause,
            confidence=0.8,
            effort="lines",
            safety="semantics",
        )
