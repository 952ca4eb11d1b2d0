"""The forms of logs of trainings on language and speech."""

from __future__ import annotations

from perfdoctor.readers.form import Form
from perfdoctor.readers.roles import Hints

LANGUAGE: tuple[Form, ...] = (
    Form(
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
    Form(
        "fairseq_json",
        "fairseq with --log-format json",
        '[2022-04-08 18:48:05][train_inner][INFO] - {"epoch": 1, "wps": "58056.1", "ups": "0.5"}',
        r'\[train(?:_inner)?\]\[INFO\] - \{"epoch"|"wps": "[0-9.]+", .{0,60}"ups": "',
        0.92,
        "fairseq",
    ),
    Form(
        "fairseq_simple",
        "fairseq with --log-format simple",
        "| epoch 001:   1000 / 3935 loss=10.162, wps=239848, ups=6.4, wall=155",
        r"wps=[0-9.]+, .{0,40}ups=[0-9.]+",
        0.92,
        "fairseq",
    ),
    Form(
        "megatron",
        "Megatron-LM, GPT-NeoX",
        " iteration  182/ 250000 | consumed samples: 186368 | elapsed time per iteration (ms): 126",
        r"elapsed time per iteration \((?:ms|s)\): ",
        0.95,
        "megatron",
    ),
    Form(
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
    Form(
        "deepspeed_text",
        "DeepSpeed",
        "epoch=0/micro_step=3/global_step=3, RunningAvgSamplesPerSec=0.72, CurrSamplesPerSec=0.71",
        r"CurrSamplesPerSec=|SamplesPerSec=",
        0.9,
        "deepspeed",
        Hints(pair=("", "epoch", "step")),  # "0/40, SamplesPerSec=83.5"
    ),
    Form(
        "nanogpt",
        "nanoGPT",
        "iter 10: loss 4.5735, time 267.36ms, mfu 8.92%",
        r"iter [0-9]+: loss [0-9.nai]+, time [0-9.]+ms",
        0.95,
        "pytorch",
        Hints(roles={"time": "step_s"}),
        single=True,
    ),
    Form(
        "llmc_mainlog",
        "llm.c",
        "s:1 trl:10.9598 lr:0.000002 norm:15.24",
        r"^s:[0-9]+ (?:trl|tel|eval):",
        0.9,
        "llm.c",
    ),
    Form(
        "torchtitan",
        "torchtitan",
        "step: 14  loss: 7.1  memory:  9.46GiB(64.99%)  tps: 7,282  tflops: 0.52  mfu: 0.17%",
        r"step: +[0-9]+ .{0,200}tps: +[0-9]",
        0.95,
        "torchtitan",
        Hints(roles={"tps": "tokens_per_s"}),
        "The printed tps are tokens per second of one device.",
    ),
    Form(
        "torchtune",
        "torchtune",
        "Step 2 | loss:1.87 lr:2e-05 tokens_per_second_per_gpu:405.04",
        r"tokens_per_second_per_gpu[:=]",
        0.95,
        "torchtune",
    ),
    Form(
        "verl",
        "verl",
        "step:1 - actor/pg_loss:0.020 - timing_s/update_actor:47.1 - timing_s/step:112.4",
        r"(?<![\w/])timing_s/(?:step|gen|update_actor):[0-9.]+(?: - |$)",
        0.94,
        "pytorch",
        Hints(
            roles={
                "timing_s_step": "step_s",
                "perf_throughput": "tokens_per_s",
                "perf_time_per_step": "",
                "perf_total_num_tokens": "",
            }
        ),
        "The printed throughput is tokens per second of one device.",
    ),
    Form(
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
    Form(
        "wenet",
        "WeNet",
        "2023-01-30 18:47:07,107 DEBUG TRAIN Batch 4/203700 loss 3.2 rank 0",
        r"(?:TRAIN|CV) Batch [0-9]+/[0-9]+ +loss",
        0.95,
        "wenet",
        Hints(pair=("train_batch", "epoch", "step")),
    ),
    Form(
        "opennmt",
        "OpenNMT-py",
        "Step 2250/200000; acc:  31.18; 5092/261 tok/s;   6641 sec",
        r"Step +[0-9]+/ ?[0-9]+; ?(?:acc|ppl|loss)",
        0.95,
        "opennmt",
    ),
    Form(
        "gnmt_tok_s",
        "NVIDIA's GNMT",
        "4: TRAIN [0][0/3416]  Time 3.566 (0.000)  Data 3.21266 (0.00000)  Tok/s 538 (0)",
        r"TRAIN \[[0-9]+\]\[[0-9]+/[0-9]+\].{0,80}Tok/s",
        0.95,
        "pytorch",
        Hints(roles={"time": "step_s"}, fractions=("step",)),
        single=True,
    ),
)
