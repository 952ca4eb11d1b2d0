"""The machine and its software."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil
import torch

from perfdoctor.record import Environment, Git, Gpu

_CGROUP = Path("/sys/fs/cgroup")
_PACKAGES = ("numpy", "pandas", "pillow", "torchvision", "lightning", "transformers", "accelerate")


def describe_environment(device: torch.device) -> Environment:
    """What this process runs on."""
    return Environment(
        python=platform.python_version(),
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
        platform=platform.platform(),
        device=str(device),
        gpu=_gpus(),
        cpu=_cpu_name(),
        cores_usable=usable_cores(),
        cores_logical=os.cpu_count(),
        memory_bytes=usable_memory_bytes(),
        swap_bytes=psutil.swap_memory().total,
        cgroup={k: v for k, v in (("cpu_quota", cpu_quota()),) if v is not None},
        hostname_hash=hashlib.sha256(platform.node().encode()).hexdigest()[:12],
        git=_git(),
        packages=_versions(),
    )


def usable_cores() -> float:
    """Cores this process may use: affinity, and the cgroup quota where there is one."""
    affinity = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    quota = cpu_quota()
    return float(affinity) if quota is None else min(float(affinity), quota)


def usable_memory_bytes() -> int:
    """Physical memory, or the cgroup's limit where that is lower."""
    total = int(psutil.virtual_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _cgroup_text(name)
        if text is not None and text.isdigit():
            total = min(total, int(text))
    return total


def cpu_quota() -> float | None:
    """Cores that the cgroup's quota allows (v2 cpu.max, v1 cpu.cfs_quota_us); None without one."""
    text = _cgroup_text("cpu.max")
    if text is not None:
        quota, _, period = text.partition(" ")
        return int(quota) / int(period) if quota != "max" and period else None
    quota_us = _cgroup_text("cpu/cpu.cfs_quota_us")
    period_us = _cgroup_text("cpu/cpu.cfs_period_us")
    if quota_us is None or period_us is None or int(quota_us) <= 0:
        return None
    return int(quota_us) / int(period_us)


def throttled_share() -> tuple[int, int] | None:
    """(periods throttled, periods) of the cgroup so far."""
    text = _cgroup_text("cpu.stat") or _cgroup_text("cpu/cpu.stat")
    if text is None:
        return None
    fields = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
    if "nr_periods" not in fields:
        return None
    return int(fields.get("nr_throttled", 0)), int(fields["nr_periods"])


def _cgroup_text(name: str) -> str | None:
    """A cgroup file of this process's group, or of the root as containers see it."""
    for folder in (_own_cgroup(), _CGROUP):
        try:
            return (folder / name).read_text().strip()
        except OSError:
            continue
    return None


def _own_cgroup() -> Path:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return _CGROUP
    path = next((line.split("::", 1)[1] for line in lines if line.startswith("0::")), "/")
    return _CGROUP / path.lstrip("/")


def _gpus() -> tuple[Gpu, ...]:
    if not torch.cuda.is_available():
        return ()
    gpus = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = f"{properties.major}.{properties.minor}"
        memory = int(properties.total_memory)
        gpus.append(Gpu(name=properties.name, memory_bytes=memory, capability=capability))
    return tuple(gpus)


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), None)


def _git() -> Git | None:
    try:
        commit = _git_output("rev-parse", "HEAD")
        return Git(commit=commit, dirty=bool(_git_output("status", "--porcelain", "-uno")))
    except (OSError, subprocess.SubprocessError):
        return None


def _git_output(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, timeout=5, check=True
    )
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
