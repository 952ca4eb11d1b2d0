"""Real frameworks on the CPU: tiny models, short runs. Each is imported where it is used."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import statistics
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from loop import Loop
from sheet import WORK, leave, sample
from terminal import captured

LOGS = WORK / "logs"
FILES, BATCH, WIDTH = 320, 8, 16


torch.set_num_threads(1)


class Slow(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Samples that take a millisecond each to load, as (x, y) or as a mapping for a model."""

    def __init__(self, length: int = FILES, tokens: bool = False) -> None:
        self.length, self.tokens = length, tokens

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.001)
        if self.tokens:
            ids = torch.arange(32).add(index) % 60
            return {"input_ids": ids, "labels": ids}
        return torch.randn(WIDTH), torch.tensor(index % 2)


class Pace:
    """When steps began and ended, for the truth; waits so that a step takes its time."""

    def __init__(self, wait: float) -> None:
        self.wait = wait
        self.ends: list[float] = []

    def step(self) -> None:
        """A step ends here."""
        time.sleep(self.wait)
        self.ends.append(time.perf_counter())

    def truth(self) -> dict[str, Any]:
        """Seconds between the ends."""
        return {"step_s": [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]}


def found(path: Path, pattern: str) -> list[float]:
    """All numbers that a pattern finds in a file, as printed."""
    text = path.read_text(errors="replace")
    return [float(value) for value in re.findall(pattern, text)]


def median(values: list[float]) -> float:
    """Five digits of it."""
    return float(f"{statistics.median(values):.5g}")


@sample
def mmengine() -> None:
    """MMEngine's Runner: its .log and its vis_data/scalars.json."""
    from mmengine.model import BaseModel
    from mmengine.runner import Runner

    pace = Pace(0.03)

    class Net(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(WIDTH, 2)

        def forward(self, x: Any, y: Any, mode: str) -> Any:
            if mode == "loss":
                pace.step()
                return {"loss": torch.nn.functional.cross_entropy(self.layer(x), y)}
            return self.layer(x), y

    from mmengine.evaluator import BaseMetric

    class Accuracy(BaseMetric):
        def process(self, batch: Any, outputs: Any) -> None:
            self.results.append((outputs[0].argmax(1) == outputs[1]).float().mean().item())

        def compute_metrics(self, results: list[float]) -> dict[str, float]:
            return {"accuracy": 100 * sum(results) / len(results)}

    loader = {"batch_size": BATCH, "num_workers": 0, "sampler": {"type": "DefaultSampler"}}
    loader["collate_fn"] = {"type": "default_collate"}
    work = WORK / "mmengine"
    shutil.rmtree(work, ignore_errors=True)
    Runner(
        model=Net(), work_dir="mmengine", experiment_name="demo",
        train_dataloader={**loader, "dataset": Slow()},
        val_dataloader={**loader, "dataset": Slow(80)},
        train_cfg={"by_epoch": True, "max_epochs": 4}, val_cfg={},
        val_evaluator=[Accuracy()],
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
        default_hooks={"logger": {"type": "LoggerHook", "interval": 10}},
    ).train()  # fmt: skip
    (folder,) = (path for path in work.iterdir() if path.is_dir())
    text, rows = LOGS / "frameworks/mmengine.log", LOGS / "frameworks/scalars.json"
    text.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / f"{folder.name}.log", text)
    shutil.copyfile(folder / "vis_data/scalars.json", rows)
    train = r"Epoch\(train\).* time: ([\d.]+)"
    expected: dict[str, Any] = {"format": "mmengine_text", "step_s": median(found(text, train))}
    expected["data_s"] = median(found(text, r"Epoch\(train\).*data_time: ([\d.]+)"))
    expected["records"] = len(found(text, train))
    leave("frameworks/mmengine.log", expected, pace.truth())
    steps = [row for row in map(json.loads, rows.read_text().splitlines()) if "lr" in row]
    expected = {"format": "mmengine_scalars_json", "records": len(steps)}
    expected["step_s"] = median([row["time"] for row in steps])
    expected["data_s"] = median([row["data_time"] for row in steps])
    leave("frameworks/scalars.json", expected, pace.truth())


def lightning_fit(pace: Pace, epochs: int, **options: Any) -> None:
    """Fit a small LightningModule that logs its own epoch_time."""
    import lightning

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(WIDTH, 2)

        def on_train_epoch_start(self) -> None:
            self.began = time.perf_counter()

        def training_step(self, batch: Any, index: int) -> Any:
            loss = torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
            self.log("train_loss", loss, prog_bar=True)
            pace.step()
            return loss

        def on_train_epoch_end(self) -> None:
            self.log("epoch_time", time.perf_counter() - self.began)

        def validation_step(self, batch: Any, index: int) -> None:
            loss = torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
            self.log("val_loss", loss)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", enable_model_summary=False,
        enable_checkpointing=False, log_every_n_steps=10, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    load = torch.utils.data.DataLoader
    trainer.fit(Net(), load(Slow(), batch_size=BATCH), load(Slow(80), batch_size=BATCH))


@sample
def lightning_csv() -> None:
    """CSVLogger's metrics.csv with an epoch_time that the user logged."""
    from lightning.pytorch.loggers import CSVLogger

    pace = Pace(0.02)
    shutil.rmtree(WORK / "lightning_csv", ignore_errors=True)
    logger = CSVLogger(".", name="lightning_csv", version=0)
    lightning_fit(pace, 6, logger=logger, enable_progress_bar=False)
    target = LOGS / "frameworks/lightning_metrics.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(WORK / "lightning_csv/version_0/metrics.csv", target)
    with target.open() as file:
        times = [float(row["epoch_time"]) for row in csv.DictReader(file) if row["epoch_time"]]
    expected = {"format": "lightning_metrics_csv", "epoch_s": median(times)}
    leave("frameworks/lightning_metrics.csv", expected, pace.truth())


def lightning_bar(name: str, form: str, callback: str) -> None:
    """What a bar of Lightning shows on a terminal."""
    path = LOGS / f"frameworks/{name}"
    told = WORK / f"{name}.truth"

    def run() -> None:
        from lightning.pytorch import callbacks

        pace = Pace(0.04)
        bar = getattr(callbacks, callback)(refresh_rate=4)
        lightning_fit(pace, 4, logger=False, callbacks=[bar])
        told.write_text(json.dumps(pace.truth()))

    captured(run, path, 120)
    truth = json.loads(told.read_text())
    expected = {"format": form, "step_s": median(truth["step_s"]), "rel": 0.1}
    leave(f"frameworks/{name}", expected, truth)


@sample
def lightning_tqdm() -> None:
    """Lightning's tqdm bar with the bar of the validation below it."""
    lightning_bar("lightning_tqdm.txt", "tqdm", "TQDMProgressBar")


@sample
def lightning_rich() -> None:
    """Lightning's Rich bar: colours, cursor moves, it/s."""
    lightning_bar("lightning_rich.txt", "generic", "RichProgressBar")


@sample
def lightning_profilers() -> None:
    """SimpleProfiler's and AdvancedProfiler's reports."""
    from lightning.pytorch import profilers

    for kind, options in (("Simple", {}), ("Advanced", {"line_count_restriction": 6})):
        name = f"{kind.lower()}_profiler"
        pace = Pace(0.02)
        (WORK / f"fit-{name}.txt").unlink(missing_ok=True)  # it would be appended to
        profiler = getattr(profilers, f"{kind}Profiler")(dirpath=".", filename=name, **options)
        lightning_fit(
            pace, 3, logger=False, enable_progress_bar=False, profiler=profiler,
            limit_train_batches=30,
        )  # fmt: skip
        target = LOGS / f"frameworks/lightning_{name}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(WORK / f"fit-{name}.txt", target)
        expected: dict[str, Any] = {"format": f"lightning_{name}"}
        if kind == "Advanced":
            expected["format"] = "lightning_profiler_advanced"
        else:
            row = r"\|\s+run_training_{}\s+\|\s+([\d.]+)"
            expected["step_s"] = median(found(target, row.format("batch")))
            expected["epoch_s"] = median(found(target, row.format("epoch")))
            waits = r"train_dataloader_next\s+\|\s+([\d.]+)"
            expected["data_s"] = median(found(target, waits))
        leave(f"frameworks/lightning_{name}.txt", expected, pace.truth())


@sample
def hf_trainer() -> None:
    """Trainer on a terminal: bar and dicts; its trainer_state.json and all_results.json."""
    path, told = LOGS / "frameworks/hf_console.txt", WORK / "hf.truth"
    shutil.rmtree(WORK / "hf", ignore_errors=True)

    def run() -> None:
        from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
        from transformers.trainer_callback import TrainerCallback

        pace = Pace(0.05)

        class Timer(TrainerCallback):
            def on_step_end(self, *arguments: Any, **options: Any) -> None:
                pace.step()

        config = GPT2Config(
            vocab_size=64, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=1,
            eos_token_id=2, loss_type="ForCausalLM",
        )  # fmt: skip
        options = {
            "output_dir": "hf", "per_device_train_batch_size": BATCH, "logging_steps": 10,
            "save_strategy": "no", "report_to": "none", "use_cpu": True,
            "dataloader_pin_memory": False,
        }  # fmt: skip
        data = {"train_dataset": Slow(tokens=True), "eval_dataset": Slow(24, tokens=True)}
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stderr(nowhere),
            redirect_stdout(nowhere),
        ):
            arguments = TrainingArguments(max_steps=2, **options)
            Trainer(model=GPT2LMHeadModel(config), args=arguments, **data).train()
        arguments = TrainingArguments(num_train_epochs=3, eval_strategy="epoch", **options)
        trainer = Trainer(
            model=GPT2LMHeadModel(config), args=arguments, callbacks=[Timer()], **data
        )
        result = trainer.train()
        trainer.save_metrics("all", {**result.metrics, "train_samples": FILES})
        trainer.save_state()
        told.write_text(json.dumps(pace.truth()))

    captured(run, path, 100)
    truth = json.loads(told.read_text())
    for name in ("trainer_state.json", "all_results.json"):
        shutil.copyfile(WORK / "hf" / name, LOGS / "frameworks" / name)
    result = json.loads((WORK / "hf/all_results.json").read_text())
    expected = {
        "step_s": 1 / result["train_steps_per_second"],
        "samples_per_s": result["train_samples_per_second"],
        "wall_s": result["train_runtime"],
    }
    expected = {key: float(f"{value:.5g}") for key, value in expected.items()}
    state = json.loads((WORK / "hf/trainer_state.json").read_text())["log_history"]
    records = {"records": sum("loss" in row for row in state)}
    validation = {"validation_s": median([r["eval_runtime"] for r in state if "eval_runtime" in r])}
    leave(
        "frameworks/hf_console.txt",
        {"format": "hf_console", **expected, **records, **validation, "rel": 0.15},
        truth,
    )
    leave(
        "frameworks/trainer_state.json",
        {"format": "hf_trainer_state", **expected, **records, **validation},
        truth,
    )
    leave("frameworks/all_results.json", {"format": "hf_all_results_json", **expected}, truth)


@sample
def accelerate() -> None:
    """A loop under accelerate with plain logging; the logger says no time but its own."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    loader = torch.utils.data.DataLoader(Slow(), batch_size=BATCH)
    model = torch.nn.Linear(WIDTH, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    path = LOGS / "frameworks/accelerate.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    form = "%(asctime)s - %(levelname)s - %(name)s - %(message)s"
    logging.basicConfig(filename=path, level="INFO", format=form, datefmt="%m/%d/%Y %H:%M:%S")
    logger = logging.getLogger("train")
    logger.info("***** Running training *****")
    logger.info(f"  Num examples = {FILES}")
    logger.info(f"  Instantaneous batch size per device = {BATCH}")
    values, rates = [], []
    pace, before = Pace(0.06), time.perf_counter()
    for epoch in range(3):
        for index, (x, y) in enumerate(loader):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            pace.step()
            if (index + 1) % 5 == 0:
                took = (time.perf_counter() - before) / 5
                before = time.perf_counter()
                values.append(round(took, 4))
                rates.append(round(BATCH / took, 2))
                logger.info(
                    f"epoch {epoch} step {index + 1}: loss {loss.item():.4f},"
                    f" {took:.4f} s/step, {BATCH / took:.2f} samples/s"
                )
    expected = {"format": "generic", "step_s": median(values), "samples_per_s": median(rates)}
    leave("frameworks/accelerate.log", {**expected, "records": len(values)}, pace.truth())


@sample
def keras() -> None:
    """Keras 3 on torch: the bar on a terminal, verbose=2 and CSVLogger."""
    folder = LOGS / "frameworks"
    folder.mkdir(parents=True, exist_ok=True)

    def fit(verbose: int) -> None:
        os.environ["KERAS_BACKEND"] = "torch"
        import keras
        import numpy as np

        class Wait(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                time.sleep(0.04)

        model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
        x = np.random.default_rng(0).normal(size=(FILES, WIDTH)).astype("float32")
        callbacks: list[Any] = [Wait()]
        if verbose == 1:
            callbacks.append(keras.callbacks.CSVLogger(str(folder / "keras_training.log")))
        model.fit(
            x, x[:, :1], batch_size=BATCH, epochs=4, verbose=verbose, callbacks=callbacks,
            validation_split=0.2,
        )  # fmt: skip

    captured(lambda: fit(1), folder / "keras_bar.txt", 100)
    captured(lambda: fit(2), folder / "keras_lines.txt", 100)
    ends = (
        ("keras_bar.txt", r"32/32\x1b[^\r\n]*m(\d+)s\x1b\[0m (\d+)ms/step[^\r\n]*val_loss"),
        ("keras_lines.txt", r"32/32 - (\d+)s - (\d+)ms/step"),
    )
    for name, pattern in ends:
        pairs = re.findall(pattern, (folder / name).read_bytes().decode())
        assert len(pairs) == 4, (name, pairs)
        steps = [float(ms) / 1000 for _, ms in pairs]
        expected = {"format": "keras_progress", "step_s": median(steps), "rel": 0.05}
        expected["epoch_s"] = median([float(s) for s, _ in pairs])
        leave(f"frameworks/{name}", {**expected, "rel_epoch_s": 0.4}, {})
    expected = {"format": "keras_csvlogger", "timing": False, "records": 4}
    leave("frameworks/keras_training.log", expected, {})


@sample
def stable_baselines() -> None:
    """PPO on CartPole: progress.csv, whose rate is a cumulative average."""
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import configure

    torch.set_num_threads(1)

    class Slower(gymnasium.Wrapper):  # type: ignore[type-arg]
        def step(self, action: Any) -> Any:
            time.sleep(0.003)
            return self.env.step(action)

    environment = Slower(gymnasium.make("CartPole-v1"))
    model = PPO("MlpPolicy", environment, n_steps=256, n_epochs=2, device="cpu")
    model.set_logger(configure("sb3", ["csv"]))
    began = time.perf_counter()
    model.learn(5_000)
    target = LOGS / "frameworks/progress.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(WORK / "sb3/progress.csv", target)
    with target.open() as file:
        rows = list(csv.DictReader(file))
    expected: dict[str, Any] = {"format": "sb3_progress_csv", "records": len(rows), "rel": 0.25}
    expected["samples_per_s"] = median([float(row["time/fps"]) for row in rows])
    leave("frameworks/progress.csv", expected, {"wall_s": time.perf_counter() - began})


@sample
def tensorboard() -> None:
    """An event file with step and data times, a rate, and a validation loss each 50 steps."""
    from torch.utils.tensorboard import SummaryWriter

    loop = Loop(epochs=1, batches=240, batch_size=32, data=0.005, compute=0.05)
    shutil.rmtree(WORK / "tb", ignore_errors=True)
    writer = SummaryWriter("tb")
    for step in loop.epoch(0):
        writer.add_scalar("train/loss", step.loss, step.number)
        writer.add_scalar("time/step", step.step_s, step.number)
        writer.add_scalar("time/data", step.data_s, step.number)
        writer.add_scalar("throughput/samples_per_s", 32 / step.step_s, step.number)
        if (step.number + 1) % 50 == 0:
            writer.add_scalar("val/loss", loop.validate(0.2)[1], step.number)
    writer.close()
    (made,) = (WORK / "tb").iterdir()
    name = "frameworks/events.out.tfevents.1709542800.demo.1.0"
    (LOGS / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, LOGS / name)
    steps = loop.truth["steps"]
    expected = {"format": "tensorboard_events", "records": 240}
    expected["step_s"] = median([step["step_s"] for step in steps])
    expected["data_s"] = median([step["data_s"] for step in steps])
    expected["samples_per_s"] = median([32 / step["step_s"] for step in steps])
    leave(name, expected, loop.truth)


@sample
def tensorboard_plain() -> None:
    """An event file with losses only: wall_time tells how long a step took."""
    from torch.utils.tensorboard import SummaryWriter

    loop = Loop(epochs=1, batches=200, data=0.005, compute=0.05)
    shutil.rmtree(WORK / "tb2", ignore_errors=True)
    writer = SummaryWriter("tb2")
    for step in loop.epoch(0):
        if step.number % 5 == 0:
            writer.add_scalar("loss", step.loss, step.number)
    writer.close()
    (made,) = (WORK / "tb2").iterdir()
    name = "frameworks/loss_only/events.out.tfevents.1709542801.demo.1.0"
    (LOGS / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, LOGS / name)
    expected = {"format": "tensorboard_events", "rel": 0.05}
    expected["step_s"] = median([step["step_s"] for step in loop.truth["steps"]])
    leave(name, expected, loop.truth)
