"""Short steps that go on alike are observed as a whole now and then, and it comes to the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_observing import Clock, Samples, Watched
from test_steady import _EVENTS, _Costly, _train
from torch import nn
from torch.utils.data import DataLoader

from perfdoctor.collect.script import light_steps
from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.light_looks import labelled
from perfdoctor.collect.script.light_steps import LightSteps
from perfdoctor.collect.script.stacks import Frame, Sampled
from perfdoctor.collect.script.step_rows import WIDTH, as_rows
from perfdoctor.collect.script.usual_parts import UsualParts

_FIRST, _CYCLE, _OF_CYCLE = 25, 60, 25
#: Steps until the first light stretch, and in it.
_BEFORE, _LIGHT = _FIRST + _OF_CYCLE, _CYCLE - _OF_CYCLE


@pytest.fixture(autouse=True)
def short_cycles() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        _shorten(patch)
        yield


def _shorten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(light_steps, "OBSERVED_FIRST", _FIRST)
    patch.setattr(light_steps, "CYCLE", _CYCLE)
    patch.setattr(light_steps, "OBSERVED_OF_CYCLE", _OF_CYCLE)


def _watched(clock: Clock) -> tuple[Watched, LightSteps]:
    seen = Watched(clock)
    light = LightSteps(seen.observer, seen.patches)

    def on_step(count: int) -> int:
        light.after(count)
        return count + 1

    seen.observer._on_step = on_step
    return seen, light


def _trained(plan: list[str], *, lightly: bool) -> tuple[Watched, LightSteps]:
    clock = Clock()
    torch.manual_seed(0)
    seen, light = _watched(clock)
    if not lightly:
        seen.observer._on_step = lambda count: count + 1
    with seen:
        _train(clock, plan, DataLoader(Samples(clock, count=280), batch_size=4))
    return seen, light


def test_a_steady_training_comes_to_the_same_stages_in_every_step() -> None:
    plan = ["nothing"] * 200
    seen, light = _trained(plan, lightly=True)
    thorough, _ = _trained(plan, lightly=False)
    assert light.steps >= 50
    assert "only the whole and its loading were timed" in light.notes()[0]
    assert not LightSteps(thorough.observer, thorough.patches).notes()
    assert seen.per_step() == thorough.per_step()
    assert seen.totals() == thorough.totals()
    assert seen.samples() == thorough.samples()


@pytest.mark.parametrize("event", ["validate", "save", "peek", "stage", "sum"])
def test_what_has_a_stage_of_its_own_is_seen_in_light_stretches_too(event: str) -> None:
    plan = ["nothing"] * 200
    for at in range(_BEFORE + 20, 200, 17):
        plan[at] = event
    seen, light = _trained(plan, lightly=True)
    thorough, _ = _trained(plan, lightly=False)
    assert light.steps >= 20
    for stage in ("validation", "checkpoint", "mine", "data_loading"):
        assert seen.totals().get(stage) == thorough.totals().get(stage)
    assert sum(seen.totals().values()) == sum(thorough.totals().values())


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.sampled_from(("nothing", *_EVENTS)).flatmap(
            lambda event: st.integers(0, 40).map(lambda quiet: ["nothing"] * quiet + [event])
        ),
        max_size=6,
    )
)
def test_whatever_happens_no_time_is_lost(events: list[list[str]]) -> None:
    plan = ["nothing"] * _BEFORE + [event for part in events for event in part]
    seen, _ = _trained(plan, lightly=True)
    thorough, _ = _trained(plan, lightly=False)
    assert [sum(step.values()) for step in seen.per_step()] == [
        sum(step.values()) for step in thorough.per_step()
    ]
    assert sum(seen.totals().values()) == sum(thorough.totals().values())
    assert seen.totals().get("validation") == thorough.totals().get("validation")
    assert seen.samples() == thorough.samples()
    assert not seen.observer.recorder.stack


def test_a_light_step_asks_nothing_between_its_loading_and_its_end() -> None:
    clock, asked = Clock(), []
    seen, light = _watched(clock)
    with seen:
        model = _Costly(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        patched = vars(nn.Module)["__call__"]
        for x, _ in DataLoader(Samples(clock, count=4 * (_BEFORE + 10)), batch_size=4):
            model(x).sum().backward()
            optimizer.step()
            asked.append(vars(nn.Module)["__call__"] is patched)
    assert asked.count(False) == 11, "the last of those observed, and ten light ones"
    assert light.steps == 0, "counted when the stretch ends"
    assert "_wrapped_call_impl" in repr(vars(nn.Module)["__call__"])


def _light_model(clock: Clock, seen: Watched) -> tuple[Any, Any, Iterator[Any]]:
    """A training that has come into a light stretch."""
    model = _Costly(clock)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batches = iter(DataLoader(Samples(clock, count=4000), batch_size=4))
    for _ in range(_BEFORE + 5):
        model(next(batches)[0]).sum().backward()
        optimizer.step()
    assert seen.observer.light is not None
    return model, optimizer, batches


def test_a_call_without_gradients_ends_a_stretch_and_is_seen() -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        model, optimizer, batches = _light_model(clock, seen)
        vars(model)["training"] = False  # `eval` would tell
        with torch.no_grad():
            model(torch.ones(2, 4))
        assert seen.observer.light is None
        model.train()
        model(next(batches)[0]).sum().backward()
        optimizer.step()
    assert seen.totals()["validation"] == 10
    assert seen.totals()["forward"] == 10 * (_BEFORE + 6)


def test_a_function_that_is_decorated_not_to_record_gradients_ends_a_stretch() -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        model, *_ = _light_model(clock, seen)

        @torch.no_grad()
        def evaluate() -> None:
            model(torch.ones(2, 4))

        evaluate()
        assert seen.observer.light is None


def test_no_gradients_within_torch_or_within_the_model_end_no_stretch() -> None:
    clock = Clock()
    seen, _ = _watched(clock)

    class Frozen(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return x + 1

    frozen = Frozen()
    with seen:
        model, *_ = _light_model(clock, seen)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        frozen(torch.ones(2))
        assert seen.observer.light is not None


def test_a_training_that_keeps_ending_its_stretches_is_observed_throughout() -> None:
    clock = Clock()
    seen, light = _watched(clock)
    lights = 0
    with seen:
        model = _Costly(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for x, _ in DataLoader(Samples(clock, count=4 * 500), batch_size=4):
            model(x).sum().backward()
            optimizer.step()
            lights += seen.observer.light is not None
            with torch.no_grad():
                x.sum()
    assert lights == 3
    assert light.steps == 0


def test_long_steps_are_all_observed() -> None:
    clock = Clock()
    seen, light = _watched(clock)
    with seen:
        model = _Costly(clock)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for x, _ in DataLoader(Samples(clock, count=4 * 200), batch_size=4):
            model(x).sum().backward()
            clock.spend(4_000_000)
            optimizer.step()
            assert seen.observer.light is None
    assert light.steps == 0


def test_nothing_is_taken_out_where_somebody_has_replaced_it() -> None:
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        ours = vars(nn.Module)["__call__"]

        def theirs(self: Any, *args: Any) -> Any:
            return ours(self, *args)

        nn.Module.__call__ = theirs  # type: ignore[method-assign]
        try:
            with pytest.raises(AssertionError):
                _light_model(clock, seen)
        finally:
            nn.Module.__call__ = ours


def test_the_end_of_the_observation_in_a_light_stretch_leaves_torch_as_it_was() -> None:
    before = [vars(c)["__enter__"] for c in (torch.no_grad, torch.inference_mode)]
    call, backward = vars(nn.Module)["__call__"], torch.autograd.backward
    clock = Clock()
    seen, _ = _watched(clock)
    with seen:
        _light_model(clock, seen)
    assert before == [vars(c)["__enter__"] for c in (torch.no_grad, torch.inference_mode)]
    assert (call, backward) == (vars(nn.Module)["__call__"], torch.autograd.backward)


def _row(**spent: int) -> list[int]:
    row = [0] * WIDTH
    for name, value in spent.items():
        row[getattr(r, name)] = value
    return row


def _usual() -> UsualParts:
    usual = UsualParts(range(2, 14))
    for at in range(40):
        usual.note(_row(OTHER=10 + 1000 * (at == 7), FORWARD=30, BACKWARD=60))
    usual.settle()
    return usual


def test_a_slow_step_is_slow_in_all_its_parts() -> None:
    row = _row(OTHER=120)
    row = _usual().divided(as_rows(row))[0].tolist()
    assert row == _row(OTHER=12, FORWARD=36, BACKWARD=72)


def test_what_is_far_beyond_the_usual_is_other() -> None:
    row = _row(OTHER=1000)
    row = _usual().divided(as_rows(row))[0].tolist()
    assert row == _row(OTHER=1000 - 45 - 90, FORWARD=45, BACKWARD=90)


def test_where_steps_vary_a_slower_one_is_still_slow_in_all_its_parts() -> None:
    usual, row = UsualParts(range(2, 14)), _row(OTHER=300)
    for at in range(40):
        usual.note(_row(OTHER=10, FORWARD=30, BACKWARD=60 if at % 10 else 240))
    usual.settle()
    row = usual.divided(as_rows(row))[0].tolist()
    assert row == _row(OTHER=30, FORWARD=90, BACKWARD=180)


def test_what_was_noted_in_a_step_stays() -> None:
    row = _row(OTHER=40, BACKWARD=61)
    row = _usual().divided(as_rows(row))[0].tolist()
    assert row == _row(OTHER=10, FORWARD=30, BACKWARD=61)


_LOOP = Frame("/home/me/train.py", 7, "main", 1)
_CALL = Frame("/home/me/train.py", 9, "main", 1)
_MODEL = Frame("/home/me/model.py", 3, "Net.forward", 2)
_INNER = Frame("/x/site-packages/torch/nn/modules/linear.py", 130, "Linear.forward", 120)
_BASE = Frame("/home/me/train.py", 99, "<module>", 1)


def test_a_look_counts_under_the_label_that_its_place_had() -> None:
    seen = [
        Sampled(r.FORWARD, (_INNER, _CALL, _BASE), 2.0, 20),
        Sampled(r.OTHER, (_LOOP, _BASE), 1.0, 10),
        Sampled(r.LIGHT, (_CALL, _BASE), 3.0, 30),
        Sampled(r.LIGHT, (_MODEL, _BASE), 5.0, 50),
    ]
    assert [one.label for one in labelled(seen)] == [r.FORWARD, r.OTHER, r.FORWARD, r.OTHER]
    assert sum(one.seconds for one in labelled(seen)) == 11.0
