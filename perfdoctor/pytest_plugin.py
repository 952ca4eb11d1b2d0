"""The pytest plugin: a fixture that measures, compares with a stored baseline, and fails.

    def test_tokenising_is_as_fast_as_it_was(perfdoctor):
        perfdoctor(lambda: tokenise(TEXT))

    @pytest.mark.perfdoctor(margin=0.2, max_seconds=20)
    def test_training_is_as_fast_as_it_was(perfdoctor):
        perfdoctor.workload("bench.py")

`pytest --perf-baseline FILE --perf-update` stores, `pytest --perf-baseline FILE` compares.
Nothing heavy is imported before the fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from perfdoctor.compare.checks import Judged
    from perfdoctor.gate.baseline_file import Session
    from perfdoctor.gate.baselines_of_tests import Baselines

_MAX_SECONDS = 2.0
_WORKLOAD_SECONDS = 85.0
_LINES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """--perf-baseline, --perf-update and --perf-inconclusive."""
    group = parser.getgroup("perfdoctor")
    group.addoption("--perf-baseline", metavar="FILE", help="compare with the speeds stored there")
    group.addoption("--perf-update", action="store_true", help="store them there")
    group.addoption(
        "--perf-inconclusive",
        choices=["skip", "pass", "fail"],
        default="skip",
        help="what a test is that cannot tell [default: skip]",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker; what cannot work is refused before anything runs."""
    config.addinivalue_line(
        "markers",
        "perfdoctor(margin=0.1, max_seconds=2): what the fixture `perfdoctor` allows and takes",
    )
    config.stash[_LINES] = []
    if config.getoption("--perf-update") and not config.getoption("--perf-baseline"):
        raise pytest.UsageError("--perf-update needs --perf-baseline FILE")
    place = config.getoption("--perf-baseline")
    if place and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--perf-baseline measures, so that tests must not run in parallel")
    if place:
        _refuse_unreadable(Path(place), may_be_missing=config.getoption("--perf-update"))


def _refuse_unreadable(path: Path, *, may_be_missing: bool) -> None:
    from perfdoctor.errors import PerfdoctorError
    from perfdoctor.gate.baselines_of_tests import read

    try:
        read(path, may_be_missing=may_be_missing)
    except PerfdoctorError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What was measured, a line a test."""
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("perfdoctor")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def perfdoctor(request: pytest.FixtureRequest) -> Iterator[Measurer]:
    """Measures a callable or a workload; see `Measurer`."""
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        pytest.skip("tests run in parallel here, which makes measuring meaningless (-n 0)")
    yield Measurer(request)


class Measurer:
    """Call it with what is to be measured; `workload` takes what `perfdoctor bench` does.

    Without --perf-baseline it measures, and the summary tells. With it, a test whose code became
    slower by `margin` or more fails; one that cannot tell is skipped, which is no pass.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._config, self._name = request.config, request.node.nodeid
        self._count = 0
        marker = request.node.get_closest_marker("perfdoctor")
        given = dict(marker.kwargs) if marker is not None else {}
        self._margin = float(given.pop("margin", 0.10))
        self._max_seconds = given.pop("max_seconds", None)
        if given or (marker is not None and marker.args):
            raise pytest.UsageError(f"{self._name}: the marker takes margin and max_seconds")
        if not 0.005 <= self._margin <= 1:
            raise pytest.UsageError(f"{self._name}: margin is a share, 0.1 for 10 %")

    def __call__(self, work: Callable[[], object]) -> float:
        """Measures a callable; seconds of one call (the lower quartile)."""
        from perfdoctor.gate.callables import measure_callable

        timing = measure_callable(work, self._max_seconds or _MAX_SECONDS)
        self._conclude(timing.session, f"a call takes {_seconds(timing.call_s)}")
        return timing.call_s

    def workload(self, spec: str, **options: Any) -> float:
        """Measures a workload in processes of its own; seconds of a step."""
        from perfdoctor.gate.asked import Asked, Measured
        from perfdoctor.gate.sessions import measure_session

        asked = Asked(
            measured=Measured(workload={"workload": spec}, options=options),
            criteria=(),
            max_seconds=self._max_seconds or _WORKLOAD_SECONDS,
        )
        session = measure_session(asked, lambda *_: None)
        step_s = sorted(p["step:p25"] for p in session.processes)[len(session.processes) // 2]
        self._conclude(session, f"a step takes {_seconds(step_s)}")
        return step_s

    def _conclude(self, session: Session, told: str) -> None:
        from perfdoctor.errors import PerfdoctorError

        self._count += 1
        try:
            self._compare(session, told)
        except PerfdoctorError as error:
            message = str(error)
        else:
            return
        pytest.fail(message, pytrace=False)  # not within `except`, which would show both

    def _compare(self, session: Session, told: str) -> None:
        place = self._config.getoption("--perf-baseline")
        if place is None:
            self._tell(told)
        elif self._config.getoption("--perf-update"):
            self._store(Path(place), session, told)
        else:
            from perfdoctor.gate.baselines_of_tests import read

            self._judge(read(Path(place), may_be_missing=False), session, told)

    @property
    def _called(self) -> str:
        """The test; a second measurement in it is another one."""
        return self._name if self._count < 2 else f"{self._name} #{self._count}"

    def _store(self, path: Path, session: Session, told: str) -> None:
        from perfdoctor.gate.baseline_file import held, write
        from perfdoctor.gate.baselines_of_tests import read
        from perfdoctor.gate.with_baseline import doubts, refuse_in_pull_requests

        refuse_in_pull_requests(os.environ)
        doubt = doubts(session)
        if doubt is not None:
            self._tell(f"{told}; not stored: {doubt}")
            pytest.skip(f"not stored: {doubt}")
        with held(path):  # tests that run elsewhere may have added some meanwhile
            stored = read(path, may_be_missing=True)
            write(path, stored.with_session(self._called, session))
        self._tell(f"{told}; stored")

    def _judge(self, stored: Baselines, session: Session, told: str) -> None:
        from perfdoctor.compare.checks import Criterion
        from perfdoctor.gate.with_baseline import LEAST_MARGIN, doubts, judge

        criterion = Criterion(metric="step", statistic="p25", margin=self._margin)
        (found,) = judge((criterion,), stored.of(self._called), session, doubts(session)).judged
        sentence = _verdict(found)
        if self._margin < LEAST_MARGIN:
            sentence += (
                f"; margin={self._margin:g} counts as {LEAST_MARGIN:g}: sessions of other days "
                "tell nothing smaller"
            )
        self._tell(f"{told}; {sentence}")
        wish = self._config.getoption("--perf-inconclusive")
        if found.outcome == "regression" or (found.outcome == "inconclusive" and wish == "fail"):
            pytest.fail(sentence, pytrace=False)
        if found.outcome == "inconclusive" and wish == "skip":
            pytest.skip(sentence)

    def _tell(self, line: str) -> None:
        self._config.stash[_LINES].append(f"{self._called}: {line}")


def _verdict(found: Judged) -> str:
    from perfdoctor.render.check_words import verdict

    return verdict(found).replace("--update-baseline", "--perf-update")  # as it is called here


def _seconds(value: float) -> str:
    from perfdoctor.render.text import seconds

    return seconds(value)
