from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
import render_cases as cases
from builders import make_diagnosis, make_report
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from perfdoctor.render import figure as looks
from perfdoctor.render import png, renderer
from perfdoctor.report import Report


def drawn(report: Report) -> Figure:
    """The figure, laid out but not painted."""
    with looks.style():
        figure = png.draw(report)
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> Iterator[Text]:
    """Every text that can be seen."""
    for part in figure.subfigs:
        yield from part.texts
        for ax in part.axes:
            yield from _texts_of(ax)


def _texts_of(ax: Axes) -> Iterator[Text]:
    yield from (ax.title, ax._left_title, *ax.texts)  # a left title is a text of its own
    if legend := ax.get_legend():
        yield from legend.get_texts()
    if not ax.axison:
        return
    for axes in (ax, *ax.child_axes):
        for axis in (axes.xaxis, axes.yaxis):
            yield axis.label
            yield from _tick_labels(axis)


def _tick_labels(axis: Axis) -> Iterator[Text]:
    low, high = sorted(axis.get_view_interval())
    for tick in axis.get_major_ticks():
        if low <= tick.get_loc() <= high:
            yield from (label for label in (tick.label1, tick.label2) if label.get_visible())


def extents(figure: Figure) -> list[tuple[str, Bbox]]:
    with looks.style():
        renderer: RendererAgg = figure.canvas.get_renderer()
        return [(t.get_text(), t.get_window_extent(renderer)) for t in texts(figure) if _seen(t)]


def _seen(text: Text) -> bool:
    return text.get_visible() and bool(text.get_text().strip())


@pytest.mark.parametrize("case", cases.ALL)
def test_no_two_texts_overlap_and_none_leaves_the_picture(case: Callable[[], Report]) -> None:
    figure = drawn(case())
    boxes = extents(figure)
    assert len(boxes) > 10
    overlapping = [
        (one, other)
        for (one, a), (other, b) in combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5
    ]
    assert overlapping == []
    outside = [
        text
        for text, box in boxes
        if box.x0 < 0 or box.y0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1
    ]
    assert outside == []
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
