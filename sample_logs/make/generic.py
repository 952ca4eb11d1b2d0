"""Loops of our own in forms that no framework prescribes."""

from __future__ import annotations

import json
from collections.abc import Callable

from clock import FastClock, hms
from loop import Average, Loop, Step
from sheet import Sheet, sample

Line = Callable[[Step, float, float], str]


def each(sheet: Sheet, loop: Loop, every: int, line: Line, end: Line | None = None) -> None:
    """Train; `line(step, mean step_s, mean data_s)` of the last `every` steps, `end` an epoch."""
    for epoch in range(1, loop.epochs + 1):
        time, data = Average(), Average()
        for step in loop.epoch(epoch):
            time.update(step.step_s)
            data.update(step.data_s)
            if (step.batch + 1) % every == 0:
                text = line(step, time.last_mean(every), data.last_mean(every))
                sheet.line(text, record=True)
        if end:
            sheet.line(end(step, sum(time.values), sum(data.values)))


@sample
def jsonl() -> None:
    """Own keys with their unit in the name."""
    loop = Loop(clock=FastClock(), epochs=1, batches=300, compute=0.2, data=0.01, first=2.0)
    sheet = Sheet("generic/steps.jsonl", "generic")

    def line(step: Step, mean: float, data: float) -> str:
        row = {"step": step.number + 1, "loss": round(step.loss, 4)}
        row["dt_ms"] = float(sheet.say("step_s", 1000 * mean, ".2f", 1e-3))
        row["data_ms"] = float(sheet.say("data_s", 1000 * data, ".2f", 1e-3))
        row["tok_per_sec"] = float(sheet.say("tokens_per_s", 16384 / mean, ".0f"))
        return json.dumps(row)

    each(sheet, loop, 5, line)
    sheet.finish(loop)


@sample
def nested_jsonl() -> None:
    """Times nested, ISO dates, events of several kinds in one file."""
    loop = Loop(clock=FastClock(), epochs=4, batches=100, batch_size=64, compute=0.4, data=0.1)
    sheet = Sheet("generic/events.jsonl", "generic", loop.clock)
    iso = ("%Y-%m-%dT%H:%M:%S", ".")
    sheet.line(json.dumps({"ts": sheet.dated(*iso) + "Z", "event": "start", "batch_size": 64}))

    def line(step: Step, mean: float, data: float) -> str:
        time = {"step": float(sheet.say("step_s", mean, ".4f"))}
        time["data"] = float(sheet.say("data_s", data, ".4f"))
        row = {"ts": sheet.dated(*iso) + "Z", "event": "train", "epoch": step.epoch}
        return json.dumps(row | {"iter": step.batch + 1, "time_s": time, "loss": step.loss})

    def end(step: Step, total: float, data: float) -> str:
        took, loss, _ = loop.validate(3)
        row = {"ts": sheet.dated(*iso) + "Z", "event": "epoch_end", "epoch": step.epoch}
        row["epoch_seconds"] = float(sheet.say("epoch_s", total, ".2f"))
        row["val_seconds"] = float(sheet.say("validation_s", took, ".2f"))
        return json.dumps(row | {"val_loss": loss})

    each(sheet, loop, 10, line, end)
    sheet.finish(loop)


@sample
def tables() -> None:
    """One run as CSV with unusual headers, TSV, CSV with semicolons and commas, fixed columns."""
    loop = Loop(clock=FastClock(), epochs=2, batches=150, batch_size=48, compute=0.2, data=0.02)
    files = ("odd_headers.csv", "speed.tsv", "decimal_commas.csv", "columns.txt")
    odd, tabs, commas, wide = (Sheet(f"generic/{name}", "generic") for name in files)
    odd.line("Epoch #,Iteration,Batch Duration (ms),Wait for batch (ms),Loss")
    tabs.line("iter\ttrain_loss\tsec_per_iter\timgs_per_sec")
    commas.line("Epoche;Schritt;Verlust;step_time_s;data_time_s")
    wide.line("  step       loss   sec/step      img/s\n-------  ---------  ---------  ---------")
    for epoch in range(1, 3):
        for step in loop.epoch(epoch):
            took, data, number = step.step_s, step.data_s, step.number + 1
            if step.batch % 3 == 0:
                ms = odd.say("step_s", 1000 * took, ".1f", 1e-3)
                wait = odd.say("data_s", 1000 * data, ".1f", 1e-3)
                odd.line(f"{epoch},{step.batch},{ms},{wait},{step.loss:.4f}", record=True)
                rate = tabs.say("samples_per_s", 48 / took, ".1f")
                second = tabs.say("step_s", took, ".4f")
                tabs.line(f"{number}\t{step.loss:.4f}\t{second}\t{rate}", record=True)
                row = f"{epoch};{step.batch};{step.loss:.4f};{commas.say('step_s', took, '.4f')}"
                row += f";{commas.say('data_s', data, '.4f')}"
                commas.line(row.replace(".", ","), record=True)
                row = f"{number:7d}  {step.loss:9.4f}  {wide.say('step_s', took, '9.4f')}"
                row += f"  {wide.say('samples_per_s', 48 / took, '9.1f')}"
                wide.line(row, record=True)
    for sheet in (odd, tabs, commas, wide):
        sheet.finish(loop)


@sample
def logfmt() -> None:
    """key=value with units behind the numbers."""
    loop = Loop(clock=FastClock(), epochs=2, batches=160, batch_size=32, compute=0.3, data=0.05)
    sheet = Sheet("generic/logfmt.log", "generic", loop.clock)

    def line(step: Step, mean: float, data: float) -> str:
        return (
            f"ts={sheet.dated('%Y-%m-%dT%H:%M:%S', '.')}Z level=info msg=train epoch={step.epoch}"
            f" step={step.number + 1} loss={step.loss:.4f}"
            f" step_time={sheet.say('step_s', 1000 * mean, '.0f', 1e-3)}ms"
            f" data_time={sheet.say('data_s', 1000 * data, '.1f', 1e-3)}ms"
            f" throughput={sheet.say('samples_per_s', 32 / mean, '.1f')}samples/s"
        )

    each(sheet, loop, 8, line)
    sheet.finish(loop)


@sample
def dict_prints() -> None:
    """`print(stats)` of a Python dict."""
    loop = Loop(clock=FastClock(), epochs=1, batches=200, compute=0.25, data=0.02)
    sheet = Sheet("generic/dict_prints.txt", "generic")
    sheet.line("using device: cpu")

    def line(step: Step, mean: float, data: float) -> str:
        row = {"iteration": step.number + 1, "loss": step.loss}
        sheet.keep("step_s", mean)
        sheet.keep("data_s", data)
        return str(row | {"batch_time": mean, "data_time": data, "done": False, "lr": None})

    each(sheet, loop, 5, line)
    sheet.finish(loop)


@sample
def decimal_commas() -> None:
    """A locale with decimal commas, in running text."""
    loop = Loop(clock=FastClock(), epochs=2, batches=120, batch_size=40, compute=0.3, data=0.03)
    sheet = Sheet("generic/decimal_commas.log", "generic")

    def line(step: Step, mean: float, data: float) -> str:
        text = (
            f"Epoch {step.epoch} | Step {step.batch + 1} | loss {step.loss:.3f} | time"
            f" {sheet.say('step_s', mean, '.3f')} s | data {sheet.say('data_s', data, '.3f')} s"
            f" | {sheet.say('samples_per_s', 40 / mean, '.1f')} samples/s"
        )
        return text.replace(".", ",")

    each(sheet, loop, 6, line)
    sheet.finish(loop)


@sample
def timestamps_only() -> None:
    """Plain logging: only timestamps tell the time."""
    loop = Loop(clock=FastClock(), epochs=3, batches=200, batch_size=16, compute=1.2, data=0.1)
    sheet = Sheet("generic/timestamps_only.log", "generic", loop.clock)
    sheet.line(f"{sheet.dated(fraction=',')} - train - INFO - batch_size: 16, workers: 2")

    def line(step: Step, mean: float, data: float) -> str:
        stamp = sheet.dated(fraction=",")
        sheet.stamp(step.epoch, step.batch)
        return (
            f"{stamp} - train - INFO - epoch {step.epoch} batch {step.batch} loss {step.loss:.4f}"
        )

    def end(step: Step, total: float, data: float) -> str:
        _, loss, accuracy = loop.validate(30)
        stamp = sheet.dated(fraction=",")
        return f"{stamp} - train - INFO - validation loss {loss:.4f} accuracy {accuracy:.2f}"

    each(sheet, loop, 20, line, end)
    sheet.finish(loop)


@sample
def midnight() -> None:
    """Times of day without a date; midnight passes."""
    clock = FastClock(start="2024-03-04 23:50:00")
    loop = Loop(clock=clock, epochs=1, batches=600, compute=2.2, data=0.1)
    sheet = Sheet("generic/midnight.log", "generic", clock, rel=0.04)

    def line(step: Step, mean: float, data: float) -> str:
        stamp = sheet.dated("%H:%M:%S")
        sheet.stamp(0, step.number)
        return f"[{stamp}] iteration {step.number + 1}: loss={step.loss:.4f}"

    each(sheet, loop, 10, line)
    sheet.finish(loop)


@sample
def time_zone() -> None:
    """The zone changes from +0100 to +0200 while the run goes on."""
    clock = FastClock(start="2024-03-31 01:50:00")
    loop = Loop(clock=clock, epochs=1, batches=600, compute=1.8, data=0.1)
    sheet = Sheet("generic/time_zone.log", "generic", clock, rel=0.03)

    def line(step: Step, mean: float, data: float) -> str:
        sheet.dated()
        sheet.stamp(0, step.number)
        shown = clock.now()
        if shown.hour >= 2:
            shown = shown.replace(hour=shown.hour + 1)
        zone = "+0200" if shown.hour >= 3 else "+0100"
        return f"{shown:%Y-%m-%dT%H:%M:%S}{zone} INFO step {step.number + 1} loss {step.loss:.4f}"

    each(sheet, loop, 10, line)
    sheet.finish(loop)


def epoch_lines(sheet: Sheet, loop: Loop, valid: float, line: Callable[..., str]) -> None:
    """One `line(epoch, train seconds, validation seconds, loss, accuracy)` an epoch."""
    for epoch in range(1, loop.epochs + 1):
        for _ in loop.epoch(epoch):
            pass
        took, loss, accuracy = loop.validate(valid)
        train = sum(s["step_s"] for s in loop.truth["steps"][-loop.batches :])
        sheet.line(line(epoch, train, took, loss, accuracy), record=True)


@sample
def per_epoch() -> None:
    """Epoch lines only, in five forms of one run."""
    loop = Loop(clock=FastClock(), epochs=10, batches=40, batch_size=32, compute=0.9, data=0.1)
    files = ("dashes.log", "minutes.log", "blocks.log", "cumulative.log", "train_valid.log")
    dashes, minutes, blocks, total, both = (Sheet(f"epochs/{f}", "generic") for f in files)
    total.expected |= {"format": "cumulative_epoch_time", "rel": 0.05}
    began = loop.clock.seconds()
    previous = 0.0

    def line(epoch: int, train: float, valid: float, loss: float, accuracy: float) -> str:
        nonlocal previous
        whole = train + valid
        text = dashes.say("epoch_s", whole, ".1f")
        dashes.line(
            f"Epoch {epoch}/10 - {text}s - loss: {loss:.4f} - acc: {accuracy:.2f}", record=True
        )
        minute, second = divmod(int(whole), 60)
        minutes.keep("epoch_s", float(int(whole)))
        minutes.line(f"Epoch: {epoch:02} | Epoch Time: {minute}m {second}s", record=True)
        minutes.line(f"\tTrain Loss: {loss:.3f}\n\t Val. Loss: {loss:.3f}")
        blocks.line(f"========== epoch {epoch} ==========\n  train loss:   {loss:.4f}", record=True)
        blocks.line(f"  train time:   {blocks.say('train_epoch_s', train, '.2f')} seconds")
        blocks.line(f"  valid time:   {blocks.say('validation_s', valid, '.2f')} seconds")
        now = float(f"{loop.clock.seconds() - began:.1f}")
        total.line(f"Epoch {epoch}, Time {now}s, Loss {loss:.4f}, LR 0.2000", record=True)
        total.keep("epoch_s", now - previous)
        previous = now
        return (
            f"[{epoch}/10] train {both.say('train_epoch_s', train / 60, '.3f', 60)} min, valid"
            f" {both.say('validation_s', valid / 60, '.3f', 60)} min, loss {loss:.4f},"
            f" accuracy {accuracy:.2f} %"
        )

    epoch_lines(both, loop, 6, line)
    total.keep("wall_s", previous)
    for sheet in (dashes, minutes, blocks, total, both):
        sheet.finish(loop)


@sample
def epoch_starts() -> None:
    """Each epoch says when it started and when it ended."""
    loop = Loop(clock=FastClock(), epochs=6, batches=30, compute=2.5, data=0.2)
    sheet = Sheet("epochs/starts_and_ends.log", "generic", loop.clock)
    for epoch in range(1, 7):
        sheet.line(f"Epoch {epoch} started at {sheet.dated()}")
        began = sheet.at
        for step in loop.epoch(epoch):
            loss = step.loss
        sheet.line(f"Epoch {epoch} finished at {sheet.dated()}, loss {loss:.4f}", record=True)
        sheet.keep("epoch_s", sheet.at - began)
        loop.validate(15)
    sheet.finish(loop, rel=0.03)


@sample
def fastai() -> None:
    """fastai's table: mm:ss in the last column."""
    loop = Loop(clock=FastClock(), epochs=8, batches=40, compute=1.4, data=0.1)
    sheet = Sheet("epochs/fastai.txt", "generic")
    sheet.line("epoch     train_loss  valid_loss  accuracy  time    ")

    def line(epoch: int, train: float, valid: float, loss: float, accuracy: float) -> str:
        whole = int(train + valid)
        sheet.keep("epoch_s", float(whole))
        time = f"{whole // 60:02d}:{whole % 60:02d}"
        return f"{epoch - 1:<8}  {loss:<10.6f}  {loss:<10.6f}  {accuracy / 100:<8.6f}  {time:<6}  "

    epoch_lines(sheet, loop, 6, line)
    sheet.finish(loop)


@sample
def cumulative() -> None:
    """Elapsed seconds in three forms: in brackets, in words, as h:mm:ss; differences are steps."""
    loop = Loop(clock=FastClock(), epochs=1, batches=400, compute=0.8, data=0.05)
    brackets = Sheet("generic/elapsed_brackets.log", "generic", rel=0.05)
    named = Sheet("generic/elapsed_named.log", "elapsed_cumulative", rel=0.05)
    clock = Sheet("generic/elapsed_clock.log", "generic", rel=0.08)

    def line(step: Step, mean: float, data: float) -> str:
        now, done = loop.clock.seconds(), step.number + 1
        named.line(
            f"[{done}/400] Train loss: {step.loss:.5f}, Elapsed_time: {now:.5f}", record=True
        )
        clock.line(f"step {done:4d}  loss {step.loss:.4f}  elapsed {hms(now)}", record=True)
        named.stamp(0, done, now)
        clock.stamp(0, done, float(int(now)))
        brackets.stamp(0, done, round(now, 2))
        return f"[{now:9.2f}s] step {done} loss {step.loss:.4f}"

    each(brackets, loop, 20, line)
    for sheet in (brackets, named, clock):
        sheet.finish(loop)


@sample
def seen_in_the_wild() -> None:
    """One run in the lines of ten other programs; of these only CLU's has a form of its own."""
    loop = Loop(clock=FastClock(), epochs=2, batches=200, batch_size=16, compute=0.2, data=0.02)
    names = ("tf_cifar", "tf_estimator", "caffe", "darknet", "paddleseg", "paddledet")
    names += ("composer", "clu", "ignite", "words")
    forms = {"clu": "clu_logging_writer"}
    at = {name: Sheet(f"wild/{name}.log", forms.get(name, "generic"), loop.clock) for name in names}

    def line(step: Step, mean: float, data: float) -> str:
        done, rate = step.number + 1, 16 / mean
        say = at["tf_cifar"].say
        at["tf_cifar"].line(
            f"{at['tf_cifar'].dated(fraction='.')}: step {done}, loss = {step.loss:.2f}"
            f" ({say('samples_per_s', rate, '.1f')} examples/sec;"
            f" {say('step_s', mean, '.3f')} sec/batch)",
            record=True,
        )
        say = at["tf_estimator"].say
        at["tf_estimator"].line(f"INFO:tensorflow:global_step/sec: {1 / mean:.5g}")
        at["tf_estimator"].line(
            f"INFO:tensorflow:loss = {step.loss:.6f}, step = {done}"
            f" ({say('step_s', mean * 20, '.3f', 1 / 20)} sec)",
            record=True,
        )
        at["caffe"].keep("step_s", float(f"{mean * 20:.4f}") / 20)
        at["caffe"].line(
            f"I0304 {at['caffe'].dated('%H:%M:%S', '.')}000 4711 solver.cpp:239] Iteration {done}"
            f" ({1 / mean:.5g} iter/s, {mean * 20:.4f}s/20 iters), loss = {step.loss:.5f}",
            record=True,
        )
        say = at["darknet"].say
        at["darknet"].line(
            f"{done}: {step.loss:.6f}, {step.loss:.6f} avg, {step.lr:.6f} rate,"
            f" {say('step_s', mean, '.6f')} seconds, {done * 16} images",
            record=True,
        )
        say = at["paddleseg"].say
        at["paddleseg"].line(
            f"{at['paddleseg'].dated()} [INFO]\t[TRAIN] epoch: {step.epoch}, iter: {done}/400,"
            f" loss: {step.loss:.4f}, lr: {step.lr:.6f}, batch_cost:"
            f" {say('step_s', mean, '.4f')}, reader_cost: {say('data_s', data, '.5f')},"
            f" ips: {say('samples_per_s', rate, '.4f')} samples/sec | ETA 00:03:16",
            record=True,
        )
        say = at["paddledet"].say
        at["paddledet"].line(
            f"[{at['paddledet'].dated('%m/%d %H:%M:%S')}] ppdet.engine INFO: Epoch: [{step.epoch}]"
            f" [{step.batch + 1:3d}/200] learning_rate: {step.lr:.6f} loss: {step.loss:.6f} eta:"
            f" 0:03:12 batch_cost: {say('step_s', mean, '.4f')} data_cost:"
            f" {say('data_s', data, '.4f')} ips: {say('samples_per_s', rate, '.4f')} images/s",
            record=True,
        )
        say = at["composer"].say
        at["composer"].line(
            f"[batch={done}/400]:\n\t Train time/batch: {done - 1}\n\t Train loss/train/total:"
            f" {step.loss:.4f}\n\t Train throughput/batches_per_sec: {1 / mean:.4f}\n\t Train"
            f" throughput/samples_per_sec: {say('samples_per_s', rate, '.4f')}",
            record=True,
        )
        at["composer"].keep("step_s", mean)
        at["clu"].keep("step_s", 1 / float(f"{1 / mean:.6g}"))
        at["clu"].line(
            f"I0304 {at['clu'].dated('%H:%M:%S', '.')}000 140211 logging_writer.py:48] [{done}]"
            f" loss={step.loss:.6f}, steps_per_sec={1 / mean:.6g}",
            record=True,
        )
        say = at["words"].say
        return (
            f"Batch {step.batch + 1} of 200 took {say('step_s', 1000 * mean, '.0f', 1e-3)}"
            f" milliseconds (waiting for data: {say('data_s', 1000 * data, '.0f', 1e-3)}"
            f" milliseconds); loss is now {step.loss:.3f}"
        )

    def end(step: Step, total: float, data: float) -> str:
        sheet = at["ignite"]
        sheet.keep("epoch_s", float(int(total)))
        sheet.line(
            f"{sheet.dated(fraction=',')} ignite.engine.engine.Engine INFO: Epoch[{step.epoch}]"
            f" Complete. Time taken: {hms(total).zfill(8)}.000",
            record=True,
        )
        return f"Epoch {step.epoch} took {at['words'].say('epoch_s', total, '.1f')} seconds"

    each(at["words"], loop, 20, line, end)
    for name, sheet in at.items():
        sheet.finish(loop, rel=0.05 if name in ("words", "ignite") else 0.02)


@sample
def suffixes() -> None:
    """k and M behind rates, µs behind times, steps per second, one run a file."""
    loop = Loop(clock=FastClock(), epochs=1, batches=600, batch_size=64, compute=0.006, data=0.001)
    rates = Sheet("generic/k_tok_s.log", "generic", rel=0.03)
    micro = Sheet("generic/microseconds.log", "generic")
    speed = Sheet("generic/steps_per_s.log", "generic")

    def line(step: Step, mean: float, data: float) -> str:
        done = step.number + 1
        rate = rates.say("tokens_per_s", 4096 / mean / 1000, ".1f", 1000)
        rates.line(f"step {done:>5}: loss {step.loss:.3f} | {rate}k tok/s", record=True)
        text = micro.say("step_s", 1e6 * mean, ".0f", 1e-6)
        micro.line(f"step={done} loss={step.loss:.3f} step_time={text}µs", record=True)
        shown = f"{1 / mean:.1f}"
        speed.keep("step_s", 1 / float(shown))
        return f"global step {done}: loss = {step.loss:.3f} ({shown} steps/s)"

    each(speed, loop, 10, line)
    for sheet in (rates, micro, speed):
        sheet.finish(loop)


@sample
def prefixes() -> None:
    """One run behind the prefixes of Kubernetes, journald and torchrun."""
    loop = Loop(clock=FastClock(), epochs=1, batches=300, batch_size=32, compute=0.3, data=0.03)
    files = ("kubernetes.log", "journald.log", "torchrun.log")
    pods, journal, ranks = (Sheet(f"generic/{f}", "generic", loop.clock) for f in files)

    def line(step: Step, mean: float, data: float) -> str:
        body = f"step {step.number + 1}/300 loss {step.loss:.4f} time {mean:.3f}s"
        body += f" ({32 / mean:.1f} samples/s)"
        for sheet in (pods, journal, ranks):
            sheet.keep("step_s", float(f"{mean:.3f}"))
            sheet.keep("samples_per_s", float(f"{32 / mean:.1f}"))
        journal.line(f"{journal.dated('%b %d %H:%M:%S')} node train[4711]: {body}", record=True)
        ranks.line(f"[default0]:{body}\n[default1]:{body}", record=True)
        return f"{pods.dated('%Y-%m-%dT%H:%M:%S', '.')}000000Z stdout F {body}"

    each(pods, loop, 10, line)
    for sheet in (pods, journal, ranks):
        sheet.finish(loop)


@sample
def no_timing() -> None:
    """Losses only, as in PyTorch's MNIST example: there is no time to be read."""
    loop = Loop(epochs=2, batches=100, batch_size=64, compute=0.001, data=0)
    sheet = Sheet("generic/no_timing.log", "pytorch_mnist", timing=False)

    def line(step: Step, mean: float, data: float) -> str:
        seen = (step.batch + 1) * 64
        part = f"[{seen}/6400 ({100 * seen / 6400:.0f}%)]"
        return f"Train Epoch: {step.epoch} {part}\tLoss: {step.loss:.6f}"

    each(sheet, loop, 10, line)
    sheet.line("\nTest set: Average loss: 0.9, Accuracy: 812/1000 (81%)\n")
    sheet.finish(loop)
