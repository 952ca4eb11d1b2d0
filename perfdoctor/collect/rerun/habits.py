"""What a script does now and then, saving and collecting garbage: how often, and less often."""

from __future__ import annotations

import functools
import gc
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from perfdoctor.collect.script.imports import after_import

#: Occasions that tell how often: the latest ones.
_REMEMBERED = 9


class Habit:
    """Something that happens at some steps; all of it that happens in one step is one occasion."""

    def __init__(self, step: Callable[[], int | None]) -> None:
        self._step = step
        self._steps: deque[int] = deque(maxlen=_REMEMBERED)
        self._every, self._count = 1, 0

    def may_happen(self) -> bool:
        """It is about to: whether to let it."""
        step = self._step()
        if step is None:
            return True
        if not self._steps or self._steps[-1] != step:
            self._steps.append(step)
            self._count += 1
        return self._every > 0 and self._count % self._every == 0

    @property
    def period(self) -> int | None:
        """Steps from one occasion to the next; None before there were two."""
        distances = [after - before for before, after in pairwise(self._steps)]
        return round(statistics.median(distances)) if distances else None

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

    `step` tells the number of the step, or None while the script stands still.
    """

    def __init__(self, step: Callable[[], int | None]) -> None:
        self.saving, self.collecting = Habit(step), Habit(step)

    def install(self, torch: Any) -> None:
        """Sees what saves and collects. After the observer's own wrappers, which stay inside."""
        gc.collect = self._collect(gc.collect)
        torch.save = self._save(torch.save)
        after_import("safetensors.torch", self._safetensors)
        after_import("transformers.trainer", self._transformers)

    def periods(self) -> dict[str, int]:
        """Change → steps between two occasions, where it is known."""
        found = {
            "checkpoint_every_times": self.saving.period,
            "collect_each_step": self.collecting.period,
        }
        return {name: period for name, period in found.items() if period}

    def _collect(self, collect: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(collect)
        def collects(generation: int = 2) -> int:
            return collect(generation) if self.collecting.may_happen() else 0

        return collects

    def _save(self, save: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(save)
        def saves(*args: Any, **kwargs: Any) -> Any:
            if self.saving.may_happen():
                return save(*args, **kwargs)
            file = args[1] if len(args) > 1 else kwargs.get("f", kwargs.get("filename"))
            with suppress(OSError, TypeError):  # the script may remove it, or look at its size
                Path(file).touch()  # type: ignore[arg-type]
            return None

        return saves

    def _safetensors(self) -> None:
        module = sys.modules["safetensors.torch"]
        module.save_file = self._save(module.save_file)  # type: ignore[attr-defined]

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
