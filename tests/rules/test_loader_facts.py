"""The pipeline model of a report: which measurements it takes from where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bases import CPU_PARTS, input_bound_cpu, probe, training

from perfdoctor.ending import Ending
from perfdoctor.errors import PerfdoctorError
from perfdoctor.pipeline_model import LoaderModel
from perfdoctor.record import Run, Source
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.loader_facts import loader_model, measured_job
from perfdoctor.schema import from_json, to_dict, to_json
from perfdoctor.summarise import summarise


def of(run: Run) -> LoaderModel:
    return loader_model(Facts(to_dict(summarise(run))))


def with_loader(run: Run, **changes: Any) -> Run:
    assert run.loader is not None
    return replace(run, loader=replace(run.loader, **changes))


def test_the_model_is_made_once_for_all_rules() -> None:
    facts = Facts(to_dict(summarise(input_bound_cpu())))
    assert loader_model(facts) is loader_model(facts.with_thresholds({"gain": 2.0}))


def test_processor_time_is_that_of_the_mean_batch() -> None:
    run = training(batch_s=np.where(np.arange(200) % 10 == 0, 0.2, 0.02), parts_s=CPU_PARTS)
    assert of(run).batch_cpu_s == pytest.approx(0.9 * 0.02 + 0.1 * 0.2)


def test_workers_that_keep_up_show_what_handing_over_takes() -> None:
    idle = training(batch_s=0.010, parts_s=CPU_PARTS, workers=4)
    late = training(batch_s=0.400, parts_s=CPU_PARTS, workers=1)
    assert of(idle).handover_known
    assert not of(late).handover_known


def test_handing_over_takes_longer_for_larger_batches() -> None:
    small, large = (with_loader(input_bound_cpu(), batch_bytes=n) for n in (1_000, 20_000_000))
    assert of(small).handover_s == pytest.approx(0.5e-3, rel=0.01)
    assert of(large).handover_s == pytest.approx(7.5e-3, rel=0.01)


def test_creating_workers_is_known_for_each_of_them() -> None:
    run = training(batch_s=0.2, parts_s=CPU_PARTS, workers=4, persistent_workers=False)
    assert of(run).create_s is None
    assert of(with_loader(run, create_s=np.full(3, 0.4))).create_s == pytest.approx(0.1)


def test_a_start_that_nobody_saw_is_not_zero() -> None:
    assert of(training(batch_s=0.2, parts_s=CPU_PARTS, workers=2)).start_s is None
    assert of(input_bound_cpu()).start_s is None


def test_workers_that_persist_were_started_as_was_seen_from_inside() -> None:
    run = training(batch_s=0.2, parts_s=CPU_PARTS, workers=2)
    assert of(with_loader(run, start_s=np.array([0.7]))).start_s == pytest.approx(0.7)


def test_ends_of_workers_are_known_where_they_were_seen() -> None:
    run = training(batch_s=0.2, parts_s=CPU_PARTS, workers=2, persistent_workers=False)
    assert of(run).end_s is None
    assert of(with_loader(run, end_s=np.full(3, 0.4))).end_s == pytest.approx(0.4)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_new_interpreter_takes_as_long_as_importing_torch(method: str) -> None:
    run = training(batch_s=0.2, parts_s=CPU_PARTS, start_method=method)
    assert of(run).fresh_s == 3.3
    assert of(replace(run, counters={"import_torch_s": 1.2})).fresh_s == 1.2


def test_forked_workers_have_imported_it() -> None:
    run = replace(input_bound_cpu(), counters={"import_torch_s": 1.2})
    assert of(run).fresh_s is None
    forked = replace(run, configuration={**run.configuration, "start_method": "fork"})
    assert of(forked).fresh_s is None


def test_only_a_script_seen_to_its_end_tells_how_many_steps_there_are() -> None:
    whole = replace(
        input_bound_cpu(), source=Source(kind="run"), ending=Ending("finished"), warmup=5
    )
    steps = whole.step_s.size
    assert of(whole).steps_in_all == steps
    assert of(replace(whole, ending=Ending("interrupted"))).steps_in_all is None
    assert of(input_bound_cpu()).steps_in_all is None
    job = measured_job(summarise(whole), "report.json")
    assert job.model.steps_in_all is None  # what would be if it went on


def test_how_the_step_grows_with_the_batch_is_measured_by_the_probe() -> None:
    assert of(input_bound_cpu()).growth == (1.0, 0.0, 1.0)
    run = replace(input_bound_cpu(), probes=(probe("batch_x2", 2.0, batch_size=64),))
    likely, least, most = of(run).growth  # twice the samples a second: no longer at all
    assert likely == pytest.approx(0.0)
    assert least < likely < most < 0.1


def test_a_job_is_read_from_a_stored_report() -> None:
    stored = from_json(to_json(summarise(input_bound_cpu())))
    job = measured_job(stored, "report.json")
    assert (job.batch_size, job.dataset_size, job.gpus, job.now.workers) == (32, 32_000, 1, 0)
    assert job.cores == 4.0
    assert job.free_cores == pytest.approx(3.96)
    assert not job.on_gpu


def test_a_report_without_steps_says_how_to_get_them() -> None:
    empty = replace(summarise(input_bound_cpu()), series={})
    with pytest.raises(PerfdoctorError, match=r"old\.json holds no .*perfdoctor run"):
        measured_job(empty, "old.json")
