"""Real logs of many projects: is what is read from them what a person reads?

    python benchmarks/logs.py [FOLDER]

FOLDER (default: ../shared/logs) holds logs and MANIFEST.tsv, whose column `facts` tells of each
what a person found in it. Medians are taken out of these facts; where they are told in words, or
mix several trainings or validation with training, the value that counts is in `BY_HAND` below,
with the reason. Exits 1 if a row is off, 0 if there is no such folder.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import formats
from perfdoctor.readers.assembly import assemble
from perfdoctor.record import Floats, Run

FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "logs"
#: Medians agree within 5 %, or to the last digit that the logs print of a wait for data.
LIMIT_SHARE, LIMIT_DATA_S = 0.05, 0.0005
_MEDIAN = r"[^;|]{0,80}?\bmedian=([0-9.e+\-]+)"
#: What is told → in which quantity, and how. `1/x` stands for rates of steps.
_TOLD: tuple[tuple[str, str, float], ...] = (
    (rf"\btimer? s/iter{_MEDIAN}", "step_s", 1.0),
    (rf"\btime s per IMAGE{_MEDIAN}", "step_s", 1.0),
    (rf"\btime(?:\(window median\) s| s \(window avg\)){_MEDIAN}", "step_s", 1.0),
    (rf"(?:\bstep time s|^.*\bTime s n|\biter_time s){_MEDIAN}", "step_s", 1.0),
    (rf"seconds per 50 steps from timestamps{_MEDIAN}", "step_s", 1 / 50),
    (rf"(?:ms/batch|ms/step|iter time ms){_MEDIAN}", "step_s", 1e-3),
    (rf"s per 1000 iters{_MEDIAN}", "step_s", 1e-3),
    (rf"sec/it{_MEDIAN}", "step_s", 1.0),
    (rf"\bups{_MEDIAN}", "steps_per_s", 1.0),
    (r"'train_steps_per_second': ([0-9.]+)", "steps_per_s", 1.0),
    (r"'train_samples_per_second': ([0-9.]+)", "samples_per_s", 1.0),
    (rf"(?:CurrSamplesPerSec|samples/sec|imgs?/s(?:ec)?){_MEDIAN}", "samples_per_s", 1.0),
    (rf"(?:\bwps|[tT]ok/s){_MEDIAN}", "tokens_per_s", 1.0),
    (rf"(?:\bdata_time|\bdata s|\bdata_time s|; data){_MEDIAN}", "data_s", 1.0),
    (rf"(?:epoch time s|epoch s|column epoch_time){_MEDIAN}", "epoch_s", 1.0),
    (r"average epoch time ([0-9.]+)", "epoch_s", 1.0),
    (r"'epoch_time: ([0-9.]+)", "epoch_s", 1.0),
)
_NO_TIMES = re.compile(r"\bNO tim|NO time|no timing|not derivable|\bno time fields")


@dataclass(frozen=True)
class ByHand:
    """What counts for a file in place of the medians, and why."""

    wanted: Mapping[str, float | None]
    why: str


_TWO_LOOPS = "the median is over training and validation"
BY_HAND: dict[str, ByHand] = {
    "LeeKunHa__kospeech": ByHand({"step_s": 6.649}, "664.9 s every 100 steps of its counter"),
    "rameyjm7__SFT": ByHand({"step_s": 15.2}, "two ranks write; steady at 15.2 s"),
    "neox__issue965": ByHand({"step_s": 6.0}, "told in words"),
    "DySPN__issue4": ByHand({"epoch_s": 36.4 * 60}, "told in words"),
    "issue9304_simple_profiler": ByHand({"step_s": 0.0364, "epoch_s": 5.945}, "told in words"),
    "cellpose__issue450": ByHand({"epoch_s": 819.0}, "told in words"),
    "OpenNMT-py__issue1362": ByHand(
        {"step_s": 2.94, "tokens_per_s": 5043.0}, "147 s every 50 steps; source tokens"
    ),
    "deepspeech.pytorch__issue127": ByHand(
        {"step_s": 0.6635, "data_s": 0.002}, "0.393 to 0.935 s: the median"
    ),
    "GraphSAGE_MultiGPU": ByHand({"epoch_s": 7.25, "samples_per_s": 43_000}, "told in words"),
    "issue11_megatron": ByHand({"step_s": 127.4, "samples_per_s": 8.04}, "told in words"),
    "issue2674_espnet2": ByHand(
        {"step_s": 0.0135, "data_s": 0.001, "epoch_s": 102.6}, "told in words"
    ),
    "BGCA__issue2": ByHand({"step_s": 0.6765}, "0.62 to 0.82 s; each line is there twice"),
    "torchtune__pr1358": ByHand({"tokens_per_s": 416.0}, "345 to 962 tokens/s"),
    "torchtitan__pr3393": ByHand({"step_s": 1.12, "tokens_per_s": 7290.0}, "told in words"),
    "wenet__issue941": ByHand({"step_s": 1.333}, "133 s every 100 steps of rank 0"),
    "Tensorflow-Revision": ByHand(
        {"step_s": 0.011}, "several trainings: only the step time is one value"
    ),
    "MukundShankar-dev__TMR": ByHand(
        {"epoch_s": 227.0}, "114 952 s from the first to the last line, 500 epochs: 230 s the mean"
    ),
    "dimahwang88__pl-mlf": ByHand({"step_s": 0.00121}, "0.121 s in 100 batches"),
    "slm_training__classic": ByHand({"step_s": 0.0766}, _TWO_LOOPS),
    "sanamoin5__yolo": ByHand({"step_s": 0.2985}, _TWO_LOOPS),
    "rank-0.Apr_03": ByHand({"step_s": 0.0956}, "the profiler's steps, told in words"),
    "alexnet_trace": ByHand({"step_s": None}, "no steps in it"),
    "calvin_rl": ByHand({"samples_per_s": 62.0}, "time/fps"),
    "mlperf05_gnmt": ByHand({"step_s": 0.054, "tokens_per_s": 57_250.0}, "rates are of one rank"),
    "5arSanti": ByHand({"epoch_s": 25.61}, "differences of the sum in the column time"),
    "CIRKD": ByHand({"step_s": 0.80}, "17 325 s for 20 000 steps, validation in it"),
    "events.out.tfevents.1734689234": ByHand({"epoch_s": 2212.0}, "2530 s is the mean; it drifts"),
    "hyphae_yolov7__events": ByHand({"epoch_s": 6.5}, "told in words"),
    "hyphae_yolov7__run": ByHand({"step_s": None, "epoch_s": 4.13}, "hours ÷ epochs of two runs"),
    "fujitsu_resnet": ByHand({"epoch_s": 0.745}, "from the marks of beginnings and ends"),
    "dellemc_ssd": ByHand({"epoch_s": 51.5}, "from the marks; 2688 s for 51 epochs and more"),
    "O5-7__chat": ByHand({"step_s": 1 / 0.1095, "samples_per_s": 1.753}, "0.11 is rounded"),
    "CqGao112": ByHand({"step_s": 1 / 0.141}, "per second at the end; the samples are rounded"),
}
#: Names in the manifest that are ways of writing one format.
_SAME_FORMAT = {
    "tqdm_raw_cr": "tqdm", "tqdm_final_lines": "tqdm", "zh_tqdm_mixed": "tqdm",
    "no_timing_negative": "generic", "per_epoch_misc": "generic",
    "yearless_timestamp_csv": "csv",
}  # fmt: skip
#: No training at all, or nothing that tells its speed.
_HARDWARE = (
    "nvidia_smi_csv",
    "nvidia_smi_table",
    "nvidia_dmon",
    "wandb_summary_json",
    "llmc_mainlog",
)


def main(arguments: list[str]) -> int:
    """The table; 1 if something is off."""
    folder = Path(arguments[0]) if arguments else FOLDER
    manifest = folder / "MANIFEST.tsv"
    if not manifest.exists():
        print(f"{manifest} is not there: nothing to compare")
        return 0
    with manifest.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    lines = [line for row in rows for line in _lines(folder, row)]
    for line in lines:
        print(line.text)
    good = sum(line.good for line in lines)
    print(f"{good} of {len(lines)} agree, in {len(rows)} files")
    return 0 if good == len(lines) else 1


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    text: str
    good: bool


def _lines(folder: Path, row: Mapping[str, str]) -> Iterator[Line]:
    name = row["file"].rpartition("/")[2][:44]
    if not (folder / row["file"]).exists():
        return
    try:
        reading = formats.read(str(folder / row["file"]), lambda _: None)
        run = assemble(reading, row["file"], None)
    except PerfdoctorError as error:
        yield Line(f"{name:45}{error}", good=False)
        return
    wanted_format = _SAME_FORMAT.get(row["format"], row["format"])
    yield _line(name, reading.format, "format", wanted_format, reading.format, "")
    wanted, why = _wanted(row)
    for quantity, value in wanted.items():
        yield _line(name, reading.format, quantity, value, _got(run, quantity), why)


def _line(
    name: str, format_name: str, quantity: str, want: str | float | None, got: str | float | None,
    why: str,
) -> Line:  # fmt: skip
    good = _agree(quantity, want, got)
    cells = f"{name:45}{format_name:28}{quantity:15}{_text(want):>24} {_text(got):>24}"
    return Line(f"{cells}  {'ok' if good else 'OFF':4}{why}", good)


def _text(value: str | float | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.5g}"


def _agree(quantity: str, want: str | float | None, got: str | float | None) -> bool:
    if not isinstance(want, float | int) or not isinstance(got, float | int):
        return want == got
    slack = LIMIT_DATA_S if quantity == "data_s" else 0.0
    return abs(got - want) <= LIMIT_SHARE * abs(want) + slack


def _wanted(row: Mapping[str, str]) -> tuple[Mapping[str, float | None], str]:
    for name, by_hand in BY_HAND.items():
        if name in row["file"]:
            return by_hand.wanted, by_hand.why
    if _NO_TIMES.search(row["facts"]) or row["format"] in _HARDWARE:
        return {"step_s": None, "epoch_s": None}, "nothing tells a time"
    found: dict[str, float | None] = {}
    for pattern, quantity, scale in _TOLD:
        match = re.search(pattern, row["facts"])
        if match is None:
            continue
        value = float(match.group(1)) * scale
        if quantity == "steps_per_s":
            quantity, value = "step_s", 1 / value
        found.setdefault(quantity, value)
    return found, ""


def _got(run: Run, quantity: str) -> float | None:
    data = next((s.exposed_s for s in run.stages if s.name == "data_loading"), None)
    if quantity == "samples_per_s" and quantity not in run.rates:
        return _median(run.samples / run.step_s) if run.step_s.size else None
    return _median(
        {
            "step_s": run.step_s,
            "data_s": data,
            "epoch_s": None if run.epochs is None else run.epochs.time_s,
        }.get(quantity, run.rates.get(quantity))
    )


def _median(values: Floats | None) -> float | None:
    if values is None:
        return None
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
