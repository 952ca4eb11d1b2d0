"""perfdoctor inside a framework's own loop: one line in the script, the report of `run`.

from perfdoctor.callbacks.lightning import TrainingMonitorCallback
Trainer(callbacks=[TrainingMonitorCallback()]).fit(model, loader)

from perfdoctor.callbacks.transformers import TrainingMonitorCallback
Trainer(model, args, train_dataset=data, callbacks=[TrainingMonitorCallback()]).train()
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from perfdoctor.errors import tell
from perfdoctor.report import Report

__all__ = ["ObservedTraining"]


class ObservedTraining:
    """What both callbacks do: observe this process from `start` to `stop`, then report.

    A failure of ours never ends the training: it is one line on stderr.

    Args:
        name: how the report calls the training.
        output_dir: where the report and its pictures are written; None writes nothing.
        quiet: prints no diagnosis when the training has ended.
    """

    def __init__(self, name: str, output_dir: str | Path | None, *, quiet: bool) -> None:
        self.name = name
        self.report: Report | None = None
        self._folder = None if output_dir is None else Path(output_dir).absolute()
        self._quiet = quiet
        self._session: Any = None

    def start(self) -> None:
        """Observes from here on; does nothing where it already does."""
        if self._session is not None:
            return
        from perfdoctor.collect.script.session import Limits, Session

        try:
            self._session = Session(self.name, Limits(), kind="monitor")
            self._session.start()
        except Exception as error:
            self._failed(error)

    def stop(self, error: BaseException | None = None) -> None:
        """Ends the observation and writes the report; `error` is what ended the training."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            self.report = self._concluded(session, error)
        except Exception as failure:
            self._failed(failure)

    def _concluded(self, session: Any, error: BaseException | None) -> Report | None:
        from perfdoctor import output, pipeline, settings
        from perfdoctor.collect.script.ending import ending_of

        run = session.finish(replace(ending_of(error), code=None))  # the process goes on
        if run is None:
            return None
        report = pipeline.conclude(run, settings.load(Path.cwd()))
        if self._folder is not None:
            output.Output(self._folder, None, self._quiet, plots=True).write_beside_script(report)
        elif not self._quiet:
            output.print_report(report, (), stderr=True)
        return report

    def _failed(self, error: Exception) -> None:
        kind = type(error).__name__
        tell(f"not observed any further ({kind}: {error})")
