"""Observed scripts for the rules' cases: a Run as `perfdoctor run` makes it, summarised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from bases import STEPS, _noisy

from perfdoctor.ending import Ending
from perfdoctor.pipeline_model import simulate
from perfdoctor.record import (
    Environment,
    Floats,
    Hotspot,
    LoaderRecord,
    Memory,
    Run,
    Source,
    Span,
    StageSeries,
)
from perfdoctor.report import Report, Wall, WallPart
from perfdoctor.summarise import summarise

PARTS_S = {"forward": 0.016, "loss": 0.001, "backward": 0.030, "optimizer": 0.002}
BETWEEN = ("validation", "checkpoint")


def line(
    place: str, function: str, library: str | None, stage: str, share: float, process: str = "main"
) -> Hotspot:
    file, _, number = place.partition(":")
    return Hotspot(
        file=f"/home/me/{file}",
        line=int(number),
        function=function,
        share=share,
        library=library,
        stage=stage,
        process=process,
        samples=200,
    )


def script(
    *,
    batch_s: float | Floats = 0.0005,
    parts_s: Mapping[str, float | Floats] = PARTS_S,
    workers: int | None = 0,
    cores: float = 4,
    cpu_share: float = 1.0,
    collate_share: float = 0.05,
    epoch: int = 50,
    first_s: float = 0.0,
    hotspots: tuple[Hotspot, ...] = (),
    slope: float | None = None,
    **settings: Any,
) -> Report:
    """A script of some epochs; without `workers` (None) it has no DataLoader."""
    made = _noisy(batch_s, 1) if isinstance(batch_s, float) else batch_s
    parts = {
        name: _noisy(value, 2 + i) if isinstance(value, float) else value
        for i, (name, value) in enumerate(parts_s.items())
    }
    parts["other"] = _noisy(0.0004, 90) if "other" not in parts else parts["other"]
    rest_s = np.sum([v for n, v in parts.items() if n not in BETWEEN], axis=0)
    waits = simulate(made, rest_s, workers or 0)
    starts = np.arange(STEPS) % epoch == 0
    waits = np.where(starts, waits + first_s, waits)
    stages = {"data_loading": waits, **parts}
    loader = {"num_workers": workers, "batch_size": 32, "loader_kind": "map"}
    total = {name: float(np.nansum(values)) for name, values in stages.items()}
    spans = [Span(name="start_up", seconds=4.0)]
    spans += [Span(name=name, seconds=value) for name, value in total.items()]
    return summarise(
        Run(
            name="train.py",
            source=Source(kind="run", path="train.py"),
            environment=Environment(device="cpu", cores_usable=cores, memory_bytes=16 * 2**30),
            configuration={
                "threads": int(cores),
                "device": "cpu",
                "anomaly_detection": False,
                "deterministic": False,
                "optimizer": "AdamW",
                "optimizer_home": "torch",
                "tensors": 40,
                "parameters": 400_000,
                "dataset": "Samples",
                "dataset_size": 32 * epoch,
                **(loader if workers is not None else {}),
                **settings,
            },
            step_s=waits + rest_s,
            samples=np.full(STEPS, 32.0),
            stages=tuple(
                StageSeries(name=name, exposed_s=values, between=name in BETWEEN)
                for name, values in stages.items()
            ),
            epoch_start=starts,
            warmup=0,
            steps_per_epoch=epoch,
            loader=None
            if workers is None
            else LoaderRecord(
                batch_s=made,
                collate_s=made * collate_share,
                cpu_s=made * cpu_share,
                first_batch_s=waits[starts],
                iterators=int(starts.sum()),
            ),
            memory=Memory(total_bytes=16 * 2**30, trend_bytes_per_step=slope),
            spans=tuple(spans),
            wall_s=4.0 + sum(total.values()),
            hotspots=hotspots,
        )
    )


def seldom(value_s: float, every: int) -> Floats:
    """Seconds in one step of so many, NaN in the others."""
    values = np.full(STEPS, np.nan)
    values[every - 1 :: every] = value_s
    return values


def fine_script() -> Report:
    """Two workers that keep up; the first batch is slow, and one line of theirs is hot."""
    hot = line("data.py:9", "Clips.__getitem__", "decode", "data_loading", 0.9, "worker")
    batch_s = np.append(2.0, _noisy(0.03, 5)[1:])
    return script(batch_s=batch_s, workers=2, persistent_workers=True, hotspots=(hot,))


def slow_sample() -> Report:
    """No workers; a scaler is called for every sample."""
    hot = line(
        "dataset.py:366", "Rows.__getitem__", "StandardScaler.transform", "data_loading", 0.4
    )
    return script(batch_s=0.080, cores=2, hotspots=(hot,))


def slow_sample_in_validation_too() -> Report:
    """The same scaler makes the batches of validation."""
    hot = [
        line("dataset.py:366", "Rows.__getitem__", "StandardScaler.transform", stage, share)
        for stage, share in (("data_loading", 0.4), ("validation", 0.15))
    ]
    parts_s = {**PARTS_S, "validation": seldom(1.2, 50)}
    return script(batch_s=0.080, cores=2, parts_s=parts_s, hotspots=tuple(hot))


def slow_sample_in_workers() -> Report:
    """The same in one worker, which is always busy."""
    hot = line("data.py:9", "Rows.__getitem__", "loads", "data_loading", 0.7, "worker")
    return script(batch_s=0.150, workers=1, cores=2, hotspots=(hot,))


def slow_collate() -> Report:
    """No workers; half of a batch is putting it together element by element."""
    hot = line("train.py:40", "pad_collate", None, "data_loading", 0.3)
    return script(batch_s=0.060, cores=2, collate_share=0.6, hotspots=(hot,))


def slow_storage() -> Report:
    """No workers on two cores; a batch is 200 ms of waiting."""
    return script(batch_s=0.200, cores=2, cpu_share=0.03)


def generator() -> Report:
    """No DataLoader: a generator makes the batches."""
    hot = line("train.py:21", "batches", None, "data_loading", 0.5)
    return script(batch_s=0.080, workers=None, hotspots=(hot,))


def shards() -> Report:
    """A shard of 1.5 s is opened every 20 batches."""
    batch_s = np.where(np.arange(STEPS) % 20 == 10, 1.5, 0.0005)
    hot = line("stream.py:30", "Shards.__iter__", "np.load", "data_loading", 0.5)
    return script(batch_s=batch_s, epoch=200, hotspots=(hot,), loader_kind="iterable")


def held_up_in_memory() -> Report:
    """Samples in memory and tiny steps; by chance, a batch waits for a core that others have."""
    chance = np.random.default_rng(7).random(STEPS) < 0.06
    batch_s = np.where(chance, 0.005, 0.0001)
    parts_s = {"forward": 0.00002, "loss": 0.00001, "backward": 0.00004, "other": 0.00001}
    return script(batch_s=batch_s, parts_s=parts_s, epoch=50)


def remade_iterators() -> Report:
    """Each step makes an iterator of its own."""
    return script(batch_s=0.002, workers=2, epoch=1, first_s=0.1, dataset_size=6400)


def restarted_workers() -> Report:
    """Epochs of ten steps, each of which begins with half a second for new workers."""
    return script(batch_s=0.03, workers=2, epoch=10, first_s=0.5)


def reporting() -> Report:
    """Metrics in each step, prints, figures and a checkpoint now and then."""
    hotspots = (
        line("train.py:70", "train", "roc_auc_score", "metrics", 0.3),
        line("train.py:80", "train", "print", "logging", 0.1),
        line("train.py:82", "show", "Figure.savefig", "logging", 0.1),
        line("train.py:90", "train", "torch.save", "checkpoint", 0.1),
        line("train.py:95", "evaluate", None, "validation", 0.1),
    )
    parts_s = {
        **PARTS_S,
        "metrics": 0.040,
        "logging": 0.020,
        "checkpoint": seldom(0.100, 5),
        "validation": seldom(1.0, 50),
    }
    return script(parts_s=parts_s, hotspots=hotspots)


def figures_now_and_then() -> Report:
    """Every fifth step draws a figure."""
    hot = line("train.py:82", "show", "Figure.savefig", "logging", 0.4)
    parts_s = {**PARTS_S, "logging": np.where(np.arange(STEPS) % 5 == 4, 0.130, 0.0001)}
    return script(parts_s=parts_s, hotspots=(hot,))


def own_code() -> Report:
    """A loss over pairs, a graph that is built, a loop over parameters and gc.collect()."""
    hotspots = (
        line("loss.py:12", "pair_loss", None, "loss", 0.2),
        line("loss.py:13", "pair_loss", "norm", "loss", 0.1),
        line("graph.py:5", "adjacency", None, "graph_build", 0.15),
        line("train.py:60", "train", None, "other", 0.12),
        line("train.py:61", "train", "gc.collect", "other", 0.08),
    )
    parts_s = {**PARTS_S, "loss": 0.050, "graph_build": 0.025, "other": 0.030}
    return script(parts_s=parts_s, hotspots=hotspots)


def growing() -> Report:
    """The step's own Python takes longer with every step, and memory grows."""
    hot = line("train.py:33", "train", "mean", "other", 0.4)
    parts_s = {**PARTS_S, "other": np.linspace(0.0004, 0.08, STEPS)}
    return script(parts_s=parts_s, hotspots=(hot,), slope=8e6)


def slowed_by_others() -> Report:
    """Another program takes half of the machine in the second half."""
    factor = np.where(np.arange(STEPS) < STEPS // 2, 1.0, 1.8)
    return script(parts_s={name: _noisy(v, 3) * factor for name, v in PARTS_S.items()})


def own_optimizer() -> Report:
    """An AdamW of the script's own updates 160 tensors one by one."""
    hot = line("optim.py:20", "PlainAdamW.step", None, "optimizer", 0.3)
    settings = {"optimizer": "PlainAdamW", "optimizer_home": "optim", "tensors": 160}
    return script(parts_s={**PARTS_S, "optimizer": 0.030}, hotspots=(hot,), **settings)


def unrolled_search() -> Report:
    """An architecture step that copies the model, five times as long as a training step."""
    hot = line("search.py:50", "unrolled", "deepcopy", "arch_step", 0.3)
    return script(parts_s={**PARTS_S, "arch_step": 0.24}, hotspots=(hot,), arch_every=1)


def remade_model() -> Report:
    """An unrolled architecture step that constructs the model it then loads values into."""
    hotspots = (
        line("search.py:50", "Network.new", "Network.__init__", "arch_step", 0.25),
        line("search.py:61", "Architect.unrolled", "Module.load_state_dict", "arch_step", 0.03),
        line("search.py:70", "Architect.step", "grad", "arch_step", 0.2),
    )
    made = replace(hotspots[0], makes="Network", fills=True)
    parts_s = {**PARTS_S, "arch_step": 0.15}
    return script(parts_s=parts_s, hotspots=(made, *hotspots[1:]), arch_every=1)


def one_thread() -> Report:
    """One torch thread on two cores, no workers."""
    return script(cores=2, threads=1)


def slow_now_and_then(*stages: str, **longer_s: float) -> Report:
    """Eight steps without a rhythm take ten times as long, in these stages."""
    factor = np.where(np.isin(np.arange(STEPS), (17, 44, 58, 93, 131, 139, 170, 192)), 10.0, 1.0)
    parts_s = {
        name: _noisy(value, 3) * (factor if name in stages else 1.0)
        for name, value in (PARTS_S | {"other": 0.02} | longer_s).items()
    }
    return script(parts_s=parts_s)


def slow_forward_now_and_then() -> Report:
    """Only the forward pass is slow then."""
    return slow_now_and_then("forward")


def slow_all_over_now_and_then() -> Report:
    """All stages are slow then, each in its proportion."""
    return slow_now_and_then(*PARTS_S, "other")


def slow_all_over_with_a_long_backward() -> Report:
    """The same where most of every step is the backward pass."""
    return slow_now_and_then(*PARTS_S, "other", backward=0.2)


def slow_between_stages_now_and_then() -> Report:
    """What is between the stages is slow then."""
    return slow_now_and_then("other")


def stalls_between_stages() -> Report:
    """Every twentieth step does something for half a second between the stages."""
    hot = line("train.py:33", "train", "update_bn", "other", 0.3)
    other = np.where(np.arange(STEPS) % 20 == 19, 0.5, 0.0004)
    return script(parts_s={**PARTS_S, "other": other}, hotspots=(hot,))


def growing_hooks() -> Report:
    """The forward pass takes longer with every step, in a hook."""
    hot = line("train.py:55", "Report.make_hook.<locals>.hook", "Tensor.std", "forward", 0.5)
    parts_s = {**PARTS_S, "forward": np.linspace(0.016, 0.16, STEPS)}
    return script(parts_s=parts_s, hotspots=(hot,))


_PILED = {
    "hooks_at_first": 6,
    "hooks_at_last": 240,
    "hooks_stages": "forward",
    "hooks_rises": 20,
    "hooks_alike": 40,
    "hooks_function": "hook",
    "hooks_where": "train.py:54",
}


def piled_hooks() -> Report:
    """The same where it was counted that the hooks become more."""
    hot = line("train.py:55", "Report.make_hook.<locals>.hook", "Tensor.std", "forward", 0.5)
    parts_s = {**PARTS_S, "forward": np.linspace(0.016, 0.16, STEPS)}
    return script(parts_s=parts_s, hotspots=(hot,), **_PILED)


def piled_hooks_after_a_rough_start() -> Report:
    """The same where something else held up the first steps."""
    forward = np.linspace(0.016, 0.16, STEPS)
    forward[: STEPS // 12] = 0.1
    return script(parts_s={**PARTS_S, "forward": forward}, **_PILED)


def piled_gradient_hooks() -> Report:
    """Hooks of gradients, which cost less than would be called a fall."""
    parts_s = {**PARTS_S, "backward": np.linspace(0.030, 0.037, STEPS) * _noisy(1.0, 9)}
    return script(parts_s=parts_s, **{**_PILED, "hooks_stages": "backward"})


def piled_hooks_on_slow_machine() -> Report:
    """Hooks become more, and all that is in a step gets longer alike."""
    slower = np.linspace(1.0, 3.0, STEPS)
    parts_s = {**PARTS_S, "other": 0.0004}
    return script(
        batch_s=0.0005 * slower, parts_s={n: s * slower for n, s in parts_s.items()}, **_PILED
    )


def prepares_long() -> Report:
    """A run to its own end of which four tenths of 30 s are start-up, with the script's lines."""
    made = script()
    parts = [("start_up", 0.4), ("forward", 0.3), ("backward", 0.28), ("shut_down", 0.02)]
    hotspots = (
        line("train.py:33", "ShopLog.setup", "DataFrame.__getitem__", "start_up", 0.25),
        line("train.py:35", "ShopLog.setup", "DataFrame.sort_values", "start_up", 0.1),
        line("train.py:90", "main", "Module.to", "start_up", 0.02),
        line("train.py:72", "Net.forward", "Linear.forward", "forward", 0.25),
    )
    return replace(
        made,
        ending=Ending("finished"),
        wall=Wall(
            total_s=30.0,
            parts=tuple(WallPart(name=n, seconds=30.0 * s, share=s, count=1) for n, s in parts),
        ),
        hotspots=hotspots,
    )


def carried_state() -> Report:
    """A state that is carried on through each epoch: the backward pass grows from 6 to 60 ms."""
    hot = line("train.py:44", "train", "Tensor.backward", "backward", 0.5)
    backward = np.linspace(0.006, 0.06, 50)[np.arange(STEPS) % 50] * _noisy(1.0, 9)
    nodes = {"graph_nodes_own": 60, "graph_nodes_grown_per_step": 12.0, "kept_graphs_per_step": 1}
    return script(parts_s={**PARTS_S, "backward": backward}, hotspots=(hot,), **nodes)


def carried_state_of_sequences() -> Report:
    """The same through sequences of seven steps, of which two are short: 6 to 36 ms."""
    longer = [np.linspace(0.006, 0.036, 7)[:n] for n in (7, 7, 6, 7, 7, 4) * STEPS]
    backward = np.concatenate(longer)[:STEPS] * _noisy(1.0, 9)
    nodes = {"graph_nodes_own": 60, "graph_nodes_grown_per_step": 12.0, "graph_steps_back": 7}
    return script(parts_s={**PARTS_S, "backward": backward}, **nodes)


def carried_state_of_the_run() -> Report:
    """The same where the state never begins anew, so that the whole run slows down."""
    backward = np.linspace(0.006, 0.12, STEPS) * _noisy(1.0, 9)
    nodes = {"graph_nodes_own": 60, "graph_nodes_grown_per_step": 12.0, "kept_graphs_per_step": 1}
    return script(parts_s={**PARTS_S, "backward": backward}, slope=2e5, **nodes)


def rising_and_falling() -> Report:
    """A backward pass that gets longer in the first half of each epoch, and shorter again."""
    place = np.arange(STEPS) % 50
    return script(parts_s={**PARTS_S, "backward": 0.006 + 0.002 * np.minimum(place, 50 - place)})


_GENERATES = {
    "validation_seen_s": 1.9,
    "prefix_calls": 30,
    "prefix_first": 1,
    "prefix_last": 30,
    "prefix_of_calls": 0.96,
    "prefix_at": "train.py:88",
    "prefix_in": "generate",
    "prefix_of_validation": 0.9,
    "prefix_left": 0.2,
    "prefix_least": 0.15,
    "alone_calls": 0,
}


def prefixes() -> Report:
    """Two seconds of validation in fifty steps, in which a decoder computes prefixes again."""
    hot = line("train.py:67", "Decoder.forward", "GRU.forward", "validation", 0.2)
    parts_s = {**PARTS_S, "validation": seldom(1.75, 50)}
    return script(parts_s=parts_s, hotspots=(hot,), **_GENERATES)


def one_sample_at_a_time() -> Report:
    """The same where it goes over series, of which a call takes 5 ms."""
    hot = line("train.py:40", "Forecaster.forward", "GRU.forward", "validation", 0.2)
    parts_s = {**PARTS_S, "validation": seldom(1.75, 50)}
    alone = {
        "validation_seen_s": 1.0,
        "prefix_calls": 0,
        "alone_calls": 200,
        "alone_of_calls": 1.0,
        "alone_at": "train.py:64",
        "alone_in": "evaluate",
        "alone_batch": 32,
        "alone_size": 1.0,
        "alone_of_validation": 0.95,
        "alone_s": 0.005,
    }
    return script(parts_s=parts_s, hotspots=(hot,), **alone)


def acts_one_by_one() -> Report:
    """Half of fifty steps in which a policy is asked for one observation after the other."""
    asks = line("ppo.py:79", "Policy.forward", "Sequential.forward", "forward", 0.3)
    draws = line("ppo.py:116", "collect", "Categorical.sample", "forward", 0.1)
    alone = {
        "acts_for_data": True,
        "acting_s": 2.0,
        "alone_calls": 200,
        "alone_of_validation": 0.7,
        "alone_at": "ppo.py:115",
    }
    return script(hotspots=(asks, draws), **alone)


def small_validation_batches() -> Report:
    """The same in 1 600 batches of one, a 60th of the training's; a framework does the rest."""
    hot = line("train.py:89", "Lit.validation_step", "LightningModule.log_dict", "validation", 0.2)
    parts_s = {**PARTS_S, "validation": seldom(1.75, 50)}
    small = {
        "validation_seen_s": 0.3,
        "prefix_calls": 0,
        "alone_calls": 0,
        "validation_call_part": 0.016,
        "validation_batch_size": 1,
        "validation_batches": 1600,
    }
    return script(parts_s=parts_s, hotspots=(hot,), **small)


def whole_outputs_kept() -> Report:
    """Two seconds of validation in fifty steps, most of it transformers' Trainer joining logits."""
    joins = line("transformers/trainer_pt_utils.py:86", "torch_pad_and_concatenate", None, "", 0.2)
    scores = line("train.py:99", "log_softmax", None, "validation", 0.1)
    hotspots = (
        replace(joins, stage="validation", library="transformers", outputs="joined"),
        replace(scores, outputs="scored"),
    )
    parts_s = {**PARTS_S, "validation": seldom(1.75, 50)}
    return script(parts_s=parts_s, hotspots=hotspots)


RUNS: dict[str, Callable[[], Report]] = {
    make.__name__: make
    for make in (
        fine_script,
        slow_sample,
        slow_sample_in_validation_too,
        slow_sample_in_workers,
        slow_collate,
        slow_storage,
        generator,
        shards,
        held_up_in_memory,
        remade_iterators,
        restarted_workers,
        reporting,
        figures_now_and_then,
        own_code,
        growing,
        slowed_by_others,
        own_optimizer,
        unrolled_search,
        remade_model,
        one_thread,
        slow_forward_now_and_then,
        slow_all_over_now_and_then,
        slow_all_over_with_a_long_backward,
        slow_between_stages_now_and_then,
        stalls_between_stages,
        growing_hooks,
        piled_hooks,
        piled_hooks_after_a_rough_start,
        piled_gradient_hooks,
        piled_hooks_on_slow_machine,
        prepares_long,
        carried_state,
        carried_state_of_sequences,
        carried_state_of_the_run,
        rising_and_falling,
        prefixes,
        one_sample_at_a_time,
        acts_one_by_one,
        small_validation_batches,
        whole_outputs_kept,
    )
}
