"""The table of formats. To add one: a `form` in forms.py for lines of text, else a line here."""

from __future__ import annotations

from perfdoctor.readers.boxes import Boxes
from perfdoctor.readers.dllogger import DlLogger
from perfdoctor.readers.form import Form
from perfdoctor.readers.kinds import Binary, Document, Format, MlPerf
from perfdoctor.readers.table_kinds import CsvTable, JsonLines
from perfdoctor.readers.text_kinds import TextFormat, text_formats

_HERE = "perfdoctor.readers"

GENERIC = TextFormat(
    Form(
        "generic",
        "any other text with counters, times, rates or time stamps",
        "step 100 | loss 2.31 | 412 ms | 77.6 samples/s",
        "",
        weight=0.0,
    )
)
_JSON_LINES = (
    JsonLines(
        "mmcv_log_json", "mmcv's .log.json", '{"mode": "train", "epoch": 1, "iter": 50, …}',
        ("mode", "epoch"), 0.93, "mmcv", {"time": "step_s", "memory": "memory_bytes"},
    ),
    JsonLines(
        "mmengine_scalars_json", "MMEngine's scalars.json",
        '{"lr": 0.1, "data_time": 0.000285, "time": 0.14, "step": 100}',
        ("data_time", "step"), 0.92, "mmengine",
        {"time": "step_s", "iter": "", "memory": "memory_bytes"},
    ),
    JsonLines(
        "detectron2_metrics_json", "Detectron2's metrics.json",
        '{"data_time": 0.0274, "eta_seconds": 8898.9, "iteration": 19}',
        ("iteration",), 0.88, "detectron2", {"time": "step_s"},
    ),
    JsonLines(
        "detr_json_lines", "DETR's and MAE's log.txt", '{"train_lr": 0.0001, "epoch": 0}',
        ("train_lr", "epoch"), 0.94, "pytorch",
    ),
    JsonLines(
        "llamafactory_jsonl", "LLaMA-Factory's trainer_log.jsonl",
        '{"current_steps": 1, "total_steps": 5100, "elapsed_time": "0:01:03"}',
        ("current_steps", "elapsed_time"), 0.95, "transformers",
        {"current_steps": "step", "total_steps": "step_total", "remaining_time": "",
         "percentage": "", "throughput": "tokens_per_s", "total_tokens": ""},
    ),
    JsonLines("json_lines", "JSON lines with any names", '{"step": 10, "dt_ms": 41.2}', (), 0.7),
)  # fmt: skip

_TABLES = (
    CsvTable(
        "ultralytics_results_csv", "Ultralytics' results.csv", "epoch,time,train/box_loss,…",
        ("epoch", "time", "train/box_loss"), 0.95, "ultralytics", {"time": "elapsed_s"},
    ),
    CsvTable(
        "yolov5_results_csv", "YOLOv5's results.csv", "epoch, train/box_loss, …, x/lr0",
        ("epoch", "train/box_loss"), 0.94, "yolov5",
    ),
    CsvTable(
        "sb3_progress_csv", "Stable-Baselines3's progress.csv", "time/fps,time/time_elapsed,…",
        ("time/fps",), 0.95, "stable-baselines3",
        {"time/fps": "samples_per_s_mean", "time/total_timesteps": "env_steps",
         "time/time_elapsed": "elapsed_s", "time/iterations": "", "time/episodes": "",
         "train/n_updates": ""},
    ),
    CsvTable(
        "lightning_metrics_csv", "Lightning's CSVLogger", "epoch,epoch_time,step,train_loss",
        ("epoch", "step"), 0.9, "lightning",
    ),
    CsvTable(
        "keras_csvlogger", "Keras' CSVLogger", "epoch,accuracy,loss,val_accuracy,val_loss",
        ("epoch", "loss"), 0.8, "keras",
    ),
    CsvTable("csv", "tables with any names", "step,step_ms,samples_per_s", (), 0.6),
)  # fmt: skip

_BASELINES = {
    "fps": "samples_per_s_mean", "total_timesteps": "env_steps", "time_elapsed": "elapsed_s",
    "serial_timesteps": "", "iterations": "", "episodes": "", "n_updates": "", "nupdates": "",
}  # fmt: skip
_SECTIONS = ("", "time/", "train/", "misc/")
_BOXES = (
    Boxes(
        "baselines_table", "the boxes of OpenAI Baselines and Stable-Baselines",
        "|    fps              | 250      |",
        frozenset(("fps", "total_timesteps", "time_elapsed")), "stable-baselines",
        {section + name: role for name, role in _BASELINES.items() for section in _SECTIONS},
    ),
)  # fmt: skip
_DOCUMENTS = (
    Document(
        "hf_trainer_state", "Hugging Face Trainer's trainer_state.json", '{"log_history": [',
        f"{_HERE}.trainer_state:HfTrainerState", ("{",),
    ),
    Document(
        "hf_all_results_json", "Hugging Face's all_results.json",
        '{"train_runtime": 27386.6, "train_steps_per_second": 0.11}',
        f"{_HERE}.huggingface:HfAllResults", ("{",),
    ),
    Document(
        "wandb_summary_json", "the summary of Weights & Biases",
        '{"_runtime": 2566.84, "_step": 20}',
        f"{_HERE}.documents:WandbSummary", ("{",),
    ),
    Document(
        "perfdoctor_report", "perfdoctor's own report", '{"schema_version": 1, …}',
        f"{_HERE}.documents:PerfdoctorReport", ('"schema_version"',),
    ),
    Document(
        "search_monitor_report", "the JSON report of an architecture search's monitor",
        '{"total_runtime": 496.8, "timing_stats": {"train_epoch": …',
        f"{_HERE}.search_report:SearchMonitorReport", ('"timing_stats"',),
    ),
    Document(
        "lightning_simple_profiler", "Lightning's SimpleProfiler",
        "run_training_epoch  |  5.94  |  10  |  59.453  |  90.142",
        f"{_HERE}.profilers:LightningSimpleProfiler", ("Mean duration (s)",),
    ),
    Document(
        "lightning_profiler_advanced", "Lightning's AdvancedProfiler",
        "Profile stats for: run_training_epoch",
        f"{_HERE}.advanced_profiler:LightningAdvancedProfiler", ("Profile stats for: ",),
    ),
    Document(
        "nvidia_smi_csv", "nvidia-smi --query-gpu … --format=csv",
        "2026/01/03 15:36:53.507, 1 %, 2 %, 1129 MiB", f"{_HERE}.nvidia_csv:NvidiaSmiCsv",
    ),
    Document(
        "nvidia_smi_table", "nvidia-smi in a loop", "| 30%   22C    P8   23W / 350W |      0%  |",
        f"{_HERE}.nvidia_tables:NvidiaSmiTable", ("MiB", "MB"),
    ),
    Document(
        "nvidia_dmon", "nvidia-smi dmon", "# gpu   pwr  temp    sm   mem   enc   dec",
        f"{_HERE}.nvidia_tables:NvidiaDmon", ("#",),
    ),
    Document(
        "hardware_csv", "perfdoctor's own samples of hardware use", "time,gpu,gpu_memory,cpu,ram",
        f"{_HERE}.hardware:HardwareCsv", ("time",),
    ),
)  # fmt: skip

_BINARIES = (
    Binary(
        "tensorboard_events", "TensorBoard's event files", "events.out.tfevents.…",
        f"{_HERE}.tensorboard", "is_event_file", (b"\0", b"tfevents"),
    ),
    Binary(
        "pytorch_chrome_trace", "traces of torch.profiler", '{"traceEvents": […]}',
        f"{_HERE}.trace", "is_trace", (b"{",),
    ),
)  # fmt: skip


def builtin() -> tuple[Format, ...]:
    """Every format that comes with perfdoctor."""
    return (
        *_BINARIES, *_DOCUMENTS, *_BOXES, *_JSON_LINES, *_TABLES, MlPerf(), DlLogger(),
        *text_formats(), GENERIC,
    )  # fmt: skip
