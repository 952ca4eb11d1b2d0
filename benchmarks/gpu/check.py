"""What can only be seen on a CUDA device. Run by check.sh; each check is one row of the table."""

from __future__ import annotations

import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import perfdoctor
from perfdoctor.collect.bench import begin, measure
from perfdoctor.collect.options import BenchOptions, no_progress
from perfdoctor.collect.rounds import Case, measure_rounds
from perfdoctor.collect.training import TrainingLoop
from perfdoctor.compare.runs import block_rates
from perfdoctor.errors import PerfdoctorError
from perfdoctor.record import Source
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings
from perfdoctor.summarise import summarise

BENCH = Source(kind="bench")
OPTIONS = BenchOptions(device="cuda", iterations=60, max_seconds=12)


def cycles_per_s() -> float:
    """Clock cycles of torch.cuda._sleep in a second, measured."""
    times = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.cuda._sleep(50_000_000)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 50_000_000 / statistics.median(times)


class Sleeping(nn.Module):
    """Keeps the device busy for a known time in the forward pass."""

    rate = 1.0

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 2)
        self.seconds = seconds

    def forward(self, x):
        torch.cuda._sleep(int(self.seconds * Sleeping.rate))
        return self.fc(x)


class Slow(torch.utils.data.Dataset):
    """A batch of 4 takes 4 × `seconds` to load."""

    def __init__(self, seconds: float, count: int = 800) -> None:
        self.seconds, self.count = seconds, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass
        return torch.zeros(8), index % 2


class Images(torch.utils.data.Dataset):
    def __init__(self, size: int = 64, count: int = 4096) -> None:
        self.x = torch.randn(16, 3, size, size)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        return self.x[index % 16], index % 10


def conv_net(width: int = 128) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10),
    )  # fmt: skip


def mlp(width: int = 4096) -> nn.Module:
    return nn.Sequential(nn.Linear(1024, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, 10))  # fmt: skip


def sleeping_workload(load_s: float, device_s: float) -> perfdoctor.Workload:
    return perfdoctor.Workload(model=Sleeping(device_s), dataset=Slow(load_s), batch_size=4)


def image_workload() -> perfdoctor.Workload:
    return perfdoctor.Workload(model=conv_net(), dataset=Images(), batch_size=64)


def vector_workload() -> perfdoctor.Workload:
    data = torch.utils.data.TensorDataset(torch.randn(8192, 1024), torch.arange(8192) % 10)
    return perfdoctor.Workload(model=mlp(), dataset=data, batch_size=512)


def planted(load_s: float, device_s: float, workers: int) -> tuple[bool, str]:
    """The device's time and the loader's exposed and hidden time, both known."""
    options = replace(OPTIONS, num_workers=workers)
    measurement = begin(lambda: sleeping_workload(load_s, device_s), options, BENCH, no_progress)
    measurement.overlapped(6, no_progress)
    report = summarise(measurement.run())
    measurement.loop.close()
    batch_s = 4 * load_s
    if workers:
        exposed = max(0.0, batch_s / workers - device_s)
        waits = report.stages["data_loading"].mean_s
    else:  # the host runs ahead: the device waits only for what its own work does not cover
        exposed = max(0.0, batch_s - device_s)
        waits = report.stages["data_loading"].p50_s
    forward = report.stages["forward"].p50_s
    shares = sum(stage.share for stage in report.stages.values())
    good = (
        abs(waits - exposed) <= max(0.03 * exposed, 0.0005)
        and abs(forward - device_s) <= max(0.03 * device_s, 0.0005)
        and abs(shares - 1) < 0.01
    )
    return good, (
        f"loading {waits * 1e3:.2f} ms exposed (planted {exposed * 1e3:.2f}), forward "
        f"{forward * 1e3:.2f} ms (planted {device_s * 1e3:.2f}), shares {shares:.3f}"
    )


def no_synchronisation() -> tuple[bool, str]:
    """The overlapped loop under PyTorch's own detector of synchronising calls."""
    loop = TrainingLoop(image_workload, replace(OPTIONS, pin_memory=True))
    loop.run_steps(3)
    loop.finish()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loop.run_steps(20)
    except RuntimeError as error:
        return False, str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    loop.finish()
    ahead = sum(s.total_s - sum(s.host_s.values()) for s in loop.steps.times)
    return True, f"20 steps without one; the host ran {ahead * 1e3:.1f} ms ahead"


def timeline_matches_wall() -> tuple[bool, str]:
    """The steps' device times add up to the wall clock."""
    loop = TrainingLoop(image_workload, OPTIONS)
    loop.run_steps(5)
    loop.finish().drop_after(0)
    start = time.perf_counter()
    loop.run_steps(60)
    total = float(loop.finish().step_s().sum())
    wall = time.perf_counter() - start
    return abs(total / wall - 1) < 0.03, f"steps {total:.3f} s, wall {wall:.3f} s"


def full_report(factory: Callable[[], perfdoctor.Workload], options: BenchOptions):
    return diagnose(summarise(measure(factory, options, BENCH)), Settings())


def counters() -> tuple[bool, str]:
    report = full_report(image_workload, replace(OPTIONS, iterations=400, max_seconds=20))
    names = {"gpu", "gpu_memory", "gpu_power_w", "gpu_clock_mhz"}
    seen = {n: report.utilisation[n].mean for n in names if n in report.utilisation}
    compute = report.limits["compute"]
    share = (compute.achieved or 0) / compute.peak
    good = set(seen) == names and 0 < share < 1.05 and report.memory.peak_bytes is not None
    values = ", ".join(f"{n} {v:.0f}" for n, v in sorted(seen.items()))
    return good, f"{values}; compute at {share:.0%} of the peak"


def probes_and_rules() -> tuple[bool, str]:
    options = replace(OPTIONS, precision="fp32", pin_memory=False, max_seconds=20)
    report = full_report(vector_workload, options)
    probes = {name: f"{p.speedup:.2f}×" for name, p in report.probes.items()}
    rules = [r.rule for r in report.recommendations]
    good = {"bf16", "tf32", "h2d_pinned"} <= set(probes) and bool(
        {"PD202", "PD203"} & {*rules, *(c.rule for r in report.recommendations for c in r.choices)}
    )
    return good, f"probes {probes}; rules {', '.join(rules)}"


def precisions() -> tuple[bool, str]:
    options = replace(OPTIONS, max_seconds=6)
    cases = [
        Case(p, vector_workload, replace(options, precision=p))
        for p in ("fp32", "tf32", "bf16", "fp16")
    ]
    outcomes = measure_rounds(cases, BENCH, no_progress)
    rates = {}
    for outcome in outcomes:
        if outcome.run is None or outcome.run.block is None:
            return False, f"{outcome.case.label}: {outcome.error}"
        run = outcome.run
        rates[outcome.case.label] = statistics.median(
            block_rates(run.step_s, run.samples, run.block)
        )
    shown = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items())
    return rates["tf32"] >= 0.95 * rates["fp32"], shown


def one(**changes) -> Callable[[], tuple[bool, str]]:
    def check() -> tuple[bool, str]:
        report = full_report(image_workload, replace(OPTIONS, **changes))
        step = report.steps.time.p50_s
        first = report.steps.first_s or 0.0
        return True, f"step {step * 1e3:.2f} ms, first step {first:.2f} s"

    return check


def out_of_memory() -> tuple[bool, str]:
    class Huge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 2)

        def forward(self, x):
            room = torch.empty(len(x), 1 << 30, dtype=torch.uint8, device=x.device)  # 1 GiB each
            return self.fc(x) + room[:, :2].float() * 0

    def factory() -> perfdoctor.Workload:
        return perfdoctor.Workload(model=Huge(), dataset=Slow(0.0), batch_size=512)

    try:
        measure(factory, OPTIONS, BENCH)
    except PerfdoctorError as error:
        return "largest seen to fit is" in str(error), str(error)[-120:]
    return False, "512 GiB fitted"


CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "planted: loading hidden, no worker": lambda: planted(0.001, 0.020, 0),
    "planted: loading exposed, no worker": lambda: planted(0.006, 0.010, 0),
    "planted: loading hidden, 2 workers": lambda: planted(0.003, 0.020, 2),
    "planted: loading exposed, 1 worker": lambda: planted(0.006, 0.010, 1),
    "no synchronisation in the loop": no_synchronisation,
    "device timeline against wall clock": timeline_matches_wall,
    "counters and limits": counters,
    "probes and rules": probes_and_rules,
    "precisions side by side": precisions,
    "bf16, channels-last": one(precision="bf16", channels_last=True),
    "fp16 with scaler": one(precision="fp16"),
    "torch.compile": one(compile="default", max_seconds=60),
    "torch.compile, CUDA graphs": one(compile="reduce-overhead", max_seconds=60),
    "out of memory": out_of_memory,
}


def main() -> int:
    if not torch.cuda.is_available():
        print("no CUDA device", file=sys.stderr)
        return 2
    Sleeping.rate = cycles_per_s()
    table = Table(title=f"{torch.cuda.get_device_name()} · torch {torch.__version__}")
    for column in ("check", "", "seconds", "what was seen"):
        table.add_column(column, overflow="fold")
    failed = 0
    for name, check in CHECKS.items():
        print(f"{name} …", flush=True)
        start = time.perf_counter()
        try:
            good, seen = check()
        except Exception:
            good, seen = False, traceback.format_exc(limit=-3)
        failed += not good
        table.add_row(name, "ok" if good else "FAILED", f"{time.perf_counter() - start:.1f}", seen)
        torch.cuda.empty_cache()
    Console(width=140).print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
