"""Forms of image classification, detection and segmentation code, as loops of our own."""

from __future__ import annotations

import json
from argparse import Namespace

from clock import FastClock, hms
from loop import Average, Loop
from sheet import Sheet, sample


def imagenet_line(sheet: Sheet, step, time: Average, data: Average, loss: Average) -> str:
    """As `ProgressMeter` of PyTorch's imagenet example prints it."""
    return (
        f"Epoch: [{step.epoch}][{step.batch + 1:3d}/{step.batches}]"
        f"\tTime {sheet.say('step_s', time.now, '6.3f')} ({time.mean:6.3f})"
        f"\tData {sheet.say('data_s', data.now, '6.3f')} ({data.mean:6.3f})"
        f"\tLoss {loss.now:.4e} ({loss.mean:.4e})\tAcc@1 {step.accuracy:6.2f}"
    )


@sample
def imagenet() -> None:
    """Current value and running average of the epoch; validation lines of the same form."""
    loop = Loop(batches=100, compute=0.04, data=0.005, first=0.5)
    sheet = Sheet("vision/imagenet.log", "pytorch_imagenet", rel=0.05)
    sheet.line("=> creating model 'tinynet'")
    for epoch in range(loop.epochs):
        time, data, loss = Average(), Average(), Average()
        for step in loop.epoch(epoch):
            for meter, value in ((time, step.step_s), (data, step.data_s), (loss, step.loss)):
                meter.update(value)
            if step.batch % 10 == 0:
                sheet.line(imagenet_line(sheet, step, time, data, loss), record=True)
        test = Average()
        for batch in range(1, 9):
            took, value, accuracy = loop.validate(0.03)
            test.update(took)
            sheet.line(
                f"Test: [{batch}/8]\tTime {took:6.3f} ({test.mean:6.3f})\tLoss {value:.4e}"
                f" ({value:.4e})\tAcc@1 {accuracy:6.2f}"
            )
        sheet.line(f" *   Acc@1 {accuracy:.3f} Acc@5 {min(100, accuracy + 9):.3f}")
    sheet.finish(loop)


@sample
def imagenet_hidden_stalls() -> None:
    """The loader stalls on every 7th batch, never on a printed one: only averages show it."""
    loop = Loop(epochs=2, batches=210, compute=0.02, data=lambda n: 0.12 if n % 7 == 3 else 0.001)
    sheet = Sheet("vision/imagenet_hidden_stalls.log", "pytorch_imagenet", rel=0.05)
    ends = []
    for epoch in range(loop.epochs):
        time, data, loss = Average(), Average(), Average()
        for step in loop.epoch(epoch):
            for meter, value in ((time, step.step_s), (data, step.data_s), (loss, step.loss)):
                meter.update(value)
            if step.batch % 14 == 0:
                sheet.line(imagenet_line(sheet, step, time, data, loss), record=True)
        ends.append((round(time.mean, 3), round(data.mean, 3)))
    sheet.finish(loop, step_mean_s=ends[-1][0], data_mean_s=ends[-1][1])


@sample
def timm() -> None:
    """timm's `Train:` lines behind a prefix of the logging module; the rate is global."""
    loop = Loop(clock=FastClock(), batches=80, batch_size=128, compute=0.2, data=0.01, first=1.5)
    sheet = Sheet("vision/timm.log", "timm_text", loop.clock)

    def info(text: str, record: bool = False) -> None:
        sheet.line(f"[{sheet.dated()} tinynet] (main.py 791): INFO {text}", record=record)

    info("Training in float32. AMP not enabled.")
    for epoch in range(loop.epochs):
        time, data, loss = Average(), Average(), Average()
        for step in loop.epoch(epoch):
            for meter, value in ((time, step.step_s), (data, step.data_s), (loss, step.loss)):
                meter.update(value)
            if step.batch % 10 == 0 or step.batch == step.batches - 1:
                rate = sheet.say("samples_per_s", loop.batch_size / time.now, ">7.2f")
                info(
                    f"Train: {epoch} [{step.batch:>4d}/{step.batches}"
                    f" ({100.0 * step.batch / (step.batches - 1):>3.0f}%)]"
                    f"  Loss: {loss.now:>9.6f} ({loss.mean:>6.4f})"
                    f"  Time: {sheet.say('step_s', time.now, '.3f')}s, {rate}/s"
                    f"  ({time.mean:.3f}s, {loop.batch_size / time.mean:>7.2f}/s)"
                    f"  LR: {step.lr:.3e}"
                    f"  Data: {sheet.say('data_s', data.now, '.3f')} ({data.mean:.3f})",
                    record=True,
                )
        took, value, accuracy = loop.validate(0.5)
        info(
            f"Test: [   9/9]  Time: {took:.3f} ({took:.3f})  Loss: {value:>7.4f} ({value:>6.4f})"
            f"  Acc@1: {accuracy:>7.4f} ({accuracy:>7.4f})"
        )
    sheet.finish(loop)


@sample
def metric_logger() -> None:
    """torchvision's and DETR's MetricLogger: means of 20; totals of the epoch; DETR's log.txt."""
    loop = Loop(batches=90, batch_size=4, compute=0.05, data=0.01, first=1.0)
    sheet = Sheet("vision/metric_logger.log", "metriclogger_text")
    other = Sheet("vision/detr_log.txt", "detr_json_lines", timing=False)
    sheet.line("Namespace(lr=0.02, batch_size=4, epochs=3, num_workers=2, device='cpu')")
    for epoch in range(loop.epochs):
        time, data, loss = Average(), Average(), Average()
        for step in loop.epoch(epoch):
            for meter, value in ((time, step.step_s), (data, step.data_s), (loss, step.loss)):
                meter.update(value)
            if step.batch % 10 == 0 or step.batch == step.batches - 1:
                sheet.line(
                    f"Epoch: [{epoch}]  [{step.batch:2d}/{step.batches}]"
                    f"  eta: {hms(time.mean * (step.batches - step.batch))}  lr: {step.lr:.6f}"
                    f"  loss: {loss.last_median(20):.4f} ({loss.mean:.4f})"
                    f"  time: {sheet.say('step_s', time.last_mean(20), '.4f')}"
                    f"  data: {sheet.say('data_s', data.last_mean(20), '.4f')}  max mem: 1942",
                    record=True,
                )
        total = sum(time.values)
        sheet.line(f"Epoch: [{epoch}] Total time: {hms(total)} ({total / step.batches:.4f} s / it)")
        sheet.keep("epoch_s", float(int(total)))
        sheet.line(f"Averaged stats: lr: {step.lr:.6f}  loss: {loss.now:.4f} ({loss.mean:.4f})")
        took, value, _ = loop.validate(0.4)
        sheet.line(
            f"Test:  [ 0/10]  eta: 0:00:00  loss: {value:.4f} ({value:.4f})"
            f"  time: {took / 10:.4f}  data: 0.0101  max mem: 1942"
        )
        sheet.line(f"Test: Total time: {hms(took)} ({took / 10:.4f} s / it)")
        row = {"train_lr": step.lr, "train_loss": loss.mean, "test_loss": value, "epoch": epoch}
        other.line(json.dumps({**row, "n_parameters": 2762}), record=True)
    sheet.line(f"Training time {hms(loop.clock.seconds())}")
    sheet.finish(loop, rel_epoch_s=0.2)
    other.finish()


@sample
def maskrcnn_benchmark() -> None:
    """Median of 20 before the parentheses, mean of the whole run in them."""
    loop = Loop(clock=FastClock(), epochs=1, batches=400, batch_size=2, compute=0.35, data=0.02)
    sheet = Sheet("vision/maskrcnn_benchmark.log", "maskrcnn_benchmark", loop.clock)
    time, data, loss = Average(), Average(), Average()
    sheet.line(f"{sheet.dated(fraction=',')} maskrcnn_benchmark.trainer INFO: Start training")
    for step in loop.epoch(0):
        for meter, value in ((time, step.step_s), (data, step.data_s), (loss, step.loss)):
            meter.update(value)
        if (step.number + 1) % 20 == 0:
            sheet.line(
                f"{sheet.dated(fraction=',')} maskrcnn_benchmark.trainer INFO: eta:"
                f" {hms(time.mean * (400 - step.number))}  iter: {step.number + 1}"
                f"  loss: {loss.last_median(20):.4f} ({loss.mean:.4f})"
                f"  time: {sheet.say('step_s', time.last_median(20), '.4f')} ({time.mean:.4f})"
                f"  data: {sheet.say('data_s', data.last_median(20), '.4f')} ({data.mean:.4f})"
                f"  lr: {step.lr:.6f}  max mem: 2265",
                record=True,
            )
    total = loop.clock.seconds()
    sheet.line(
        f"{sheet.dated(fraction=',')} maskrcnn_benchmark.trainer INFO: Total training time:"
        f" {hms(total)} ({total / 400:.4f} s / it)"
    )
    sheet.finish(loop)


@sample
def mmcv() -> None:
    """mmcv's text log and its `.log.json`, of one run that is 2.1 times slower from epoch 4."""
    loop = Loop(
        clock=FastClock(), epochs=8, batches=100, batch_size=2, data=0.06,
        compute=lambda n: 0.25 if n < 300 else 0.58,
    )  # fmt: skip
    text = Sheet("vision/mmcv.log", "mmcv_text", loop.clock, trend="step", change_step=300)
    rows = Sheet("vision/mmcv.log.json", "mmcv_log_json", trend="step", change_step=300)
    rows.line('{"env_info": "Python: 3.8\\nPyTorch: 1.6.0\\nMMCV: 1.1.5", "seed": 0}')
    for epoch in range(1, loop.epochs + 1):
        time, data, loss = Average(), Average(), Average()
        for step in loop.epoch(epoch):
            for meter, value in ((time, step.step_s), (data, step.data_s), (loss, step.loss)):
                meter.update(value)
            if (step.batch + 1) % 20 == 0:
                eta = hms(time.mean * (loop.epochs * loop.batches - step.number))
                text.line(
                    f"{text.dated(fraction=',')} - mmdet - INFO - Epoch [{epoch}]"
                    f"[{step.batch + 1}/{step.batches}]\tlr: {step.lr:.3e}, eta: {eta},"
                    f" time: {text.say('step_s', time.last_mean(20), '.3f')},"
                    f" data_time: {text.say('data_s', data.last_mean(20), '.3f')},"
                    f" memory: 2569, loss_cls: {loss.now:.4f}, loss: {loss.last_mean(20):.4f}",
                    record=True,
                )
                row = {"mode": "train", "epoch": epoch, "iter": step.batch + 1, "lr": step.lr}
                row |= {"memory": 2569, "loss": round(loss.last_mean(20), 5)}
                row["data_time"] = float(rows.say("data_s", data.last_mean(20), ".5f"))
                row["time"] = float(rows.say("step_s", time.last_mean(20), ".5f"))
                rows.line(json.dumps(row), record=True)
        _, _, accuracy = loop.validate(4)
        mark = f"Epoch(val) [{epoch}][50]\tbbox_mAP: {accuracy / 100:.4f}"
        text.line(f"{text.dated(fraction=',')} - mmdet - INFO - {mark}")
        found = {"mode": "val", "epoch": epoch, "iter": 50, "lr": step.lr, "bbox_mAP": accuracy}
        rows.line(json.dumps(found))
    text.finish(loop)
    rows.finish(loop)


@sample
def detectron2() -> None:
    """Text without a year, and metrics.json, of one run."""
    loop = Loop(clock=FastClock(), epochs=1, batches=600, batch_size=16, compute=0.6, data=0.03)
    text = Sheet("vision/detectron2.log", "detectron2_text", loop.clock)
    rows = Sheet("vision/metrics.json", "detectron2_metrics_json")
    stamp = "%m/%d %H:%M:%S"
    text.line(
        f"[{text.dated(stamp)}] d2.engine.train_loop INFO: Starting training from iteration 0"
    )
    time, data, loss = Average(), Average(), Average()
    for step in loop.epoch(0):
        for meter, value in ((time, step.step_s), (data, step.data_s), (loss, step.loss)):
            meter.update(value)
        if (step.number + 1) % 20:
            continue
        eta = time.last_median(1000) * (600 - step.number)
        text.line(
            f"[{text.dated(stamp)}] d2.utils.events INFO:  eta: {hms(eta)}  iter: {step.number}"
            f"  total_loss: {loss.last_median(20):.4g}  loss_cls: {loss.now:.4g}"
            f"  time: {text.say('step_s', time.mean, '.4f')}"
            f"  data_time: {text.say('data_s', data.last_mean(20), '.4f')}"
            f"  lr: {step.lr:.5g}  max_mem: 1181M",
            record=True,
        )
        row = {"data_time": data.last_median(20), "eta_seconds": eta, "iteration": step.number}
        row |= {"lr": step.lr, "time": time.last_median(20), "total_loss": loss.last_median(20)}
        rows.keep("data_s", row["data_time"])
        rows.keep("step_s", row["time"])
        rows.line(json.dumps(row), record=True)
    text.line(
        f"[{text.dated(stamp)}] d2.engine.hooks INFO: Overall training speed: 598 iterations in"
        f" {hms(sum(time.values))} ({time.mean:.4f} s / it)"
    )
    rows.line(json.dumps({"bbox/AP": 31.4, "bbox/AP50": 52.0, "iteration": 599}))
    text.finish(loop)
    rows.finish(loop)


@sample
def two_handlers() -> None:
    """Data before Batch and a Remain; each line written by two handlers of the logging module."""
    loop = Loop(clock=FastClock(), epochs=2, batches=200, batch_size=8, compute=0.5, data=0.1)
    sheet = Sheet("vision/two_handlers.log", "pointweb_data_batch_remain", loop.clock, rel=0.05)
    for epoch in range(1, 3):
        time, data = Average(), Average()
        for step in loop.epoch(epoch):
            time.update(step.step_s)
            data.update(step.data_s)
            if (step.batch + 1) % 10 == 0:
                body = (
                    f"Epoch: [{epoch}/2][{step.batch + 1}/{step.batches}]"
                    f" Data {sheet.say('data_s', data.now, '.3f')} ({data.mean:.3f})"
                    f" Batch {sheet.say('step_s', time.now, '.3f')} ({time.mean:.3f})"
                    f" Remain {hms(time.mean * (400 - step.number)).zfill(8)}"
                    f" Loss {step.loss:.4f} Accuracy {step.accuracy / 100:.4f}."
                )
                stamp = sheet.dated(fraction=",")
                sheet.line(f"[{stamp} INFO train.py line 338 28028] {body}", record=True)
                sheet.line(f"INFO:main-logger:{body}")
    sheet.finish(loop)


@sample
def cyclegan() -> None:
    """`time` is seconds per image: the step divided by its batch; counters restart each epoch."""
    loop = Loop(clock=FastClock(), epochs=3, batches=200, batch_size=4, compute=0.2, data=0.004)
    sheet = Sheet("vision/loss_log.txt", "cyclegan_loss_log", rel=0.05)
    sheet.line("================ Training Loss (Mon Mar  4 09:00:00 2024) ================")
    for epoch in range(1, 4):
        for step in loop.epoch(epoch):
            if (step.batch + 1) % 10 == 0:
                image_s = (step.step_s - step.data_s) / loop.batch_size
                text = f"{image_s:.3f}"
                sheet.keep("samples_per_s", 1 / float(text))
                sheet.line(
                    f"(epoch: {epoch}, iters: {(step.batch + 1) * 4}, time: {text},"
                    f" data: {sheet.say('data_s', step.data_s, '.3f')}) D_A: {step.loss:.3f}"
                    f" G_A: {step.loss / 2:.3f} ",
                    record=True,
                )
    sheet.finish(loop, rel_data_s=0.3)


@sample
def segmentation() -> None:
    """`Cost Time` is cumulative."""
    loop = Loop(clock=FastClock(), epochs=1, batches=500, batch_size=16, compute=0.9, data=0.1)
    sheet = Sheet("vision/segmentation.log", "seg_cost_time", loop.clock)
    args = Namespace(model="tinyseg", batch_size=16, max_iterations=500, workers=2)
    sheet.line(f"{sheet.dated(fraction=',')} semantic_segmentation INFO: {args}")
    for step in loop.epoch(0):
        done = step.number + 1
        if done % 10 == 0:
            cost = loop.clock.seconds()
            sheet.line(
                f"{sheet.dated(fraction=',')} semantic_segmentation INFO: Iters: {done}/500"
                f" || Lr: {step.lr:.6f} || Task Loss: {step.loss:.4f} || Cost Time: {hms(cost)}"
                f" || Estimated Time: {hms(cost / done * (500 - done))}",
                record=True,
            )
            sheet.stamp(0, done)
    sheet.finish(loop, rel=0.05)


@sample
def ultralytics() -> None:
    """results.csv with padded header; `time` is cumulative seconds."""
    loop = Loop(clock=FastClock(), epochs=12, batches=30, batch_size=16, compute=0.7, data=0.1)
    sheet = Sheet("vision/results.csv", "ultralytics_results_csv")
    names = ("epoch", "time", "train/box_loss", "metrics/mAP50(B)", "val/box_loss", "lr/pg0")
    sheet.line(",".join(name.rjust(16) for name in names))
    previous = 0.0
    for epoch in range(1, loop.epochs + 1):
        for _ in loop.epoch(epoch):
            pass
        step = loop.truth["steps"][-1]
        _, loss, accuracy = loop.validate(3)
        total = float(f"{loop.clock.seconds():.5g}")
        row = (
            epoch,
            total,
            round(step["loss"], 5),
            round(accuracy / 100, 5),
            round(loss, 5),
            step["lr"],
        )
        sheet.line(",".join(f"{value:.6g}".rjust(16) for value in row), record=True)
        sheet.keep("epoch_s", total - previous)
        previous = total
    sheet.finish(loop, wall_s=previous)


@sample
def paddlevit() -> None:
    """Steps without a time, then the seconds of the whole epoch."""
    loop = Loop(clock=FastClock(), epochs=6, batches=100, batch_size=64, compute=0.5, data=0.05)
    sheet = Sheet("vision/paddlevit.log", "paddlevit_text", loop.clock)
    for epoch in range(1, 7):
        loss = Average()
        for step in loop.epoch(epoch):
            loss.update(step.loss)
            if step.batch % 20 == 0:
                sheet.line(
                    f"{sheet.dated(fraction=',')} Epoch[{epoch:03d}/006],"
                    f" Step[{step.batch:04d}/0100], Avg Loss: {loss.mean:.4f},"
                    f" Avg Acc: {step.accuracy / 100:.4f}",
                    record=True,
                )
                sheet.stamp(epoch, step.batch)
        took = sheet.say("epoch_s", sum(s["step_s"] for s in loop.truth["steps"][-100:]), ".2f")
        sheet.line(
            f"{sheet.dated(fraction=',')} ----- Epoch[{epoch:03d}/006], Train Loss:"
            f" {loss.mean:.4f}, Train Acc: {step.accuracy / 100:.4f}, time: {took}"
        )
    sheet.finish(loop)


@sample
def mxnet() -> None:
    """Only rates, each of the 20 batches before; each line again behind a `DEBUG:` prefix."""
    loop = Loop(clock=FastClock(), epochs=3, batches=160, batch_size=128, compute=0.2, data=0.01)
    sheet = Sheet("vision/mxnet.log", "mxnet_gluon_speed")
    sheet.line("INFO:root:Namespace(batch_size=128, network='tinynet', num_epochs=3)")
    for epoch in range(3):
        time = Average()
        for step in loop.epoch(epoch):
            time.update(step.step_s)
            if step.batch and step.batch % 20 == 0:
                rate = 128 / time.last_mean(20)
                sheet.line(
                    f"INFO:root:Epoch[{epoch}] Batch [{step.batch}]"
                    f"\tSpeed: {sheet.say('samples_per_s', rate, '.2f')} samples/sec"
                    f"\taccuracy={step.accuracy / 100:f}",
                    record=True,
                )
        sheet.line(f"INFO:root:Epoch[{epoch}] Train-accuracy={step.accuracy / 100:f}")
        cost = sheet.say("epoch_s", sum(time.values), ".3f")
        sheet.line(f"INFO:root:Epoch[{epoch}] Time cost={cost}")
        _, _, accuracy = loop.validate(2)
        sheet.line(f"INFO:root:Epoch[{epoch}] Validation-accuracy={accuracy / 100:f}")
    sheet.finish(loop)


@sample
def dgl() -> None:
    """`Speed (samples/sec)` is nan at first; the epoch's seconds follow."""
    loop = Loop(clock=FastClock(), epochs=4, batches=100, batch_size=1000, compute=0.09, data=0.01)
    sheet = Sheet("vision/dgl.log", "dgl")
    for epoch in range(4):
        rates = Average()
        for step in loop.epoch(epoch):
            rates.update(loop.batch_size / step.step_s)
            if step.batch % 20 == 0:
                rate = rates.mean
                text = sheet.say("samples_per_s", rate, ".4f") if step.number else "nan"
                sheet.line(
                    f"Epoch {epoch:05d} | Step {step.batch:05d} | Loss {step.loss:.4f}"
                    f" | Train Acc {step.accuracy / 100:.4f} | Speed (samples/sec) {text}"
                    " | GPU 401.2 MB",
                    record=True,
                )
        took = sum(s["step_s"] for s in loop.truth["steps"][-100:])
        sheet.line(f"Epoch Time(s): {sheet.say('epoch_s', took, '.4f')}")
    sheet.finish(loop)


@sample
def dllogger() -> None:
    """NVIDIA's DLLogger: key : value with a unit behind."""
    loop = Loop(clock=FastClock(), epochs=2, batches=60, batch_size=64, compute=0.1, data=0.005)
    sheet = Sheet("vision/dllogger.log", "nvidia_dllogger", loop.clock)
    for epoch in range(2):
        for step in loop.epoch(epoch):
            rate = sheet.say("samples_per_s", loop.batch_size / step.step_s, ".2f")
            sheet.line(
                f"DLL {sheet.dated(fraction='.')}000 - Epoch: {epoch} Iteration: {step.batch + 1}"
                f"  train.loss : {step.loss:.5f}  train.total_ips : {rate} img/s",
                record=True,
            )
        _, loss, accuracy = loop.validate(0.5)
        sheet.line(
            f"DLL {sheet.dated(fraction='.')}000 - Epoch: {epoch}  val.loss : {loss:.5f}"
            f"  val.top1 : {accuracy:.2f} %"
        )
    sheet.finish(loop)
