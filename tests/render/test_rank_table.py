"""The table of the ranks on the console."""

from __future__ import annotations

from dataclasses import replace

from builders import make_report
from printing import one_line, printed

from perfdoctor.ending import Ending
from perfdoctor.report import RankRow, RankSkew, Report

SKEW = RankSkew(
    slowest=1,
    skew=0.6,
    slowest_in=0.98,
    stretches=200,
    step_s=0.08,
    even_step_s=0.05,
    speedup=1.6,
    stage="data_loading",
    stage_excess_s=0.03,
)


def row(rank: int, **given: object) -> RankRow:
    fields = {
        "steps": 200,
        "step_p50_s": 0.080,
        "samples_per_s": 400.0,
        "own_s": 0.050 + 0.030 * (rank == 1),
        "wait_s": 0.030 * (rank != 1),
        "peak_bytes": 2**30,
        "ending": Ending("finished", "", 0),
    }
    return RankRow(rank=rank, **(fields | given))  # type: ignore[arg-type]


def ranks(*rows: RankRow, skew: RankSkew | None = SKEW) -> Report:
    return make_report(ranks=len(rows), rank_table=rows, rank_skew=skew)


def test_each_rank_has_a_row_and_the_slowest_its_stage() -> None:
    text = printed(ranks(row(0), row(1)))
    assert "   0  50.0 ms  30.0 ms   80.0 ms    200        400  1.00 GiB  finished" in text
    assert "rank 1 needs 60 % more, 30.0 ms more in data_loading" in one_line(text)
    assert "1.60× the throughput" in one_line(text)


def test_equal_ranks_are_called_balanced() -> None:
    text = one_line(printed(ranks(row(0), row(1), skew=replace(SKEW, skew=0.04))))
    assert "balanced: the slowest rank needs 4.0 % more than the median one" in text


def test_a_dead_rank_and_a_failed_one_say_so() -> None:
    failed = Ending("exception", "ValueError: planted", 1)
    text = printed(ranks(RankRow(rank=0, note="it died"), row(1, ending=failed), skew=None))
    assert "it died" in text
    assert "ValueError: planted" in text
    assert "needs" not in text


def test_of_many_ranks_the_failed_and_the_slowest_are_shown() -> None:
    rows = [row(rank, own_s=0.001 * rank) for rank in range(100)]
    rows[3] = RankRow(rank=3, note="it died")
    text = printed(ranks(*rows))
    assert "it died" in text
    assert "  99  " in text
    assert "  50  " not in text
    assert "and 84 more, all in the JSON report" in text


def test_a_narrow_console_leaves_columns_out() -> None:
    text = printed(ranks(row(0), row(1)), width=60)
    assert "own" in text
    assert "memory" not in text.split("Ranks")[1].split("finished")[0]
    assert max(len(line) for line in text.splitlines()) <= 60


def test_one_process_has_no_such_table() -> None:
    assert "Ranks" not in printed(make_report())


def test_an_error_s_text_is_shown_as_it_is() -> None:
    hostile = Ending("exception", "[red]Error\x1b[2J", 1)
    assert "[red]Error" in printed(ranks(row(0), row(1, ending=hostile)))
    assert "\x1b" not in printed(ranks(row(0), row(1, ending=hostile)))
