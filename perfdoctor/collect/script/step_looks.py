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
from perfdoctor.collect.script.arithmetic import Arithmetic
from perfdoctor.collect.script.dense_tables import DenseTables
from perfdoctor.collect.script.fixed_parts import FixedParts
from perfdoctor.collect.script.graph_reach import GraphReach
from perfdoctor.collect.script.kept_graphs import KeptGraphs
from perfdoctor.collect.script.late_heads import LateHeads
from perfdoctor.collect.script.loaders_seen import LoaderFacts
from perfdoctor.collect.script.loss_part import LossPart
from perfdoctor.collect.script.micro_batches import MicroBatches
from perfdoctor.collect.script.module_roles import TRAINED, Modules
from perfdoctor.collect.script.more_threads import MoreThreads
from perfdoctor.collect.script.one_by_one import OneByOne
from perfdoctor.collect.script.optimizers import Optimizers
from perfdoctor.collect.script.padded_batches import PaddedBatches
from perfdoctor.collect.script.padded_transforms import PaddedTransforms
from perfdoctor.collect.script.parametrized import Parametrized
from perfdoctor.collect.script.pieces import LayersOnPieces
from perfdoctor.collect.script.plain_attention import PlainAttention
from perfdoctor.collect.script.recorder import Recorder
from perfdoctor.collect.script.repeated_calls import RepeatedCalls
from perfdoctor.collect.script.sample_gradients import SampleGradients
from perfdoctor.collect.script.search_gradients import SearchGradients
from perfdoctor.collect.script.stepped_layers import SteppedLayers
from perfdoctor.collect.script.thrown_away import ThrownAway
from perfdoctor.collect.script.unused_part import UnusedPart
from perfdoctor.collect.script.unused_rows import UnusedRows
from perfdoctor.collect.script.validation_calls import ValidationCalls
from perfdoctor.collect.script.zeroed_branches import ZeroedBranches

#: The step whose operations are counted, once.
_COUNTED_STEP = 2
#: So many operations are counted at most, about 20 ms.
_MOST_NODES = 20_000


class StepLooks:
    """The looks, and what they found.

    Attributes:
        autocast: the precision that autocast gave to the forward; None where it was off.
        autograd_nodes, loss_nodes: operations that the backward passes of one step go through, and
            those of its loss among them; None where they were not counted.
        recomputes: whether parts of the forward are run again in the backward.
    """

    def __init__(self, optimizers: Optimizers, modules: Modules, recorder: Recorder) -> None:
        self._optimizers, self._modules, self._recorder = optimizers, modules, recorder
        self.autocast: str | None = None
        self.autograd_nodes: int | None = None
        self.loss_nodes: int | None = None
        self.recomputes = False
        self._after_model = AfterModel()
        self.loss_part = LossPart(recorder.clock)
        self.kept_graphs = KeptGraphs()
        self.graph_reach = GraphReach()
        self.one_by_one = OneByOne(recorder)
        self.sample_gradients = SampleGradients(recorder)
        self.padded_batches = PaddedBatches()
        self.arithmetic = Arithmetic()
        self.tables = DenseTables()
        self.late_heads = LateHeads()
        self.attention = PlainAttention()
        self.stepped = SteppedLayers()
        self.pieces = LayersOnPieces()
        self.micro_batches = MicroBatches()
        self.threads = MoreThreads()
        self.zeroed = ZeroedBranches()
        self.unused_rows = UnusedRows()
        self.transforms = PaddedTransforms()
        self._timed = (
            self.transforms,
            self.late_heads,
            self.attention,
            self.stepped,
            self.pieces,
            self.micro_batches,
            self.threads,
            self.zeroed,
            self.unused_rows,
        )
        self.parametrized = Parametrized(recorder)
        self.search_gradients = SearchGradients(optimizers, recorder)
        self.thrown_away = ThrownAway(optimizers, recorder)
        self.unused_part = UnusedPart(optimizers, modules, recorder)
        self.validation_calls = ValidationCalls(recorder)
        self.repeated = RepeatedCalls()
        self.fixed_parts = FixedParts(optimizers, modules, recorder)

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
        if count == _COUNTED_STEP:
            self._note_graph(outputs)
        self.one_by_one.in_this_step()
        self.unused_part.looks_into(outputs)
        self.thrown_away.looks_into(outputs)
        if not self._recorder.on_device:
            self.loss_part.begins(outputs, self._after_model.first)
        self.kept_graphs.note(count, None if given is None else given.batches, args, kwargs)
        self.graph_reach.note(count, self._recorder.epochs > 0, outputs)
        self.search_gradients.backward_begins()
        self._any_gradients_begin(outputs)

    def gradients_begin(self, args: Any, kwargs: Any, frame: FrameType) -> None:
        """`torch.autograd.grad` is called in `frame`."""
        if self._recorder.count == _COUNTED_STEP:
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
            self.loss_part.ends,
            self.search_gradients.backward_ends,
        )

    def update_begins(self, optimizer: Any) -> None:
        """An optimizer's step begins."""
        self.micro_batches.update_begins()
        if optimizer is not self._optimizers.main():
            return
        self._optimizers.look_at_rates()
        if not self._recorder.on_device:
            self.tables.note(optimizer, self._modules.trained)

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
        for look in (self.tables, *self._timed, *others):
            found |= look.settings()
        return found

    def measure(self) -> None:
        """What rules would have to guess, on the host, once the training is over."""
        for look in (self.tables, *self._timed):
            look.measure()

    def _note_graph(self, outputs: Any) -> None:
        """Adds how many operations a backward pass from these tensors goes through, and how many of
        these came after the forward; and whether parts of the forward are run again for it."""
        functions = [f for f in _graph(outputs) if type(f).__name__ != "AccumulateGrad"]
        if not functions:
            return
        self.autograd_nodes = (self.autograd_nodes or 0) + len(functions)
        for look in self._timed:
            look.note(functions)
        self.arithmetic.add(functions)
        first = self._after_model.first
        if first is not None:
            later = sum(f._sequence_nr() >= first for f in functions)
            self.loss_nodes = (self.loss_nodes or 0) + later
        self.padded_batches.note_graph(self._recorder.count, functions)
        if any(type(f).__name__ == "CheckpointFunctionBackward" for f in functions):
            self.recomputes = True


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


def _graph(outputs: Any) -> set[Any]:
    tensors = outputs if isinstance(outputs, list | tuple) else (outputs,)
    waiting = [tensor.grad_fn for tensor in tensors if getattr(tensor, "grad_fn", None) is not None]
    seen = set(waiting)
    while waiting and len(seen) < _MOST_NODES:
        for function, _ in waiting.pop().next_functions:
            if function is not None and function not in seen:
                seen.add(function)
                waiting.append(function)
    return seen


def _autocast_dtype(torch: Any) -> str | None:
    """The precision that autocast gives to what runs now; None where it is off."""
    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device):
            name = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
            return {"bfloat16": "bf16", "float16": "fp16"}.get(name, name)
    return None
