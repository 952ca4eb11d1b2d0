from __future__ import annotations

from dataclasses import replace

import pytest
from builders import ENVIRONMENT, make_report, make_stat

from perfdoctor.record import Gpu, Limit, Sampling
from perfdoctor.render import setting_words, words
from perfdoctor.report import Trial, Usage


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        (
            "precision",
            "200 steps in 24.0 s; stopped because the median step is known to ±1.2 %",
        ),
        (
            "budget",
            "200 steps until the time budget of 24.0 s was used up; "
            "the median step is known to ±1.2 %",
        ),
        (
            "iterations",
            "200 steps in 24.0 s, as many as asked for; the median step is known to ±1.2 %",
        ),
        (
            "interrupted",
            "200 steps in 24.0 s, then interrupted; the median step is known to ±1.2 %",
        ),
    ],
)
def test_the_reason_why_measuring_ended_is_said(stop: str, shown: str) -> None:
    sampling = Sampling(stop=stop, target_share=0.02, seconds=24.0)
    assert words.measured(make_report().steps, sampling) == shown


def test_a_median_without_an_interval_is_not_claimed_to_be_known() -> None:
    steps = replace(make_report().steps, count=1, time=make_stat(0.1, p50_ci=None))
    assert words.measured(steps, None) == "1 step; too few for an interval of the median"


def test_a_median_that_is_known_very_well_is_said_so_in_words() -> None:
    steps = replace(make_report().steps, time=make_stat(0.1, p50_ci=(0.09999, 0.10001)))
    assert words.precision(steps) == "the median step is known to better than ±0.1 %"


def test_the_processor_is_named_once_and_where_it_belongs() -> None:
    gpu = Gpu(name="NVIDIA H100", memory_bytes=80 * 2**30)
    on_gpu = replace(ENVIRONMENT, device="cuda:0", gpu=(gpu,))
    assert words.device(on_gpu) == "cuda:0 · NVIDIA H100 (80.0 GiB)"
    assert words.machine(on_gpu) == (
        "AMD EPYC 7763 64-Core Processor · 2 usable cores · 8.00 GiB RAM"
    )
    on_cpu = replace(ENVIRONMENT, gpu=(gpu,))
    assert words.device(on_cpu) == "cpu · AMD EPYC 7763 64-Core Processor"
    assert words.machine(on_cpu) == "2 usable cores · 8.00 GiB RAM"


def test_settings_read_as_words_and_what_is_off_is_left_out() -> None:
    settings = {
        "batch_size": 64,
        "num_workers": 1,
        "prefetch_factor": None,
        "pin_memory": True,
        "persistent_workers": False,
        "precision": "bf16",
        "compile": "max-autotune",
        "device": "cuda:0",
        "my_option": "x" * 60,
    }
    assert setting_words.configuration(settings) == (
        "batch size 64, 1 worker, pinned memory, bf16, compiled (max-autotune), "
        f"my_option {'x' * 20}…{'x' * 19}"
    )
    assert setting_words.configuration({"num_workers": 0, "compile": "off"}) == (
        "no workers (the training process loads), not compiled"
    )


def test_a_limit_is_set_beside_the_peak_measured_here() -> None:
    compute = Limit(name="compute", achieved=1.2e12, peak=3.9e12, unit="FLOP/s")
    assert words.limit(compute) == (
        "forward+backward runs at 31 % of the matrix-product peak measured here "
        "(1.20 of 3.90 TFLOP/s)"
    )
    copy = Limit(name="h2d", achieved=None, peak=2**34, unit="bytes/s")
    assert words.limit(copy) == "the copy bandwidth measured here is 16.0 GiB/s"


def test_counters_have_the_unit_of_their_name() -> None:
    value = Usage(mean=212.4, p50=0, p95=0)
    assert words.usage("gpu_power_w", value) == "GPU power 212 W"
    assert words.usage("gpu", replace(value, mean=41.2)) == "GPU 41 %"


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        ("verified", "verified 1.38× (1.30–1.45×)"),
        ("refuted", "refuted: measured 1.38× (1.30–1.45×)"),
        ("inconclusive", "inconclusive: measured 1.38× (1.30–1.45×)"),
    ],
)
def test_a_trial_says_what_it_measured(outcome: str, shown: str) -> None:
    assert words.verified(Trial(outcome=outcome, speedup=1.38, low=1.3, high=1.45)) == shown


def test_a_change_that_cannot_be_tried_has_no_number() -> None:
    assert words.verified(Trial(outcome="not_testable")) == "not testable"
