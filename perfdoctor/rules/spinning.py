"""PD123: threads of torch that spin while they wait take the cores from the loader's workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_advice import WAIT_SHARE, WORKERS
from perfdoctor.rules.measured import beside
from perfdoctor.rules.observed import RANGE, RUNS, beside_steps, of_training
from perfdoctor.rules.wording import count, on_cuda, percent
from perfdoctor.stages import DATA_LOADING

_WAITING = "configuration.openmp_waiting"
_BY_DEFAULT = "default"
#: How long GNU OpenMP's threads spin before they sleep: 300 000 turns by default (libgomp's manual,
#: GOMP_SPINCOUNT) of some 30 ns.
_SPIN_S = 10e-3


class ThreadsSpinBesideWorkers:
    """Threads of torch that wait for work keep cores busy which the loader's workers need.

    ## What it does
    Looks, in an observed script on a CPU, for workers and torch's threads that together fill the
    cores while the training waits for data, and for GNU OpenMP's way of waiting by default.

    ## Why it is slow
    After each parallel operation torch's helper threads spin for some ten milliseconds in case
    there is another one, and sleep only then. While the training waits for a batch, they spin on
    the cores that would make it. A job of two workers on two cores took 24 ms a step, and 17 ms
    with threads that sleep at once.

    ## Evidence and threshold
    What the helper threads can spin away while a step waits for its batch, of all usable cores;
    and how busy these are.
    - `exposed_share` = 0.1 (source: MLPerf Storage passes a system whose accelerator is busy for
      90 % of the time; PyTorch's TensorBoard plug-in already warns from 5 %)
    - `cores_busy` = 0.8 (source: gpuprof and loadtune call workers bound by the processor from
      80 % of its time)
    - `spinning` = 0.05 (source: twice what can be told from noise, 2.1 %, rounded up)

    ## What to change
    `OMP_WAIT_POLICY=passive` in the environment before Python starts: threads that wait sleep.
    In that job brief spinning (`GOMP_SPINCOUNT=20000`) gave 20 ms a step.

    ## How the gain is predicted
    A range: from nothing, over what is spun away while the step waits, to all processor time of
    the training beyond one thread.

    ## When not to
    Without workers: then `OMP_WAIT_POLICY=passive` made steps of 2 ms up to 9 ms long, since each
    operation had to wake its threads. Builds of torch with Intel's OpenMP have KMP_BLOCKTIME for
    it, and this rule is silent.
    """

    code: ClassVar[str] = "PD123"
    name: ClassVar[str] = "threads-spin-beside-workers"
    needs: ClassVar[tuple[str, ...]] = (WORKERS, WAIT_SHARE, "configuration.threads", _WAITING)
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "spinning-threads"
    thresholds: ClassVar[Mapping[str, float]] = {
        "exposed_share": 0.10,
        "cores_busy": 0.80,
        "spinning": 0.05,
    }
    sources: ClassVar[tuple[str, ...]] = RUNS

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if helper threads can spin while busy workers are waited for."""
        helpers, workers = int(facts.number("configuration.threads")) - 1, facts.number(WORKERS)
        if helpers < 1 or workers < 1 or on_cuda(facts) or facts.text(_WAITING) != _BY_DEFAULT:
            return None
        busy, spun = _cores_busy(facts), _spun(facts, helpers)
        enough = busy >= facts.threshold("cores_busy") and spun >= facts.threshold("spinning")
        if not enough or facts.number(WAIT_SHARE) < facts.threshold("exposed_share"):
            return None
        return Finding(
            stage=DATA_LOADING,
            title=f"{count(helpers, 'thread')} of torch {'spins' if helpers == 1 else 'spin'} "
            f"while the training waits for its workers: {percent(spun)} of the cores' time",
            advice="Let torch's threads sleep while they wait: set OMP_WAIT_POLICY=passive "
            "in the environment before Python starts.",
            change={"environment": {"OMP_WAIT_POLICY": "passive"}},
            snippet="OMP_WAIT_POLICY=passive python train.py",
            evidence=(
                beside(facts, "spun away during waits", spun, "share of cores", "spinning"),
                beside(facts, "cores in use by training and workers", busy, "share", "cores_busy"),
                Evidence(metric="threads of torch", value=helpers + 1, unit=""),
                Evidence(metric="workers", value=workers, unit=""),
            ),
            cause=self.cause,
            predicted=_without_spinning(facts, spun),
            confidence=0.6,
        )


def _cores_busy(facts: Facts) -> float:
    """By this training alone: processor time of a step and of a batch ÷ what the cores have."""
    used_s = facts.number("steps.cpu_s") + facts.number("loader.batch_cpu_s")
    return used_s / _of_cores_s(facts)


def _of_cores_s(facts: Facts) -> float:
    return facts.number("steps.time.mean_s") * facts.number("environment.cores_usable")


def _spun(facts: Facts, helpers: int) -> float:
    wait_s = facts.number(f"stages.{DATA_LOADING}.mean_s")
    return helpers * min(wait_s, _SPIN_S) / _of_cores_s(facts)


def _without_spinning(facts: Facts, spun: float) -> Prediction:
    """Where all cores are in use, work is done the faster the more of them it gets."""
    step_s, wait_s = (
        facts.number(f"{path}.mean_s") for path in ("steps.time", f"stages.{DATA_LOADING}")
    )
    beyond = (facts.number("steps.cpu_s") - (step_s - wait_s)) / _of_cores_s(facts)
    likely = 1 / (1 - min(0.5, spun))
    high = max(likely, 1 / (1 - min(0.5, max(0.0, beyond))))
    guess = Prediction(speedup=likely, low=1.0, high=high, model=RANGE)
    return of_training(guess, beside_steps(facts))
