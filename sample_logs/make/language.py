"""Forms of speech, translation and language-model code, as loops of our own."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable

from clock import FastClock, hms
from loop import Average, Loop
from sheet import Sheet, sample


@sample
def nanogpt() -> None:
    """iter 0 is compilation, evaluation is charged to an iteration; mfu is -100 at first."""
    loop = Loop(clock=FastClock(), epochs=1, batches=401, batch_size=8, compute=0.25, first=30.0)
    sheet = Sheet("language/nanogpt.log", "nanogpt")
    sheet.line("tokens per iteration will be: 16,384\nnumber of parameters: 0.10M")
    sheet.line("compiling the model... (takes a ~minute)")
    mfu = -1.0
    for step in loop.epoch(0):
        took = step.step_s
        if step.number % 100 == 0:
            seconds, loss, _ = loop.validate(4.0)
            took += seconds
            sheet.line(f"step {step.number}: train loss {step.loss:.4f}, val loss {loss:.4f}")
            if step.number:
                sheet.line("saving checkpoint to out")
        if step.number % 10 == 0:
            if step.number >= 50:
                mfu = 0.025 / step.step_s if mfu == -1.0 else 0.9 * mfu + 0.0025 / step.step_s
            sheet.line(
                f"iter {step.number}: loss {step.loss:.4f},"
                f" time {sheet.say('step_s', 1000 * took, '.2f', 1e-3)}ms, mfu {mfu * 100:.2f}%",
                record=True,
            )
    sheet.finish(loop)


@sample
def megatron() -> None:
    """Milliseconds per iteration, global batch size in the line."""
    loop = Loop(clock=FastClock(), epochs=1, batches=60, batch_size=1024, compute=120, data=5)
    sheet = Sheet("language/megatron.log", "megatron", rel=0.03)
    sheet.line("using world size: 64, data-parallel-size: 8, tensor-model-parallel size: 8")
    for step in loop.epoch(0):
        done = step.number + 182
        text = sheet.say("step_s", 1000 * step.step_s, ".1f", 1e-3)
        sheet.keep("samples_per_s", 1024 / (float(text) / 1000))
        sheet.line(
            f" iteration {done:8d}/{250000:8d} | consumed samples: {done * 1024:12d}"
            f" | elapsed time per iteration (ms): {text} | learning rate: {step.lr:.3E}"
            f" | global batch size: {1024:5d} | lm loss: {step.loss:.6E} | loss scale: 1.0"
            " | grad norm: 0.227 | number of skipped iterations:   0"
            " | number of nan iterations:   0 |",
            record=True,
        )
        if done % 20 == 0:
            _, loss, _ = loop.validate(300)
            sheet.line("-" * 80)
            sheet.line(f" validation loss at iteration {done} | lm loss value: {loss:.6E} |")
            sheet.line("-" * 80)
    sheet.finish(loop)


@sample
def fairseq() -> None:
    """One run in three forms: the old bars, the new `train_inner` and JSON with strings."""
    loop = Loop(clock=FastClock(), epochs=3, batches=200, batch_size=320, compute=0.45, data=0.02)
    old = Sheet("language/fairseq_old.log", "fairseq_simple", loop.clock)
    new = Sheet("language/fairseq_new.log", "fairseq_simple", loop.clock)
    rows = Sheet("language/fairseq_hydra.log", "fairseq_json", loop.clock)
    sheets = (old, new, rows)
    tokens = 3584 * 10
    for epoch in range(1, loop.epochs + 1):
        time, loss = Average(), Average()
        for step in loop.epoch(epoch):
            time.update(step.step_s)
            loss.update(step.loss)
            if (step.batch + 1) % 20:
                continue
            recent = time.last_mean(20)
            wall = loop.clock.seconds()
            done = step.number + 1
            mean = old.say("tokens_per_s", tokens / time.mean, ".0f")
            old.line(
                f"| epoch {epoch:03d}:   {step.batch + 1:4d} / 200 loss={loss.mean:.3f},"
                f" wps={mean}, ups={1 / time.mean:.1f}, wpb={tokens}, bsz=320,"
                f" num_updates={done}, lr={step.lr:.7f}, gnorm=1.203, clip=0%, oom=0,"
                f" wall={wall:.0f}",
                record=True,
            )
            ups = f"{1 / recent:.2f}"
            new.keep("step_s", 1 / float(ups))
            new.line(
                f"{new.dated()} | INFO | train_inner | epoch {epoch:03d}: {step.batch + 1:6d}"
                f" / 200 loss={loss.last_mean(20):.3f}, ppl={2**loss.now:.2f},"
                f" wps={new.say('tokens_per_s', tokens / recent, '.1f')}, ups={ups},"
                f" wpb={tokens}, bsz=320, num_updates={done}, lr={step.lr:.8f}, gnorm=1.203,"
                f" train_wall={recent * 20:.0f}, gb_free=10.1, wall={wall:.0f}",
                record=True,
            )
            row = {"epoch": epoch, "update": round(epoch - 1 + (step.batch + 1) / 200, 3)}
            row |= {"loss": f"{loss.last_mean(20):.3f}", "ntokens": str(tokens)}
            row |= {"nsentences": "320", "wps": rows.say("tokens_per_s", tokens / recent, ".1f")}
            row |= {"ups": ups, "wpb": str(tokens), "bsz": "320", "num_updates": str(done)}
            row |= {"lr": f"{step.lr:.6g}", "train_wall": f"{recent * 20:.0f}"}
            rows.keep("step_s", 1 / float(ups))
            stamp = rows.dated(fraction=",")
            row["wall"] = f"{wall:.0f}"
            rows.line(f"[{stamp}][train_inner][INFO] - {json.dumps(row)}", record=True)
        _, value, _ = loop.validate(8.0)
        done = (step.number + 1, loop.clock.seconds())
        old.line(
            f"| epoch {epoch:03d} | loss {loss.mean:.3f} | wps {mean} | ups {1 / time.mean:.1f}"
            f" | wpb {tokens} | bsz 320 | num_updates {done[0]} | wall {done[1]:.0f}"
        )
        old.line(
            f"| epoch {epoch:03d} | valid on 'valid' subset | loss {value:.3f} | ppl"
            f" {2**value:.2f} | num_updates {done[0]}"
        )
        new.line(
            f"{new.dated()} | INFO | valid | epoch {epoch:03d} | valid on 'valid' subset"
            f" | loss {value:.3f} | wps 98112 | wpb 2900 | bsz 41.5 | num_updates {done[0]}"
        )
        new.line(
            f"{new.dated()} | INFO | train | epoch {epoch:03d} | loss {loss.mean:.3f}"
            f" | wps {tokens / time.mean:.1f} | ups {1 / time.mean:.2f} | wpb {tokens} | bsz 320"
            f" | num_updates {done[0]} | train_wall {sum(time.values):.0f} | wall {done[1]:.0f}"
        )
        row = {"epoch": epoch, "valid_loss": f"{value:.3f}", "valid_num_updates": str(done[0])}
        rows.line(f"[{rows.dated(fraction=',')}][valid][INFO] - {json.dumps(row)}")
    for sheet in sheets:
        sheet.finish(loop, rel=0.03)


@sample
def opennmt() -> None:
    """Source and target tokens per second; the last column is cumulative seconds."""
    loop = Loop(clock=FastClock(), epochs=1, batches=600, batch_size=64, compute=0.9, data=0.05)
    sheet = Sheet("language/opennmt.log", "opennmt", loop.clock, rel=0.03)
    sheet.line(f"[{sheet.dated(fraction=',')} INFO] Start training loop and validate every 200...")
    time, began = Average(), loop.clock.seconds()
    for step in loop.epoch(0):
        time.update(step.step_s)
        done = step.number + 1
        if done % 25 == 0:
            source = sheet.say("tokens_per_s", 1900 / time.last_mean(25), ".0f")
            total = loop.clock.seconds() - began
            sheet.line(
                f"[{sheet.dated(fraction=',')} INFO] Step {done}/600; acc: {step.accuracy:6.2f};"
                f" ppl: {2.718**step.loss:5.2f}; xent: {step.loss:4.2f}; lr: {step.lr:7.5f};"
                f" {source}/{1700 / time.last_mean(25):.0f} tok/s; {total:6.0f} sec",
                record=True,
            )
            sheet.stamp(done > 200, done)
        if done % 200 == 0:
            _, loss, accuracy = loop.validate(30)
            sheet.line(f"[{sheet.dated(fraction=',')} INFO] Validation perplexity: {loss:.4f}")
            sheet.line(f"[{sheet.dated(fraction=',')} INFO] Validation accuracy: {accuracy:.4f}")
    sheet.finish(loop)


def words(seconds: float) -> str:
    """As humanfriendly says it: 1 minute and 42.6 seconds."""
    minutes, rest = divmod(seconds, 60)
    if not minutes:
        return f"{rest:.2f} seconds"
    return f"{minutes:.0f} minute{'s' * (minutes > 1)} and {rest:.2f} seconds"


@sample
def espnet() -> None:
    """ESPnet2: names with _time, ranges of batches, the epoch's time in words."""
    loop = Loop(clock=FastClock(), epochs=3, batches=200, batch_size=20, compute=0.5, data=0.03)
    sheet = Sheet("language/espnet.log", "espnet2", loop.clock)

    def info(line: int, text: str, record: bool = False) -> None:
        sheet.line(
            f"[demo] {sheet.dated(fraction=',')} (trainer:{line}) INFO: {text}", record=record
        )

    parts = ("data_s", "forward_s", "backward_s", "optimizer_s", "step_s")
    for epoch in range(1, loop.epochs + 1):
        began = loop.clock.seconds()
        info(243, f"{epoch}/{loop.epochs}epoch started")
        meters = {part: Average() for part in parts}
        for step in loop.epoch(epoch):
            for part in parts:
                meters[part].update(getattr(step, part))
            done = step.batch + 1
            if done % 20 == 0:
                said = {p: sheet.say(p, meters[p].last_mean(20), ".3f") for p in parts}
                info(
                    721,
                    f"{epoch}epoch:train:{done - 19}-{done}batch: iter_time={said['data_s']},"
                    f" forward_time={said['forward_s']}, loss={step.loss:.3f},"
                    f" acc={step.accuracy / 100:.3f}, backward_time={said['backward_s']},"
                    f" optim_step_time={said['optimizer_s']}, optim0_lr0={step.lr:.3e},"
                    f" train_time={said['step_s']}",
                    record=True,
                )
        trained = loop.clock.seconds() - began
        took, loss, _ = loop.validate(3)
        sheet.keep("epoch_s", round(trained, 2))
        sheet.keep("validation_s", round(took, 2))
        info(
            337,
            f"{epoch}epoch results: [train] iter_time={meters['data_s'].mean:.3f},"
            f" forward_time={meters['forward_s'].mean:.3f}, loss={step.loss:.3f},"
            f" backward_time={meters['backward_s'].mean:.3f},"
            f" train_time={meters['step_s'].mean:.3f}, time={words(trained)},"
            f" total_count={epoch * 200}, gpu_max_cached_mem_GB=3.12, [valid] loss={loss:.3f},"
            f" time={words(took)}, total_count={epoch * 5}, gpu_max_cached_mem_GB=3.12",
        )
    sheet.finish(loop, rel_optimizer_s=0.05)


def in_ranks(maker: Callable[[int], Sheet], sheets: list[Sheet]) -> None:
    """Run `maker` in one process a rank; the first sheet gets what all of them said."""
    with multiprocessing.get_context("fork").Pool(len(sheets)) as pool:
        done = pool.map(maker, range(len(sheets)), chunksize=1)
    for other in done:
        sheets[0].records += other.records
        for name, values in other.values.items():
            sheets[0].values.setdefault(name, []).extend(values)
    sheets[0].finish(ranks=len(sheets))


def _wenet_rank(rank: int) -> Sheet:
    loop = Loop(
        clock=FastClock(pace=1 / 30), epochs=2, batches=1000, compute=0.5 + 0.05 * rank, seed=rank
    )
    sheet = Sheet("language/wenet.log", "wenet", loop.clock)
    for epoch in range(2):
        for step in loop.epoch(epoch):
            if step.batch % 100 == 0:
                sheet.line(
                    f"{sheet.dated(fraction=',')} DEBUG TRAIN Batch {epoch}/{step.batch}"
                    f" loss {step.loss:.6f} loss_att {step.loss / 2:.6f} lr {step.lr:.8f}"
                    f" rank {rank}",
                    record=True,
                )
                sheet.stamp(epoch, step.batch)
        _, loss, _ = loop.validate(20)
        sheet.line(
            f"{sheet.dated(fraction=',')} DEBUG CV Batch {epoch}/0 loss {loss:.6f}"
            f" history loss {loss:.6f} rank {rank}"
        )
    return sheet.derive()


@sample
def wenet() -> None:
    """Two processes append to one file; only timestamps tell the time; CV is validation."""
    in_ranks(_wenet_rank, [Sheet("language/wenet.log", "wenet") for _ in range(2)])


def _gnmt_rank(rank: int) -> Sheet:
    loop = Loop(
        clock=FastClock(pace=1 / 2), epochs=2, batches=150, compute=0.05, data=0.002, seed=rank
    )
    sheet = Sheet("language/gnmt.log", "gnmt_tok_s", loop.clock)
    for epoch in range(2):
        time, data = Average(), Average()
        for step in loop.epoch(epoch):
            time.update(step.step_s)
            data.update(step.data_s)
            if step.batch % 10 == 0:
                sheet.line(
                    f"{rank}: TRAIN [{epoch}][{step.batch}/150]"
                    f"\tTime {sheet.say('step_s', time.now, '.3f')} ({time.mean:.3f})"
                    f"\tData {sheet.say('data_s', data.now, '.2e')} ({data.mean:.2e})"
                    f"\tTok/s {sheet.say('tokens_per_s', 12000 / time.now, '.0f')}"
                    f" ({12000 / time.mean:.0f})\tLoss/tok {step.loss:.4f} ({step.loss:.4f})"
                    f"\tLR {step.lr:.3e}",
                    record=True,
                )
        took, loss, _ = loop.validate(0.6)
        sheet.line(
            f"{rank}: VALIDATION [{epoch}][0/3]\tTime {took:.3f} ({took:.3f})"
            f"\tTok/s 40012 (40012)\tLoss/tok {loss:.4f} ({loss:.4f})"
        )
    return sheet.derive()


@sample
def gnmt() -> None:
    """Two ranks in one file, each with its own rate."""
    in_ranks(_gnmt_rank, [Sheet("language/gnmt.log", "gnmt_tok_s", rel=0.05) for _ in range(2)])


@sample
def ms_per_batch() -> None:
    """Transformer-XL: milliseconds per batch, mean of the log interval."""
    loop = Loop(clock=FastClock(), epochs=2, batches=300, batch_size=32, compute=0.27, data=0.01)
    sheet = Sheet("language/ms_per_batch.log", "ms_per_batch")
    time = Average()
    for epoch in range(1, 3):
        for step in loop.epoch(epoch):
            time.update(step.step_s)
            if (step.batch + 1) % 20 == 0:
                mean = time.last_mean(20)
                sheet.line(
                    f"| epoch {epoch:3d} step {step.number + 1:8d} | batches {step.batch + 1:6d} /"
                    f" 300 | lr {step.lr:.3e}"
                    f" | ms/batch {sheet.say('step_s', 1000 * mean, '5.1f', 1e-3)}"
                    f" | tok/s {sheet.say('tokens_per_s', 4096 / mean, '7.0f')}"
                    f" | loss {step.loss:5.2f} | ppl {2.718**step.loss:9.2f}",
                    record=True,
                )
        took, loss, _ = loop.validate(9)
        sheet.line("-" * 90)
        sheet.line(
            f"| Eval {epoch:3d} at step {step.number + 1:8d}"
            f" | time: {sheet.say('validation_s', took, '5.2f')}s | valid loss {loss:5.2f}"
            f" | valid ppl {2.718**loss:9.3f}"
        )
        sheet.line("-" * 90)
    sheet.finish(loop)


@sample
def torchtitan() -> None:
    """Rates of one device, with thousands commas, behind a rank prefix."""
    loop = Loop(clock=FastClock(), epochs=1, batches=150, compute=1.05, data=0.05, first=8.0)
    sheet = Sheet("language/torchtitan.log", "torchtitan", loop.clock)
    head = "[rank0]:[titan]"
    sheet.line(f"{head} {sheet.dated(fraction=',')} - root - INFO - Training starts at step 1")
    for step in loop.epoch(0):
        if step.number % 5 == 0 or step.number < 3:
            rate = 8192 / step.step_s
            sheet.line(
                f"{head} {sheet.dated(fraction=',')} - root - INFO - step: {step.number + 1:2d}"
                f"  loss: {step.loss:8.5f}  grad_norm:  0.8319  memory:  9.46GiB(64.99%)"
                f"  tps: {sheet.say('tokens_per_s', rate, ',.0f')}"
                f"  tflops: {rate / 14000:.2f}  mfu: {rate / 43000:.2f}%",
                record=True,
            )
            sheet.stamp(0, step.number + 1)
    sheet.line(f"{head} {sheet.dated(fraction=',')} - root - INFO - Training completed")
    sheet.finish(loop, rel=0.03)


@sample
def torchtune() -> None:
    """Metric log of torchtune: key:value, rate per GPU."""
    loop = Loop(clock=FastClock(), epochs=1, batches=120, batch_size=4, compute=0.8, first=5.0)
    sheet = Sheet("language/torchtune.txt", "torchtune")
    for step in loop.epoch(0):
        rate = 700 / step.step_s
        sheet.keep("tokens_per_s", rate)
        sheet.line(
            f"Step {step.number + 1} | loss:{step.loss} lr:{step.lr}"
            f" tokens_per_second_per_gpu:{rate} ",
            record=True,
        )
    sheet.finish(loop)


@sample
def deepspeed() -> None:
    """The running average is cumulative, Curr is not; in another file the times of micro-steps."""
    loop = Loop(clock=FastClock(), epochs=1, batches=80, batch_size=8, compute=6.0, data=0.2)
    rates = Sheet("language/deepspeed.log", "deepspeed_text", loop.clock)
    times = Sheet("language/deepspeed_time_ms.log", "deepspeed_time_ms", loop.clock)
    time = Average()
    for step in loop.epoch(0):
        time.update(step.step_s)
        done = step.number + 1
        if done < 3:
            continue
        current = rates.say("samples_per_s", 8 / step.step_s, ".6f")
        rates.line(
            f"[{rates.dated(fraction=',')}] [INFO] [timer.py:264:stop] epoch=0/micro_step={done}/"
            f"global_step={done}, RunningAvgSamplesPerSec={8 / time.mean:.6f},"
            f" CurrSamplesPerSec={current}, MemAllocated=1.14GB, MaxMemAllocated=16.35GB",
            record=True,
        )
        backward = times.say("backward_s", 1000 * step.backward_s, ".2f", 1e-3)
        times.line(
            f"[{times.dated(fraction=',')}] [INFO] [logging.py:96:log_dist] [Rank 0] rank=0 time"
            f" (ms) | forward_microstep:"
            f" {times.say('forward_s', 1000 * step.forward_s, '.2f', 1e-3)} | backward_microstep:"
            f" {backward} | backward_inner_microstep: {900 * step.backward_s:.2f}"
            f" | backward_allreduce_microstep: {100 * step.backward_s:.2f} | step_microstep:"
            f" {times.say('optimizer_s', 1000 * step.optimizer_s, '.2f', 1e-3)}",
            record=True,
        )
    rates.finish(loop)
    times.finish(loop)


@sample
def llamafactory() -> None:
    """Cumulative times of one second, with days in the remaining time."""
    loop = Loop(clock=FastClock(), epochs=1, batches=300, batch_size=4, compute=6.4, data=0.1)
    sheet = Sheet("language/trainer_log.jsonl", "llamafactory_jsonl", rel=0.04)
    for step in loop.epoch(0):
        done, elapsed = step.number + 1, loop.clock.seconds()
        if done % 10 == 0:
            row = {"current_steps": done, "total_steps": 9000, "loss": round(step.loss, 4)}
            row |= {"lr": step.lr, "epoch": done / 300, "percentage": round(done / 90, 2)}
            row["elapsed_time"] = hms(elapsed)
            row["remaining_time"] = hms(elapsed / done * (9000 - done))
            sheet.line(json.dumps(row), record=True)
            sheet.stamp(0, done, float(int(elapsed)))
    sheet.finish(loop, wall_s=float(int(elapsed)), rel_wall_s=0.04)


@sample
def llmc() -> None:
    """llm.c: steps, losses and learning rates; no time."""
    loop = Loop(epochs=1, batches=300, compute=0.001, data=0)
    sheet = Sheet("language/llmc_main.log", "llmc_mainlog", timing=False)
    for step in loop.epoch(0):
        if step.number % 100 == 0:
            sheet.line(f"s:{step.number} tel:{loop.validate(0.01)[1]:.4f}")
        number = step.number + 1
        sheet.line(f"s:{number} trl:{step.loss:.4f} lr:{step.lr:.6f} norm:1.20", record=True)
    sheet.finish(loop)


@sample
def tok_s() -> None:
    """Columns between bars with the unit behind the number."""
    loop = Loop(clock=FastClock(), epochs=1, batches=500, compute=0.5, data=0.02)
    sheet = Sheet("language/tok_s.log", "generic_tok_s")
    time = Average()
    for step in loop.epoch(0):
        time.update(step.step_s)
        if step.number % 10 == 0:
            rate = sheet.say("tokens_per_s", 256 / time.last_mean(10), ".0f")
            sheet.line(
                f"step {step.number:5d} | loss {step.loss:.4f} | ppl {2.718**step.loss:.1f}"
                f" | lr {step.lr:.2e} | {rate} tok/s",
                record=True,
            )
    sheet.finish(loop)
