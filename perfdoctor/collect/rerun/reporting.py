"""What a script reports, left out while that is wanted: prints and log lines, or figures.

Left out are the calls of libraries that write it, and whole functions of the user's that call them
and whose name says that they report. What else a line computes for it stays, so that what a trial
measures is the least that reporting less often brings.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any

from perfdoctor.collect.rerun.functions import (
    LastResults,
    Place,
    called_by,
    callers,
    functions_at,
    is_library,
    not_left_out,
    place_of,
)
from perfdoctor.collect.rerun.habits import Habit
from perfdoctor.collect.script import work
from perfdoctor.collect.script.imports import after_import

#: Calls whose callers are noted.
_NOTED = 50
_WRITERS = ("torch.utils.tensorboard.writer", "tensorboardX.writer")
_NUMBERS = ("add_scalar", "add_scalars", "add_histogram", "add_text", "add_tensor", "flush")
_PICTURES = ("add_figure", "add_image", "add_images", "add_video")

#: Module → what writes log lines, by its dotted name there.
LINES: Mapping[str, Sequence[str]] = {
    "builtins": ("print",),
    "os": ("fsync",),
    "logging": ("Logger.handle",),
    **{module: [f"SummaryWriter.{name}" for name in _NUMBERS] for module in _WRITERS},
    "tqdm.std": ("tqdm.refresh",),
    "wandb.sdk.wandb_run": ("Run.log",),
    "mlflow": ("log_metric", "log_metrics"),
    "lightning.pytorch.loggers.csv_logs": ("CSVLogger.log_metrics", "CSVLogger.save"),
    "transformers.trainer": ("Trainer.log",),
}
#: The same of figures.
FIGURES: Mapping[str, Sequence[str]] = {
    "matplotlib.figure": ("Figure.savefig",),
    "torchvision.utils": ("save_image",),
    "PIL.Image": ("Image.save",),
    "imageio": ("imwrite",),
    **{module: [f"SummaryWriter.{name}" for name in _PICTURES] for module in _WRITERS},
}
#: What these write to, by its place among the arguments and its name. What is written to memory is
#: not left out: the script goes on with it.
_TARGETS: Mapping[str, tuple[int, str]] = {
    "Figure.savefig": (1, "fname"),
    "save_image": (1, "fp"),
    "Image.save": (1, "fp"),
    "imwrite": (0, "uri"),
}


class Reporting:
    """One kind of reports.

    `around`: functions that do more than to report. `what`: how it is called in a message. `whole`:
    a function of the user's that makes such a call itself is taken to prepare it, whatever it is
    called: a figure is more than its file.
    """

    def __init__(
        self,
        habit: Habit,
        calls: Mapping[str, Sequence[str]],
        around: Callable[[], set[Place]],
        what: str,
        *,
        whole: bool = False,
    ) -> None:
        self._habit, self._calls, self._around, self._what = habit, calls, around, what
        self._thread, self._whole = threading.get_ident(), whole
        self._noted = 0
        self._named: dict[Place, None] = {}
        self._results = LastResults()

    def install(self) -> None:
        """Sees the calls, also of libraries that are yet to be imported."""
        for module in self._calls:
            after_import(module, functools.partial(self._replace, module))

    def places(self) -> set[Place]:
        """The functions that report and do nothing else, as far as they are seen."""
        return set(self._named) - self._around()

    def _replace(self, module: str) -> None:
        for name in self._calls[module]:
            holder, _, last = name.rpartition(".")
            owner: Any = sys.modules[module]
            owner = getattr(owner, holder, None) if holder else owner
            original = getattr(owner, last, None)
            if original is not None:
                setattr(owner, last, self._called(original, _TARGETS.get(name)))

    def _called(
        self, original: Callable[..., Any], target: tuple[int, str] | None
    ) -> Callable[..., Any]:
        @functools.wraps(original)
        def called(*args: Any, **kwargs: Any) -> Any:
            in_memory = target is not None and not _to_file(args, kwargs, *target)
            if in_memory or threading.get_ident() != self._thread:
                return original(*args, **kwargs)
            wanted = self._habit.may_happen()
            if self._noted < _NOTED:
                self._note()
            return original(*args, **kwargs) if wanted else None

        return called

    def _note(self) -> None:
        """The functions that report."""
        self._noted += 1
        theirs = [f for f in callers() if not is_library(f.f_code.co_filename)]
        for number, frame in enumerate(theirs):
            if (self._whole and number == 0) or _reports(frame.f_code.co_name):
                self._named[place_of(frame.f_code)] = None

    def _sometimes(self, function: FunctionType, *args: Any, **kwargs: Any) -> Any:
        place = place_of(function.__code__)

        def reports() -> Any:
            self._habit.happens()
            return function(*args, **kwargs)

        return self._results.of(place, reports, wanted=self._habit.may_happen())

    @contextmanager
    def one_in(self, every: int) -> Iterator[None]:
        """The reports of every so manieth step that has any; 0: none."""
        places = self.places()
        with ExitStack() as stack:
            stack.enter_context(self._habit.one_in(every))
            for function in functions_at(places) if places else ():
                stack.enter_context(called_by(function, self._sometimes))
            yield

    def check(self) -> None:
        """After some steps.

        Raises:
            PerfdoctorError: the script reports, but not by calls that can be left out.
        """
        if self._habit.rarer and not self._habit.happened:
            why = "none of the calls that write them was seen"
            raise not_left_out(self._what, why, "reports-by-itself")


def _to_file(args: Sequence[Any], kwargs: Mapping[str, Any], position: int, name: str) -> bool:
    """Whether what the call writes to has a name."""
    target = args[position] if len(args) > position else kwargs.get(name)
    return isinstance(target, (str, bytes, os.PathLike))


def _reports(name: str) -> bool:
    found = work.of_name(name)
    return found is not None and found.stage == work.LOGGING
