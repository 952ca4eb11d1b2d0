"""What a script does now and then, such as saving: how often, and less often."""

from __future__ import annotations

import functools
import gc
import os
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from perfdoctor.collect.rerun.functions import Place, callers, place_of
from perfdoctor.collect.rerun.saved import SavedFiles
from perfdoctor.collect.script.imports import after_import
from perfdoctor.errors import PerfdoctorError

#: Occasions that tell how often: the latest ones.
_REMEMBERED = 9
#: Saves whose callers are noted.
_NOTED = 20
#: Where Lightning writes a whole file, which `torch.save` only makes in memory.
_LIGHTNING = ("lightning.fabric.plugins.io.torch_io", "lightning_fabric.plugins.io.torch_io")


class Habit:
    """Something that happens at some steps; all of it that happens in one step is one occasion."""

    def __init__(self, step: Callable[[], int | None]) -> None:
        self._step = step
        self._steps: deque[int] = deque(maxlen=_REMEMBERED)
        self._every, self._count = 1, 0
        self._occasions: dict[int, bool] = {}

    def may_happen(self) -> bool:
        """It is about to: whether to let it."""
        step = self._step()
        if step is None:
            return True
        if not self._steps or self._steps[-1] != step:
            self._steps.append(step)
            self._count += 1
        wanted = self._every > 0 and self._count % self._every == 0
        self._occasions.setdefault(step, wanted)
        return wanted

    def happens(self) -> None:
        """It does, whether it was wanted or not."""
        step = self._step()
        if step is not None:
            self._occasions[step] = True

    def occasions(self) -> dict[int, bool]:
        """Those since this was asked last: the step of each, and whether it happened."""
        found, self._occasions = self._occasions, {}
        return found

    def forget(self) -> None:
        """What was learnt of how often it happens."""
        self._steps.clear()

    @property
    def period(self) -> int | None:
        """Steps from one occasion to the next; None before there were two."""
        distances = [after - before for before, after in pairwise(self._steps)]
        return round(statistics.median(distances)) if distances else None

    @property
    def happened(self) -> bool:
        """Whether there was any occasion."""
        return bool(self._steps)

    @property
    def rarer(self) -> bool:
        """Whether some of it is left out now."""
        return self._every != 1

    @contextmanager
    def one_in(self, every: int) -> Iterator[None]:
        """Only every so manieth occasion; 0: none."""
        self._every, self._count = every, 0
        try:
            yield
        finally:
            self._every = 1


class Habits:
    """The habits of a script, by the change that breaks them.

    `step` tells the number of the step, or None while the script stands still. `saved_in`: the
    functions that save, and who calls them.
    """

    def __init__(self, step: Callable[[], int | None]) -> None:
        self.saving, self.collecting = Habit(step), Habit(step)
        self.validating, self.logging, self.drawing = Habit(step), Habit(step), Habit(step)
        self._saved, self._elsewhere = SavedFiles(), False
        self._by_change = {
            "checkpoint_every_times": self.saving,
            "collect_each_step": self.collecting,
            "validate_every_times": self.validating,
            "log_every_times": self.logging,
            "figures_every_times": self.drawing,
        }
        self.saved_in: set[Place] = set()
        self._noted = 0

    def install(self, torch: Any) -> None:
        """Sees what saves and collects. After the observer's own wrappers, which stay inside."""
        gc.collect = self._collect(gc.collect)
        torch.save = self._save(torch.save)
        after_import("safetensors.torch", lambda: self._saver("safetensors.torch", "save_file"))
        for name in _LIGHTNING:
            after_import(name, functools.partial(self._saver, name, "_atomic_save"))
        after_import("transformers.trainer", self._transformers)

    def periods(self) -> dict[str, int]:
        """Change → steps between two occasions, where it is known."""
        found = {name: habit.period for name, habit in self._by_change.items()}
        return {name: period for name, period in found.items() if period}

    def occasions(self, first: int) -> dict[str, list[tuple[int, bool]]]:
        """Change → its occasions since this was asked last: each step, counted from `first`, and
        whether it happened."""
        found = {name: habit.occasions() for name, habit in self._by_change.items()}
        return {
            name: [(step - first, made) for step, made in seen.items() if step >= first]
            for name, seen in found.items()
            if seen
        }

    def forget(self) -> None:
        """What was learnt of how often all of it happens."""
        for habit in self._by_change.values():
            habit.forget()

    def _collect(self, collect: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(collect)
        def collects(generation: int = 2) -> int:
            return collect(generation) if self.collecting.may_happen() else 0

        return collects

    def _save(self, save: Callable[..., Any]) -> Callable[..., Any]:
        """Leaves out what has a file's name, and another file in its place."""

        @functools.wraps(save)
        def saves(*args: Any, **kwargs: Any) -> Any:
            path = _path(args[1] if len(args) > 1 else kwargs.get("f", kwargs.get("filename")))
            if path is None:
                self._elsewhere = True
                return save(*args, **kwargs)
            if self._noted < _NOTED:
                self._noted += 1
                self.saved_in |= {place_of(frame.f_code) for frame in callers()}
            if not self.saving.may_happen() and self._saved.put(save.__name__, path):
                return None
            self.saving.happens()
            self._saved.begins(save.__name__, path)
            result = save(*args, **kwargs)
            self._saved.ends(save.__name__, path)
            return result

        return saves

    def _saver(self, name: str, function: str) -> None:
        module = sys.modules[name]
        if hasattr(module, function):
            setattr(module, function, self._save(getattr(module, function)))

    def check(self) -> None:
        """After some steps.

        Raises:
            PerfdoctorError: the script saves, but not so that it can be left out.
        """
        if self.saving.rarer and self._elsewhere and not self.saving.happened:
            raise PerfdoctorError(
                "the script saves into files that it has opened itself, which cannot be left out",
                slug="saves-by-itself",
            )

    def _transformers(self) -> None:
        """Its trainer saves far more than tensors, and removes what is too old."""
        trainer = sys.modules["transformers.trainer"].Trainer
        whole = getattr(trainer, "_save_checkpoint", None)
        if whole is None:
            return

        @functools.wraps(whole)
        def saves(*args: Any, **kwargs: Any) -> Any:
            return whole(*args, **kwargs) if self.saving.may_happen() else None

        trainer._save_checkpoint = saves


def _path(file: Any) -> str | None:
    """The name of a file; None for what is open."""
    return os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else None
