"""Which optimizer trains the model, and which one its architecture."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfdoctor.collect.script.zero_rates import ZeroRates

MAIN, ARCHITECTURE, ANOTHER = "main", "architecture", "another"
#: Architecture parameters are few beside the weights they choose among: DARTS has 224 beside
#: 2 million (arXiv:1806.09055); a generator or discriminator has about as many as the other.
_FEW = 0.1
#: Steps after which an optimizer that looked like neither kind is not looked at again.
_SETTLED = 10
#: So many steps of others in a row, and the main optimizer is not in use (any more): more than a
#: critic or an architecture search makes in one turn.
_NEVER_USED, _IDLE = 10, 200
#: So many steps without it since another one was made, and an optimizer has had its time.
_OVER = 10
#: A training of so many times as many numbers is another one: a layer that is unfrozen doubles
#: the backward pass of the small networks of which it is the half (our own choice).
_MORE = 1.5
#: Optimizers that are remembered although another one lies where they lay.
_MOST_GONE = 16


@dataclass
class Known:
    """One optimizer: how much it trains, and which tensors.

    `references` and `sizes` are of its tensors, by their identities.
    `shares`: it made a step with gradients that another one made a step with too, so that both
    train one model. `made`: the steps of all optimizers when it was made. `last`: the one that was
    its last, and `longest` the most that it ever let pass. `over`: another one was made since then
    and makes all steps, as where a model that was trained is to teach another one.
    """

    reference: weakref.ref[Any]
    name: str
    made: int = 0
    elements: int = 0
    references: dict[int, weakref.ref[Any]] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    steps: int = 0
    idle: bool = False
    shares: bool = False
    last: int = 0
    longest: int = 0
    over: bool = False

    @property
    def tensors(self) -> set[int]:
        """The identities of those that are there. Where one is not, as of a model that a function
        has made, a new one may lie where it lay."""
        return {number for number, there in self.references.items() if there() is not None}

    def trains(self, numbers: Iterable[int]) -> bool:
        """Whether it trains any tensor of these identities."""
        found = (self.references.get(number) for number in numbers)
        return any(there is not None and there() is not None for there in found)

    def wants(self) -> int:
        """Numbers that want gradients."""
        there = ((number, reference()) for number, reference in self.references.items())
        return sum(self.sizes[n] for n, one in there if one is not None and one.requires_grad)

    def trains_as_much(self, numbers: Mapping[int, int]) -> bool:
        """Whether it trains any of these, and about as many numbers: as where a training goes on
        with another learning rate, and not where it goes on with all of a model of which it was a
        head."""
        whole = sum(numbers.values())
        return whole < _MORE * self.elements < _MORE**2 * whole and self.trains(numbers)


class Optimizers:
    """Every optimizer that was made. `version` grows with each change of what is optimised,
    `phases` with each that is made for something else after others have made steps, and
    `trainings` where all that made steps before are over and the new one's training is not like
    theirs, as it is for each fold of a cross-validation.

    `in_module(tensor ids) -> bool` tells whether one module holds all of these and weights of the
    main optimizer too.
    """

    def __init__(self, share_a_module: Callable[[set[int], set[int]], bool]) -> None:
        self._known: dict[int, Known] = {}
        self._share_a_module = share_a_module
        self._kinds: dict[int, str] = {}
        self._gone: list[Known] = []
        self._steps = self._began = 0
        self.phases = self.trainings = 0
        self.rates = ZeroRates()
        self.version = 0
        self._without_main = 0
        self._last: Known | None = None
        self._wanted, self._asked_in = 0, 0

    def __len__(self) -> int:
        return len(self._known)

    def add_group(self, optimizer: Any, parameters: Sequence[Any]) -> None:
        """`optimizer` will update these as well."""
        numbers = {id(parameter): int(parameter.numel()) for parameter in parameters}
        known = self._known.get(id(optimizer))
        if known is None or known.reference() is not optimizer:
            if known is not None:
                self._gone = [*self._gone[1 - _MOST_GONE :], known]
            if self._steps and not any(one.trains_as_much(numbers) for one in self._every()):
                self._began = self._steps
                self.phases += 1
            reference = weakref.ref(optimizer)
            name = type(optimizer).__name__
            known = self._known[id(optimizer)] = Known(reference, name, self._steps)
        known.references.update({id(one): weakref.ref(one) for one in parameters})
        known.sizes.update(numbers)
        known.elements += sum(numbers.values())
        self._kinds.clear()
        self.version += 1

    def each(self) -> list[Known]:
        """Those that are there."""
        return self._alive()

    def elements(self) -> int:
        """Numbers that those have whose time is not over."""
        return sum(known.elements for known in self._known.values() if not known.over)

    def only(self) -> Known | None:
        """The only one that there is."""
        return next(iter(self._known.values())) if len(self._known) == 1 else None

    def optimises_any(self, parameters: Iterable[Any]) -> bool:
        """Whether one of these is updated by any optimizer."""
        ids = {id(p) for p in parameters}
        return any(known.trains(ids) for known in self._alive() if not known.over)

    def has(self, parameter: Any) -> bool:
        """Whether any optimizer updates it, or did before its time was over."""
        return any(one.trains((id(parameter),)) and not one.over for one in self._every())

    def uses(self, parameter: Any) -> bool:
        """The same, but for what only stands still there: see `ZeroRates`."""
        return self.has(parameter) and not self.rates.has(parameter)

    def look_at_gradients(self) -> bool:
        """Whether the same optimizers train much more or less than at the look before, as where
        layers are unfrozen: numbers that want gradients. Then that is another training."""
        before, asked_in = self._wanted, self._asked_in
        self._wanted = sum(k.wants() for k in self._alive() if not k.over)
        changed = not before < _MORE * self._wanted < _MORE**2 * before
        another = changed and before > 0 and self._wanted > 0 and asked_in == self.trainings
        self.trainings += another
        self._asked_in = self.trainings
        return another

    def look_at_rates(self) -> None:
        """Looks at the learning rates of all of them, in a step that is looked into."""
        if self.rates.look([o for known in self._alive() if (o := known.reference()) is not None]):
            self.version += 1

    def leave_out_a_few(self, parameters: Sequence[Any]) -> bool:
        """Whether these are few, trained by none of the optimizers, and of the same module as what
        the main one trains."""
        main = self._main()
        if main is None or self.optimises_any(parameters):
            return False
        few = sum(int(p.numel()) for p in parameters) <= _FEW * main.elements
        return few and self._share_a_module({id(p) for p in parameters}, main.tensors)

    def stepped(self, optimizer: Any, *, fresh: bool = True) -> str:
        """Counts a step, and tells the optimizer's kind. `fresh`: gradients were computed since the
        last step of any of them."""
        if id(optimizer) not in self._known:  # made before anything was observed
            for group in optimizer.param_groups:
                self.add_group(optimizer, group["params"])
        known = self._known[id(optimizer)]
        known.steps += 1
        self._note_times(known)
        if not fresh:
            self._share(known)
        self._last = known
        self._note_idle(known)
        kind = self._kinds.get(id(optimizer)) or self._kind(known)
        if kind != ANOTHER or known.steps > _SETTLED:  # the model may not have been seen yet
            self._kinds[id(optimizer)] = kind
        return kind

    def main(self) -> Any | None:
        """The optimizer with the most to train; of equal ones the first."""
        known = self._main()
        return None if known is None else known.reference()

    def of_kind(self, kind: str) -> list[Any]:
        """The optimizers of that kind which have made a step."""
        alive = [k for k in self._alive() if k.steps and self._kind(k) == kind]
        return [optimizer for k in alive if (optimizer := k.reference()) is not None]

    def steps_of(self, kind: str) -> int:
        """Steps that optimizers of that kind have made."""
        return sum(known.steps for known in self._alive() if self._kind(known) == kind)

    def _main(self) -> Known | None:
        alive = self._alive()
        used = [known for known in alive if not known.idle] or alive
        return max(used, key=lambda known: known.elements, default=None)

    def _every(self) -> list[Known]:
        """Those that there were, too."""
        return [*self._known.values(), *self._gone]

    def _changed(self) -> None:
        self._without_main = 0
        self._kinds.clear()
        self.version += 1

    def _share(self, known: Known) -> None:
        """It stepped right after another one: an architecture step has gradients of its own."""
        last = self._last
        if last is not None and last is not known and not (known.shares and last.shares):
            known.shares = last.shares = True
            self._changed()

    def _note_times(self, stepped: Known) -> None:
        """Those whose last step came before the newest optimizer was made may have had their time;
        one that is in use again has not."""
        self._steps += 1
        if stepped.last:
            stepped.longest = max(stepped.longest, self._steps - stepped.last)
        stepped.last = self._steps
        if stepped.over:
            stepped.over = stepped.idle = False
            self._changed()
        for known in self._every() if self.phases else ():
            without = self._steps - max(known.last, self._began)
            enough = known.reference() is None or without >= max(_OVER, 2 * known.longest)
            if 0 < known.last <= self._began and enough and not known.over:
                known.over = known.idle = True
                self._changed()
                self.trainings += not (self._one_goes_on() or self._is_like_before(stepped))

    def _one_goes_on(self) -> bool:
        """Whether one that was there before the newest makes steps still, or may again."""
        older = (known for known in self._every() if known.made < self._began and known.steps)
        return any(not known.over for known in older)

    def _is_like_before(self, stepped: Known) -> bool:
        """Whether one of the same kind trained as much before."""
        kind = (stepped.name, stepped.elements)
        return any((known.name, known.elements) == kind for known in self._every() if known.over)

    def _note_idle(self, stepped: Known) -> None:
        """The main one may be left over: from pretraining, or from before the model was moved."""
        main = self._main()
        if stepped is main or main is None:
            self._without_main = 0
            return
        self._without_main += 1
        if self._without_main > (_IDLE if main.steps else _NEVER_USED):
            main.idle = True
            self._changed()
        elif stepped.idle:  # in use again
            stepped.idle = False
            self._changed()

    def _alive(self) -> list[Known]:
        return [known for known in self._known.values() if known.reference() is not None]

    def _kind(self, known: Known) -> str:
        main = self._main()
        if main is None or known is main:
            return MAIN
        few = known.elements <= _FEW * main.elements
        own = known.steps > 1 and not known.shares  # the next one's step may share its gradients
        apart = not known.trains(main.tensors)
        if few and own and apart and self._share_a_module(known.tensors, main.tensors):
            return ARCHITECTURE
        return ANOTHER
