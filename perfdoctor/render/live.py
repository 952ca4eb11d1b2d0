"""A run while it lasts, in a few lines of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from perfdoctor.live_view import LiveStage, LiveView
from perfdoctor.render.text import ABSENT, bytes_, clean, count_per_s, counted, seconds, share
from perfdoctor.report import Report

#: How parts look: SGR parameters, ECMA-48 section 8.3.117.
_STYLES = {"bold": "1", "dim": "2", "red": "1;31", "cyan": "36", "green": "32", "yellow": "33"}
_SPARKS = "▁▂▃▄▅▆▇█"
#: Columns: names are as wide as they need up to these, shares ("99.9 %") always.
_NAME_CELLS, _SHARE_CELLS, _NARROW_SHARE_CELLS = 22, 11, 8
_WIDE = 60
_LONGEST_BAR, _SHORTEST_BAR = 48, 6
#: So many stages, the last of which may be "4 more", come before the other lines.
_FEWEST_STAGES = 3
#: The rank of the line that is shown only where there is room to spare.
_LEAST = 5
#: A verdict older than this says how old it is.
_OLD_S = 45.0
_NOT_STAGES = ("other", "start_up")

Part = tuple[str, str]


def live_lines(view: LiveView, width: int, height: int, colour: bool) -> list[str]:
    """At most `height` lines of at most `width` cells; with few lines, the least important go.

    With `colour` they hold escape sequences for colours, and nothing else of that kind.
    """
    room = max(0, height - 1)
    below = _below(view, width, broken=True)
    kept = min(len(below.keys() - {_LEAST}), max(1, room - _FEWEST_STAGES))
    stages = _stage_lines(view, width, room - kept)
    kept = room - len(stages)
    important = sorted(below)[:kept]
    if _LEAST not in important:
        below = _below(view, width, broken=False)
    shown = [line for rank, line in below.items() if rank in important]
    lines = [_title(view, width, bool(stages)), *stages, *shown][:height]
    return [_painted(_cut(line, width), colour) for line in lines]


def _below(view: LiveView, width: int, *, broken: bool) -> dict[int, list[Part]]:
    """What follows the stages, in this order; where there is no room, the highest number goes.

    `broken`: a long verdict takes two lines.
    """
    verdict = list(_verdict(view))
    first, second = _wrapped(verdict, width) if broken else (verdict, [])
    lines = {2: _speed(view, width), 4: list(_machine(view)), 1: first}
    if second:
        lines[_LEAST] = second
    if view.advice is not None:
        lines[3] = [(" → ", "bold"), (clean(view.advice), "")]
    return lines


def _wrapped(line: list[Part], width: int) -> tuple[list[Part], list[Part]]:
    """A line whose last part is broken at a space, if it is too long."""
    *parts, (text, style) = line
    room = width - sum(cell_len(part) for part, _ in parts)
    if cell_len(text) <= room or room < _SHORTEST_BAR:
        return line, []
    fitting = set_cell_size(text, room).rstrip()
    head = fitting.rpartition(" ")[0] or fitting
    return [*parts, (head, style)], [(f" {text[len(head) :].lstrip()}", style)]


def conclusion(report: Report) -> tuple[str | None, str | None]:
    """Verdict and best advice of a report that was made while the script runs.

    Nothing where it is inconclusive.
    """
    diagnosis = report.diagnosis
    if diagnosis is None or diagnosis.verdict == "inconclusive":
        return None, None
    verdict = f"{diagnosis.verdict.upper()}  {diagnosis.summary}"
    return verdict, next((r.title for r in report.recommendations if not r.optional), None)


def _title(view: LiveView, width: int, columns: bool) -> list[Part]:
    """A rule with the run's name, and over the shares what they are of."""
    facts = f" {counted(view.steps, 'step')} · {seconds(view.elapsed_s)} "
    cells = _share_cells(width)
    names = (f"last{_recent(view)}", "whole run") if cells == _SHARE_CELLS else ("recent", "run")
    heads = "".join(name.rjust(cells) for name in names) if columns else ""
    room = width - cell_len(facts) - cell_len(heads) - 6
    name = f" {_shortened(clean(view.name), max(room, 8))} "
    rule = "─" * max(1, width - 2 - cell_len(name) - cell_len(facts) - cell_len(heads) - 1)
    return [("──", "dim"), (name, "bold"), ("·", "dim"), (facts, ""), (rule, "dim"), (heads, "dim")]


def _recent(view: LiveView) -> str:
    if view.recent_s < 59.5:
        return f" {max(1.0, view.recent_s):.0f} s"
    return f" {view.recent_s / 60:.0f} min"


def _stage_lines(view: LiveView, width: int, room: int) -> list[list[Part]]:
    """The largest stages, in their order; where some are left out, the last line says so."""
    stages = view.stages
    if not stages or not room:
        return []
    left_out: Sequence[LiveStage] = ()
    if len(stages) > room:
        ranked = sorted(stages, key=lambda s: -max(s.recent, s.whole))
        kept, left_out = (ranked[: room - 1], ranked[room - 1 :]) if room > 1 else (ranked[:1], ())
        stages = tuple(s for s in stages if s in kept)
    names = [clean(stage.name) for stage in stages]
    name_cells = min(max([*map(cell_len, names), 12]), _NAME_CELLS, max(8, width // 4))
    bar_cells = min(_LONGEST_BAR, width - name_cells - 2 * _share_cells(width) - 3)
    lines = [_stage(view, stage, width, name_cells, bar_cells) for stage in stages]
    if left_out:
        name = f"{len(left_out)} more"
        rest = LiveStage(name, sum(s.recent for s in left_out), sum(s.whole for s in left_out))
        lines.append(_stage(view, rest, width, name_cells, bar_cells))
    return lines


def _stage(view: LiveView, stage: LiveStage, width: int, name: int, bar: int) -> list[Part]:
    """Name, a bar (full: recently; light: as far as it goes over the whole run), both shares."""
    leads = stage.name == _leading(view)
    shown = _shortened(clean(stage.name), name)
    label = shown + " " * (name - cell_len(shown))
    cells = _share_cells(width)
    shares = share(stage.recent).rjust(cells) + share(stage.whole).rjust(cells)
    style = "red" if leads else "dim" if stage.name in _NOT_STAGES else "cyan"
    drawn = [("", ""), ("", "")] if bar < _SHORTEST_BAR else _bar(stage, bar, style)
    used = 1 + name + 1 + sum(cell_len(text) for text, _ in drawn)
    gap = " " * max(1, width - used - cell_len(shares))
    return [(f" {label} ", "red" if leads else ""), *drawn, (gap, ""), (shares, "")]


def _share_cells(width: int) -> int:
    return _SHARE_CELLS if width >= _WIDE else _NARROW_SHARE_CELLS


def _bar(stage: LiveStage, cells: int, style: str) -> list[Part]:
    full = round(min(stage.recent, 1.0) * cells)
    whole = round(min(stage.whole, 1.0) * cells)
    return [("█" * full, style), ("░" * max(0, whole - full), "dim")]


def _leading(view: LiveView) -> str | None:
    """The stage that most of the recent time went to."""
    known = [stage for stage in view.stages if stage.name not in _NOT_STAGES]
    most = max(known, key=lambda stage: stage.recent, default=None)
    return most.name if most is not None and most.recent > 0 else None


def _verdict(view: LiveView) -> Iterator[Part]:
    if view.verdict is not None:
        word, gap, rest = clean(view.verdict).partition("  ")
        yield f" {word}{gap}", "green" if word == "HEALTHY" else "red"
        old = view.verdict_age_s >= _OLD_S
        yield (f"({view.verdict_age_s / 60:.0f} min ago) " if old else ""), "dim"
        yield rest, ""
        return
    leading = next((s for s in view.stages if s.name == _leading(view)), None)
    if leading is None:
        yield " no verdict yet", "yellow"
        return
    yield f" {share(leading.recent)} of the last{_recent(view)}: ", "yellow"
    yield f"{clean(leading.name)}; no verdict yet", "yellow"


def _speed(view: LiveView, width: int) -> list[Part]:
    step = ABSENT
    if view.whole_step_s is not None:
        step = _pair(_or_absent(view.recent_step_s, seconds), seconds(view.whole_step_s))
    line: list[Part] = [(" step ", "dim"), (step, "")]
    if view.whole_rate is not None:
        rate = _pair(_or_absent(view.recent_rate, count_per_s), count_per_s(view.whole_rate))
        line += [(" · ", "dim"), (rate, "")]
    room = width - sum(cell_len(text) for text, _ in line) - 2
    return [*line, (f"  {_spark(view.rates, room)}", "cyan")]


def _pair(recent: str, whole: str) -> str:
    """Now and over the whole run; the unit once where it is the same."""
    value, _, unit = whole.partition(" ")
    same = recent.count(" ") == 1 and recent.endswith(f" {unit}")
    return f"{recent} now ({value if same else whole} overall)"


def _or_absent(value: float | None, words: Callable[[float], str]) -> str:
    return ABSENT if value is None else words(value)


def _spark(rates: Sequence[float], room: int) -> str:
    """The course from zero up; a stretch without samples is a gap. Where it is too long, means."""
    if len(rates) < 2 or room < _SHORTEST_BAR:
        return ""
    size = 1
    while len(rates) > room * size:  # doubled, as the stretches of the run are
        size *= 2
    groups = [rates[i : i + size] for i in range(0, len(rates), size)]
    means = [sum(group) / len(group) for group in groups]
    top, steps = max(means), len(_SPARKS)
    return "".join(
        _SPARKS[min(steps - 1, int(mean / top * steps))] if mean > 0 else " " for mean in means
    )


def _machine(view: LiveView) -> Iterator[Part]:
    values = view.machine
    told = [
        ("CPU", _percent(values.get("cpu")) or ABSENT),
        ("GPU", _percent(values.get("gpu"))),
        ("GPU memory", _percent(values.get("gpu_memory"))),
        ("memory", _size(values.get("resident_bytes"))),
        ("workers", _size(values.get("workers_bytes"))),
    ]
    shown = [(name, value) for name, value in told if value is not None]
    yield " ", ""
    for index, (name, value) in enumerate(shown):
        yield f"{' · ' if index else ''}{name} ", "dim"
        yield value, ""


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{min(value, 100.0):.0f} %"


def _size(value: float | None) -> str | None:
    return None if value is None else bytes_(value)


def _shortened(text: str, cells: int) -> str:
    """In at most `cells` cells; what is cut off shows as an ellipsis."""
    if cell_len(text) <= cells:
        return text
    return f"{set_cell_size(text, max(0, cells - 1)).rstrip()}…"


def _cut(line: Sequence[Part], width: int) -> list[Part]:
    """The parts that fit into `width` cells; the last one shortened."""
    kept: list[Part] = []
    for text, style in line:
        if cell_len(text) > width:
            return [*kept, (_shortened(text, width), style)] if width > 0 else kept
        kept.append((text, style))
        width -= cell_len(text)
    return kept


def _painted(line: Sequence[Part], colour: bool) -> str:
    return "".join(
        f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and style and text.strip() else text
        for text, style in line
    ).rstrip(" ")
