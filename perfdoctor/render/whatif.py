"""What a training would do with other settings, on the console."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from perfdoctor.needs import WELL_FED, Needs
from perfdoctor.render.encoding import encodable
from perfdoctor.render.grid import plain_table
from perfdoctor.render.text import clean, counted, number, seconds, share
from perfdoctor.whatif import Configuration, Option, WhatIf

#: Field of a configuration → heading; those that are the same in every row are said once.
_SETTINGS = {
    "num_workers": "workers",
    "prefetch_factor": "prefetch",
    "persistent_workers": "persistent",
    "batch_size": "batch size",
    "gpus": "GPUs",
    "cores": "cores",
    "dataset_size": "samples",
}
_INDENT = 2


def print_whatif(found: WhatIf, console: Console, file: Path | None = None) -> None:
    """Prints the answer: the settings that were measured, those asked about, what is needed."""
    with encodable(console):
        for part in _parts(found):
            console.print(part)
        if file is not None:
            console.print(Text.assemble(("wrote ", "dim"), clean(file), overflow="fold"))


def _parts(found: WhatIf) -> Iterator[RenderableType]:
    now = found.now.configuration
    yield Text.assemble((clean(found.name), "bold"), f" as measured: {_described(found, now)}")
    yield Text(
        f"a step takes {seconds(found.measured_step_s)}; the model makes that "
        f"{seconds(found.now.step_s)}, of which {share(found.now.wait_share)} waits for data",
        "dim",
    )
    shown = (found.now, *found.options)
    varied = _varied([option.configuration for option in shown])
    yield _table(found, varied or ["num_workers"])
    yield Text("Needed", "bold")
    for line in _needed(found, found.needs):
        yield Padding(Text(line), (0, 0, 0, _INDENT))
    for note in found.notes:
        yield Text(f"note: {clean(note)}", "dim")
    yield Text(
        "predicted by the pipeline model, with its interval; × is samples/s ÷ those of the "
        "measured settings; steps only, without validation and checkpoints",
        "dim",
    )


def _varied(asked: Sequence[Configuration]) -> list[str]:
    """What differs; how workers work only where there are some."""
    values = {name: {getattr(one, name) for one in asked} for name in _SETTINGS}
    return [name for name, found in values.items() if len(found - {None}) > 1]


def _described(found: WhatIf, now: Configuration) -> str:
    parts = [
        counted(now.num_workers, "worker"),
        None if now.prefetch_factor is None else f"prefetch {now.prefetch_factor}",
        f"batch size {number(now.batch_size)}",
        f"{number(now.gpus)} {_unit(found, now.gpus)}" if found.on_gpu or now.gpus > 1 else None,
        counted(now.cores, "usable core"),
    ]
    return ", ".join(part for part in parts if part)


def _unit(found: WhatIf, count: int) -> str:
    one, more = ("GPU", "GPUs") if found.on_gpu else ("process", "processes")
    return one if count == 1 else more


def _table(found: WhatIf, varied: Sequence[str]) -> Table:
    table = plain_table()
    for name in varied:
        heading = _unit(found, 2) if name == "gpus" else _SETTINGS[name]
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("step", "interval", "samples/s", "×", "waits"):
        table.add_column(heading, justify="right", no_wrap=True)
    if all(option.configuration != found.now.configuration for option in found.options):
        table.add_row(*_cells(found.now, varied), style="dim")
        table.add_section()
    best = max(found.options, key=lambda option: option.samples_per_s, default=None)
    for option in found.options:
        table.add_row(*_cells(option, varied), style="bold" if option is best else "")
    return table


def _cells(option: Option, varied: Sequence[str]) -> list[Text]:
    settings = [_value(getattr(option.configuration, name)) for name in varied]
    ends = _between(seconds(option.step_low_s), seconds(option.step_high_s))
    numbers = (
        seconds(option.step_s), ends, number(option.samples_per_s), f"{option.speedup:.2f}",
        share(option.wait_share),
    )  # fmt: skip
    return [Text(text) for text in (*settings, *numbers)]


def _between(low: str, high: str) -> str:
    """Such as "49.7–54.8 ms": the unit once."""
    unit = high.partition(" ")[2]
    return f"{low.removesuffix(f' {unit}')}–{high}"


def _value(value: float | bool | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value)


def _hindrance(needs: Needs) -> str:
    """Batches that cost nothing to make would still have to be handed over."""
    if needs.step_s >= WELL_FED * needs.handed_s:
        return "a batch has to become cheaper to make"
    return (
        f"beside a step of {seconds(needs.step_s)} it takes too long to take a batch from a worker,"
        " so batches have to become larger, or so cheap to make that no worker is needed"
    )


def _needed(found: WhatIf, needs: Needs) -> Iterator[str]:
    one, many = _unit(found, 1), _unit(found, 2)
    size = f" at batch size {number(needs.batch_size)}"
    if needs.workers is None:
        yield (
            f"No number of workers keeps one {one} busy for {share(WELL_FED)} of the time{size}: "
            f"{_hindrance(needs)}."
        )
    else:
        workers = counted(needs.workers, "worker") if needs.workers else "no worker"
        cores = "" if needs.cores is None else f" and {counted(needs.cores, 'core')}"
        yield (
            f"Each {one} needs {workers}{cores} to be busy for {share(WELL_FED)} of the time{size}"
            f" (a step of {seconds(needs.step_s)}; {needs.busy_cores or 0:.1f} cores in use)."
        )
        if needs.gpus > 1 and needs.cores is not None:
            yield (
                f"{number(needs.gpus)} {many}: {counted(needs.gpus * needs.workers, 'worker')} and "
                f"{counted(needs.gpus * needs.cores, 'core')} in all."
            )
    each = f" for each {one}" if needs.gpus > 1 else ""
    yield (
        f"With no more workers than {counted(needs.here_cores, 'core')}: "
        f"num_workers={needs.here_workers}{each}, {needs.here_speedup:.2f} × the samples/s of now."
    )
