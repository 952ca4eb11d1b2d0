"""Logs in Chinese: the words that the guides and users there write."""

from __future__ import annotations

from clock import FastClock, hms
from generic import each
from loop import Loop, Step
from sheet import Sheet, sample


@sample
def chinese_steps() -> None:
    """Steps with 耗时, 吞吐量 in 样本/秒 and 预计剩余; the same in UTF-8 and GBK."""
    loop = Loop(clock=FastClock(), epochs=3, batches=120, batch_size=64, compute=0.3, data=0.05)
    sheet = Sheet("chinese/steps.log", "generic", loop.clock)
    sheet.line(f"{sheet.dated()} [信息] 开始训练，批大小：64，学习率：0.005")

    def line(step: Step, mean: float, data: float) -> str:
        left = mean * (360 - step.number)
        return (
            f"{sheet.dated()} [信息] 第{step.epoch}轮 步 {step.batch + 1}/120 损失：{step.loss:.4f}"
            f" 耗时：{sheet.say('step_s', mean, '.3f')}秒"
            f" 数据加载耗时：{sheet.say('data_s', data, '.3f')}秒"
            f" 吞吐量：{sheet.say('samples_per_s', 64 / mean, '.1f')} 样本/秒 预计剩余：{hms(left)}"
        )

    def end(step: Step, total: float, data: float) -> str:
        took, loss, accuracy = loop.validate(5)
        return (
            f"{sheet.dated()} [信息] 第{step.epoch}轮完成，训练用时 {total:.1f} 秒，验证耗时"
            f" {sheet.say('validation_s', took, '.1f')} 秒，验证损失 {loss:.4f}，"
            f"准确率 {accuracy:.2f}%"
        )

    each(sheet, loop, 10, line, end)
    sheet.finish(loop)
    other = Sheet("chinese/steps_gbk.log", "generic", loop.clock)
    other.path.write_bytes(sheet.path.read_text().encode("gbk"))
    other.values, other._dates, other.records = sheet.values, sheet._dates, sheet.records
    other.finish(loop)


@sample
def chinese_milliseconds() -> None:
    """毫秒, bars between, 迭代."""
    loop = Loop(clock=FastClock(), epochs=1, batches=300, batch_size=32, compute=0.15, data=0.02)
    sheet = Sheet("chinese/milliseconds.log", "generic")

    def line(step: Step, mean: float, data: float) -> str:
        return (
            f"迭代 {step.number + 1} | 损失 {step.loss:.4f}"
            f" | 单步耗时 {sheet.say('step_s', 1000 * mean, '.1f', 1e-3)} 毫秒"
            f" | 速度 {sheet.say('samples_per_s', 32 / mean, '.1f')} 样本/秒"
        )

    each(sheet, loop, 10, line)
    sheet.finish(loop)


@sample
def chinese_epochs() -> None:
    """轮次 with 分 and 秒, one line an epoch."""
    loop = Loop(clock=FastClock(), epochs=8, batches=60, batch_size=32, compute=1.6, data=0.1)
    sheet = Sheet("chinese/epochs.log", "generic")

    def end(step: Step, total: float, data: float) -> str:
        minutes, seconds = divmod(int(total), 60)
        sheet.keep("epoch_s", float(int(total)))
        sheet.records += 1
        return f"轮次 {step.epoch}/8：损失={step.loss:.4f}，本轮耗时 {minutes}分{seconds}秒"

    each(sheet, loop, 1000, lambda step, mean, data: "", end)
    sheet.finish(loop)


@sample
def chinese_timestamps() -> None:
    """Only timestamps, with 年月日."""
    loop = Loop(clock=FastClock(), epochs=2, batches=200, compute=1.5, data=0.1)
    sheet = Sheet("chinese/timestamps.log", "generic", loop.clock, rel=0.03)

    def line(step: Step, mean: float, data: float) -> str:
        stamp = sheet.dated("%Y年%m月%d日 %H:%M:%S")
        sheet.stamp(step.epoch, step.batch)
        return f"{stamp} 训练 轮={step.epoch} 步={step.batch + 1} 损失={step.loss:.4f}"

    each(sheet, loop, 20, line)
    sheet.finish(loop)
