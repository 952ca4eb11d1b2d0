"""Architecture search: DARTS, and a loop with a monitor that times train, valid and arch."""

from __future__ import annotations

import json

from clock import FastClock
from loop import Average, Loop
from sheet import Sheet, leave, sample


def darts_lines(sheet: Sheet, loop: Loop, epochs: range, spec: str, fraction: str) -> None:
    """As DARTS' train_search.py writes them: a line each 50 steps with loss, top 1 and top 5."""
    for epoch in epochs:
        sheet.line(f"{sheet.dated(spec, fraction)} epoch {epoch} lr {0.025 / (epoch + 1):e}")
        sheet.line(
            f"{sheet.dated(spec, fraction)} genotype = Genotype(normal=[('sep_conv_3x3', 1),"
            " ('skip_connect', 0)], normal_concat=range(2, 6))"
        )
        loss, top = Average(), Average()
        for step in loop.epoch(epoch):
            loss.update(step.loss)
            top.update(step.accuracy)
            if step.batch % 50 == 0:
                sheet.line(
                    f"{sheet.dated(spec, fraction)} train {step.batch:03d} {loss.mean:e}"
                    f" {top.mean:f} {min(100.0, top.mean + 20):f}",
                    record=True,
                )
                sheet.stamp((id(loop), epoch), step.batch)
        sheet.line(f"{sheet.dated(spec, fraction)} train_acc {top.mean:f}")
        for batch in (0, 50):
            _, value, accuracy = loop.validate(20)
            sheet.line(
                f"{sheet.dated(spec, fraction)} valid {batch:03d} {value:e} {accuracy:f}"
                f" {min(100.0, accuracy + 20):f}"
            )
        sheet.line(f"{sheet.dated(spec, fraction)} valid_acc {accuracy:f}")


ASCTIME = ("%Y-%m-%d %H:%M:%S", ",")


@sample
def darts() -> None:
    """Only timestamps tell the time; the search crosses midnight."""
    clock = FastClock(start="2024-03-04 23:20:00")
    loop = Loop(clock=clock, epochs=5, batches=301, batch_size=64, compute=2.0, data=0.05)
    sheet = Sheet("search/darts.log", "darts_text", clock, rel=0.03)
    sheet.line(f"{sheet.dated(*ASCTIME)} args = Namespace(batch_size=64, epochs=5, unrolled=True)")
    darts_lines(sheet, loop, range(5), *ASCTIME)
    sheet.finish(loop)


@sample
def darts_12_hours() -> None:
    """The same with DARTS' own date format: no year, a clock of 12 hours, noon passes."""
    clock = FastClock(start="2024-03-04 11:30:00")
    loop = Loop(clock=clock, epochs=4, batches=251, batch_size=64, compute=2.4, data=0.05)
    sheet = Sheet("search/darts_12_hours.log", "darts_text", clock, rel=0.03)
    spec = "%m/%d %I:%M:%S %p"
    sheet.line(f"{sheet.dated(spec)} gpu device = 0")
    darts_lines(sheet, loop, range(4), spec, "")
    sheet.finish(loop)


@sample
def darts_slower() -> None:
    """From epoch 3 each step takes 4 times as long."""
    loop = Loop(
        clock=FastClock(), epochs=8, batches=201, batch_size=32, data=0.05,
        compute=lambda n: 2.0 if n < 603 else 8.0,
    )  # fmt: skip
    sheet = Sheet("search/darts_slower.log", "darts_text", loop.clock, trend="step")
    sheet.line(f"{sheet.dated(*ASCTIME)} args = Namespace(batch_size=32, epochs=8)")
    darts_lines(sheet, loop, range(8), *ASCTIME)
    sheet.finish(loop, change_step=603, rel=0.03)


@sample
def darts_resumed() -> None:
    """A job ended in epoch 3 and was started again from epoch 2, three hours later."""
    sheet = Sheet("search/darts_resumed.log", "darts_text", rel=0.03)
    for start, epochs in (("2024-03-04 09:00:00", range(3)), ("2024-03-04 14:00:00", range(2, 5))):
        clock = sheet.clock = FastClock(start)
        loop = Loop(clock=clock, epochs=5, batches=301, batch_size=64, compute=1.5, data=0.05)
        sheet.line(f"{sheet.dated(*ASCTIME)} args = Namespace(batch_size=64, epochs=5)")
        sheet.line(f"{sheet.dated(*ASCTIME)} starting training at epoch {epochs.start}")
        darts_lines(sheet, loop, epochs, *ASCTIME)
    sheet.finish(loop, restarts=1)


class Monitor:
    """Totals, counts and values of named parts, as the monitor of the search keeps them."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {"train_epoch": [], "valid_epoch": [], "arch_step": []}

    def lines(self) -> list[str]:
        """The analysis, largest part first."""
        total = sum(map(sum, self.parts.values()))
        order = sorted(self.parts.items(), key=lambda item: -sum(item[1]))
        return [f"Total measured time: {total:.2f}s"] + [
            f" {rank}. {name}: {sum(took):.2f}s ({100 * sum(took) / total:.1f}%)"
            f" | Avg: {sum(took) / len(took):.{3 if name == 'arch_step' else 2}f}s"
            f" | Count: {len(took)}"
            for rank, (name, took) in enumerate(order, 1)
        ]

    def stats(self) -> dict[str, dict[str, float]]:
        """For the report."""
        return {
            name: {
                "count": len(took), "total": sum(took), "mean": sum(took) / len(took),
                "p95": sorted(took)[int(0.95 * len(took))],
                "p99": sorted(took)[int(0.99 * len(took))],
            }
            for name, took in self.parts.items()
        }  # fmt: skip


def search_epoch(loop: Loop, monitor: Monitor, epoch: int, every: int) -> dict[str, float]:
    """One epoch of weights and, each `every` steps, an update of the architecture."""
    arch = 0.0
    began = loop.clock.seconds()
    for step in loop.epoch(epoch):
        if every and step.batch % every == 0:
            start = loop.clock.seconds()
            loop.clock.sleep(0.4)
            monitor.parts["arch_step"].append(loop.clock.seconds() - start)
            arch += monitor.parts["arch_step"][-1]
    train = loop.clock.seconds() - began - arch
    valid, _, accuracy = loop.validate(6)
    monitor.parts["train_epoch"].append(train)
    monitor.parts["valid_epoch"].append(valid)
    return {
        "train": train, "valid": valid, "arch": arch, "accuracy": step.accuracy, "best": accuracy,
    }  # fmt: skip


def search_run(name: str, every: int) -> None:
    """A search with its monitor's log and report."""
    loop = Loop(clock=FastClock(), epochs=12, batches=100, batch_size=96, compute=0.3, data=0.02)
    sheet = Sheet(f"search/{name}.log", "search_monitor", loop.clock)
    monitor, best, best_epoch = Monitor(), 0.0, 0

    def info(text: str, record: bool = False) -> None:
        sheet.line(f"{sheet.dated()} | INFO | {text}", record=record)

    info(f"🚀 Starting architecture search: epochs=12, batch_size=96, arch_update_freq={every}")
    totals = []
    for epoch in range(1, 13):
        took = search_epoch(loop, monitor, epoch, every if epoch > 2 else 0)
        totals.append(took["train"] + took["valid"] + took["arch"])
        if took["best"] > best:
            best, best_epoch = took["best"], epoch
        info(f"🏆 EPOCH {epoch} SUMMARY:", record=True)
        info(f"   Train Acc: {took['accuracy']:.2f}% | Valid Acc: {took['best']:.2f}%")
        info(
            f"   Times: Train {sheet.say('train_epoch_s', took['train'], '.1f')}s"
            f" | Valid {sheet.say('validation_s', took['valid'], '.1f')}s"
            f" | Arch {sheet.say('arch_epoch_s', took['arch'], '.1f')}s"
        )
        info(
            f"   Total: {sheet.say('epoch_s', totals[-1], '.1f')}s"
            f" | Arch: {100 * took['arch'] / totals[-1]:.1f}%"
            f" | Avg: {sum(totals) / len(totals):.1f}s"
        )
        info(f"   Best Acc: {best:.2f}% (Epoch {best_epoch})")
    info("🔍 BOTTLENECK ANALYSIS:")
    for line in monitor.lines():
        info(f"   {line}")
    share = sum(monitor.parts["arch_step"]) / sum(map(sum, monitor.parts.values()))
    info("💡 OPTIMIZATION SUGGESTIONS:")
    info(f"   🔧 Architecture search takes {100 * share:.1f}% of time")
    sheet.finish(loop, arch_share=round(share, 3))
    report = {
        "timestamp": loop.clock.now().isoformat(timespec="seconds"),
        "total_runtime": round(loop.clock.seconds(), 2),
        "real_time_stats": {"total_steps": 1200, "best_accuracy": best},
        "timing_stats": monitor.stats(),
    }
    path = f"search/{name}_report.json"
    sheet.path.with_name(f"{name}_report.json").write_text(json.dumps(report, indent=2))
    mean = report["timing_stats"]
    expected = {"format": "search_monitor_report", "wall_s": report["total_runtime"]}
    expected |= {"train_epoch_s": round(mean["train_epoch"]["mean"], 3)}
    expected |= {"validation_s": round(mean["valid_epoch"]["mean"], 3)}
    leave(path, expected, loop.truth)


@sample
def search_monitor() -> None:
    """The architecture is updated each 10 steps after two epochs of warm-up."""
    search_run("monitor", 10)


@sample
def search_monitor_each_step() -> None:
    """It is updated on every step: more than half of the time goes into it."""
    search_run("monitor_each_step", 1)
