"""Runs in which something happens, and files that are hard to read."""

from __future__ import annotations

import gzip
import multiprocessing

from clock import FastClock
from generic import each
from loop import Average, Loop, Step
from sheet import Sheet, sample


def said(sheet: Sheet, loop: Loop, step: Step, mean: float) -> str:
    """The line that most files here share."""
    rate = sheet.say("samples_per_s", loop.batch_size / mean, ".1f")
    return (
        f"{sheet.dated(fraction=',')} INFO epoch {step.epoch} step {step.number + 1}"
        f" loss {step.loss:.4f} step_time {sheet.say('step_s', mean, '.4f')}s"
        f" throughput {rate} samples/s"
    )


def run(name: str, loop: Loop, every: int, expected: dict[str, object]) -> None:
    """A run in that form."""
    sheet = Sheet(f"traps/{name}.log", "generic", loop.clock)
    each(sheet, loop, every, lambda step, mean, data: said(sheet, loop, step, mean))
    sheet.finish(loop, **expected)


@sample
def slow_down() -> None:
    """From step 401 on each step takes 2.5 times as long."""
    loop = Loop(
        clock=FastClock(), epochs=1, batches=1200, data=0.02,
        compute=lambda n: 0.2 if n < 400 else 0.53,
    )  # fmt: skip
    run("slow_down", loop, 10, {"trend": "step", "change_step": 400})


@sample
def slow_for_a_while() -> None:
    """Steps 400 to 560 are three times as slow, then it is as before."""
    loop = Loop(
        clock=FastClock(), epochs=1, batches=1000, data=0.02,
        compute=lambda n: 0.6 if 400 <= n < 560 else 0.2,
    )  # fmt: skip
    run("slow_for_a_while", loop, 10, {"change_step": 400, "change_back_step": 560})


@sample
def drift() -> None:
    """Each step takes a little longer than the one before: 60 % more at the end."""
    loop = Loop(
        clock=FastClock(), epochs=1, batches=1000, data=0.02, compute=lambda n: 0.25 + 0.00016 * n
    )
    run("drift", loop, 10, {"trend": "drift"})


@sample
def steady() -> None:
    """Nothing happens, with the noise that a shared machine has."""
    loop = Loop(clock=FastClock(), epochs=1, batches=1000, data=0.02, compute=0.25, jitter=0.15)
    run("steady", loop, 10, {"trend": "steady"})


@sample
def stalls() -> None:
    """A checkpoint each 50 steps stalls the step after it for 3 s; every step is logged."""
    loop = Loop(
        clock=FastClock(), epochs=1, batches=520, compute=0.25,
        data=lambda n: 3.0 if n and n % 50 == 0 else 0.01,
    )  # fmt: skip
    sheet = Sheet("traps/stalls.log", "generic", loop.clock)

    def line(step: Step, mean: float, data: float) -> str:
        text = said(sheet, loop, step, step.step_s)
        if (step.number + 1) % 50 == 0:
            text += (
                f"\n{sheet.dated(fraction=',')} INFO saving checkpoint to step_{step.number + 1}.pt"
            )
        return text

    each(sheet, loop, 1, line)
    sheet.finish(loop, trend="periodic", stall_period_steps=50, stall_s=3.0, rel_stall_s=0.1)


@sample
def epoch_starts_slow() -> None:
    """The first batch of each epoch takes 4 s: workers start again. Counters restart."""
    loop = Loop(
        clock=FastClock(), epochs=6, batches=80, compute=0.2,
        data=lambda n: 4.0 if n % 80 == 0 else 0.01,
    )  # fmt: skip
    sheet = Sheet("traps/epoch_starts_slow.log", "generic", rel=0.03)
    for epoch in range(1, 7):
        for step in loop.epoch(epoch):
            if step.batch % 4 == 0:
                sheet.line(
                    f"epoch {epoch} batch {step.batch}/80 loss {step.loss:.3f}"
                    f" time {sheet.say('step_s', step.step_s, '.3f')}"
                    f" data {sheet.say('data_s', step.data_s, '.3f')}",
                    record=True,
                )
    sheet.finish(loop, stalls_at_epoch_start=6, rel_data_s=0.2)


@sample
def validation_each_epoch() -> None:
    """A third of the run is validation, which tells its time."""
    loop = Loop(clock=FastClock(), epochs=8, batches=60, batch_size=32, compute=0.3, data=0.03)
    sheet = Sheet("traps/validation_each_epoch.log", "generic", loop.clock)

    def end(step: Step, total: float, data: float) -> str:
        took, loss, accuracy = loop.validate(11)
        return (
            f"{sheet.dated(fraction=',')} INFO epoch {step.epoch} validation: loss {loss:.4f}"
            f" accuracy {accuracy:.2f} time {sheet.say('validation_s', took, '.2f')}s"
        )

    each(sheet, loop, 10, lambda step, mean, data: said(sheet, loop, step, mean), end)
    sheet.finish(loop)


@sample
def resumed() -> None:
    """Killed after step 430, started again an hour later from the checkpoint of step 400."""
    sheet = Sheet("traps/resumed.log", "generic")
    for start, first, last in (("2024-03-04 09:00:00", 0, 430), ("2024-03-04 10:15:00", 400, 700)):
        loop = Loop(clock=FastClock(start), epochs=1, batches=last, compute=0.3, data=0.02)
        loop._number = first
        sheet.clock = loop.clock
        sheet.line(f"{sheet.dated(fraction=',')} INFO Namespace(batch_size=32, resume={first > 0})")
        if first:
            sheet.line(f"{sheet.dated(fraction=',')} INFO resuming from step_400.pt")
        time = Average()
        for step in loop.epoch(1, first):
            time.update(step.step_s)
            if (step.number + 1) % 10 == 0:
                sheet.line(said(sheet, loop, step, time.last_mean(10)), record=True)
    sheet.finish(loop, restarts=1, repeated_records=3)


@sample
def log_interval_changes() -> None:
    """Seconds since the last line; a line each 10 steps at first, each 50 after step 200."""
    loop = Loop(clock=FastClock(), epochs=1, batches=1000, compute=0.3, data=0.02)
    sheet = Sheet("traps/log_interval_changes.log", "generic", rel=0.03)
    before = (0, 0.0)
    for step in loop.epoch(1):
        done = step.number + 1
        if done % (10 if done <= 200 else 50) == 0:
            now = loop.clock.seconds()
            text = f"{now - before[1]:.2f}"
            if before[0]:
                sheet.keep("step_s", float(text) / (done - before[0]))
            before = (done, now)
            sheet.line(
                f"Step {done}: loss {step.loss:.4f} ({text} s since last print)", record=True
            )
    sheet.finish(loop)


@sample
def two_runs() -> None:
    """Two runs appended to one file, the second with a larger batch."""
    sheet = Sheet("traps/two_runs.log", "generic", restarts=0, runs=2)
    for start, batch in (("2024-03-04 09:00:00", 32), ("2024-03-05 17:30:00", 64)):
        loop = Loop(clock=FastClock(start), epochs=1, batches=400, batch_size=batch, data=0.02)
        loop.compute = 0.25
        sheet.clock = loop.clock
        sheet.line(f"{sheet.dated(fraction=',')} INFO Namespace(batch_size={batch}, epochs=1)")
        each(sheet, loop, 10, lambda step, mean, data, loop=loop: said(sheet, loop, step, mean))
    sheet.values["samples_per_s"] = sheet.values["samples_per_s"][40:]  # the last run counts
    sheet.finish(loop, records=40)


def _rank(rank: int) -> Sheet:
    loop = Loop(
        clock=FastClock(pace=1 / 10), epochs=1, batches=300, compute=0.3, data=0.02, seed=rank
    )
    sheet = Sheet("traps/ranks.log", "generic", loop.clock)
    time = Average()
    for step in loop.epoch(1):
        time.update(step.step_s)
        if (step.number + 1) % 10 == 0:
            sheet.line(f"[rank {rank}] " + said(sheet, loop, step, time.last_mean(10)), record=True)
    return sheet


@sample
def ranks() -> None:
    """Three processes append to one file."""
    from language import in_ranks

    assert multiprocessing.get_start_method() in ("fork", "spawn", "forkserver")
    in_ranks(_rank, [Sheet("traps/ranks.log", "generic") for _ in range(3)])


@sample
def hard_bytes() -> None:
    """One run as UTF-16, with CRLF and BOM, gzipped, with broken bytes and a cut last line."""
    loop = Loop(clock=FastClock(), epochs=1, batches=400, compute=0.25, data=0.02)
    names = ("utf16.log", "crlf_bom.log", "packed.log.gz", "broken_bytes.log")
    sheet = Sheet("traps/utf16.log", "generic", loop.clock)
    each(sheet, loop, 10, lambda step, mean, data: said(sheet, loop, step, mean))
    text = sheet.path.read_text()
    broken = text.encode().replace(b"loss", b"lo\xff\xfess", 3).replace(b"step 200 ", b"step 2\x00")
    cut = broken[: -len("0.0 samples/s plus")]
    contents = (
        text.encode("utf-16"),
        b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
        gzip.compress(text.encode(), mtime=0),
        cut,
    )
    for name, content in zip(names, contents, strict=True):
        other = Sheet(f"traps/{name}", "generic", loop.clock)
        other.path.write_bytes(content)
        other.values, other._dates, other.records = (
            sheet.values,
            sheet._dates,
            0 if "broken" in name else sheet.records,
        )
        other.finish(loop, **({"rel": 0.03} if "broken" in name else {}))


@sample
def crash() -> None:
    """A traceback ends the log; the last line before it was cut by it."""
    loop = Loop(clock=FastClock(), epochs=1, batches=300, compute=0.25, data=0.02)
    sheet = Sheet("traps/crash.log", "generic", loop.clock)
    each(sheet, loop, 10, lambda step, mean, data: said(sheet, loop, step, mean))
    sheet.line(
        'Traceback (most recent call last):\n  File "train.py", line 88, in <module>\n    main()\n'
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0;"
        " 10.76 GiB total capacity; 8.05 GiB already allocated; 1.41 GiB free)"
    )
    sheet.finish(loop)
