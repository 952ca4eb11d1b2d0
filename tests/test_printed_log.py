"""What a script printed while it was observed gives its epochs their metrics, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
from builders import make_run

from perfdoctor.collect.script.printed import Printed, PrintedLine
from perfdoctor.ending import Ending
from perfdoctor.printed import with_printed
from perfdoctor.record import EpochSeries, Run
from perfdoctor.report import Economics
from perfdoctor.rules.engine import diagnose
from perfdoctor.settings import Settings
from perfdoctor.summarise import summarise

EPOCHS, STEPS = 12, 8
#: The best is the fourth.
ACCURACIES = [0.5, 0.6, 0.7, 0.8, *(0.79 - 0.01 * i for i in range(EPOCHS - 4))]


@dataclass(frozen=True)
class Lines:
    given: tuple[PrintedLine, ...]
    whole: bool = True

    def lines(self) -> Iterator[PrintedLine]:
        yield from self.given


def after_each(texts: Iterable[str], steps: int = STEPS) -> Printed:
    """Each line after so many steps more, a second later."""
    given = tuple(
        PrintedLine(text, step=(i + 1) * steps, at_s=i + 1.0) for i, text in enumerate(texts)
    )
    return cast(Printed, Lines(given))


def observed(epochs: int = EPOCHS, **overrides: Any) -> Run:
    """A script whose epochs were seen, each of 2 s."""
    begins = np.arange(epochs * STEPS) % STEPS == 0
    run = make_run(steps=epochs * STEPS, epoch_start=begins, steps_per_epoch=STEPS)
    series = EpochSeries(number=np.arange(1.0, epochs + 1), time_s=np.full(epochs, 2.0))
    found: dict[str, Any] = {"epochs": series, "ending": Ending("finished"), **overrides}
    return replace(run, source=replace(run.source, kind="run"), **found)


def told(line: str) -> list[str]:
    return [line.format(epoch=i, acc=f"{acc:.3f}") for i, acc in enumerate(ACCURACIES)]


def economics(run: Run) -> Economics:
    report = summarise(run)
    assert report.epochs is not None
    assert report.epochs.economics is not None
    return report.epochs.economics


@pytest.mark.parametrize(
    ("line", "best"),
    [
        ("epoch {epoch} val_acc {acc}", 3.0),
        ("Epoch [{epoch}/12] val_acc: {acc}", 3.0),
        ("val acc {acc}", 4.0),
    ],
)
def test_metrics_are_of_the_measured_epochs_whose_times_stay(line: str, best: float) -> None:
    run = with_printed(observed(), after_each(told(line)))
    found = economics(run)
    assert (found.metric, found.best, found.best_epoch) == ("val_acc", 0.8, best)
    assert found.after_best_share == pytest.approx(8 / 12)
    assert found.best_told == told(line)[3]
    assert run.epochs is not None
    assert run.epochs.time_s.tolist() == [2.0] * EPOCHS
    assert told(line)[-1] in run.notes[-1]


@pytest.mark.parametrize("others", [1, 2, 3])
def test_what_the_training_prints_under_the_same_name_is_not_counted(others: int) -> None:
    given = []
    for i, acc in enumerate(ACCURACIES):
        lines = [f"epoch {i} [val] acc={acc:.3f}", *[f"epoch {i} [train] acc=0.{60 + i}"] * others]
        step, at_s = (i + 1) * STEPS, i + 1.0
        given += [PrintedLine(text, step=step, at_s=at_s) for text in lines]
    found = economics(with_printed(observed(), cast(Printed, Lines(tuple(given)))))
    assert (found.metric, found.best, found.best_told) == (
        "val_acc",
        0.8,
        "epoch 3 [val] acc=0.800",
    )


def test_a_first_line_without_a_number_does_not_hide_those_of_the_others() -> None:
    lines = [f"epoch {i} val_acc {acc}" for i, acc in enumerate(ACCURACIES)]
    lines[0] = f"val_acc {ACCURACIES[0]}"
    run = with_printed(observed(), after_each(lines))
    assert economics(run).best_epoch == 3.0


@pytest.mark.parametrize("ending", [Ending("interrupted"), Ending("stopped"), None])
def test_the_best_epoch_of_a_part_says_nothing_of_the_whole_training(ending: Ending | None) -> None:
    lines = ["target_accuracy=0.7 val_acc 0.5", *told("epoch {epoch} val_acc {acc}")[1:]]
    run = with_printed(observed(ending=ending), after_each(lines))
    assert economics(run).best == 0.8
    assert not {"PD504", "PD507"} & rules_of(run)


def test_nor_does_that_of_a_training_that_was_watched_for_a_while() -> None:
    run = with_printed(observed(), after_each(told("epoch {epoch} val_acc {acc}")))
    assert "PD504" in rules_of(run)
    run = replace(run, configuration={**run.configuration, "observed_in_part": True})
    assert "PD504" not in rules_of(run)


def rules_of(run: Run) -> set[str]:
    return {one.rule for one in diagnose(summarise(run), Settings()).recommendations}


def test_the_advice_to_stop_quotes_the_line_of_the_best_epoch() -> None:
    run = with_printed(observed(), after_each(told("epoch {epoch} val_acc {acc}")))
    advice = {one.rule: one for one in diagnose(summarise(run), Settings()).recommendations}
    assert advice["PD504"].evidence[-1].where == 'the printed line "epoch 3 val_acc 0.800"'


def test_a_target_that_is_printed_can_be_trained_past() -> None:
    lines = told("epoch {epoch} val_acc {acc}")
    lines[0] = f"Namespace(lr=0.1, target_accuracy=0.7)\n{lines[0]}"
    given = [
        replace(line, text=text)
        for line in after_each(lines).lines()
        for text in line.text.split("\n")
    ]
    run = with_printed(observed(), cast(Printed, Lines(tuple(given))))
    assert (economics(run).target, economics(run).target_epoch) == (0.7, 2)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["no numbers at all, and no validation"],
        ["epoch 1 val_acc 0.5", "epoch 2 val_acc 0.6"],
        # of the training: what it says elsewhere is not known
        told("epoch {epoch} loss {acc}"),
        told("epoch {epoch} train_acc {acc}"),
        [f"epoch {i // 3} val_acc {acc}" for i, acc in enumerate(ACCURACIES)],  # counts otherwise
        ["\0\x1b[31m\udc80 val 1"] * 5,
    ],
)
def test_where_nothing_useful_is_printed_the_run_stays_as_it_is(lines: list[str]) -> None:
    run = observed()
    assert with_printed(run, after_each(lines)) is run


def test_what_is_printed_for_each_batch_judges_no_epoch() -> None:
    run, lines = observed(), [f"acc {i * 7 % 10 / 10}" for i in range(EPOCHS * STEPS)]
    assert with_printed(run, after_each(lines, steps=1)) is run


def test_a_store_that_fails_leaves_the_run_as_it_is() -> None:
    run = observed()
    assert with_printed(run, cast(Printed, object())) is run


def test_too_many_lines_to_read_in_time_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfdoctor.printed._read", lambda lines: pytest.fail("read"))
    run = observed()
    assert with_printed(run, after_each([f"val {i}" for i in range(2000)])) is run


def test_of_many_lines_those_that_judge_are_read() -> None:
    given = list(after_each(told("epoch {epoch} val_acc {acc}")).lines())
    steps = [PrintedLine(f"step {i} took 3 ms", step=i // 50, at_s=1.0) for i in range(4000)]
    lines = sorted([*given, *steps], key=lambda line: line.step)
    run = with_printed(observed(), cast(Printed, Lines(tuple(lines))))
    assert economics(run).best == 0.8


def test_what_is_printed_at_length_before_the_first_step_hides_no_epoch() -> None:
    given = after_each(told("epoch {epoch} val_acc {acc}")).lines()
    files = [PrintedLine(f"test file {i}", step=0, at_s=0.0) for i in range(4000)]
    run = with_printed(observed(), cast(Printed, Lines((*files, *given))))
    assert economics(run).best == 0.8


# -- epochs that were not seen -------------------------------------------------------------------


def test_epochs_that_only_the_lines_tell_of_take_the_time_between_them() -> None:
    run = observed(epochs=1, steps_per_epoch=None)
    run = replace(run, epochs=None, epoch_start=np.zeros(run.step_s.size, dtype=np.bool_))
    found = economics(with_printed(run, after_each(told("epoch {epoch} val_acc {acc}"))))
    assert (found.best_epoch, found.after_best_s) == (3, 8.0)


def test_a_log_that_lost_lines_tells_of_no_further_epochs() -> None:
    run = replace(observed(), epochs=None)
    given = tuple(after_each(told("epoch {epoch} val_acc {acc}")).lines())
    assert with_printed(run, cast(Printed, Lines(given, whole=False))) is run
