"""The known forms of text logs: how to recognise each, and what its names mean there.

A form only adds to what the general analysis of a line finds out: most need no hints at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from perfdoctor.readers.fields import Hints
from perfdoctor.readers.word_sets import word_set


@dataclass(frozen=True)
class Form:
    """A form of log lines.

    Attributes:
        name: as in `--format`. title: what writes it. example: a line of it.
        signature: found in its lines; linear in their length.
        weight: above 0.5 for forms that tell times by themselves; the surest form wins.
        framework: what the training was written with, where the form tells.
        note: what the reader of a report must know of its numbers.
        samples: in what it counts as a step, where it counts single samples.
        single: it prints single steps of many, not means over those since the line before.
    """

    name: str
    title: str
    example: str
    signature: re.Pattern[str]
    weight: float = 0.8
    framework: str | None = None
    hints: Hints = field(default_factory=Hints)
    note: str | None = None
    samples: int | None = None
    single: bool = False


#: Those print the last step alone, not a mean.
_SINGLE = word_set(
    "pytorch_imagenet pointweb_data_batch_remain timm_text gnmt_tok_s nanogpt cyclegan_loss_log "
    "ssd_pytorch"
)


def _form(
    name: str, title: str, example: str, signature: str, weight: float = 0.8,
    framework: str | None = None, hints: Hints | None = None, note: str | None = None,
    samples: int | None = None,
) -> Form:  # fmt: skip
    return Form(
        name, title, example, re.compile(signature), weight, framework, hints or Hints(), note,
        samples, name in _SINGLE,
    )  # fmt: skip


_N = r"[0-9][0-9.]{0,20}"

FORMS: tuple[Form, ...] = (
    _form(
        "pytorch_imagenet",
        "PyTorch's ImageNet example and its many descendants",
        "Epoch: [17][ 8000/10010]  Time  0.501 ( 0.983)  Data  0.000 ( 0.438)",
        rf"(?:Epoch|Train|TRAIN)\S{{0,8}} ?\[ ?[0-9]+[^\]]{{0,8}}\] ?\[ *[0-9]+ ?/ ?[0-9]+ ?\]"
        rf".{{0,12}}(?:Batch )?Time:? +{_N}s? +\(",
        0.85,
        "pytorch",
        Hints(roles={"time": "step_s", "batch_time": "step_s"}),
    ),
    _form(
        "pointweb_data_batch_remain",
        "PointWeb and semseg",
        "Epoch: [1/120][180/3368] Data 0.002 (0.574) Batch 0.818 (3.887) Remain 436:08:39",
        r"Batch [0-9.]+ \([0-9.]+\) ?,? Remain",
        0.92,
        "pytorch",
    ),
    _form(
        "timm_text",
        "timm",
        "Train: 0 [  50/1251 (  4%)]  Loss: 6.92 (6.93)  Time: 0.558s, 1833.54/s  (0.775s, 1320/s)",
        r"Train: [0-9]+ \[ *[0-9]+/[0-9]+ +\(",
        0.9,
        "timm",
        Hints(roles={"time": "step_s", "data": "data_loading_s"}),
    ),
    _form(
        "metriclogger_text",
        "MetricLogger: torchvision references, DETR, DINO, MAE",
        "Epoch: [0]  [  0/128]  eta: 0:12:43  loss: 1.2 (1.3)  time: 5.96  data: 2.76  max mem: 19",
        r"\[ *[0-9]+/[0-9]+\] +eta: .{0,5000}\btime: ?[0-9.]+ +data: ?[0-9.]+",
        0.9,
        "pytorch",
        Hints(roles={"time": "step_s", "data": "data_loading_s"}),
    ),
    _form(
        "maskrcnn_benchmark",
        "maskrcnn-benchmark",
        "eta: 4:12:17  iter: 20  loss: 1.78 (3.11)  time: 0.1229 (0.3786)  data: 0.0016 (0.0566)",
        r"eta: .{1,24}iter: [0-9]+ .{0,3000}\btime: [0-9.]+ \([0-9.]+\) +data: ",
        0.92,
        "pytorch",
        Hints(roles={"time": "step_s", "data": "data_loading_s"}),
    ),
    _form(
        "mmengine_text",
        "MMEngine",
        "Epoch(train)   [1][100/101]  lr: 1.0e-01  eta: 1:43:01  time: 0.1435  data_time: 0.0003",
        r"(?:Epoch|Iter)\((?:train|val|test)\) +\[",
        0.92,
        "mmengine",
        Hints(roles={"time": "step_s"}),
    ),
    _form(
        "mmcv_text",
        "mmcv (OpenMMLab before MMEngine)",
        "Epoch [5][50/3750]  lr: 1.000e-03, eta: 6:18:16, time: 0.758, data_time: 0.433",
        r"(?:Epoch ?\[[0-9]+\]|Iter) ?\[[0-9]+/[0-9]+\].{0,400}\btime: [0-9.]+, data_time: ",
        0.92,
        "mmcv",
        Hints(roles={"time": "step_s"}),
    ),
    _form(
        "detectron2_text",
        "Detectron2",
        "eta: 21:12:23  iter: 19  total_loss: 0.41  time: 0.6826  data_time: 0.3791  lr: 0.0002",
        r"iter: [0-9]+ +total_loss: ",
        0.92,
        "detectron2",
        Hints(roles={"time": "step_s"}),
    ),
    _form(
        "ultralytics_console",
        "Ultralytics YOLOv8 and later",
        "      1/100     2.61G     1.153     2.398     1.192        22       640: 100%",
        r"^ +Epoch +GPU_mem +|Ultralytics (?:YOLO)?v?[0-9]+\.[0-9]+|completed in [0-9.]+ hours",
        0.86,
        "ultralytics",
    ),
    _form(
        "yolov5_console",
        "YOLOv5 and YOLOv7",
        "     0/199     18.6G    0.1738    0.0142   0.01563        55      1600: 100%",
        r"^ +Epoch +gpu_mem +|YOLO(?:v5|R|v7) .{0,3}v?[0-9]"
        r"|^\s{3,}[0-9]+/[0-9]+ +[0-9.]+G +[0-9.]+ ",
        0.8,
        "yolov5",
    ),
    _form(
        "yolov7_results_txt",
        "YOLOv7's results.txt",
        "     0/99     3.97G   0.08988    0.0183   0.02755    0.1357       193       640   0.02414",
        r"^ *[0-9]+/[0-9]+ +[0-9.]+G(?: +[0-9.e\-]{1,12}){12,20}\s*$",
        0.9,
        "yolov5",
    ),
    _form(
        "hf_console",
        "Hugging Face Trainer on the console",
        "{'loss': 3.5039, 'learning_rate': 7.4e-06, 'epoch': 0.01}",
        r"\{'(?:loss|eval_loss|train_runtime|grad_norm)': ?'?[0-9nN].{0,600}'epoch': ?",
        0.88,
        "transformers",
        Hints(
            roles={
                "train_samples_per_second": "run:samples_per_s",
                "train_runtime": "run:wall_s",
                "train_steps_per_second": "run:steps_per_s",
                "eval_runtime": "validation_s",
                "eval_samples_per_second": "",
                "eval_steps_per_second": "",
            }
        ),
    ),
    _form(
        "fairseq_json",
        "fairseq with --log-format json",
        '[2022-04-08 18:48:05][train_inner][INFO] - {"epoch": 1, "wps": "58056.1", "ups": "0.5"}',
        r'\[train(?:_inner)?\]\[INFO\] - \{"epoch"|"wps": "[0-9.]+", .{0,60}"ups": "',
        0.92,
        "fairseq",
    ),
    _form(
        "fairseq_simple",
        "fairseq with --log-format simple",
        "| epoch 001:   1000 / 3935 loss=10.162, wps=239848, ups=6.4, wall=155",
        r"wps=[0-9.]+, .{0,40}ups=[0-9.]+",
        0.92,
        "fairseq",
    ),
    _form(
        "megatron",
        "Megatron-LM, GPT-NeoX",
        " iteration  182/ 250000 | consumed samples: 186368 | elapsed time per iteration (ms): 126",
        r"elapsed time per iteration \((?:ms|s)\): ",
        0.95,
        "megatron",
    ),
    _form(
        "deepspeed_time_ms",
        "DeepSpeed's wall clock breakdown",
        "rank=0 time (ms) | forward_microstep: 1330.05 | backward_microstep: 4766.88",
        r"time \(ms\) \| (?:forward|fwd|bwd|backward|optimizer)",
        0.93,
        "deepspeed",
        Hints(
            roles={
                "forward_microstep": "forward_s",
                "backward_microstep": "backward_s",
                "fwd_microstep": "forward_s",
                "bwd_microstep": "backward_s",
                "backward_inner_microstep": "",
                "bwd_inner_microstep": "",
                "backward_allreduce_microstep": "",
                "bwd_allreduce_microstep": "",
                "step_microstep": "optimizer_s",
                "forward": "forward_s",
                "backward": "backward_s",
                "fwd": "forward_s",
                "bwd": "backward_s",
                "backward_inner": "",
                "bwd_inner": "",
                "backward_allreduce": "",
                "bwd_allreduce": "",
                "step": "optimizer_s",
            }
        ),
    ),
    _form(
        "deepspeed_text",
        "DeepSpeed",
        "epoch=0/micro_step=3/global_step=3, RunningAvgSamplesPerSec=0.72, CurrSamplesPerSec=0.71",
        r"CurrSamplesPerSec=|SamplesPerSec=",
        0.9,
        "deepspeed",
    ),
    _form(
        "nanogpt",
        "nanoGPT",
        "iter 10: loss 4.5735, time 267.36ms, mfu 8.92%",
        r"iter [0-9]+: loss [0-9.nai]+, time [0-9.]+ms",
        0.95,
        "pytorch",
        Hints(roles={"time": "step_s"}),
    ),
    _form(
        "llmc_mainlog",
        "llm.c",
        "s:1 trl:10.9598 lr:0.000002 norm:15.24",
        r"^s:[0-9]+ (?:trl|tel|eval):",
        0.9,
        "llm.c",
    ),
    _form(
        "torchtitan",
        "torchtitan",
        "step: 14  loss: 7.1  memory:  9.46GiB(64.99%)  tps: 7,282  tflops: 0.52  mfu: 0.17%",
        r"step: +[0-9]+ .{0,200}tps: +[0-9]",
        0.95,
        "torchtitan",
        Hints(roles={"tps": "tokens_per_s"}),
        "The printed tps are tokens per second of one device.",
    ),
    _form(
        "torchtune",
        "torchtune",
        "Step 2 | loss:1.87 lr:2e-05 tokens_per_second_per_gpu:405.04",
        r"tokens_per_second_per_gpu[:=]",
        0.95,
        "torchtune",
    ),
    _form(
        "espnet2",
        "ESPnet 2",
        "1epoch:train:1-682batch: iter_time=2.878e-04, forward_time=0.134, train_time=1.816",
        r"[0-9]epoch:train:[0-9]+-[0-9]+batch",
        0.95,
        "espnet",
        Hints(
            roles={
                "iter_time": "data_loading_s",
                "train_time": "step_s",
                "optim_step_time": "optimizer_s",
                "optim0_lr0": "",
            }
        ),
    ),
    _form(
        "wenet",
        "WeNet",
        "2023-01-30 18:47:07,107 DEBUG TRAIN Batch 4/203700 loss 3.2 rank 0",
        r"(?:TRAIN|CV) Batch [0-9]+/[0-9]+ +loss",
        0.95,
        "wenet",
        Hints(pair=("train_batch", "epoch", "step")),
    ),
    _form(
        "opennmt",
        "OpenNMT-py",
        "Step 2250/200000; acc:  31.18; 5092/261 tok/s;   6641 sec",
        r"Step +[0-9]+/ ?[0-9]+; ?(?:acc|ppl|loss)",
        0.95,
        "opennmt",
    ),
    _form(
        "gnmt_tok_s",
        "NVIDIA's GNMT",
        "4: TRAIN [0][0/3416]  Time 3.566 (0.000)  Data 3.21266 (0.00000)  Tok/s 538 (0)",
        r"TRAIN \[[0-9]+\]\[[0-9]+/[0-9]+\].{0,80}Tok/s",
        0.95,
        "pytorch",
        Hints(roles={"time": "step_s"}, fractions=("step",)),
    ),
    _form(
        "mxnet_gluon_speed",
        "MXNet and Gluon",
        "Epoch[0] Batch [1749]  Speed: 117.336553 samples/sec",
        r"Speed: [0-9.]+ samples/sec",
        0.9,
        "mxnet",
    ),
    _form(
        "nvidia_dllogger",
        "NVIDIA's DLLogger",
        "DLL 2020-11-04 17:51:58.05 - Epoch: 0 Iteration: 1  train.total_ips : 96.86 img/s",
        r"^DLL [0-9]{4}-",
        0.93,
        "pytorch",
        Hints(roles={"train_compute_ips": "", "train_compute_time": "compute_s"}),
    ),
    _form(
        "ms_per_batch",
        "Transformer-XL, PyTorch's language model example",
        "| epoch   1 step       30 | ms/batch 287.6 | tok/s   28484 | loss  9.1",
        r"ms/batch +[0-9.]+",
        0.9,
        "pytorch",
    ),
    _form(
        "cyclegan_loss_log",
        "CycleGAN and pix2pix",
        "(epoch: 1, iters: 100, time: 0.306, data: 0.168) D_A: 0.310 G_A: 0.291",
        r"\(epoch: [0-9]+, iters: [0-9]+, time: [0-9.]+(?:, data: )?",
        0.95,
        "pytorch",
        Hints(roles={"time": "step_s"}),
        "The printed time is of one image, without waiting for data: times the batch size it is "
        "that of a step.",
        samples=1,
    ),
    _form(
        "seg_cost_time",
        "segmentation repositories",
        "Iters: 10/20000 || Lr: 0.019992 || Cost Time: 0:00:09 || Estimated Time: 4:00:00",
        r"Cost Time: [0-9:]+ \|\| Estimated",
        0.95,
        "pytorch",
    ),
    _form(
        "stylegan",
        "StyleGAN and its descendants",
        "tick 1  kimg 6.1  lod 0.00  minibatch 32  time 12m 16s  sec/tick 648.1  sec/kimg 107.73",
        r"tick [0-9]+ +kimg [0-9.]+ .{0,80}sec/tick [0-9.]+",
        0.95,
        None,
        Hints(roles={"minibatch": "batch_size", "time": "elapsed_s", "tick": ""}),
    ),
    _form(
        "ssd_pytorch",
        "ssd.pytorch",
        "iter 20450 || Loss: 2.6412 || timer: 0.2141 sec.",
        r"iter [0-9]+ \|\| Loss: .{0,40}timer: |timer: [0-9.]+ sec",
        0.9,
        "pytorch",
        Hints(roles={"timer": "step_s"}),
    ),
    _form(
        "darts_text",
        "DARTS and other searches with its logging",
        "2025-01-20 11:41:09,804 train 000 1.773009e-02 100.000000 100.000000",
        r"(?:train|valid) [0-9]{3,5} [0-9.]+e[-+][0-9]+ [0-9.]+ [0-9.]+",
        0.9,
        "pytorch",
    ),
    _form(
        "paddlevit_text",
        "PaddleViT",
        "----- Epoch[001/100], Train Loss: 1.0238, Train Acc: 0.73, time: 173.49",
        r"----- Epoch\[[0-9]+/[0-9]+\]",
        0.9,
        "paddle",
    ),
    _form(
        "dgl",
        "DGL's examples",
        "Epoch 00000 | Step 00020 | Loss 2.1 | Speed (samples/sec) 43672.9658 | GPU 401.2 MB",
        r"Speed \(samples/sec\) [0-9na]",
        0.92,
        "dgl",
    ),
    _form(
        "hugectr_text",
        "HugeCTR",
        "Iter: 1000 Time(1000 iters): 2.648s Loss: 0.1 lr: 0.1",
        r"Time\([0-9]+ iters\): [0-9.]+s",
        0.92,
        "hugectr",
    ),
    _form(
        "lightning_pbar_custom_unit",
        "Lightning's progress bar",
        "Epoch 0:  14%|█| 14/97 [02:28<14:42, 10.63s/batch, loss=0.3, v_nb=1]",
        r"Epoch [0-9]+: +[0-9]+%\|.{0,60}\| ?[0-9]+/[0-9]+ \[.{0,400}v_n(?:b|um)=",
        0.88,
        "lightning",
    ),
    _form(
        "lightning_hydra_text",
        "Lightning under Hydra's or rich's logging",
        "[12/09/24 13:56:50] INFO     Epoch 36: …",
        r"\[[0-9]{2}/[0-9]{2}/[0-9]{2} [0-9:]{8}\] +INFO +Epoch [0-9]+: ",
        0.8,
        "lightning",
    ),
    _form(
        "keras_progress",
        "Keras on the console",
        "1875/1875 [==============================] - 2s 1ms/step - loss: 0.4830",
        r"[0-9]/[0-9]+ (?:\[[=>.]+\] -|━+) .{0,24}(?:s|ms|us|µs)/(?:step|epoch|sample)"
        r"|^ *[0-9]+/[0-9]+ - [0-9]+m?s (?:[0-9]+[a-zµ]{1,2}/[a-z]{1,8} )?- ",
        0.84,
        "keras",
    ),
    _form(
        "nvlog_v02",
        "NVIDIA's NVLOG",
        ":::NVLOGv0.2.2 Tacotron2_PyT 1594258127.503 (logger.py:279) iter_time: 3.27",
        r"^:::NVLOGv",
        0.9,
        "pytorch",
    ),
    _form(
        "elapsed_cumulative",
        "KoSpeech and others that print the sum",
        "[1/200000] Train loss: 0.00023, Valid loss: 0.00622, Elapsed_time: 3.53794",
        r"Elapsed_time: [0-9.]+",
        0.8,
        "pytorch",
    ),
    _form(
        "cumulative_epoch_time",
        "cellpose",
        "Epoch 10, Time 9074.8s, Loss 0.5",
        r"Epoch [0-9]+, Time +[0-9.]+ ?s",
        0.85,
        "pytorch",
    ),
    _form(
        "search_monitor",
        "architecture search with a monitor",
        "2024-01-15 10:30:45 | INFO |    Times: Train 45.2s | Valid 8.1s | Arch 2.3s",
        r"EPOCH [0-9]+ SUMMARY|Times: Train [0-9.]+s|BOTTLENECK ANALYSIS",
        0.9,
        "pytorch",
    ),
    _form(
        "pytorch_mnist",
        "PyTorch's MNIST example",
        "Train Epoch: 1 [640/60000 (1%)]  Loss: 2.1",
        r"Train Epoch: [0-9]+ \[[0-9]+/[0-9]+ \([0-9.]+%\)\]",
        0.75,
        "pytorch",
        Hints(fractions=("sample",)),
    ),
    _form(
        "marian",
        "Marian",
        "Ep. 1 : Up. 100 : Sen. 12800 : Cost 238.80 : Time 72.80s : 4419 words/s",
        r"Ep\. [0-9.]+ : Up\. [0-9]+",
        0.95,
        "marian",
        Hints(roles={"ep": "epoch", "up": "step", "sen": "", "cost": ""}),
    ),
    _form(
        "generic_tok_s",
        "language models that print tokens per second",
        "step   710 | loss 4.3713 | lr 2.99e-04 | 414 tok/s",
        r"[0-9.]k? ?(?:tok|tokens)/s",
        0.55,
    ),
    _form(
        "tqdm",
        "tqdm's progress bars",
        " 21%|██▏       | 110/513 [00:47<02:53,  2.33it/s]",
        r"[0-9]/[0-9]+ \[[0-9:]+<[0-9:?]+, +[0-9.?]+ ?(?:it/s|s/it|[a-z]{1,12}/s|s/[a-z]{1,12})",
        0.5,
    ),
)
