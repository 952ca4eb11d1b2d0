"""From what the training calls to what its time goes into.

The patches tell this object what begins and ends; it knows no torch. It finds the steps, tells
training from validation, and recognises architecture steps. All in the main thread.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from perfdoctor.collect.script import recorder as r
from perfdoctor.collect.script.gradients import Searches
from perfdoctor.collect.script.loaders_seen import LoaderFacts, LoadersSeen
from perfdoctor.collect.script.many_calls import ManyCalls
from perfdoctor.collect.script.module_roles import (
    FIXED,
    METRIC,
    TRAINED,
    WITHOUT_PARAMETERS,
    Modules,
)
from perfdoctor.collect.script.optimizers import ARCHITECTURE, MAIN, Known, Optimizers
from perfdoctor.collect.script.passes_per_step import PassesPerStep
from perfdoctor.collect.script.recorder import Moment, Recorder
from perfdoctor.collect.script.rollouts import Rollouts
from perfdoctor.collect.script.sample_sizes import SampleSizes
from perfdoctor.collect.script.skimming import Skimming
from perfdoctor.collect.script.step_looks import StepLooks

_INSIDE = frozenset({r.FORWARD, r.LOSS, r.BACKWARD, r.CHECKPOINT, r.H2D_COPY, r.METRICS})
_COMPUTING = (r.FORWARD, r.AFTER_FORWARD, r.LOSS, r.BACKWARD, r.OPTIMIZER)
#: Epochs whose first wait is remembered.
_MOST_FIRST = 4096


class Observer:
    """The state of the observed training.

    `on_step` is called after a step with its number, and tells the next one to be called after.
    `skims`: short steps that are alike need not all be looked into.
    `on_validation` is called where the model is called to be validated.
    `steady` is the loader of a training whose next step may be taken to go like the last one, else
    None: then what follows where `patches` says so needs not be looked into.
    """

    def __init__(
        self,
        recorder: Recorder,
        optimizers: Optimizers,
        on_step: Callable[[int], int] = lambda count: sys.maxsize,
        *,
        skims: bool = False,
    ) -> None:
        self.recorder = recorder
        self.optimizers = optimizers
        self.modules = Modules(optimizers)
        self.loaders = LoadersSeen(recorder)
        self.sample_sizes, self.passes = SampleSizes(), PassesPerStep()
        self._passes_without_loader = 0
        self.searches = Searches(optimizers)
        self._on_step = on_step
        self._asked = 1
        self.skimming = Skimming(recorder, allowed=skims)
        self.on_validation: Callable[[], None] = lambda: None
        self.looks = StepLooks(optimizers, self.modules, recorder)
        self._rollouts = Rollouts()
        self._many = ManyCalls()
        self._last: LoaderFacts | None = None
        self._begun: list[LoaderFacts] = []  # whose newest iterator nothing was trained with yet
        self.steady: LoaderFacts | None = None
        self.steady_module = 0
        self._again: dict[int, weakref.ref[Any]] = {}
        self.silent_module: Callable[[], Any] = lambda: None
        self._only: Known | None = None
        self.due = 1
        self._outside, self._settled = r.OTHER, False
        self._closure_depth: int | None = None
        self._updated: Moment | None = None
        self._computing: Moment | None = None
        self._backwards = 0
        self._fresh = True  # gradients since the last optimizer's step
        self._forward_samples = 0
        self.counted = self._validated = 0  # samples of the last batch
        self._untrained_forward = False
        self.used_loader = False
        self._passes, self._passed_at = False, -1

    @property
    def given(self) -> LoaderFacts | None:
        """The loader of the last batch."""
        return self._last

    @property
    def in_closure(self) -> bool:
        """Whether an optimizer's step is running that calls for its losses."""
        return self._closure_depth is not None

    # -- data ------------------------------------------------------------------------------

    def iterator_begins(self, loader: Any, *, learning: bool = True) -> LoaderFacts:
        """`iter(loader)` was called; `learning`: where gradients are recorded."""
        self._resolve(r.OTHER)
        self.steady = None
        facts = self.loaders.of(loader, learning=learning)
        self._enter_phase_of(facts)
        self.recorder.enter(facts.label)
        facts.began_ns = self.recorder.clock()
        return facts

    def iterator_ends(self, facts: LoaderFacts) -> None:
        """The iterator is there."""
        self.recorder.leave()
        facts.iterators += 1
        begun = {id(facts), *map(id, self._begun)}
        self._begun = [one for one in self.loaders.values() if id(one) in begun]

    def next_begins(self, facts: LoaderFacts) -> None:
        """The training asks for a batch."""
        self.steady = None
        if self.recorder.current == r.OPTIMIZER:  # its step raised, and the script went on
            self.recorder.leave()
        self._resolve(r.OTHER)
        self._forward_was_validation()
        self._enter_phase_of(facts)
        self._passes = self._last is not None and self._last.training == self._passed_at
        if facts.role == "train":
            self._step_without_optimizer()
        self.recorder.enter(facts.label)

    def next_ends(self, facts: LoaderFacts, samples: int | None) -> None:
        """It has one of `samples`, or none is left (None)."""
        self.recorder.leave()
        if samples is None:
            if facts.role == "validation":  # what trains next is on no batch of it
                self._last = None
            return
        facts.batches += 1
        facts.at_step = self.recorder.count
        self._last = facts
        if facts.began_ns is not None:
            if len(facts.first_batch_ns) < _MOST_FIRST:
                facts.first_batch_ns.append(self.recorder.clock() - facts.began_ns)
            facts.began_ns = None
        self.counted, self._validated = 0, samples
        if facts.role != "validation":
            self.used_loader = True
            self.counted, self._validated = samples, 0
            self.recorder.samples += samples

    def workers_end(self, facts: LoaderFacts) -> bool:
        """The workers of an iterator are told to end; whether that could be noted. Where the
        iterator was thrown away, this comes in the middle of anything."""
        if self.recorder.half_noted:
            return False
        self.watch_again()
        self.recorder.enter(facts.label)
        return True

    def workers_ended(self, facts: LoaderFacts, took_ns: int, entered: bool | None) -> None:
        """They have."""
        if entered:
            self.recorder.leave()
        if len(facts.ended_ns) < _MOST_FIRST:
            facts.ended_ns.append(took_ns)

    def worker_pids(self) -> list[int]:
        """The processes that load for the training now."""
        used = [f.iterator() for f in self.loaders.values() if f.iterator is not None]
        return [w.pid for it in used for w in getattr(it, "_workers", ()) if w.pid]

    def _enter_phase_of(self, facts: LoaderFacts) -> None:
        self._again.clear()
        if facts.role == "validation":
            self._outside_is(r.VALIDATION)
        elif facts.role == "train":
            self._outside_is(r.OTHER)

    # -- model -----------------------------------------------------------------------------

    def forward_begins(self, module: Any, grad: bool, samples: Callable[[], int]) -> bool:
        """An outermost module is called; whether to tell when it ends."""
        current = self.recorder.current
        if current in _INSIDE or self._in_loader(current):
            return False
        label = self._forward_label(module, grad, samples)
        if label is None:
            return False
        self._computes()
        self.recorder.enter(label)
        return True

    def forward_ends(self, grad: bool) -> None:
        """It has returned."""
        recorder = self.recorder
        if recorder.current == r.FORWARD and grad:
            recorder.switch(r.AFTER_FORWARD)
        else:
            recorder.leave()

    def is_again(self, module: Any) -> bool:
        """Whether this module, called right after another one, was found to train just before: a
        cell that is called in a loop, say."""
        known = self._again.get(id(module))
        same = known is not None and known() is module
        return same and bool(module.training)

    def _forward_label(self, module: Any, grad: bool, samples: Callable[[], int]) -> int | None:
        role = self.modules.role(module)
        if role == METRIC:
            self._resolve(r.OTHER)
            return r.METRICS
        if role == WITHOUT_PARAMETERS:  # a loss; what follows a forward is taken for one anyway
            self.silent_module = weakref.ref(module)
            return None
        self._resolve(r.LOSS if grad else r.OTHER)
        if not grad and (role == FIXED or self._last_trains(module)):
            if self._outside != r.VALIDATION and self._many.again(self.recorder.count):
                self._may_make_data(module)
                self._validates()
            if self._outside == r.VALIDATION:
                return r.VALIDATION
            return r.OTHER if self._only_passes() else r.FORWARD
        if not grad:
            whole = self._takes_a_batch(module, samples)
            self._may_make_data(module)
            self._validates()
            return r.WITHOUT_GRADIENTS if whole else r.VALIDATION
        if role == TRAINED:
            self._trains_or_forgot(module, samples)
        return r.FORWARD

    def _only_passes(self) -> bool:
        """Whether the batch before this one was only passed through the model without gradients, as
        for the statistics of batch normalisation: then so is this one."""
        if self._last is None or not self._last.training:
            return False
        self._passed_at = self._last.training
        return self._passes

    def _last_trains(self, module: Any) -> bool:
        """A forward without gradients of a module in training mode, amid a training step."""
        return bool(module.training and self._last is not None and self._last.role == "train")

    def _may_make_data(self, module: Any) -> None:
        """A call without gradients, amid the training and in its mode: see `Rollouts`."""
        if self._outside != r.VALIDATION and module.training and self._last is None:
            self._rollouts.began()

    def _takes_a_batch(self, module: Any, samples: Callable[[], int]) -> bool:
        """The same of a call on as much as a step trains on: what it makes is one of the training's
        own passes, as the generator's for the critic, where it is no validation."""
        amid = module.training and self._last is None
        return bool(amid and self._rollouts.fills_a_batch(samples()))

    @property
    def acts(self) -> bool:
        """Whether what looks like validation makes the training's data."""
        return self._rollouts.are_told(self.recorder.count)

    def _validates(self) -> None:
        self.on_validation()
        self.steady = None
        self._again.clear()
        if self._last is not None and not self._last.training:
            self._last.validation += 1
        self.recorder.samples -= self.counted
        self.counted, self._validated = 0, self._validated + self.counted
        self._outside_is(r.VALIDATION)

    def _trains_or_forgot(self, module: Any, samples: Callable[[], int]) -> None:
        """Gradients are on. Outside training mode, or on a loader that has not trained yet, only
        a backward will tell that it trains."""
        role = "train" if self._last is None else self._last.role
        self._untrained_forward = role != "train" or not module.training
        if self._untrained_forward:
            self.steady = None
        else:
            if not self.recorder.on_device:
                self._again[id(module)] = weakref.ref(module)
            self._step_without_optimizer()
            self._outside_is(r.OTHER)
            self.steady_module = id(module)
        if not self.used_loader:
            self._forward_samples = max(self._forward_samples, samples())

    def _forward_was_validation(self) -> None:
        """A forward in evaluation mode with gradients on, and no backward until the next batch."""
        if not self._untrained_forward:
            return
        self._untrained_forward = False
        self.recorder.relabel(r.FORWARD, r.VALIDATION)
        self._validates()

    def model_evaluates(self, module: Any) -> None:
        """`module.eval()` was called outside of everything."""
        if self.modules.role(module) == TRAINED and self.recorder.count:
            self._resolve(r.OTHER)
            self.steady = None
            self._outside_is(r.VALIDATION)

    # -- gradients and updates ---------------------------------------------------------------

    def backward_begins(self) -> bool:
        """Gradients are computed; whether to tell when that ends."""
        if self.recorder.current == r.BACKWARD:
            return False
        self._resolve(r.LOSS)
        self._computes()
        self._backwards += 1
        self._fresh = True
        self.recorder.samples += self._validated  # it is trained on all the same
        self._validated = 0
        self._untrained_forward = self._passes = False
        self._outside_is(r.OTHER)
        self._passes_without_loader += self._last is None
        if self._last is not None:
            self._last.training += 1
            if self._begun:
                self._may_begin_epoch()
        self.recorder.enter(r.BACKWARD)
        return True

    @property
    def backward_passes(self) -> int:
        """All that there were."""
        return self._passes_without_loader + sum(f.training for f in self.loaders.values())

    def backward_ends(self) -> None:
        """They are there."""
        self.recorder.leave()
        if self.in_closure and self.recorder.depth == self._closure_depth:
            self.recorder.switch(r.OPTIMIZER)

    def gradients_taken(self, inputs: Any) -> bool:
        """`torch.autograd.grad` gave those of `inputs`; whether for an architecture step, as the
        like of it were before."""
        if not self.searches.taken(inputs):
            return False
        self.steady = None
        return self.searches.count > 0

    def updates(self, optimizer: Any, parameters: Any) -> None:
        """This optimizer was told to update these."""
        phases = self.optimizers.phases
        self.optimizers.add_group(optimizer, parameters)
        if self.optimizers.phases > phases:
            self.looks.another_may_begin()
            self.ask_at_once()

    def look_at_gradients(self) -> None:
        """Much more may want gradients than before, or much less; or go through more passes."""
        self.passes.note(self.recorder.count, self.backward_passes)
        another = self.optimizers.look_at_gradients()
        self.looks.looked_at_gradients(another=another)
        if another:
            self.ask_at_once()

    def optimizer_begins(self, closure: bool) -> None:
        """An optimizer's step begins; its closure, if it has one, computes the loss inside."""
        self._resolve(r.OTHER)
        self._outside_is(r.OTHER)
        self.recorder.enter(r.OTHER if closure else r.OPTIMIZER)
        self._closure_depth = self.recorder.depth if closure else None

    def optimizer_ends(self, optimizer: Any) -> str:
        """It is done: with it a step of the training, if it is the main one. Its kind."""
        self._resolve(r.OTHER)
        self.recorder.leave()
        self._closure_depth = None
        trainings = self.optimizers.trainings
        kind = self.optimizers.stepped(optimizer, fresh=self._fresh)
        if self.optimizers.trainings > trainings:
            self.looks.another_began()
        self._fresh = False
        if kind == ARCHITECTURE:
            self._was_architecture_step()
        if kind == MAIN:
            self._end_step()
        elif len(self.optimizers) > 1:
            self._updated = self.recorder.now()
        self._computing = None
        return kind

    def is_only(self, optimizer: Any) -> bool:
        """Whether there is no optimizer but this one."""
        return self._only is not None and self._only.reference() is optimizer

    def ask_at_once(self) -> None:
        """`on_step` is to be called after the step that is running."""
        self.due = self._asked = 0
        self.skimming.end_soon()

    def is_due(self) -> None:
        """Something may be due after this step."""
        if self.skimming.on:
            self.skimming.end()
        if self.recorder.count >= self._asked:
            self._asked = self._on_step(self.recorder.count)
        only = None if self._only is None else self._only.reference()
        self.due = self.skimming.due(self._asked, self.steady, only)

    def watch_again(self) -> None:
        """Something happens that is not of every step: it is not skimmed."""
        if self.skimming.on:
            self.skimming.end()
            self.due = self.recorder.count + 1

    def block_begins(self, label: int) -> None:
        """A part with a label of its own: saving, copying, communicating, the user's stage."""
        self._resolve(r.OTHER)
        self.recorder.enter(label)

    def block_ends(self) -> None:
        """It ends."""
        recorder = self.recorder
        if recorder.current == r.AFTER_FORWARD and recorder.stack:  # what follows a forward in it
            self._resolve(recorder.stack[-1])
        recorder.leave()

    def _computes(self) -> None:
        """Remembers where the first computation since the last update began."""
        if self._computing is None and (len(self.optimizers) > 1 or self.searches.count):
            self._computing = self.recorder.now()

    def _was_architecture_step(self) -> None:
        """Everything since the first computation after the last update was for the architecture,
        but for loading."""
        self.recorder.reassign(self._updated, _COMPUTING, r.ARCH_STEP)
        self.recorder.reassign(self._computing, (r.OTHER,), r.ARCH_STEP)

    def _step_without_optimizer(self) -> None:
        """Where no optimizer is used, a step ends when the next one begins."""
        if self._backwards and not len(self.optimizers):
            self._end_step()

    def _end_step(self) -> None:
        recorder = self.recorder
        if not recorder.samples and not self.used_loader:
            recorder.samples = self._forward_samples
        if not recorder.count:  # start-up ended when the first step began
            self._outside_is(r.OTHER)
        recorder.end_step()
        self._rollouts.trained_on(self._forward_samples)
        self.searches.forget()
        self._updated = None
        self._backwards = self._forward_samples = self.counted = self._validated = 0
        if self.steady is not self._last or self.steady is None:
            self._only = self.optimizers.only()
            self.steady = self._last if self._goes_steadily() else None
        if self.steady is None:
            self._again.clear()
        if recorder.count >= self.due:
            self.is_due()

    def _goes_steadily(self) -> bool:
        """Whether the next step may be taken to begin like this one: with a batch of the same
        loader, for the same model, in training. Then nothing is to be found out."""
        last = self._last
        plain = last is not None and last.role == "train" and self.used_loader
        phase = self._outside == r.OTHER and self._settled and not self._untrained_forward
        on_host = not self.recorder.on_device  # its marks are made elsewhere
        alone = self._only is not None and not self.searches.count
        return plain and phase and on_host and alone

    # -- phases ------------------------------------------------------------------------------

    def _resolve(self, label: int) -> None:
        """What followed a forward was `label`, now that something tells."""
        recorder = self.recorder
        self.watch_again()
        if recorder.current == r.AFTER_FORWARD:
            recorder.leave()
            recorder.relabel(r.AFTER_FORWARD, label)
        if self.searches.waiting and self.searches.updated():
            self._was_architecture_step()
            self._updated, self._computing = recorder.now(), None

    def _outside_is(self, label: int) -> None:
        if self._outside == label and self._settled:
            return
        if self.recorder.base != label and not self._in_loader(self.recorder.base):
            self.recorder.rebase(label)
        self._outside, self._settled = label, self.recorder.base == label

    def _in_loader(self, label: int) -> bool:
        return label >= r.METRICS + 1 and self.recorder.names[label].startswith("loader ")

    def _may_begin_epoch(self) -> None:
        """The first gradients since iterators began: an epoch, if one of them is the main one's."""
        given = [facts for facts in self._begun if facts.began_ns is None]
        self.loaders.first_gradients()
        main = self.loaders.main(self.recorder.count)
        if any(facts is main for facts in given):
            self.recorder.epochs += 1
            self.recorder.epochs_begun += 1
        if self._last is not None and any(facts is self._last for facts in given):
            self._last.trained_with += 1
        self._begun = [facts for facts in self._begun if facts.began_ns is not None]
