from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import render_cases as cases
from builders import make_diagnosis, make_report
from drawn_texts import extents, laid_out, outside, overlapping, texts
from matplotlib.figure import Figure
from PIL import Image

from perfdoctor.render import figure as looks
from perfdoctor.render import png, renderer
from perfdoctor.report import Report


def drawn(report: Report) -> Figure:
    """The figure, laid out but not painted."""
    with looks.style():
        return laid_out(png.draw(report))


@pytest.mark.parametrize("case", cases.ALL)
def test_no_two_texts_overlap_and_none_leaves_the_picture(case: Callable[[], Report]) -> None:
    figure = drawn(case())
    boxes = extents(figure)
    assert len(boxes) > 10
    assert overlapping(boxes) == []
    assert outside(figure, boxes) == []
    panels = [ax for part in figure.subfigs for ax in part.axes]
    assert min(ax.bbox.width for ax in panels) > 0.15 * figure.bbox.width


@pytest.mark.parametrize("case", [cases.input_bound, cases.compared, cases.foreign_names])
def test_the_picture_is_a_wide_png_drawn_without_a_warning(case: Callable[[], Report]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = png.graph_benchmark(case())
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width >= 1200
        assert len(image.convert("RGB").resize((60, 40)).getcolors(2400)) > 10


def test_text_with_dollars_is_shown_as_it_is() -> None:
    shown = {text for text, _ in extents(drawn(cases.foreign_names()))}
    assert any("$\\nomacro$ \\frac{1}{0}" in text for text in shown)
    assert "图_$a_b$" in shown


def test_every_stage_has_its_share_and_the_bottleneck_its_colour() -> None:
    figure = drawn(cases.input_bound())
    stages = figure.subfigs[1].axes[1]
    labels = [label.get_text() for label in stages.get_yticklabels()]
    assert labels == list(cases.input_bound().stages)
    shown = {text for text, _ in extents(figure)}
    assert "71 % · 82.0 ms" in shown
    colours = {bar.get_facecolor() for bar in stages.patches}
    assert len(colours) == 3  # bottleneck, other stages, `other`


def test_only_the_largest_stages_are_drawn_where_there_are_too_many() -> None:
    shown = [text for text, _ in extents(drawn(cases.forty_stages()))]
    assert "Where the time of a step goes (10 left out)" in shown
    assert "stage_39" in shown
    assert "stage_09" not in shown


def test_percentiles_that_coincide_are_named_one_below_the_other() -> None:
    names = [t for t in texts(drawn(cases.coinciding_percentiles())) if "50.0 ms" in t.get_text()]
    found = [t.get_text() for t in names if t.get_text().startswith("p")]
    assert found == ["p50 50.0 ms", "p95 50.0 ms", "p99 50.0 ms"]


def test_steps_beyond_the_axis_are_counted() -> None:
    series = {"step_s": (0.1,) * 99 + (3.0,), "samples": (32.0,) * 100}
    figure = drawn(make_report(count=100, series=series, diagnosis=make_diagnosis()))
    shown = {text for text, _ in extents(figure)}
    assert "step time in ms; 1 beyond, the longest 3.00 s" in shown


def test_a_thinned_series_spans_the_whole_run() -> None:
    throughput = drawn(cases.long_run()).subfigs[1].axes[0]
    assert throughput.lines[0].get_xdata()[-1] > 7800
    assert throughput.get_legend().get_texts()[1].get_text() == "mean over 200 steps"


def test_without_recommendations_the_picture_says_so() -> None:
    shown = {text.replace("\n", " ") for text, _ in extents(drawn(cases.healthy()))}
    assert "Nothing needs changing: no rule found a fault that costs training speed." in shown


def test_fonts_with_chinese_letters_follow_the_default_where_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looks, "CJK_FONTS", ("No Such Font", "DejaVu Serif"))
    with looks.style():
        text = png.draw(make_report()).subfigs[0].texts[0]
    assert text.get_fontfamily() == ["DejaVu Sans", "DejaVu Serif"]


def test_long_text_is_wrapped_by_the_room_that_it_takes() -> None:
    assert looks.wrapped("模型" * 4, 8, 3) == ["模型模型", "模型模型"]
    assert looks.wrapped("one two three four", 9, 2) == ["one two", "thre…"]


def test_a_user_s_matplotlib_settings_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "black"}):
        figure = drawn(make_report())
    assert figure.subfigs[1].axes[0].get_facecolor() == (1.0, 1.0, 1.0, 1.0)


def test_drawing_never_imports_pyplot_and_printing_never_matplotlib() -> None:
    program = (
        "import sys\n"
        "import perfdoctor.render.console, perfdoctor.render.png\n"
        "assert 'matplotlib' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
        "from builders import make_report\n"
        "perfdoctor.render.png.graph_benchmark(make_report())\n"
        "assert 'matplotlib' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    paths = [p for p in sys.path if p]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{program}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_renderer_is_found_by_the_name_of_its_format() -> None:
    assert renderer("png") is png.graph_benchmark
    assert renderer("json")(make_report()).startswith(b"{")
    with pytest.raises(KeyError):
        renderer("html")
