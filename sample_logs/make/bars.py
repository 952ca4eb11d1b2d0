"""Progress bars: real tqdm, Rich and the older bar of Keras, over loops of our own."""

from __future__ import annotations

import logging
import statistics
from pathlib import Path

from clock import FastClock
from loop import Loop
from sheet import Sheet, leave, sample
from terminal import captured


def truth_of(loop: Loop) -> float:
    """Median seconds of a step."""
    return statistics.median(step["step_s"] for step in loop.truth["steps"])


@sample
def tqdm_flips() -> None:
    """it/s, then s/it from step 90 on; every frame ends in a carriage return."""
    from tqdm import tqdm

    loop = Loop(
        epochs=1, batches=110, data=0.01, compute=lambda n: 0.18 if n < 90 else 1.4,
    )  # fmt: skip
    sheet = Sheet("bars/tqdm_flips.txt", "tqdm", change_step=90, trend="step")
    with sheet.path.open("w") as file:
        bar = tqdm(total=110, desc="Training", file=file, ncols=90, mininterval=0.5)
        for step in loop.epoch(0):
            bar.update()
            if step.number % 10 == 0:
                bar.set_postfix(loss=f"{step.loss:.3f}")
        bar.close()
    sheet.keep("step_s", truth_of(loop))
    sheet.finish(loop, rel=0.1)


@sample
def tqdm_epochs() -> None:
    """A bar an epoch and one for validation; raw, and as a terminal leaves it: last frames."""
    from tqdm import tqdm

    loop = Loop(epochs=5, batches=60, batch_size=32, data=0.005, compute=0.06)
    raw = Sheet("bars/tqdm_epochs.txt", "tqdm", rel=0.08, rel_epoch_s=0.2)
    with raw.path.open("w") as file:
        for epoch in range(1, 6):
            bar = tqdm(total=60, desc=f"Epoch {epoch}/5", file=file, ncols=100, mininterval=0.3)
            for step in loop.epoch(epoch):
                bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
                bar.update()
            bar.close()
            raw.keep("epoch_s", float(int(bar.format_dict["elapsed"])))
            for _ in tqdm(range(5), desc="Validating", file=file, ncols=100):
                loop.validate(0.06)
    raw.keep("step_s", truth_of(loop))
    raw.finish(loop)
    last = Sheet("bars/tqdm_last_frames.txt", "tqdm")
    for line in raw.path.read_bytes().decode().split("\n"):
        last.line(line.rstrip("\r").rsplit("\r", 1)[-1])
    last.values = raw.values
    last.finish(loop, rel=0.08, rel_epoch_s=0.2)


@sample
def tqdm_chinese() -> None:
    """Chinese lines between the bars."""
    from tqdm import tqdm

    loop = Loop(epochs=4, batches=50, batch_size=32, data=0.02, compute=0.06)
    sheet = Sheet("bars/tqdm_chinese.txt", "tqdm", rel=0.08)
    with sheet.path.open("w") as file:
        file.write("[信息] 使用设备：cpu\n")
        for epoch in range(1, 5):
            total = 0.0
            bar = tqdm(total=50, desc=f"第{epoch}轮", file=file, ncols=90, mininterval=0.5)
            for step in loop.epoch(epoch):
                bar.update()
                total += step.loss
            bar.close()
            file.write(f"[轮次 {epoch}] 平均总损失：{total / 50:.4f}\n[信息] 模型保存完成\n")
    sheet.keep("step_s", truth_of(loop))
    sheet.finish(loop)


@sample
def yolo_console() -> None:
    """Header and bar in the form of ultralytics; hours at the end."""
    from tqdm import tqdm

    loop = Loop(epochs=6, batches=30, batch_size=16, data=0.02, compute=0.1)
    sheet = Sheet("bars/yolo_console.txt", "ultralytics_console", rel=0.1)
    head = ("Epoch", "GPU_mem", "box_loss", "cls_loss", "dfl_loss", "Instances", "Size")
    with sheet.path.open("w") as file:
        for epoch in range(1, 7):
            file.write("\n" + ("%11s" * 7) % head + "\n")
            form = "{l_bar}{bar:10}{r_bar}{bar:-10b}"
            bar = tqdm(total=30, file=file, bar_format=form, mininterval=0.4, ncols=140)
            for step in loop.epoch(epoch):
                values = (f"{epoch}/6", "0.51G", step.loss, step.loss / 2, 1.01, 31, 640)
                bar.set_description(("%11s" * 2 + "%11.4g" * 5) % values, refresh=False)
                bar.update()
            bar.close()
            _, _, accuracy = loop.validate(0.4)
            file.write(f"{'all':>22}{128:>11}{929:>11}{accuracy / 100:>11.3g}{0.51:>11.3g}\n")
        hours = f"{loop.clock.seconds() / 3600:.4f}"
        file.write(f"\n6 epochs completed in {hours} hours.\n")
    sheet.keep("step_s", truth_of(loop))
    sheet.finish(loop, wall_s=float(hours) * 3600)


@sample
def keras_2() -> None:
    """The bar of Keras 2 in a file, `verbose=1` and `verbose=2`, of one run."""
    loop = Loop(clock=FastClock(), epochs=4, batches=90, batch_size=32, data=0.01, compute=0.2)
    bar = Sheet("bars/keras_2_bar.txt", "keras_progress", rel=0.04)
    lines = Sheet("bars/keras_2_lines.txt", "keras_progress", rel=0.04)
    for epoch in range(1, 5):
        for sheet in (bar, lines):
            sheet.line(f"Epoch {epoch}/4")
        total = 0.0
        for step in loop.epoch(epoch):
            total += step.step_s
            if step.batch % 15 == 0:
                full = 30 * (step.batch + 1) // 90
                left = total / (step.batch + 1) * (89 - step.batch)
                bar.write(
                    f"\r{step.batch + 1:2d}/90 [{'=' * full}>{'.' * (29 - full)}] - ETA:"
                    f" {left:.0f}s - loss: {step.loss:.4f}"
                )
        took, loss, _ = loop.validate(2)
        whole = f"{total + took:.0f}s {1000 * (total + took) / 90:.0f}ms/step"
        bar.keep("step_s", round((total + took) / 90, 3))
        bar.keep("epoch_s", round(total + took))
        tail = f"{whole} - loss: {step.loss:.4f} - val_loss: {loss:.4f}"
        bar.line(f"\r90/90 [{'=' * 30}] - {tail}", record=True)
        lines.line(f"90/90 - {tail}", record=True)
    lines.values = bar.values
    bar.finish(loop)
    lines.finish(loop)


@sample
def rich_console() -> None:
    """Rich's handler for logging and its progress bar on a terminal: colours, cursor moves."""
    path = Path(Sheet("bars/rich_console.txt", "generic").path)
    told = path.with_name("rich_steps.json")

    def run() -> None:
        from rich.logging import RichHandler
        from rich.progress import track

        logging.basicConfig(
            level="INFO", format="%(message)s", handlers=[RichHandler(show_path=False)]
        )
        loop = Loop(epochs=3, batches=60, batch_size=32, data=0.01, compute=0.09)
        values = []
        for epoch in track(range(1, 4), description="Epochs"):
            for step in loop.epoch(epoch):
                if (step.batch + 1) % 10 == 0:
                    values.append(round(step.step_s, 4))
                    logging.info(
                        "Epoch %d step %d loss %.4f time %.4fs", epoch, step.batch + 1, step.loss,
                        step.step_s,
                    )  # fmt: skip
        told.write_text(repr(values))

    captured(run, path)
    values = [float(text) for text in told.read_text().strip("[]").split(",")]
    told.unlink()
    expected = {"format": "generic", "step_s": statistics.median(values), "records": len(values)}
    leave("bars/rich_console.txt", expected | {"rel": 0.05}, {"step_s": values})


@sample
def loguru_and_absl() -> None:
    """Real loguru and absl-py with their own prefixes, in real time."""
    from absl import flags
    from absl import logging as absl
    from loguru import logger

    loop = Loop(epochs=2, batches=60, batch_size=32, data=0.02, compute=0.1)
    a, b = Sheet("generic/loguru.log", "generic"), Sheet("generic/absl.log", "generic")
    logger.remove()
    logger.add(a.path, colorize=False)
    flags.FLAGS(["demo"])
    absl.use_absl_handler()
    absl.set_verbosity(absl.INFO)
    with b.path.open("w") as file:
        absl.get_absl_handler().python_handler.stream = file
        for epoch in range(1, 3):
            for step in loop.epoch(epoch):
                if (step.batch + 1) % 6 == 0:
                    took = a.say("step_s", step.step_s, ".4f")
                    text = f"epoch={epoch} step={step.number + 1} loss={step.loss:.4f}"
                    logger.info(f"{text} step_time={took}s")
                    ms = b.say("step_s", 1000 * step.step_s, ".2f", 1e-3)
                    absl.info("step %d: loss %.4f, %s ms/step", step.number + 1, step.loss, ms)
                    a.records += 1
                    b.records += 1
    a.finish(loop, rel=0.05)
    b.finish(loop, rel=0.05)
