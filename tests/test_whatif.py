"""Questions about other settings: what is asked, what is answered, what is needed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from perfdoctor.errors import PerfdoctorError
from perfdoctor.pipeline_model import LoaderModel, Setting
from perfdoctor.render.whatif import print_whatif
from perfdoctor.whatif import Asked, Job, WhatIf, answer


def job(**changes: object) -> Job:
    """80 ms of computing a batch of 32 beside a GPU that takes 20 ms; one worker, four cores."""
    model = LoaderModel(
        batch_s=np.full(100, 0.080),
        consume_s=np.full(100, 0.020),
        batch_cpu_s=0.080,
        compute_cpu_s=0.010,
        cores=4.0,
        workers=1,
        handover_s=0.0,
        handover_known=True,
        steps_per_epoch=1000,
    )
    fields: dict[str, object] = {
        "name": "Net",
        "model": model,
        "now": Setting(1),
        "step_s": 0.080,
        "batch_size": 32,
        "dataset_size": 32_000,
        "gpus": 1,
        "cores": 4.0,
        "free_cores": 4.0,
        "on_gpu": True,
    }
    return Job(**(fields | changes))  # type: ignore[arg-type]


def test_without_values_a_ladder_of_workers_is_shown() -> None:
    found = answer(job(), Asked())
    assert [o.configuration.num_workers for o in found.options][:4] == [0, 1, 2, 3]
    assert found.now.step_s == pytest.approx(0.080, rel=0.01)
    assert not found.asked


def test_the_ladder_ends_where_nothing_more_is_gained() -> None:
    waiting = job().model
    free = LoaderModel(**{**vars(waiting), "batch_cpu_s": 0.0})
    found = answer(job(model=free), Asked())
    assert [o.configuration.num_workers for o in found.options] == [0, 1, 2, 3, 4, 6]


def test_every_combination_is_answered() -> None:
    found = answer(job(), Asked(num_workers=(2, 4), batch_size=(16, 32), cores=(2.0, 16.0)))
    assert len(found.options) == 8
    assert found.asked


def test_settings_that_need_workers_are_not_combined_with_none() -> None:
    found = answer(job(), Asked(num_workers=(0, 2), prefetch_factor=(2, 4)))
    assert [o.configuration.prefetch_factor for o in found.options] == [None, 2, 4]


def test_a_gpu_needs_four_workers_and_five_cores() -> None:
    # 80 ms of a core a batch, 20 ms a step: four workers at 100 %, and half a core for the step
    needs = answer(job(), Asked()).needs
    assert needs.workers == 4
    assert needs.cores == 5
    assert needs.busy_cores == pytest.approx(4.5, rel=0.05)
    assert needs.step_s == pytest.approx(0.020)


def test_no_more_workers_than_cores_are_counted_on_here() -> None:
    needs = answer(job(cores=2.0, free_cores=2.0), Asked()).needs
    assert needs.here_cores == 2.0
    assert needs.here_workers == 2
    assert needs.here_speedup == pytest.approx(2.0, rel=0.15)


def test_several_gpus_share_the_cores() -> None:
    found = answer(job(), Asked(num_workers=(4,), gpus=(1, 4), cores=(20.0,)))
    one, four = found.options
    assert one.samples_per_s == pytest.approx(32 / 0.020, rel=0.05)
    assert four.samples_per_s == pytest.approx(4 * one.samples_per_s, rel=0.12)
    starved = answer(job(), Asked(num_workers=(4,), gpus=(4,), cores=(4.0,))).options[0]
    assert starved.samples_per_s < 0.4 * four.samples_per_s
    assert any("gradients" in note for note in found.notes)


def test_a_larger_batch_says_what_was_not_measured() -> None:
    found = answer(job(), Asked(num_workers=(8,), batch_size=(64,), cores=(64.0,)))
    option = found.options[0]
    assert option.step_s == pytest.approx(0.040, rel=0.05)  # in proportion
    assert option.step_low_s == pytest.approx(0.020, rel=0.1)  # or no longer at all
    assert any("not measured" in note for note in found.notes)


def test_a_smaller_data_set_begins_anew_more_often() -> None:
    long, short = answer(
        job(), Asked(num_workers=(2,), persistent_workers=(False,), dataset_size=(32_000, 320))
    ).options
    assert short.step_s > 1.1 * long.step_s


def test_nothing_that_nobody_can_answer_is_answered() -> None:
    with pytest.raises(PerfdoctorError, match="more than the data set"):
        answer(job(), Asked(batch_size=(64_000,)))
    with pytest.raises(PerfdoctorError, match="combinations"):
        answer(job(), Asked(num_workers=range(64), batch_size=range(1, 64)))


def test_no_number_of_workers_feeds_it() -> None:
    slow = LoaderModel(**{**vars(job().model), "batch_s": np.full(10, 9.0), "batch_cpu_s": 9.0})
    needs = answer(job(model=slow, step_s=9.0), Asked()).needs
    assert needs.workers is None
    assert needs.cores is None


def short_steps() -> Job:
    """Batches of 0.6 ms that the loop makes itself, beside a step of 0.4 ms."""
    model = LoaderModel(
        **{
            **vars(job().model),
            "batch_s": np.full(100, 0.6e-3),
            "consume_s": np.full(100, 0.4e-3),
            "batch_cpu_s": 0.6e-3,
            "compute_cpu_s": 0.4e-3,
            "workers": 0,
            "handover_s": 1e-3,
        }
    )
    return job(model=model, now=Setting(0), step_s=1e-3, on_gpu=False)


def printed(found: WhatIf) -> str:
    file = io.StringIO()
    print_whatif(found, Console(file=file, width=100))
    return " ".join(file.getvalue().split())


def test_a_step_that_is_shorter_than_handing_over_waits_for_all_but_its_computing() -> None:
    found = answer(short_steps(), Asked(num_workers=(0, 1)))
    assert found.needs.step_s == pytest.approx(0.4e-3)
    assert found.now.wait_share == pytest.approx(0.6, abs=0.01)
    assert found.options[1].wait_share == pytest.approx(1 - 0.4 / 1.4, abs=0.02)


def test_it_is_told_where_handing_batches_over_takes_too_long() -> None:
    found = answer(short_steps(), Asked())
    assert found.needs.workers is None
    assert found.needs.handed_s == pytest.approx(1.4e-3, rel=0.01)
    words = printed(found)
    assert "beside a step of 400 µs it takes too long to take a batch from a worker" in words
    slow = LoaderModel(**{**vars(job().model), "batch_s": np.full(10, 9.0), "batch_cpu_s": 9.0})
    dear = answer(job(model=slow, step_s=9.0), Asked())
    assert "a batch has to become cheaper to make" in printed(dear)


def test_intervals_hold_their_estimate() -> None:
    found = answer(job(), Asked(num_workers=(0, 1, 2, 4, 8), batch_size=(8, 32, 128)))
    for option in (found.now, *found.options):
        assert option.step_low_s <= option.step_s <= option.step_high_s
        assert option.samples_per_s_low <= option.samples_per_s <= option.samples_per_s_high
        assert 0 <= option.wait_share < 1
