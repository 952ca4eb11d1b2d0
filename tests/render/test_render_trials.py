"""Trials on the console and as a picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import make_recommendation, make_report
from printing import printed

from perfdoctor.render import png, trials_panel
from perfdoctor.render.figure import style
from perfdoctor.render.trials import _off_by
from perfdoctor.report import CurvePoint, Prediction, Trial, Verification

GAIN = {"speedup": 1.31, "low": 1.27, "high": 1.36, "pairs": 7}
VERIFIED = Trial(outcome="verified", loss_parity="exact", **GAIN)
COMPILED = Trial(outcome="verified", compile_s=31.0, pays_back_steps=1234, **GAIN)
SIZES = (
    CurvePoint(batch_size=32, samples_per_s=100.0, peak_bytes=2**30),
    CurvePoint(batch_size=64, samples_per_s=180.0, peak_bytes=2**31),
    CurvePoint(batch_size=128, error="not tried: memory might not do"),
)


def tried(trial, **verification):
    found = {"budget_s": 120.0, "spent_s": 60.0, "control": Trial(outcome="inconclusive", **GAIN)}
    return make_report(
        recommendations=(make_recommendation(verified=trial),),
        verification=Verification(**(found | verification)),
    )


def lines(report) -> str:
    text = printed(report)
    return " ".join(text[text.index("What was tried here") :].split())


def test_predicted_and_measured_stand_side_by_side():
    found = lines(tried(VERIFIED))
    assert "1.42× (1.25–1.60×) 1.31× (1.27–1.36×) verified" in found
    assert "PD101 loss: exact" in found
    assert "nothing changed, measured the same way" in found


def test_without_trials_there_is_no_such_section():
    assert "What was tried" not in printed(make_report())


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (COMPILED, "compiling takes 31.0 s, worth it after 1,234 steps"),
        (replace(COMPILED, pays_back_steps=None), "compiling takes 31.0 s"),
        (Trial(outcome="not_testable", reason="there is no GPU here"), "there is no GPU here"),
        (replace(VERIFIED, peak_bytes_before=2**30, peak_bytes_after=2**31), "1.00 GiB → 2.00 GiB"),
        (replace(VERIFIED, curve=SIZES), "batch size 64: 180 samples/s, peak 2.00 GiB"),
        (replace(VERIFIED, curve=SIZES), "batch size 128: not tried: memory might not do"),
    ],
)
def test_what_else_there_is_to_know_is_said(trial, said):
    assert said in lines(tried(trial))


def test_a_ceiling_is_not_called_verified():
    found = lines(tried(VERIFIED, ceilings={"free-loading": VERIFIED}))
    assert found.count("verified") == 1 and "1.31× (1.27–1.36×) a ceiling" in found


def test_of_advice_whose_ceiling_alone_was_measured_that_is_shown():
    ceiling = replace(VERIFIED, outcome="not_testable", reason="only its ceiling can be tried")
    assert "at most 1.36× not testable" in lines(tried(ceiling))


def test_where_anything_is_possible_no_number_is_shown():
    anything = Trial(outcome="inconclusive", speedup=0.13, low=0.01, high=8.7, pairs=2)
    assert "0.13" not in lines(tried(anything))


def test_an_interruption_before_the_first_trial_is_called_one():
    report = replace(tried(None, interrupted=True), recommendations=())
    assert "Nothing: it was interrupted before the first trial." in lines(report)


def test_code_to_be_copied_is_not_wrapped():
    long = "loader = DataLoader(" + ", ".join(f"argument_{i}={i}" for i in range(12)) + ")"
    assert long in printed(tried(VERIFIED, patch=long))


def test_a_script_s_settings_are_no_profile_for_bench():
    text = "[tool.perfdoctor.profiles.verified]"
    report = tried(VERIFIED, profile=text)
    assert text in printed(report)
    of_script = replace(report, source=replace(report.source, kind="run"))
    assert text not in printed(of_script)


def test_peaks_that_hardly_differ_are_not_mentioned():
    alike = replace(VERIFIED, peak_bytes_before=1000, peak_bytes_after=1050)
    assert "peak memory" not in lines(tried(alike))


def test_a_bound_that_was_predicted_is_shown_as_one():
    bound = Prediction(speedup=1.2, low=1.0, high=3.0, model="an upper bound")
    one = make_recommendation(predicted=bound, verified=VERIFIED)
    report = replace(tried(VERIFIED), recommendations=(one,))
    assert "up to 3.00×" in lines(report)


def test_what_was_not_tried_with_the_others_is_named():
    alone = replace(VERIFIED, change={"environment": {"A": "1"}})
    both = replace(VERIFIED, change={"precision": "bf16"})
    report = tried(both, together=both, alone_product=4.0)
    (one,) = report.recommendations
    assert "tried by itself only" not in lines(report)
    other = replace(one, rule="PD309", verified=alone)
    report = replace(report, recommendations=(one, other))
    assert "as their gains multiplied; tried by itself only: PD309" in lines(report)


def test_everything_about_the_whole_is_said():
    found = lines(
        tried(
            VERIFIED,
            together=replace(VERIFIED, speedup=3.1, low=3.0, high=3.2),
            alone_product=4.0,
            ceilings={"free-loading": VERIFIED},
            foreign_cpu_share=0.62,
            scored=4,
            within_interval=3,
            error=0.11,
            interrupted=True,
            patch="use(it)\n",
            environment={"OMP_NUM_THREADS": "4"},
            profile='[tool.perfdoctor.profiles.verified]\nprecision = "bf16"\n',
        )
    )
    assert "all of them bring 3.10×, not 4× as their gains multiplied" in found
    assert "ceiling: loading that costs nothing" in found
    assert "other programs used 62 % of its cores" in found
    assert "predictions were off by 12 % (median); 3 of 4 within their interval" in found
    assert "60.0 s of 2 min 0 s, interrupted" in found or "1 min 0 s of 2 min 0 s" in found
    assert "export OMP_NUM_THREADS=4" in found
    assert "[tool.perfdoctor.profiles.verified]" in found


def texts(report) -> str:
    with style():
        figure = png.draw(report)
        found = [text.get_text() for part in figure.subfigs for text in part.findobj() if
                 hasattr(text, "get_text")]  # fmt: skip
    return "\n".join(found)


@pytest.mark.parametrize("curve", [(), SIZES, SIZES[2:]])
def test_the_picture_has_a_panel_of_trials(curve):
    report = tried(replace(VERIFIED, curve=curve), together=VERIFIED)
    found = texts(report)
    assert "What was tried: predicted and measured" in found
    assert "all together" in found
    assert ("Throughput and memory by batch size" in found) == (len(curve) > 1)
    assert png.graph_benchmark(report).startswith(b"\x89PNG")
    assert trials_panel.height(report) > 0


def test_a_picture_of_trials_that_measured_nothing_is_drawn_too():
    untested = Trial(outcome="not_testable", reason="there is no GPU here")
    assert png.graph_benchmark(tried(untested, control=None)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("error", "words"), [(0.0, "0 %"), (0.105, "11 %"), (0.997, "a factor of 2.7")]
)
def test_how_far_predictions_were_off_is_no_logarithm(error, words):
    assert _off_by(error) == words
