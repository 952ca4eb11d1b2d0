"""Samples of a GPU, made up: no GPU was there. Usage rises, sags while data are waited for."""

from __future__ import annotations

import json
import math

from clock import Clock
from sheet import Sheet, sample


def usage(number: int) -> tuple[int, int, int, float]:
    """(GPU %, memory %, MiB, W) of a sample."""
    if number < 5:
        return 0, 0, 361, 41.5
    busy = round(88 + 6 * math.sin(number / 3)) if number % 8 else 22
    return busy, busy // 2, 9120 + number % 3, round(90 + 1.6 * busy, 2)


@sample
def nvidia_smi() -> None:
    """nvidia-smi --query-gpu as CSV each second, dmon, and the same without units."""
    clock = Clock()
    names = ("timestamp", "name", "utilization.gpu [%]", "utilization.memory [%]")
    names += ("memory.used [MiB]", "memory.total [MiB]", "power.draw [W]")
    table = Sheet("hardware/nvidia_smi.csv", "nvidia_smi_csv", clock)
    table.line(", ".join(names))
    dmon = Sheet("hardware/dmon.txt", "nvidia_dmon")
    dmon.line("# gpu    pwr  gtemp  mtemp     sm    mem    enc    dec   mclk   pclk")
    dmon.line("# Idx      W      C      C      %      %      %      %    MHz    MHz")
    for number in range(60):
        busy, memory, used, power = usage(number)
        stamp = f"2024/03/04 09:{number // 60:02d}:{number % 60:02d}.1{number % 90 + 10}"
        table.line(
            f"{stamp}, NVIDIA Demo GPU, {busy} %, {memory} %, {used} MiB, 24576 MiB, {power} W"
        )
        dmon.line(
            f"    0 {power:6.0f}     61      - {busy:6d} {memory:6d}      0      0   9501   1695"
        )
        for sheet in (table, dmon):
            sheet.keep("gpu_percent", busy)
        table.keep("gpu_memory_mib", used)
        table.keep("power_w", power)
    table.finish(samples=60, timing=False)
    dmon.finish(samples=60, timing=False)


@sample
def wandb() -> None:
    """A summary of Weights & Biases: a total only."""
    sheet = Sheet("hardware/wandb-summary.json", "wandb_summary_json", wall_s=2566.84)
    row = {"train/loss": 1.51, "iter": 5000, "_timestamp": 1709542800.1, "_runtime": 2566.84}
    sheet.write(json.dumps(row | {"_step": 20, "_wandb": {"runtime": 2566}}))
    sheet.finish()
