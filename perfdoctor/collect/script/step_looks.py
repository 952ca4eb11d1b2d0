"""Everything that is looked into in the few steps that are noted (`State.noting`).

Each look is an object of its own; this one tells them when a forward, a backward and an update
begin and end, and gathers what they found.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Any

from perfdoctor.collect.script.after_model import AfterModel
from perfdoctor.collect.script.fixed_parts import FixedParts
from perfdoctor.collect.script.graph_reach import GraphReach
from perfdoctor.collect.script.kept_graphs import KeptGraphs
from perfdoctor.collect.script.loaders_seen import LoaderFacts
from perfdoctor.collect.script.looks_of_training import Began, LooksOfTraining
from perfdoctor.collect.script.module_roles import TRAINED, Modules
from perfdoctor.collect.script.one_by_one import OneByOne
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.padded_batches import PaddedBatches
from perfdoctor.collect.script.parametrized import Parametrized
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.repeated_calls import RepeatedCalls
from perfdoctor.collect.script.sample_gradients import SampleGradients
from perfdoctor.collect.script.search_gradients import SearchGradients
from perfdoctor.collect.script.thrown_away import ThrownAway
from perfdoctor.collect.script.unused_part import UnusedPart
from perfdoctor.collect.script.validation_calls import ValidationCalls


class StepLooks:
    """The looks, and what they found.

    Attributes:
        autocast: the precision that autocast gave to the forward; None where it was off.
        now: those of which each training has its own; a script may train one model after another.
    """

    def __init__(self, optimizers: Optimizers, modules: Modules, recorder: Recorder) -> None:
        self._optimizers, self._modules, self._recorder = optimizers, modules, recorder
        self.autocast: str | None = None
        self._after_model = AfterModel()
        self._may_begin = self._same_until = Began(recorder.clock(), 0)
        self.now = LooksOfTraining(recorder, self._may_begin)
        self._before: LooksOfTraining | None = None
        self.kept_graphs = KeptGraphs()
        self.graph_reach = GraphReach()
        self.one_by_one = OneByOne(recorder)
        self.sample_gradients = SampleGradients(recorder)
        self.padded_batches = PaddedBatches()
        self.parametrized = Parametrized(recorder)
        self.search_gradients = SearchGradients(optimizers, recorder)
        self.thrown_away = ThrownAway(optimizers, recorder)
        self.unused_part = UnusedPart(optimizers, modules, recorder)
        self.validation_calls = ValidationCalls(recorder)
        self.repeated = RepeatedCalls()
        self.fixed_parts = FixedParts(optimizers, modules, recorder)

    def another_may_begin(self) -> None:
        """An optimizer is made for something else, after others have made steps."""
        self._may_begin = Began(self._recorder.clock(), self._recorder.count)
        self.fixed_parts.another_begins()

    def another_began(self) -> None:
        """It was another training's: all that made steps before are over."""
        self._begin(self._may_begin, self._may_begin)

    def looked_at_gradients(self, *, another: bool) -> None:
        """Whether much more wants gradients than at the look before, or much less: since when is
        not known."""
        now = Began(self._recorder.clock(), self._recorder.count)
        if another:
            self._begin(self._same_until, now)
        self._same_until = now

    def _begin(self, ended: Began, began: Began) -> None:
        self.now.end(ended)
        self._before = self.longest()
        self.now = LooksOfTraining(self._recorder, began)

    def longest(self) -> LooksOfTraining:
        """Those of the training that takes most of the script."""
        before, now = self._before, self.now
        return now if before is None or now.lasted_ns > before.lasted_ns else before

    @property
    def longest_steps(self) -> tuple[int, int | None] | None:
        """Its steps, see `LooksOfTraining.steps`; None of a script with one training."""
        return None if self._before is None else self.longest().steps

    def forward_begins(self, module: Any, args: Any, kwargs: Any, frame: FrameType) -> None:
        """An outermost module is called in `frame`, with gradients on."""
        import torch

        self.autocast = _autocast_dtype(torch)
        if self._modules.role(module) == TRAINED:
            self.padded_batches.note(self._recorder.count, module, args, kwargs)
            self.parametrized.begins(module)
            self.validation_calls.trains(module, args, kwargs)
        self.unused_part.called(module, frame)
        self.repeated.called(module, frame)
        if self.thrown_away.looks:
            self.thrown_away.calls.begins(module, frame, _next_operation(torch))

    def forward_ends(self, module: Any) -> None:
        """It has returned."""
        import torch

        first = _next_operation(torch)
        self._after_model.forward_ends(module, first)
        _each(self.parametrized.ends, partial(self.thrown_away.calls.ends, first))

    def backward_begins(self, args: Any, kwargs: Any, given: LoaderFacts | None) -> None:
        """`torch.autograd.backward` is called, for a batch that this loader has given."""
        outputs = args[0] if args else kwargs.get("tensors")
        count = self._recorder.count
        if self.now.counts(count):
            self._note_graph(outputs)
        self.one_by_one.in_this_step()
        self.unused_part.looks_into(outputs)
        self.thrown_away.looks_into(outputs)
        if not self._recorder.on_device:
            self.now.loss_part.begins(outputs, self._after_model.first)
        self.kept_graphs.note(count, None if given is None else given.batches, args, kwargs)
        self.graph_reach.note(count, self._recorder.epochs > 0, outputs)
        self.search_gradients.backward_begins()
        self._any_gradients_begin(outputs)

    def gradients_begin(self, args: Any, kwargs: Any, frame: FrameType) -> None:
        """`torch.autograd.grad` is called in `frame`."""
        if self.now.counts(self._recorder.count):
            self._note_graph(args[0] if args else kwargs.get("outputs"))
        self.kept_graphs.note_gradients(args, kwargs)
        self.one_by_one.begins(args, kwargs, frame)
        self.sample_gradients.begins(args, kwargs, frame)
        self.one_by_one.in_this_step()
        self._any_gradients_begin(None)

    def _any_gradients_begin(self, outputs: Any) -> None:
        self.repeated.backward_begins()
        self.thrown_away.begins()
        self.unused_part.begins(outputs)
        self.parametrized.backward_begins()

    def backward_ends(self) -> None:
        """The gradients are there, of either."""
        _each(
            self._after_model.backward_ends,
            self.one_by_one.ends,
            self.sample_gradients.ends,
            self.unused_part.ends,
            self.parametrized.backward_ends,
            self.thrown_away.ends,
            self.now.loss_part.ends,
            self.search_gradients.backward_ends,
        )

    def update_begins(self, optimizer: Any) -> None:
        """An optimizer's step begins."""
        self.now.micro_batches.update_begins()
        if optimizer is not self._optimizers.main():
            return
        self._optimizers.look_at_rates()
        if not self._recorder.on_device:
            self.now.tables.note(optimizer, self._modules.trained)

    def settings(self) -> dict[str, Any]:
        """What is known only at the end, as configuration."""
        found: dict[str, Any] = {}
        others = (
            self.thrown_away,
            self.one_by_one,
            self.sample_gradients,
            self.search_gradients,
            self.parametrized,
            self.fixed_parts,
        )
        for look in (self.longest(), *others):
            found |= look.settings()
        return found

    def measure(self) -> None:
        """What rules would have to guess, on the host, once the training is over."""
        self.longest().measure()

    def _note_graph(self, outputs: Any) -> None:
        """Looks into the graph of a backward pass from these tensors."""
        functions = self.now.note_graph(outputs, self._after_model.first)
        self.padded_batches.note_graph(self._recorder.count, functions)


def _each(*ends: Callable[[], object]) -> None:
    """Calls all, also where one raises: each puts back what it has changed."""
    with ExitStack() as stack:
        for end in reversed(ends):
            stack.callback(end)


def _next_operation(torch: Any) -> int | None:
    """The number that autograd will give to the next operation of this thread; None where this
    torch does not tell."""
    number = getattr(torch._C._autograd, "_get_sequence_nr", None)
    return None if number is None else int(number())


def _autocast_dtype(torch: Any) -> str | None:
    """The precision that autocast gives to what runs now; None where it is off."""
    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device):
            name = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
            return {"bfloat16": "bf16", "float16": "fp16"}.get(name, name)
    return None
