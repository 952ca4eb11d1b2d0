"""Short steps that are alike are not all looked into, and come to the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_observing import Clock, Samples, Watched
from torch import nn
from torch.utils.data import DataLoader

import perfdoctor
from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script import steps, usual_step
from perfdoctor.collect.script.skimming import SHORT_NS, Skimming

STEPS = 340
EPOCH = 200
Event = Callable[["Training"], None]


class Training:
    """A loop with a loader whose steps take `unit` × 60 ns; `events` happen after some of them."""

    def __init__(self, clock: Clock, unit: int = 1000) -> None:
        self.clock, self.unit = clock, unit
        self.model = nn.Linear(4, 4)
        self.model.register_forward_pre_hook(lambda *_: clock.spend(10 * unit))
        self.optimizer: Any = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.optimizer.register_step_pre_hook(lambda *_: clock.spend(4 * unit))
        self.loader = DataLoader(Samples(clock, 4 * EPOCH, cost=3 * unit), batch_size=4)
        self.other = DataLoader(Samples(clock, 8, cost=unit), batch_size=4)

    def step(self, x: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        out = self.model(x)
        out.register_hook(lambda grad: self.clock.spend(20 * self.unit))
        self.clock.spend(2 * self.unit)
        loss = out.square().mean()
        loss.backward()
        self.optimizer.step()
        self.clock.spend(5 * self.unit)

    def run(self, events: Mapping[int, Event], steps: int = STEPS) -> None:
        done = 0
        while done < steps:
            self.batches = iter(self.loader)
            for x, _ in self.batches:
                self.step(x)
                done += 1
                events.get(done, lambda training: None)(self)
                if done == steps:
                    return


def _validate(training: Training) -> None:
    training.model.eval()
    with torch.no_grad():
        for x, _ in training.other:
            training.model(x)
    training.model.train()


def _validate_by_hand(training: Training) -> None:
    training.model.eval()
    with torch.no_grad():
        training.model(torch.ones(4, 4))
    training.model.train()


def _save(training: Training) -> None:
    training.clock.spend(training.unit)
    torch.save({}, "/dev/null")


def _stage(training: Training) -> None:
    with perfdoctor.stage("mine"):
        training.clock.spend(77 * training.unit)


def _another_loader(training: Training) -> None:
    for x, _ in training.other:
        training.step(x)


def _names_gradients(training: Training) -> None:
    loss = training.model(torch.ones(2, 4)).sum()
    torch.autograd.grad(loss, [training.model.weight])


def _new_optimizer(training: Training) -> None:
    training.optimizer = torch.optim.SGD(training.model.parameters(), lr=1e-3)


def _fail(training: Training) -> None:
    with pytest.raises(RuntimeError):
        training.model(torch.ones(2, 3))


EVENTS = (
    _validate,
    _validate_by_hand,
    _save,
    _stage,
    _another_loader,
    _names_gradients,
    _new_optimizer,
    _fail,
)


def _seen(events: Mapping[int, Event], *, skims: bool, unit: int = 1000) -> Watched:
    clock = Clock()
    torch.manual_seed(0)
    with Watched(clock, skims=skims) as seen:
        seen.state.noting = False  # as in nearly all steps
        Training(clock, unit).run(events)
    assert not seen.observer.recorder.stack
    return seen


def test_most_short_steps_are_timed_as_a_whole_and_come_to_the_same() -> None:
    skimmed, watched = _seen({}, skims=True), _seen({}, skims=False)
    assert skimmed.observer.recorder.usual.steps > 0.75 * (STEPS - 100)
    assert watched.observer.recorder.usual.steps == 0
    assert skimmed.samples() == watched.samples()
    assert skimmed.steps == watched.steps == STEPS
    for one, other in zip(skimmed.per_step(), watched.per_step(), strict=True):
        assert sum(one.values()) == sum(other.values())
        assert one == pytest.approx(other, rel=0.01, abs=10)
    assert skimmed.totals()["data_loading"] == watched.totals()["data_loading"]


def test_it_is_said_how_many_there_were() -> None:
    seen = _seen({}, skims=True)
    (note,) = seen.observer.skimming.notes()
    assert note.startswith(f"{seen.observer.recorder.usual.steps:,} of {STEPS:,} steps,")
    assert _seen({}, skims=False).observer.skimming.notes() == ()


def test_batches_without_any_step_do_not_pile_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(steps, "_MOST_NOTED", 3 * 30)

    def only_loads(training: Training) -> None:
        for number, _ in enumerate(training.batches):
            assert len(seen.observer.recorder.skimmed.batches) <= 3 * 31
            if number == 80:
                return

    clock = Clock()
    with Watched(clock, skims=True) as seen:
        Training(clock).run({105: only_loads}, steps=110)
    assert seen.samples()[105] == 4 * 82


def test_steps_that_are_long_are_all_watched() -> None:
    unit = SHORT_NS // 40
    assert _seen({}, skims=True, unit=unit).observer.recorder.usual.steps == 0


@settings(max_examples=12, deadline=None)
@given(st.dictionaries(st.integers(1, STEPS), st.sampled_from(EVENTS), max_size=6))
def test_what_is_unusual_is_seen_in_skimmed_steps_too(events: dict[int, Event]) -> None:
    skimmed, watched = _seen(events, skims=True), _seen(events, skims=False)
    assert skimmed.steps == watched.steps
    assert skimmed.samples() == watched.samples()
    ours, theirs = skimmed.totals(), watched.totals()
    assert sum(ours.values()) == sum(theirs.values())
    for stage in ("data_loading", "validation", "checkpoint", "mine", "start_up"):
        assert ours.get(stage) == theirs.get(stage), stage
    assert ours == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize("event", EVENTS)
def test_each_of_it_ends_the_skimming(event: Event) -> None:
    on: list[tuple[bool, bool]] = []

    def happens(training: Training) -> None:
        before = seen.observer.skimming.on
        event(training)
        if event in (_new_optimizer, _fail):  # only a step tells
            training.step(torch.ones(2, 4))
        on.append((before, seen.observer.skimming.on))

    clock = Clock()
    with Watched(clock, skims=True) as seen:
        Training(clock).run({150: happens}, steps=200)
    expected = event is _fail  # one call that failed: nothing has changed
    assert on == [(True, expected)]


def test_time_that_is_not_usual_is_of_no_stage_and_much_of_it_ends_the_skimming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stall(training: Training) -> None:
        training.clock.spend(1000 * training.unit)

    stalls = dict.fromkeys(range(5, STEPS, 7), stall)
    forgiven = _seen(stalls, skims=True)
    watched = _seen(stalls, skims=False)
    assert forgiven.observer.recorder.usual.steps > 150
    assert forgiven.totals()["other"] == pytest.approx(watched.totals()["other"], rel=0.02)
    monkeypatch.setattr(usual_step, "_GRACE_NS", 3_000_000)
    assert _seen(stalls, skims=True).observer.recorder.usual.steps <= 100


def test_what_the_loader_itself_does_may_end_the_skimming() -> None:
    class Saving(Samples):
        def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
            if i == 4 * 120:
                torch.save({}, "/dev/null")
                self.clock.spend(7)
            return super().__getitem__(i)

    def train(skims: bool) -> Watched:
        clock = Clock()
        with Watched(clock, skims=skims) as seen:
            training = Training(clock)
            training.loader = DataLoader(Saving(clock, 4 * EPOCH, cost=3000), batch_size=4)
            training.run({}, steps=EPOCH - 20)
            assert seen.state.inside == seen.observer.skimming.on == skims
        return seen

    skimmed, watched = train(True), train(False)
    rest_of_the_batch = 4 * 3000
    assert skimmed.totals() == pytest.approx(watched.totals(), abs=1.1 * rest_of_the_batch)


def test_a_step_that_is_asked_for_at_once_is_not_skimmed() -> None:
    asked: list[int] = []
    clock = Clock()
    with Watched(clock, skims=True) as seen:
        seen.observer._on_step = lambda count: asked.append(count) or 10_000  # type: ignore[func-returns-value]
        Training(clock).run({150: lambda training: seen.observer.ask_at_once()}, steps=200)
    assert asked == [1, 151]


def test_batches_of_skimmed_steps_count_as_trained_with() -> None:
    seen = _seen({}, skims=True)
    facts = seen.observer.loaders.main(STEPS)
    assert facts is not None
    assert facts.training == pytest.approx(facts.batches, abs=100)


def test_the_user_s_own_stage_may_be_called_like_ours() -> None:
    recorder = r.Recorder(Clock())
    assert recorder.label("skimmed") != r.SKIMMED


def test_it_is_never_on_where_it_is_not_allowed() -> None:
    skimming = Skimming(r.Recorder(Clock()))
    assert skimming.due(10_000, None, None) == 10_000
    assert not skimming.on
